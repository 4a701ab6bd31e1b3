"""What a run knows of one of its stages, for whoever takes the model away: its measurements and how it came about.

Free of torch.
"""

from dataclasses import dataclass
from typing import Any

from engine.errors import InputError
from engine.runs.drive import path_to
from engine.runs.store import open_run
from engine.runs.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    results: dict[str, Any] | None = None  # metrics.json
    stages: tuple[dict[str, Any], ...] = ()  # stage.json of each stage from the intact model to this one

    @property
    def depth_of_parent(self) -> int | None:
        return self.stages[0]["depth"] if self.stages else None


def record_of(ref: str, workspace: Workspace) -> StageRecord:
    """Empty for a model that isn't a stage of a run in this workspace. Raises AssetError for a damaged run."""
    run_id, found, number = ref.rpartition("@")
    if not found or not number.isdecimal():
        return StageRecord()
    try:
        run = open_run(workspace, run_id)
        stage = run.stage(int(number))
    except InputError:
        return StageRecord()
    return StageRecord(
        results=stage.metrics(), stages=tuple(run.stage(step).info for step in path_to(run, stage.number))
    )
