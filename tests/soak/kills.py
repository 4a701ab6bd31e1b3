"""``kill -9`` at random moments: of a run's process, of the worker, of the page, of the program that started both.

After each kill, before anything else runs: no run folder is unreadable, no stage is half-written. Then the run goes on,
and in the end it is bit-identical to one that nothing disturbed.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.__main__ import is_healthy
from engine.errors import EngineError
from engine.runs.listing import run_folders
from engine.runs.queue import resume_run, submit_run
from engine.runs.store import RESTING_STATES, Run
from engine.runs.waiting import line_of_runs
from engine.runs.workers import live_workers, process_exists
from tests.soak.inspect import half_stages, unreadable_runs
from tests.soak.world import KINDS, World, fingerprint, make_world

ROOT = Path(__file__).parents[2]
VICTIMS = ("run", "worker", "starter", "page", "sample")
_WEIGHTS = (10, 6, 2, 1, 2)  # how often each is chosen: the page and the starter take long to come back
_KILLS_PER_RUN = 4  # at most; then it may end
_PATIENCE = 240.0
_NUM_DRAWN = 600  # pictures of the command


@dataclass
class Score:
    """What came of it."""

    kills: Counter = field(default_factory=Counter)  # (victim, phase) -> number
    ended: Counter = field(default_factory=Counter)  # kind -> runs that were killed at least once and then ended
    lines: list[str] = field(default_factory=list)  # what was lost, one line each

    @property
    def num_kills(self) -> int:
        return sum(self.kills.values())


class Soak:
    def __init__(self, world: World, *, seed: int, say: Callable[[str], None]) -> None:
        self.world, self.random, self.say = world, random.Random(seed), say
        self.score = Score()
        self.hosts: list[subprocess.Popen] = []  # the worker, or the starter of the app
        self.took: dict[str, float] = {}  # seconds of an unbroken run's process, by kind

    # --- who does the work ---

    def start_worker(self) -> None:
        self._host([sys.executable, "-m", "tests.soak.worker", str(self.world.workspace.root)])

    def start_app(self) -> int:
        port = _free_port()
        self._host([sys.executable, "-m", "app", "--port", str(port), "--device", "cpu"])
        self.wait(lambda: is_healthy("127.0.0.1", port), "the page answers")
        return port

    def _host(self, command: list[str]) -> None:
        log = open(self.world.root / "hosts.log", "ab")  # noqa: SIM115 - the process's from now on
        with log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.world.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.hosts.append(process)
        self.wait(lambda: live_workers(self.world.workspace), "a worker is alive")

    def stop(self) -> None:
        for process in self.hosts:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.hosts.clear()
        self.wait(lambda: not live_workers(self.world.workspace), "all workers are gone")

    # --- one run ---

    def reference(self, kinds: tuple[str, ...]) -> None:
        """Every kind once, undisturbed, by the same worker."""
        self.start_worker()
        for kind in kinds:
            run = self.begin(kind)
            began = time.monotonic()
            self.wait(lambda run=run: run.status().state in RESTING_STATES, f"the reference of {kind} ends")
            assert run.status().state == "done", (kind, run.status())
            self.took[kind] = time.monotonic() - began
            self.world.reference[kind] = fingerprint(run)
            self.say(f"reference of {kind}: {self.took[kind]:.1f} s")

    def begin(self, kind: str) -> Run:
        for known in self.world.workspace.cache.glob("ced-*.json"):
            known.unlink()  # so that it is worked out again, and a kill finds somebody at work
        run = self.world.ask(kind)
        submit_run(self.world.workspace, run)
        self.wait(lambda: self.is_under_way(run), f"{kind} begins")
        return run

    def disturb(self, kind: str, victim: str, *, kills: int) -> None:
        """A run of ``kind`` from its beginning to its end, with that many kills on the way."""
        port = self._prepare(victim)
        run, done = self.begin(kind), 0
        while True:
            if done < kills and self._pause_within(run, self.took[kind]):
                self._kill(run, victim, port)
                done += 1
                port = self._go_on(run, victim)
            if done == kills:
                self.wait(lambda: run.status().state in RESTING_STATES, f"{kind} ends")
            if run.status().state in RESTING_STATES:
                break
        self._judge(run, kind, killed=done)

    def _prepare(self, victim: str) -> int | None:
        self.stop()
        if victim in ("starter", "page"):
            return self.start_app()
        self.start_worker()
        return None

    def _pause_within(self, run: Run, seconds: float) -> bool:
        """A random while; False where the run ended meanwhile."""
        until = time.monotonic() + self.random.uniform(0.0, seconds)
        while time.monotonic() < until:
            if run.status().state in RESTING_STATES:
                return False
            time.sleep(0.005)
        return run.status().state not in RESTING_STATES

    def _kill(self, run: Run, victim: str, port: int | None) -> None:
        status = run.status()
        target = {
            "run": lambda: status.pid,
            "worker": lambda: live_workers(self.world.workspace)[0].pid,
            "starter": lambda: self.hosts[-1].pid,
            "page": lambda: _page_of(self.hosts[-1].pid),
        }[victim]()
        if target is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
        self.score.kills[victim, status.phase] += 1
        if victim != "run":
            self.hosts[-1].wait(timeout=30)
        if status.pid is not None:
            self.wait(lambda: not process_exists(status.pid), "the run's process is gone")
        self.look(f"after {victim} was killed in {run.kind}, {status.phase}")

    def look(self, when: str) -> None:
        for name, found in (("unreadable", unreadable_runs), ("half a stage", half_stages)):
            self.score.lines += [f"{name} {when}: {line}" for line in found(self.world.workspace)]

    def _go_on(self, run: Run, victim: str) -> int | None:
        port = None
        if victim in ("starter", "page"):
            port = self.start_app()
        elif victim == "worker":
            self.start_worker()
        self.wait(lambda: run.status().state in RESTING_STATES, "the worker notices that the run was stopped")
        if run.status().state != "done":
            resume_run(self.world.workspace, run.id)
            self.wait(lambda: self.is_under_way(run), f"{run.kind} goes on")
        return port

    def _judge(self, run: Run, kind: str, *, killed: int) -> None:
        status = run.status()
        if status.state != "done":
            self.score.lines.append(f"{run.id} ended as {status.state}: {status.error or status.message}")
            return
        try:
            found = fingerprint(run)
        except (EngineError, AssertionError, OSError, ValueError) as error:
            self.score.lines.append(f"{run.id} is done and can't be read: {error}")
            return
        wanted = self.world.reference[kind]
        different = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if different:
            self.score.lines.append(f"{run.id} isn't bit-identical: {', '.join(different)}")
        elif killed:
            self.score.ended[kind] += 1
            shutil.rmtree(run.path)

    # --- the command that draws pictures into a file ---

    def disturb_sampling(self, *, kills: int) -> None:
        out = self.world.root / "drawn.npz"
        for done in range(kills + 1):
            began = time.monotonic()
            process = self._draw(out)
            if done < kills and "sample" in self.took:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=self.random.uniform(0.3, 1.0) * self.took["sample"])
                if process.poll() is None:
                    process.kill()
                    self.score.kills["sample", "drawing"] += 1
                    if out.exists() and not _is_whole(out):  # it may be finished, and only tidying up was cut short
                        self.score.lines.append(f"{out} was there before it was whole")
            process.wait()
        self.took.setdefault("sample", time.monotonic() - began)
        with np.load(out) as arrays:
            found = {name: arrays[name].tobytes().hex()[:4096] for name in arrays.files}
        out.unlink()
        out.with_name("drawn.npz.json").unlink(missing_ok=True)
        wanted = self.world.reference.setdefault("sample", found)
        if found != wanted:
            self.score.lines.append("drawn.npz isn't bit-identical")
        elif kills:
            self.score.ended["sample"] += 1

    def _draw(self, out: Path) -> subprocess.Popen:
        asked = ["--num", str(_NUM_DRAWN), "--num-steps", "10", "--out", str(out)]
        command = [sys.executable, "-m", "engine", "sample", str(self.world.root / "tiny"), *asked]
        log = open(self.world.root / "hosts.log", "ab")  # noqa: SIM115 - the process's from now on
        with log:
            return subprocess.Popen(command, cwd=ROOT, env=self.world.environment, stdout=log, stderr=log)

    def is_under_way(self, run: Run) -> bool:
        """Or ended already: what it came to is judged later."""
        status = run.status()
        return status.state in RESTING_STATES or status.phase not in ("", "starting")

    def state_of_things(self) -> str:
        """For whoever has to find out why nothing happens any more."""
        workspace = self.world.workspace
        open_runs = [Run(path).status() for path in run_folders(workspace.runs)]
        hosts = [f"{process.args[2]} {process.pid} {process.poll()}" for process in self.hosts]
        log = (self.world.root / "hosts.log").read_text()[-1500:]
        return "\n".join(
            [f"in the line: {line_of_runs(workspace)}", f"workers: {live_workers(workspace)}", f"hosts: {hosts}"]
            + [str(status) for status in open_runs if status.state != "done"] + [log]
        )  # fmt: skip

    def wait(self, condition: Callable[[], object], what: str) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > give_up:
                raise TimeoutError(f"it never happened that {what}; {self.state_of_things()}")
            time.sleep(0.01)


def soak(
    root: Path,
    *,
    kills: int,
    seed: int,
    victims: tuple[str, ...] = VICTIMS,
    kinds: tuple[str, ...] = KINDS,
    say: Callable[[str], None] = lambda line: None,
) -> Score:
    """Kills until there were ``kills``; what was lost is in the lines of the score."""
    soak = Soak(make_world(root), seed=seed, say=say)
    weights = [_WEIGHTS[VICTIMS.index(victim)] for victim in victims]
    told = 0
    try:
        soak.reference(kinds)
        if "sample" in victims:
            soak.disturb_sampling(kills=0)
        while soak.score.num_kills < kills and len(soak.score.lines) < 20:
            left = kills - soak.score.num_kills
            (victim,) = soak.random.choices(victims, weights)
            kind = soak.random.choices(kinds, [3 if kind == "prune" else 1 for kind in kinds])[0]
            num = min(left, soak.random.randint(1, _KILLS_PER_RUN))
            if victim == "sample":
                soak.disturb_sampling(kills=num)
            else:
                soak.disturb(kind, victim, kills=num)
            for line in soak.score.lines[told:]:
                say(line)
            told = len(soak.score.lines)
            say(f"{soak.score.num_kills} of {kills} kills, {sum(soak.score.ended.values())} runs to their end, "
                f"{len(soak.score.lines)} losses")  # fmt: skip
    finally:
        soak.stop()
    return soak.score


def table(score: Score) -> str:
    phases = sorted({phase for _, phase in score.kills})
    lines = [f"{'killed while':14}" + "".join(f"{victim:>9}" for victim in VICTIMS) + f"{'all':>7}"]
    for phase in [*phases, None]:
        counts = [sum(n for key, n in score.kills.items() if key[0] == victim and phase in (None, key[1]))
                  for victim in VICTIMS]  # fmt: skip
        lines.append(f"{phase or 'all':14}" + "".join(f"{count:>9}" for count in counts) + f"{sum(counts):>7}")
    ended = ", ".join(f"{kind} {number}" for kind, number in sorted(score.ended.items()))
    lines += ["", f"runs that were killed, went on and ended bit-identical: {sum(score.ended.values())} ({ended})"]
    lines += [f"lost: {len(score.lines)}", *score.lines]
    return "\n".join(lines)


def _is_whole(drawn: Path) -> bool:
    try:
        with np.load(drawn) as arrays:
            return len(arrays["arr_0"]) == len(arrays["labels"]) == len(arrays["seeds"]) == _NUM_DRAWN
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False


def _page_of(starter: int) -> int | None:
    children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
    return next((int(pid) for pid in children if b"streamlit" in Path(f"/proc/{pid}/cmdline").read_bytes()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of what is killed and when (the machine adds chance)")
    parser.add_argument("--keep", help="folder to work in, kept afterwards (default: a temporary one)")
    args = parser.parse_args()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # tidying up on the way
    with tempfile.TemporaryDirectory(prefix="entpruner-soak-") as temporary:
        root = Path(args.keep or temporary) / f"seed-{args.seed}"
        score = soak(root, kills=args.kills, seed=args.seed, say=lambda line: print(line, flush=True))
    print(table(score))
    print(f"{score.num_kills} kills, seed {args.seed}, {(time.monotonic() - began) / 60:.0f} minutes")
    return 1 if score.lines else 0


if __name__ == "__main__":
    sys.exit(main())
