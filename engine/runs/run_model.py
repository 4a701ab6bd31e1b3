"""The model and the data that a run or a preview was asked about."""

from collections.abc import Iterator
from typing import Any

from engine.data import opening_data
from engine.data.dataset import Data
from engine.models.checkpoints import load_model
from engine.models.model import Model
from engine.runs.progress import Progress
from engine.runs.run_compute import compute_of
from engine.runs.store import Run
from engine.runs.workspace import Workspace
from engine.steps import told_as


def load_run_model(run: Run, workspace: Workspace, device: str) -> Model:
    return load_model(
        run.params["model"],
        device=device,
        workspace=workspace.root,
        compute=compute_of(run.params),
        **model_options(run.params),
    )


def opened_run_data(run: Run, workspace: Workspace) -> Iterator[Progress]:
    """Yields progress while many files are looked at or unpacked; returns the Data."""
    steps = opening_data(run.params["data"], workspace=workspace.root)
    data: Data = yield from told_as(
        steps, lambda step: Progress(phase="opening", message=step.message, done=0, total=1)
    )
    return data


def model_options(params: dict[str, Any]) -> dict[str, Any]:
    """What params say beside the reference, where the file can't say it: the process, the autoencoder."""
    return {name: params[name] for name in ("process", "autoencoder") if params.get(name)}
