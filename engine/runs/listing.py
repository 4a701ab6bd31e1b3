"""All runs of a workspace at a glance, newest first. Free of torch.

A page asks every few seconds, and a thousand runs must not cost it a second: what a run's files said is remembered
until one of them is replaced.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError, WorkspaceError
from engine.runs.schema import NewerRun
from engine.runs.stage import stage_folders
from engine.runs.store import RUN_ID, Run
from engine.runs.workspace import Workspace, read_json

#: of summaries beside a run's own states: its files make no sense, or a newer version wrote them
DAMAGED, NEWER = "damaged", "newer"
UNREADABLE_STATES = frozenset({DAMAGED, NEWER})
_SETTLED_SECONDS = 0.1  # two changes closer to each other than a file system's clock ticks look like one
_MOST_REMEMBERED = 10_000

Marks = tuple[tuple[int, int, int] | None, ...]
_remembered: dict[Path, tuple[Marks, "RunSummary"]] = {}


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    id: str
    kind: str  # empty where the run can't be read
    title: str
    created: float
    state: str  # one of STATES, or of UNREADABLE_STATES
    progress: float
    message: str
    num_stages: int


def list_runs(workspace: Workspace) -> list[RunSummary]:
    """Newest first. One that can't be read is listed as such, with the reason as its message. Raises WorkspaceError."""
    summaries = [summary for path in run_folders(workspace.runs) if (summary := summary_of(path))]
    return sorted(summaries, key=lambda summary: (summary.created, summary.id), reverse=True)


def run_folders(folder: Path) -> list[Path]:
    """What is named like a run in ``folder``, which may be missing."""
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if RUN_ID.fullmatch(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorkspaceError(f"{folder} can't be read ({error.strerror}); check that the disk is there") from error


def summary_of(path: Path) -> RunSummary | None:
    """None for a run that was deleted this moment."""
    marks = _marks(path)
    known = _remembered.get(path)
    if known and known[0] == marks:
        return known[1]
    summary = _summarise(path)
    changed = max((mark[2] for mark in marks if mark), default=0) / 1e9
    if summary and summary.state not in UNREADABLE_STATES and time.time() - changed > _SETTLED_SECONDS:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[path] = marks, summary
    return summary


def _marks(path: Path) -> Marks:
    """Others whenever something was written that a summary tells."""
    marks = []
    for name in ("config.json", "status.json", "stages"):
        try:
            about = os.stat(path / name)
        except OSError:  # none yet; anything worse is said by whoever reads it
            marks.append(None)
        else:
            marks.append((about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(marks)


def _summarise(path: Path) -> RunSummary | None:
    try:
        run = Run(path)
        status = run.status()
    except EngineError as error:
        return _unreadable(path, error) if path.is_dir() else None
    return RunSummary(
        id=run.id,
        kind=run.kind,
        title=run.title,
        created=run.created,
        state=status.state,
        progress=status.progress,
        message=status.error or status.message,
        num_stages=len(stage_folders(path)),
    )


def _unreadable(path: Path, error: EngineError) -> RunSummary:
    newer = isinstance(error, NewerRun)
    title = read_json(path / "config.json").get("title") if newer else None
    return RunSummary(
        id=path.name,
        kind="",
        title=title if isinstance(title, str) else path.name,
        created=_folder_time(path),
        state=NEWER if newer else DAMAGED,
        progress=0.0,
        message=str(error),
        num_stages=0,
    )


def _folder_time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
