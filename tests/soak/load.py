"""Many people at once: browser sessions look around while a run trains.

``python -m tests.soak.load --sessions 40 --minutes 5`` starts the studio as ``python -m app`` does, on a workspace of
its own, and prints how long pages take, how much the run is slowed, and what memory the page's process takes. Minutes
with visitors and half minutes without alternate, so that a machine that grows busier isn't taken for them.

``--no-training`` is for the page's memory over hours: visitors come and go, and nothing is trained beside them.
"""

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from engine.evaluation.protocol import Protocol
from engine.importance.config import CedConfig
from engine.runs import queue
from engine.runs.listing import list_runs
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, open_workspace
from engine.training.config import FinetuneConfig
from tests.soak.visitor import Page, Visitor, open_visitor

ROOT = Path(__file__).parents[2]
MODEL, DATA = "demo-sit-digits", "digits"
ALONE_SECONDS = 30.0  # the run without visitors, before and after each minute with them
SETTLE_SECONDS = 5.0
PATIENCE = 600.0  # seconds for what is looked at to be computed beforehand
_PSS = "/proc/{}/smaps_rollup"


@dataclass
class Visits:
    """What the visitors saw, and what it cost."""

    pages: dict[str, list[Page]] = field(default_factory=dict)  # by name
    sessions: int = 0
    ticks: list[float] = field(default_factory=list)  # seconds of the polls that open pages make
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds, MiB) of the page's process
    page_cpu: list[float] = field(default_factory=list)  # cores that the page's process took, by round
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> list[float]:
        return [page.seconds for pages in self.pages.values() for page in pages]


@dataclass
class Pace:
    """Steps a second of the run: without visitors, with, without, …"""

    alone: list[float]
    together: list[float] = field(default_factory=list)

    def slowdowns(self) -> list[float]:
        """Of each round, against the mean of what went before and after it."""
        around = zip(self.alone, self.alone[1:], strict=False)
        return [1 - rate / ((a + b) / 2) for rate, (a, b) in zip(self.together, around, strict=True)]


def places(workspace: Workspace) -> list[tuple[str, dict[str, str]]]:
    """What there is to see: pages with choices, as links have them. Heatmaps and galleries twice as often."""
    runs = {run.kind: run.id for run in list_runs(workspace) if run.state == "done"}
    seen = {"model": MODEL, "data": DATA}
    looking = [("importance", seen), ("importance", seen | {"block": "3"}), ("importance", seen | {"block": "7"})]
    if "prune" in runs:
        looking += [("compare", {"run": runs["prune"]})] * 2
    return looking * 2 + [("", {}), ("runs", {}), ("model-data", seen), ("arena", {}), ("prune", {"run": "new"})]


async def look_around(
    port: int, number: int, visits: Visits, *, where: list[tuple[str, dict[str, str]]], until: float, pause: float
) -> None:
    """One person: a page, a look at it, another page. Come in one after the other, as people do."""
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, pause))
    async with open_visitor(port) as visitor:
        visits.sessions += 1
        while time.monotonic() < until:
            name, query = chance.choice(where)
            await _see(visitor, name, query, visits)
            await asyncio.sleep(chance.uniform(0.5 * pause, 1.5 * pause))
        visits.ticks += visitor.ticks
        visits.errors += visitor.errors


async def _see(visitor: Visitor, name: str, query: dict[str, str], visits: Visits) -> None:
    try:
        page = await visitor.visit(name, **query)
    except TimeoutError:
        visits.errors.append(f"page {name or 'start'} didn't come within a minute")
        return
    visits.pages.setdefault(name or "start", []).append(page)
    visits.errors += [f"page {name or 'start'}: {error}" for error in page.errors]


async def crowd(
    port: int, pid: int, workspace: Workspace, visits: Visits, *, sessions: int, seconds: float, pause: float
) -> None:
    began, cpu = time.monotonic(), cpu_seconds(pid)
    where, until = places(workspace), began + seconds
    watching = asyncio.create_task(_watch_memory(pid, visits))
    await asyncio.gather(
        *(look_around(port, number, visits, where=where, until=until, pause=pause) for number in range(sessions))
    )
    watching.cancel()
    visits.page_cpu.append((cpu_seconds(pid) - cpu) / (time.monotonic() - began))


async def _watch_memory(pid: int, visits: Visits) -> None:
    while True:
        visits.memory.append((time.monotonic() - visits.began, memory_mib(pid)))
        await asyncio.sleep(5)


