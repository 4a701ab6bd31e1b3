"""How long a queued run is going to wait: its place in the line, and what those ahead of it usually take.

Free of torch.
"""

import heapq
from dataclasses import dataclass
from statistics import median

from engine.errors import AssetError, InputError
from engine.runs.listing import RunSummary, list_runs
from engine.runs.store import RunStatus, open_run
from engine.runs.table import read
from engine.runs.workers import live_workers
from engine.runs.workspace import Workspace

_RECENT = 5  # finished runs of a kind that its usual time rests on


@dataclass(frozen=True, kw_only=True)
class Wait:
    place: int  # 1: the next one
    num_waiting: int  # in the whole line
    num_running: int
    seconds: float  # until it begins, as far as is known
    is_whole: bool  # False where something ahead takes nobody knows how long: then it is at least ``seconds``


def expected_wait(workspace: Workspace, run_id: str) -> Wait | None:
    """None for a run that isn't in the line."""
    waiting, running = line_of_runs(workspace)
    if run_id not in waiting:
        return None
    summaries = list_runs(workspace)
    kinds = {summary.id: summary.kind for summary in summaries}
    ahead = waiting[: waiting.index(run_id)]
    usual = {kind: _usual_seconds(workspace, summaries, kind) for kind in {kinds.get(one, "") for one in ahead}}
    left = [_seconds_left(workspace, one) for one in running]
    takes = [usual[kinds.get(one, "")] for one in ahead]
    return Wait(
        place=len(ahead) + 1,
        num_waiting=len(waiting),
        num_running=len(running),
        seconds=_until_free(left, takes, num_workers=max(1, len(live_workers(workspace)))),
        is_whole=None not in left + takes,
    )


def line_of_runs(workspace: Workspace) -> tuple[list[str], list[str]]:
    """Ids of the runs that wait, the next one first, and of those at work."""
    query = "SELECT id, state FROM runs ORDER BY number"
    rows = read(workspace, lambda table: table.execute(query).fetchall())
    return [row[0] for row in rows if row[1] == "queued"], [row[0] for row in rows if row[1] == "running"]


def _until_free(left: list[float | None], takes: list[float | None], *, num_workers: int) -> float:
    """Each worker takes the next in the line as soon as it is free; what isn't known counts as nothing."""
    free = [0.0] * max(0, num_workers - len(left)) + [seconds or 0.0 for seconds in left]
    heapq.heapify(free)
    for seconds in takes:
        heapq.heappush(free, heapq.heappop(free) + (seconds or 0.0))
    return free[0]


def _seconds_left(workspace: Workspace, run_id: str) -> float | None:
    status = _status(workspace, run_id)
    return status.eta_seconds if status else 0.0


def _usual_seconds(workspace: Workspace, summaries: list[RunSummary], kind: str) -> float | None:
    """The median of the last finished ones; None before the first."""
    took = []
    for summary in summaries:
        if summary.kind == kind and summary.state == "done" and (status := _status(workspace, summary.id)):
            if status.started and status.finished:
                took.append(status.finished - status.started)
            if len(took) == _RECENT:
                break
    return median(took) if took else None


def _status(workspace: Workspace, run_id: str) -> RunStatus | None:
    try:
        return open_run(workspace, run_id).status()
    except (InputError, AssetError):  # deleted this moment
        return None
