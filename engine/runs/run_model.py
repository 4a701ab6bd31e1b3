"""The model that a run or a preview was asked about."""

from typing import Any

from engine.models.checkpoints import load_model
from engine.models.model import Model
from engine.runs.store import Run
from engine.runs.workspace import Workspace


def load_run_model(run: Run, workspace: Workspace, device: str) -> Model:
    return load_model(run.params["model"], device=device, workspace=workspace.root, **model_options(run.params))


def model_options(params: dict[str, Any]) -> dict[str, Any]:
    """What params say beside the reference, where the file can't say it: the process, the autoencoder."""
    return {name: params[name] for name in ("process", "autoencoder") if params.get(name)}
