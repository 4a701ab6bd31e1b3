"""Asking the engine for work and reading what came of it; everything a page knows about runs comes through here."""

import json
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st

from app.access import pace, rights
from app.keeping.wait_words import wait_words
from engine.data.bundled import bundled_data_names
from engine.errors import EngineError
from engine.evaluation.protocol import Protocol
from engine.importance.config import CedConfig
from engine.models.bundled import bundled_models
from engine.runs import library, queue
from engine.runs.listing import UNREADABLE_STATES, RunSummary, list_runs
from engine.runs.store import RUN_ID, Run, RunStatus, create_run, open_run
from engine.runs.waiting import expected_wait
from engine.runs.workspace import Workspace, open_workspace, read_json
from engine.training.config import FinetuneConfig

WAITING_STATES = ("queued", "running")
#: states from which a run can go on where it stopped
RESUMABLE_STATES = ("paused", "interrupted", "failed", "cancelled")
_SILENT_SECONDS = 20  # without a sign of life; a step may take a while
_PICTURES_OF_LESSONS = ("trajectory", "block_states")
_LEAST_FREE_BYTES = 2**20  # with less, no run can begin
_START_PATIENCE = 30  # seconds in which a worker that was asked for may still be importing torch


@dataclass(frozen=True)
class EngineState:
    state: str  # ready, busy, starting, stopped
    words: str


def workspace() -> Workspace:
    return _open_workspace(os.environ.get("ENTPRUNER_WORKSPACE"))


def without_path(line: str) -> str:
    """For who may only look, a line of the engine says nothing of where on the machine the workspace is."""
    if rights.may_work():
        return line
    try:
        return line.replace(str(workspace().root), "the workspace")
    except EngineError:  # the line is about a workspace that can't be opened: then nobody gets beyond it
        return line


def writable() -> Workspace:
    """The same, for whatever starts, stops or changes something. Raises NotAllowed for who may only look."""
    rights.require()
    return workspace()


@st.cache_resource(ttl=60, show_spinner=False)
def _open_workspace(path: str | None) -> Workspace:
    return open_workspace(path)


@st.cache_resource(show_spinner=False)
def _server_notes() -> dict[str, float]:
    """When this server last asked for a worker, by workspace."""
    return {}


# --- the engine process ---


def device() -> str:
    """Where work runs: what the operator says, else where a worker lives already, else the CPU."""
    live = queue.live_workers(workspace())
    return os.environ.get("ENTPRUNER_DEVICE") or (live[0].device if live else "cpu")


def start_engine() -> None:
    if queue.ensure_worker(workspace(), device=device()):
        _server_notes()[str(workspace().root)] = time.time()


def start_engine_once() -> None:
    """With the first page that this server shows; one that dies later is started again by a click. ``python -m app``
    starts one itself, which a page must not forestall: its own would wait for others as pages do (their niceness)."""
    if str(workspace().root) not in _server_notes():
        kept_by_starter = os.environ.get("ENTPRUNER_STARTER") == str(os.getppid())
        _server_notes()[str(workspace().root)] = time.time() if kept_by_starter else 0.0
        if not kept_by_starter:
            start_engine()


def engine_state() -> EngineState:
    live = queue.live_workers(workspace())
    if live:
        doing = [worker.doing for worker in live if worker.doing]
        where = ", ".join(sorted({worker.device for worker in live}))
        return EngineState("busy", f"at work on {where}") if doing else EngineState("ready", f"ready on {where}")
    if time.time() - _server_notes().get(str(workspace().root), 0.0) < _START_PATIENCE:
        return EngineState("starting", "starting, a few seconds")
    return EngineState("stopped", "not running: waiting work goes on as soon as it is started")


# --- runs ---


def start_run(kind: str, *, title: str, params: dict) -> Run:
    run = create_run(writable(), kind=kind, title=title, params=params)
    queue.submit_run(writable(), run)
    start_engine()
    return run


def resume(run_id: str) -> None:
    queue.resume_run(writable(), run_id)
    start_engine()


def cancel(run_id: str) -> None:
    queue.cancel_run(writable(), run_id)


