"""What there is to report of a run, by its kind."""

from dataclasses import dataclass
from typing import Any

from engine.errors import InputError
from engine.runs.stage import Stage
from engine.runs.store import Run
from engine.runs.workspace import read_json

_KINDS = ("prune", "evaluate", "ced", "arena")


@dataclass(frozen=True, kw_only=True)
class Found:
    """``ced`` and ``arena``: as far as they are; None for other kinds of run."""

    stages: tuple[Stage, ...] = ()
    ced: dict[str, Any] | None = None
    arena: dict[str, Any] | None = None


def found_of(run: Run) -> Found:
    """Raises InputError for a run that has nothing to report, AssetError for a damaged one."""
    if run.kind not in _KINDS:
        raise InputError(f"run {run.id} is of kind {run.kind!r}; a report is made of a run of kind {', '.join(_KINDS)}")
    if run.kind in ("ced", "arena"):
        return Found(**{run.kind: _result(run)})
    stages = run.stages()
    if not stages:
        raise InputError(f"run {run.id} is {run.status().state} and has no finished stage to report yet")
    return Found(stages=tuple(stages))


def _result(run: Run) -> dict[str, Any]:
    """Finished, or as far as it is."""
    for file in (run.path / f"{run.kind}.json", run.path / "progress" / f"{run.kind}.json"):
        if file.exists():
            return read_json(file)
    raise InputError(f"run {run.id} is {run.status().state} and has no result to report yet")
