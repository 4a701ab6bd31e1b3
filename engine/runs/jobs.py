"""What a run does, by kind: the engine's generators, their progress written into the run folder as they go.

Loaded by the worker's child process and by the command line; the app never imports it. What measures fidelity takes
seconds to import: the jobs that need it import it themselves, so that a heatmap doesn't wait for it.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from engine.errors import Cancelled, DiskFull, EngineError, InputError, OutOfMemory, Paused
from engine.importance.ced import ced_columns
from engine.importance.config import CedConfig, CriteriaConfig
from engine.models.checkpoints import find_model, load_model
from engine.models.model import Model
from engine.models.references import library_entry
from engine.runs.leftovers import sweep_run
from engine.runs.logged import logged_into
from engine.runs.progress import Progress, config_from
from engine.runs.run_lock import working_alone
from engine.runs.run_model import load_run_model, model_options, opened_run_data
from engine.runs.spare import free_spare, keep_spare, words_about
from engine.runs.stopping import MESSAGE, stopping_when_cancelled
from engine.runs.store import Run
from engine.runs.workspace import Workspace, write_json

_STATUS_EVERY_SECONDS = 0.5

Job = Callable[[Run, Workspace, str], Iterator[Progress]]


def execute_run(run: Run, workspace: Workspace, *, device: str = "cpu") -> Iterator[Progress]:
    """Does the work of ``run``, yielding progress; the status file always ends in a finished state.

    A run that was interrupted goes on from its last step saved. An EngineError ends in state "failed" and is raised
    again, for the command line to print; a cancelled run raises Cancelled, one that rests Paused. A full disk makes it
    rest, too; DiskFull is raised where there is no space even to say so. InputError where another process is at it.
    """
    if run.kind not in JOBS:
        raise InputError(f"run {run.id} is of kind {run.kind!r}; this version knows {', '.join(JOBS)}")
    with working_alone(run):
        yield from _work(run, workspace, device)


def _work(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    run.update(state="running", progress=0.0, phase="loading", message="loading the model and the data")
    try:
        yield from _ending(run, workspace, device)
    except DiskFull as full:
        line = words_about(full, run)
        _end(run, state="paused", message=line)
        raise Paused(line) from full
    finally:  # our own defect, or the end of the process: the state must not stay "running"
        if run.status().state == "running" and not isinstance(sys.exception(), DiskFull):
            stopped = ("cancelled", MESSAGE) if run.cancel_requested else ("interrupted", "stopped before its end")
            _end(run, state=stopped[0], message=stopped[1])


def _ending(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    """The job, and in the end the state that it comes to, unless the disk is full."""
    try:
        sweep_run(run)
        keep_spare(run)
        with stopping_when_cancelled(run), logged_into(run):
            yield from _with_status(run, JOBS[run.kind](run, workspace, device))
    except Cancelled as stop:
        run.clear_cancel()
        _end(run, state="cancelled", message=str(stop))
        raise
    except Paused as stop:
        _end(run, state="paused", message=str(stop))
        raise
    except torch.OutOfMemoryError as error:
        line = _too_large(error)
        _end(run, state="failed", error=line, message=line)
        raise OutOfMemory(line) from error
    except DiskFull:
        raise
    except EngineError as error:
        _end(run, state="failed", error=str(error), message=str(error))
        raise
    else:
        _end(run, state="done", phase="done", message="finished", progress=1.0)


def _with_status(run: Run, steps: Iterator[Progress]) -> Iterator[Progress]:
    started, last, phase = time.monotonic(), 0.0, "loading"
    for progress in steps:
        if run.cancel_requested:
            raise Cancelled(MESSAGE)
        now = time.monotonic()
        if now - last >= _STATUS_EVERY_SECONDS or progress.phase != phase:
            share = min(progress.done / progress.total, 1.0)
            eta = (now - started) * (1 - share) / share if share > 0.02 else None
            run.update(phase=progress.phase, message=progress.message, progress=share, eta_seconds=eta)
            last, phase = now, progress.phase
        yield progress


def _end(run: Run, **changes: Any) -> None:
    """The run's last words, for which space was put by."""
    free_spare(run)
    run.update(**changes)