def summaries(kind: str | None = None) -> list[RunSummary]:
    """Newest first."""
    return [found for found in list_runs(workspace()) if kind in (None, found.kind)]


def params_of(summary: RunSummary) -> dict:
    """Of a run that can be read; another asked for nothing."""
    return {} if summary.state in UNREADABLE_STATES else _params(str(workspace().root), summary.id)


@st.cache_data(max_entries=4096, show_spinner=False)
def _params(root: str, run_id: str) -> dict:
    return open_run(open_workspace(root), run_id).params


def waiting_line(run: Run) -> str:
    """What a run that hasn't started yet waits for."""
    if engine_state().state == "stopped":
        return "Waiting for the engine, which isn't running. Start it at the foot of the page."
    if shutil.disk_usage(workspace().root).free < _LEAST_FREE_BYTES:
        return without_path(f"Waiting: the disk of {workspace().root} is full. Free some space, and it begins.")
    wait = expected_wait(workspace(), run.id)
    if wait and (wait.num_running or wait.place > 1):
        return wait_words(wait)
    return "Starting. The engine loads its libraries first, which takes a few seconds."


def stalled(status: RunStatus) -> bool:
    """Said to be running, with no process left to do it; a new worker will call it interrupted."""
    silent = time.time() - status.heartbeat > _SILENT_SECONDS
    return status.state == "running" and silent and not queue.live_workers(workspace())


STALLED_LINE = (
    "The engine stopped while this was running. Start it at the foot of the page; the run is kept, shows as "
    "interrupted then, and can be resumed."
)


def stages_by_ref(limit: int = 20) -> dict[str, str]:
    """``<run>@<stage>`` -> title of the models that pruning runs made, newest runs first."""
    found = {}
    for summary in summaries("prune"):
        if not summary.num_stages:
            continue
        for stage in open_run(workspace(), summary.id).stages():
            if stage.number > 0 or stage.info.get("train"):  # stage 0 without training is the loaded model
                what = f"depth {stage.depth}" if stage.number else stage.title
                found[f"{summary.id}@{stage.number}"] = f"{summary.title} · stage {stage.number} ({what})"
        if len(found) >= limit:
            break
    return found


# --- CED ---


def ced_params(model: str, data: str, config: CedConfig) -> dict:
    return {"model": model, "data": data, "config": asdict(config)}


def latest_ced(model: str, data: str) -> Run | None:
    """The newest finished CED run of this model on this data, whatever its settings."""
    since = opened_at(model, data)
    for found in summaries("ced"):
        params = params_of(found)
        asked = (params.get("model"), params.get("data")) == (model, data)
        if asked and found.state == "done" and found.created >= since:
            return open_run(workspace(), found.id)
    return None


def ced_result(run: Run) -> dict | None:
    """The finished result, else the columns done so far, else None."""
    for file in (run.path / "ced.json", run.path / "progress" / "ced.json"):
        if file.exists():
            return _read_json(str(file), file.stat().st_mtime_ns)
    return None


@st.cache_data(max_entries=128, show_spinner=False)
def _read_json(path: str, changed: int) -> dict:
    return read_json(Path(path))


# --- previews ---


def ask(kind: str, params: dict, *, client: str = "") -> str:
    """Puts a question to the engine; the answer is found under the key. A newer question of the same ``client`` on
    this page drops an older one that still waits. Raises NotAllowed."""
    if not rights.may_work():
        if not is_light(kind, params):
            rights.require()
        pace.spend()
    page = st.session_state.setdefault("client", uuid.uuid4().hex)
    key = queue.submit_preview(workspace(), kind, params, client=page + client)
    if not queue.live_workers(workspace()):
        start_engine()
    return key


def is_deleted(run_id: str) -> bool:
    """Whether it lies in the bin."""
    return RUN_ID.fullmatch(run_id) is not None and (workspace().bin / run_id).is_dir()


def waits_for_others(key: str) -> bool:
    """Whether this question waits while the engine answers another."""
    return queue.waits_for_others(workspace(), key)


def give_up(client: str) -> None:
    """Drops what ``client`` asked on this page, also while the engine is at it."""
    queue.withdraw_preview(workspace(), st.session_state.get("client", "") + client)