def memory_mib(pid: int) -> float:
    """What the process alone has, and its share of what it has with others (Linux)."""
    lines = Path(_PSS.format(pid)).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu_seconds(pid: int) -> float:
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


# The run beside which they look


def long_run(workspace: Workspace) -> Run:
    """A training that doesn't end by itself, and begins at once: the intact model is measured on little."""
    finetune = FinetuneConfig(num_steps=10_000_000, batch_size=64, learning_rate=1e-4)
    protocol = Protocol(num_images=16, num_steps=2)
    return _ask(workspace, "prune", {"drop": [5], "finetune": asdict(finetune), "protocol": asdict(protocol)})


def _ask(workspace: Workspace, kind: str, params: dict) -> Run:
    params = {"model": MODEL, "data": DATA, **params}
    run = create_run(workspace, kind=kind, title=f"{kind} of {MODEL} on {DATA}", params=params)
    queue.submit_run(workspace, run)
    return run


def furnish(workspace: Workspace) -> None:
    """Something to look at, unless it is there: a heatmap, and a pruned model with its pictures."""
    finetune = FinetuneConfig(num_steps=20, batch_size=64, learning_rate=1e-3)
    protocol = Protocol(num_images=100)
    wanted = {
        "ced": {"config": asdict(CedConfig())},
        "prune": {"drop": [3, 7], "finetune": asdict(finetune), "protocol": asdict(protocol)},
    }
    there = {run.kind for run in list_runs(workspace) if run.state == "done"}
    runs = [_ask(workspace, kind, params) for kind, params in wanted.items() if kind not in there]
    wait_for(lambda: all(run.status().state not in ("queued", "running") for run in runs), "what is looked at")
    failed = [run.status().error for run in runs if run.status().state != "done"]
    if failed:
        raise SystemExit(f"preparing failed: {failed[0]}")


def wait_for(condition, what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} wasn't there within {seconds:.0f} s")
        time.sleep(0.2)


def steps_per_second(run: Run, seconds: float) -> float:
    """Of the next so many seconds."""
    begin = time.time()
    time.sleep(seconds)
    return rate_between(run, begin, time.time())


def rate_between(run: Run, begin: float, end: float) -> float:
    """From the first event after ``begin`` to the first after ``end``, which it waits for; they are few."""

    def after(moment: float) -> dict | None:
        trained = (event for event in run.events()[0] if event["event"] == "train" and event["time"] >= moment)
        return next(trained, None)

    wait_for(lambda: after(end) is not None, "the next training event", 120)
    first, last = after(begin), after(end)
    if last["step"] == first["step"]:
        raise SystemExit(f"the run made no step in {end - begin:.0f} s; the machine is too busy to measure anything")
    return (last["step"] - first["step"]) / (last["time"] - first["time"])


# The studio


