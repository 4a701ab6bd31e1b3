"""The disk as it may look after the power went: at every flush of a run, all that wasn't flushed is gone.

``os.fsync`` is watched: a file's content counts as on the disk once the file was flushed, a name or a rename once its
folder was. From that the worst state of the disk is built for every moment between two flushes; in a second form, files
that weren't flushed are there with a random part of their content. In each, the run's folder must open with whole
stages only, and a run that goes on from there must end bit-identical, its training curve without a gap.
"""

import argparse
import os
import random
import resource
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from engine.runs.store import Run, open_run
from engine.runs.workspace import Workspace
from tests.soak.inspect import half_stages, unreadable_runs
from tests.soak.world import World, fingerprint, make_world

Node = int  # an inode's number
_ROOTS = ("runs",)


@dataclass
class Disk:
    """What of a workspace has reached the disk, flush by flush."""

    root: Path
    flushes: list[tuple[Node, bytes | dict[str, Node]]] = field(default_factory=list)  # content of a file or a folder
    held: list[int] = field(default_factory=list)  # open, so that no number is given out twice
    sizes: list[dict[str, int]] = field(default_factory=list)  # what readers saw at each flush: file -> bytes

    @contextmanager
    def watched(self) -> Iterator[None]:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            self.note(descriptor)

        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most[1], most[1]))
        try:
            for name in _ROOTS:
                self.note_folder(self.root / name)
            with patch.object(os, "fsync", fsync):
                yield
        finally:
            for descriptor in self.held:
                os.close(descriptor)

    def note(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if self.root not in path.parents:
            return
        about = os.fstat(descriptor)
        self.held.append(os.dup(descriptor))
        if stat.S_ISDIR(about.st_mode):
            self.flushes.append((about.st_ino, self._names(path)))
        else:
            self.flushes.append((about.st_ino, path.read_bytes()))

    def note_folder(self, path: Path) -> None:
        self.held.append(os.open(path, os.O_RDONLY))
        self.flushes.append((path.stat().st_ino, self._names(path)))

    def _names(self, path: Path) -> dict[str, Node]:
        """Folders as negative numbers."""
        found = {}
        for entry in os.scandir(path):
            number = entry.inode()
            self.held.append(os.open(entry.path, os.O_RDONLY))
            found[entry.name] = -number if entry.is_dir(follow_symlinks=False) else number
        return found

    def build(self, num_flushes: int, target: Path, *, torn: random.Random | None = None) -> Workspace:
        """The workspace as it is found after the power went. ``torn``: files that were never flushed aren't empty but
        hold some bytes, as many as chance has it."""
        content = dict(self.flushes[:num_flushes])
        later = dict(self.flushes[num_flushes:])
        workspace = Workspace(target)
        for name in _ROOTS:
            root = (self.root / name).stat().st_ino
            _build_folder(content, later, root, target / name, torn)
        return workspace


def _build_folder(content: dict, later: dict, number: Node, path: Path, torn: random.Random | None) -> None:
    path.mkdir(parents=True)
    for name, child in content.get(number, {}).items():
        if child < 0:
            _build_folder(content, later, -child, path / name, torn)
            continue
        data = content.get(child, b"")
        if torn and (more := later.get(child, b"")[len(data) :]):
            data += more[: torn.randint(0, len(more))]
        (path / name).write_bytes(data)


@dataclass
class Cuts:
    num_looked_at: int = 0
    num_without: int = 0  # of these, moments before the run's folder itself was on the disk
    num_gone_on: int = 0
    lines: list[str] = field(default_factory=list)


def record(world: World, params: dict, *, checkpoints: float) -> tuple[Disk, Run, dict[str, str]]:
    """An unbroken run, watched."""
    from engine.runs import prune_job
    from engine.runs.jobs import execute_run
    from engine.runs.store import create_run

    disk = Disk(world.workspace.root)
    with disk.watched(), patch.object(prune_job, "_CHECKPOINT_EVERY_SECONDS", checkpoints):
        run = create_run(world.workspace, kind="prune", title="cut", params=params)
        for _ in execute_run(run, world.workspace):
            pass
    return disk, run, fingerprint(run)


def cut_everywhere(
    world: World,
    params: dict,
    *,
    every: int,
    go_on: int,
    seed: int = 0,
    checkpoints: float = 0.2,
    say: Callable[[str], None] = lambda line: None,
) -> Cuts:
    """Cuts at every ``every``-th flush; ``go_on`` of them, spread evenly, are gone on with to the end."""
    disk, run, wanted = record(world, params, checkpoints=checkpoints)
    steps = curve(run)
    moments = list(range(1, len(disk.flushes), every))
    resumed = set(moments[:: max(1, len(moments) // max(1, go_on))]) if go_on else set()
    cuts, chance = Cuts(), random.Random(seed)
    say(f"{len(disk.flushes)} flushes in one run; looking at {len(moments)} moments, twice each")
    for moment in moments:
        for torn in (None, chance):
            target = world.root / "cut"
            shutil.rmtree(target, ignore_errors=True)
            workspace = disk.build(moment, target, torn=torn)
            shutil.copytree(world.workspace.cache, workspace.cache)
            cuts.num_looked_at += 1
            cuts.lines += [f"flush {moment}: {line}" for line in unreadable_runs(workspace) + half_stages(workspace)]
            if not (workspace.runs / run.id).exists():
                cuts.num_without += 1
            elif moment in resumed:
                cuts.num_gone_on += 1
                cuts.lines += [f"flush {moment}: {line}" for line in _gone_on(workspace, run.id, wanted, steps)]
        if moment in resumed:
            say(f"flush {moment}: {cuts.num_gone_on} gone on with, {len(cuts.lines)} losses")
    return cuts


def _gone_on(workspace: Workspace, run_id: str, wanted: dict[str, str], steps: list) -> list[str]:
    from engine.runs.jobs import execute_run

    run = open_run(workspace, run_id)
    for _ in execute_run(run, workspace):
        pass
    found = fingerprint(run)
    lines = [
        f"{name} isn't bit-identical" for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    ]
    return lines + ([] if curve(run) == steps else ["the training curve has a gap"])


def curve(run: Run) -> list[tuple[int, int]]:
    """(stage, step) of every point of it."""
    return sorted({(event["stage"], event["step"]) for event in run.events()[0] if event["event"] == "train"})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.power_cut", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="look at every n-th flush")
    parser.add_argument("--go-on", type=int, default=40, help="of these moments, that many are gone on with")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="entpruner-power-") as root:
        world = make_world(Path(root))
        cuts = cut_everywhere(world, world.params("prune"), every=args.every, go_on=args.go_on, seed=args.seed,
                              say=lambda line: print(line, flush=True))  # fmt: skip
    print(f"{cuts.num_looked_at} states of the disk opened ({cuts.num_without} from before the run was on it), "
          f"{cuts.num_gone_on} gone on with to the end, {len(cuts.lines)} losses, "
          f"{(time.monotonic() - began) / 60:.0f} minutes", *cuts.lines, sep="\n")  # fmt: skip
    return 1 if cuts.lines else 0


if __name__ == "__main__":
    sys.exit(main())