def is_light(kind: str, params: dict) -> bool:
    """What anybody may ask in a lecture: a second of work, about what ships with the studio, done once for all."""
    if params.get("model") not in {info.name for info in bundled_models()}:
        return False
    if kind in _PICTURES_OF_LESSONS:  # of one picture, whose steps are few
        steps = params.get("protocol", {}).get("num_steps", Protocol.num_steps)
        return isinstance(steps, int) and steps <= Protocol.num_steps
    return kind == "drop" and params.get("data") in bundled_data_names()


def answer(key: str) -> dict | None:
    return queue.preview_result(workspace(), key)


def preview_folder(key: str) -> Path:
    """Where the pictures of an answer are."""
    return workspace().previews / key


def progress_of(key: str) -> dict:
    """What a long answer has come to: ``{"message", "progress": 0 … 1}``, or nothing."""
    try:
        said = read_json(preview_folder(key) / "progress.json")
    except EngineError:
        return {}
    return said if isinstance(said, dict) else {}


def ask_drop(params: dict) -> str:
    """Asks what the model does without these blocks."""
    opened = opened_at(params["model"], params["data"])
    return ask("drop", {**params, "opened": opened} if opened else params)


def drop_answer(key: str) -> dict | None:
    return answer(key)


# --- what was opened ---


def opened_at(model: str, data: str) -> float:
    """When the newer of the two came to mean what it means now: unix seconds, 0 for what never changes.

    A name of the library may be forgotten and given to other files; results from before are not about these.
    """
    found = [library.read_entry(workspace(), kind, name) for kind, name in (("models", model), ("data", data))]
    return max((float(entry.get("created") or 0.0) for entry in found if entry), default=0.0)


def touch(kind: str, name: str) -> None:
    """Moves a model or dataset to the top of those used recently; the bundled ones have no such place."""
    if rights.may_work() and library.read_entry(workspace(), kind, name) is not None:
        library.touch_entry(writable(), kind, name)


# --- taking a stage away ---


def find_export(model: str, layout: str) -> Run | None:
    """The newest export of this stage in this layout."""
    params = {"model": model, "layout": layout}
    found = next((found for found in summaries("export") if params_of(found) == params), None)
    return found and open_run(workspace(), found.id)


def start_export(model: str, layout: str) -> Run:
    return start_run("export", title=f"Export of {model}, {layout}", params={"model": model, "layout": layout})


def exported(run: Run) -> dict | None:
    """What came of an export: layout, files, num_bytes, notes and path, below the run's folder: an archive, or a folder
    where it is too large for one. None where it isn't there."""
    if not (run.path / "export.json").exists():
        return None
    about = read_json(run.path / "export.json")
    return about if (run.path / about["path"]).exists() else None


# --- training figures ---


def train_events(run: Run) -> list[dict]:
    """All events so far; only what was appended since the last look is read."""
    known = st.session_state.setdefault("events", {})
    events, offset = known.get(run.id, ([], 0))
    fresh, offset = run.events(offset)
    known.clear()  # one run is watched at a time
    known[run.id] = (events + fresh, offset)
    return events + fresh


def seconds_per_image(model: str) -> float | None:
    """Of one image in one training step of the whole model, as measured in the newest training of it on this machine;
    steps of a pruned one are scaled up by the blocks that it lacks."""
    for found in summaries("prune"):
        if not found.num_stages or params_of(found).get("model") != model:
            continue
        stages = open_run(workspace(), found.id).stages()
        for stage in reversed(stages):
            train, recovery = stage.info.get("train") or {}, stage.info.get("finetune") or {}
            if train.get("num_steps") and train.get("seconds"):
                batch_size = recovery.get("batch_size", FinetuneConfig.batch_size)
                return train["seconds"] / train["num_steps"] / batch_size * stages[0].depth / stage.depth
    return None


def as_json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)


def last_prune() -> Run | None:
    """The newest pruning that is still going on, or waits for a person's word."""
    for found in summaries("prune"):
        if found.state in (*WAITING_STATES, "paused"):
            return open_run(workspace(), found.id)
    return None


def readable(run_id: str) -> Run | None:
    try:
        return open_run(workspace(), run_id)
    except EngineError:
        return None