def _too_large(error: torch.OutOfMemoryError) -> str:
    reason = str(error).split(". ")[0]
    return f"{reason}: this step doesn't fit the device; close what else uses its memory, or use another, and resume"


def ced_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    config = config_from(CedConfig, run.params.get("config", {}))
    model = load_run_model(run, workspace, device)
    data = yield from opened_run_data(run, workspace)
    for column in ced_columns(model, data, config, cache=workspace.cache):
        write_json(run.progress_folder / "ced.json", column.result.as_dict())
        run.append("column", column=column.column, num_columns=column.num_columns)
        message = f"column {column.column} of {column.num_columns}"
        yield Progress(phase="scoring", message=message, done=column.column, total=column.num_columns)
    write_json(run.path / "ced.json", column.result.as_dict())


def criteria_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    from engine.importance.criteria import criteria_columns

    config = config_from(CriteriaConfig, run.params.get("config", {}))
    model = load_run_model(run, workspace, device)
    data = yield from opened_run_data(run, workspace)
    for step in criteria_columns(model, data, config):
        run.append("column", column=step.column, num_columns=step.num_columns)
        message = f"pass {step.column} of {step.num_columns}"
        yield Progress(phase="scoring", message=message, done=step.column, total=step.num_columns)
    assert step.result is not None
    write_json(run.path / "criteria.json", step.result.as_dict())


def evaluate_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    """One stage that holds the model as it is, its samples and its metrics. Stopped, it keeps what it has drawn."""
    from engine.evaluation.timing import Timing
    from engine.runs.feature_files import features_at_hand
    from engine.runs.stage_files import evaluate_into, evaluation_protocol, stage_info, write_stage_json

    params = run.params
    protocol, timing = evaluation_protocol(params), config_from(Timing, params.get("timing", {}))
    if run.stages():
        return
    yield from features_at_hand(protocol.features, workspace, path=params.get("features_weights"))
    model = load_run_model(run, workspace, device)
    intact = _baseline(params, model, workspace)
    data = yield from opened_run_data(run, workspace)
    with run.new_stage(0) as folder:
        write_stage_json(folder, stage_info(number=0, title="as it is", model=model, data=data))
        steps = evaluate_into(
            folder, model, data, protocol,
            cache=workspace.cache, intact=intact, timing=timing, kept=run.progress_folder,
        )  # fmt: skip
        for step in steps:
            yield Progress(phase="evaluating", message=step.message, done=step.share, total=1)
    run.append("stage", stage=0)


def _baseline(params: dict[str, Any], model: Model, workspace: Workspace) -> Model | None:
    """What the model is timed in turns with; both draw images as the same protocol says."""
    if not params.get("baseline"):
        return None
    ref = params["baseline"]
    # what was said of the model holds for a baseline that can't say it either, not for one that does
    says_itself = find_model(ref, workspace=workspace.root).layout == "ours" or library_entry(ref, workspace.root)
    said = {} if says_itself else model_options(params)
    baseline = load_model(ref, device=model.device, workspace=workspace.root, compute=model.compute, **said)
    if baseline.process.name != model.process.name:
        raise InputError(
            f"{baseline.ref} is a {baseline.process.name} model and {model.ref} a {model.process.name} model, which "
            "other samplers draw with; take a baseline of the same process"
        )
    return baseline


def prune_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    from engine.runs.prune_job import prune_job as job

    yield from job(run, workspace, device)


def arena_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    from engine.runs.arena_job import arena_job as job

    yield from job(run, workspace, load_run_model(run, workspace, device))


def export_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    from engine.runs.export_job import export_job as job

    yield from job(run, workspace, load_run_model(run, workspace, device))


JOBS: dict[str, Job] = {
    "ced": ced_job,
    "criteria": criteria_job,
    "prune": prune_job,
    "evaluate": evaluate_job,
    "arena": arena_job,
    "export": export_job,
}