@contextmanager
def studio(workspace: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """Port and process number of the page, started as a person starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port), "--workspace", str(workspace), "--device", "cpu"]
    with open(workspace.parent / "studio.log", "ab") as log:
        starter = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(port), "the page", 120)
        yield port, page_process(starter.pid)
    finally:
        starter.terminate()
        starter.wait(30)


def _answers(port: int) -> bool:
    command = [sys.executable, "-m", "app", "--check", "--port", str(port)]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def page_process(starter: int) -> int:
    children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
    return next(int(pid) for pid in children if b"streamlit" in Path(f"/proc/{pid}/cmdline").read_bytes())


# What is said


def report(visits: Visits, pace: Pace | None, *, at_once: int, pause: float) -> str:
    seconds = np.array(visits.seconds())
    lines = [
        f"{at_once} sessions at once, {visits.sessions} in all, {pause:g} s at each page; {len(seconds)} pages, "
        f"{len(visits.ticks)} polls",
        f"page response: median {np.median(seconds):.2f} s, p95 {np.quantile(seconds, 0.95):.2f} s, "
        f"slowest {seconds.max():.2f} s",
    ]
    for name, pages in sorted(visits.pages.items()):
        of = np.array([page.seconds for page in pages])
        size = np.mean([page.num_bytes for page in pages]) / 1024
        p95 = np.quantile(of, 0.95)
        lines.append(f"  {name:12} {len(of):5} times, median {np.median(of):.2f} s, p95 {p95:.2f} s, {size:.0f} KiB")
    lines.append(f"poll response: p95 {np.quantile(visits.ticks, 0.95):.2f} s" if visits.ticks else "no polls")
    if pace is not None:
        lost = [100 * share for share in pace.slowdowns()]
        lines += [
            f"the run, steps/s: alone {_rates(pace.alone)}; with visitors {_rates(pace.together)}",
            f"  {np.median(lost):.0f} % slower with them: median of the rounds, {min(lost):.0f} to {max(lost):.0f} %",
        ]
    lines += [
        f"the page's process: {np.mean(visits.page_cpu):.2f} cores, {_memory_line(visits.memory)}",
        *_memory_by_time(visits.memory),
        f"load average of the machine {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores",
        f"errors: {len(visits.errors)}" + "".join(f"\n  {line}" for line in sorted(set(visits.errors))[:10]),
    ]
    return "\n".join(lines)


def _rates(rates: list[float]) -> str:
    return ", ".join(f"{rate:.2f}" for rate in rates)


def _memory_line(memory: list[tuple[float, float]]) -> str:
    """The first third is people coming in; growth is what the rest says."""
    settled = memory[len(memory) // 3 :]
    first, last = settled[0], settled[-1]
    return f"{memory[0][1]:.0f} MiB at first, {first[1]:.0f} MiB after {first[0]:.0f} s, {last[1]:.0f} MiB at the end"


def _memory_by_time(memory: list[tuple[float, float]], num_parts: int = 6) -> list[str]:
    """Least, median and most of each sixth of the time: a leak lifts all three, comings and goings only the last."""
    parts = np.array_split(np.array(memory), num_parts) if len(memory) >= num_parts else []
    return [
        f"  {part[0, 0] / 60:5.1f} to {part[-1, 0] / 60:5.1f} min: {part[:, 1].min():.0f} … "
        f"{np.median(part[:, 1]):.0f} … {part[:, 1].max():.0f} MiB"
        for part in parts
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.load", description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--pause", type=float, default=20.0, help="seconds that a person looks at a page, on average")
    parser.add_argument("--no-training", action="store_true", help="nothing runs beside: for hours, for the memory")
    parser.add_argument("--workspace", type=Path, help="one furnished by an earlier trial (default: a new one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        workspace = open_workspace(args.workspace or Path(temporary) / "workspace")
        with studio(workspace.root) as (port, pid):
            furnish(workspace)
            measure = _without_run if args.no_training else _beside_run
            visits, pace = measure(workspace, port, pid, args)
    print(report(visits, pace, at_once=args.sessions, pause=args.pause))
    return 1 if visits.errors else 0


def _without_run(workspace: Workspace, port: int, pid: int, args: argparse.Namespace) -> tuple[Visits, None]:
    """Each round is four minutes, then everybody leaves and others come."""
    visits = Visits()
    rounds = max(1, round(args.minutes / 4))
    for _ in range(rounds):
        seconds = 60 * args.minutes / rounds
        asyncio.run(crowd(port, pid, workspace, visits, sessions=args.sessions, seconds=seconds, pause=args.pause))
        print(f"{visits.memory[-1][0] / 60:.0f} min, {visits.memory[-1][1]:.0f} MiB", flush=True)
    return visits, None


def _beside_run(workspace: Workspace, port: int, pid: int, args: argparse.Namespace) -> tuple[Visits, Pace]:
    run = long_run(workspace)
    try:
        return _measure(workspace, run, port, pid, args)
    finally:
        queue.cancel_run(workspace, run.id)


def _measure(workspace: Workspace, run: Run, port: int, pid: int, args: argparse.Namespace) -> tuple[Visits, Pace]:
    wait_for(lambda: any(event["event"] == "train" for event in run.events()[0]), "the first training step")
    # once beforehand: what blocks do is then known, and nobody's look costs the engine anything
    asyncio.run(crowd(port, pid, workspace, Visits(), sessions=2, seconds=20, pause=1))
    time.sleep(SETTLE_SECONDS)
    visits, pace = Visits(), Pace(alone=[steps_per_second(run, ALONE_SECONDS)])
    rounds = max(1, round(args.minutes))
    for _ in range(rounds):
        begin = time.time()
        seconds = 60 * args.minutes / rounds
        asyncio.run(crowd(port, pid, workspace, visits, sessions=args.sessions, seconds=seconds, pause=args.pause))
        pace.together.append(rate_between(run, begin + 0.5 * args.pause, begin + seconds))
        time.sleep(SETTLE_SECONDS)
        pace.alone.append(steps_per_second(run, ALONE_SECONDS))
    return visits, pace


if __name__ == "__main__":
    sys.exit(main())
