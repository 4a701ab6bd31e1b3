"""No space left at the k-th write of a run, for every k: it rests with one clear line, and goes on when there is room.

Two forms: the one write fails and the next ones succeed (somebody frees space at once), or all fail from then on until
the run's process has ended. In the second the run can't even say that it rests; its worker does as soon as it can.
"""

import argparse
import builtins
import errno
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors import SafetensorError

from engine.errors import DiskFull, Paused
from engine.models import tensor_writing
from engine.runs import child
from engine.runs.store import Run, create_run
from tests.soak.inspect import half_stages, unreadable_runs
from tests.soak.world import World, fingerprint, make_world

#: an even smaller run than those of the kills: there are some hundred writes to fail
_SMALL = {"drop": [1], "adapt_steps": 0, "num_stages": 1}


class Disk:
    """Counts writes below ``root`` and refuses some of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.count, self.refused = str(root), 0, 0
        self.first, self.last = sys.maxsize, sys.maxsize  # numbers of the writes that are refused

    def refuse(self, first: int, last: int) -> None:
        self.count, self.refused, self.first, self.last = 0, 0, first, last

    def take(self, path: Any) -> None:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if not os.fspath(path).startswith(self.root):
            return
        self.count += 1
        if self.first <= self.count <= self.last:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Whatever makes or lengthens a file; what only takes one away always succeeds."""
        opened, save = builtins.open, tensor_writing.save_file

        def guarded(real: Callable) -> Callable:
            def call(path: Any, *rest: Any, **more: Any) -> Any:
                self.take(path)
                return real(path, *rest, **more)

            return call

        def open_(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if isinstance(path, str | os.PathLike) and set(mode) & set("wax+"):
                self.take(path)
            return opened(path, mode, *rest, **more)

        def save_file(tensors: Any, path: Any, *rest: Any, **more: Any) -> None:
            try:
                self.take(path)
            except OSError as error:
                Path(path).write_bytes(b"half")
                raise SafetensorError("Error while serializing: No space left on device (os error 28)") from error
            save(tensors, path, *rest, **more)

        with (
            patch.object(builtins, "open", open_),
            patch.object(io, "open", open_),
            patch.object(tensor_writing, "save_file", save_file),
            patch.object(os, "fsync", guarded(os.fsync)),
            patch.object(os, "write", guarded(os.write)),
            patch.object(os, "replace", guarded(os.replace)),
            patch.object(os, "rename", guarded(os.rename)),
            patch.object(os, "mkdir", guarded(os.mkdir)),
        ):
            yield


@dataclass
class Filled:
    num_writes: int = 0  # of an undisturbed run
    num_refused: int = 0  # runs of which a write was refused
    num_rested: int = 0  # of these, runs that said so
    num_gone_on: int = 0  # runs gone on with to the end
    lines: list[str] = field(default_factory=list)


def fill_everywhere(
    world: World,
    *,
    every: int,
    go_on_every: int,
    start: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Filled:
    """One run for each ``every``-th write from ``start`` on, in both forms in turns; each ``go_on_every``-th of them is
    gone on with to the end, the others are only looked at."""
    disk, filled = Disk(world.workspace.root), Filled()
    reference = _small(world)
    with disk.watched():
        _work(reference, world)
    filled.num_writes, wanted = disk.count, fingerprint(reference)
    for number, first in enumerate(range(start, filled.num_writes + 1, every)):
        lasting = bool(number % 2)
        run = _small(world)
        disk.refuse(first, sys.maxsize if lasting else first)
        with disk.watched():
            line = _work(run, world)
        if not disk.refused:
            continue
        filled.num_refused += 1
        filled.lines += [f"write {first}: {lost}" for lost in _rested(run, line, world, filled)]
        if number % go_on_every == 0 or number % go_on_every == 1:
            _work(run, world)
            filled.num_gone_on += 1
            if run.status().state != "done" or fingerprint(run) != wanted:
                filled.lines.append(f"write {first}: {run.id} isn't bit-identical ({run.status().message})")
        say(f"write {first} of {filled.num_writes}: {line}")
    return filled


def _small(world: World) -> Run:
    params = world.params("prune")
    small = {**params["finetune"], "num_steps": 4}
    keys = ("model", "data", "recovery_shares", "num_proxy_samples", "protocol", "ced")
    params = {**{key: params[key] for key in keys}, **_SMALL, "finetune": small}
    return create_run(world.workspace, kind="prune", title="full", params=params)


def _work(run: Run, world: World) -> str:
    """The line that it ended with, empty where it ended well."""
    from engine.runs import prune_job
    from engine.runs.jobs import execute_run

    try:
        with patch.object(prune_job, "_CHECKPOINT_EVERY_SECONDS", 0.0):
            for _ in execute_run(run, world.workspace):
                pass
    except (Paused, DiskFull) as stop:
        return str(stop)
    return ""


def _rested(run: Run, line: str, world: World, filled: Filled) -> Iterator[str]:
    if run.status().state == "running":  # not even that could be written: the worker closes the folder, with room again
        child._close(run, DiskFull.EXIT_CODE)
    status = run.status()
    if status.state == "done":
        return  # what was refused was of no consequence
    filled.num_rested += 1
    if status.state == "queued" and status.started is None:
        return  # refused before it began: it still waits
    if status.state != "paused" or "\n" in line or not line.startswith(("disk full while writing", "no space left")):
        yield f"{run.id} is {status.state}: {line or status.message}"
    yield from unreadable_runs(world.workspace)
    yield from half_stages(world.workspace)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.full_disk", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="fail every n-th write")
    parser.add_argument("--go-on-every", type=int, default=6, help="go on to the end with a third of them: 6")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="entpruner-full-") as root:
        filled = fill_everywhere(make_world(Path(root)), every=args.every, go_on_every=args.go_on_every,
                                 say=lambda line: print(line, flush=True))  # fmt: skip
    print(f"{filled.num_writes} writes in one run; refused in {filled.num_refused} runs, {filled.num_rested} rested, "
          f"{filled.num_gone_on} gone on with to the end, {len(filled.lines)} losses, "
          f"{(time.monotonic() - began) / 60:.0f} minutes", *filled.lines, sep="\n")  # fmt: skip
    return 1 if filled.lines else 0


if __name__ == "__main__":
    sys.exit(main())
