"""What must hold of a workspace at any moment, whoever was killed: looked at before anything has been tidied up."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engine.errors import EngineError
from engine.runs.listing import UNREADABLE_STATES, list_runs
from engine.runs.stage import Stage
from engine.runs.store import Run, open_run
from engine.runs.workspace import Workspace


def unreadable_runs(workspace: Workspace) -> list[str]:
    """One line for each run that can't be read."""
    found = []
    for summary in list_runs(workspace):
        if summary.state in UNREADABLE_STATES:
            found.append(f"{summary.id}: {summary.message}")
            continue
        try:
            read_run(open_run(workspace, summary.id))
        except EngineError as error:
            found.append(f"{summary.id}: {error}")
    return found


def read_run(run: Run) -> None:
    """Reads every file that stands under its own name. Raises an EngineError for one that can't be."""
    run.status()
    run.events()
    for path in run.path.glob("*.json"):
        _json(path)
    for path in run.path.glob("progress/*.json"):
        _json(path)
    for path in run.path.glob("*.safetensors"):
        _tensors(path)


def half_stages(workspace: Workspace) -> list[str]:
    """One line for each stage that isn't whole."""
    found = []
    for summary in list_runs(workspace):
        if summary.state not in UNREADABLE_STATES:
            run = open_run(workspace, summary.id)
            found += [
                f"{run.id} stage {stage.number}: {line}" for stage in run.stages() if (line := _missing(run, stage))
            ]
    return found


def _missing(run: Run, stage: Stage) -> str:
    wanted = {"stage.json", "samples.npz", "metrics.json"}
    if run.kind == "prune":
        wanted |= {"config.json", "weights.safetensors"}
        wanted |= {"train_state.safetensors"} if stage.info["finetune"] else set()
    absent = sorted(name for name in wanted if not (stage.path / name).exists())
    if absent:
        return f"{', '.join(absent)} missing"
    try:
        assert stage.samples() is not None and stage.metrics() is not None
        for path in stage.path.glob("*.json"):
            _json(path)
        for path in stage.path.glob("*.safetensors"):
            _tensors(path)
    except EngineError as error:
        return str(error)
    return ""


def _json(path: Path) -> None:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:  # taken away this moment
        return
    except ValueError as error:
        raise EngineError(f"{path} is no JSON: {error}") from error


def _tensors(path: Path) -> None:
    """The header is compared with the file's length by the reader itself; then every byte is read."""
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                file.get_tensor(name)
    except FileNotFoundError:
        return
    except SafetensorError as error:
        raise EngineError(f"{path} is damaged: {error}") from error
