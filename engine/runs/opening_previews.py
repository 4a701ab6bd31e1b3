"""What the worker answers while a person opens a model or a dataset: what it is, and which process it belongs to."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.data import opening_data
from engine.data.dataset import Data
from engine.data.look import look_at
from engine.errors import EngineError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.models import hub
from engine.models.checkpoints import load_model
from engine.models.memory import describe
from engine.models.model import Model
from engine.models.process_probe import process_losses
from engine.runs.queue import is_wanted
from engine.runs.run_model import model_options
from engine.runs.workspace import Workspace, write_json, writing
from engine.steps import result_of, told_as

_NUM_PICTURES = 8
_NUM_LOSS_SAMPLES = 16
PROCESSES = ("diffusion", "flow")


def inspect_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    started = time.perf_counter()
    ref, workspace = params["ref"], _workspace(folder)
    if hub.is_hub_id(ref) and not Path(ref).exists() and hub.find_snapshot(ref, workspace=workspace) is None:
        for step in hub.download(ref, workspace=workspace):
            _tell(folder, f"fetching {step.file}", step.done, step.total)
    model = _open(params, folder, device)
    return {"facts": describe(model), "seconds": round(time.perf_counter() - started, 2)}


def look_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    started = time.perf_counter()
    look = look_at(_opened_data(params["ref"], folder), pictures=folder)
    return {
        "facts": look.facts(),
        "thumbnails": {name: list(files) for name, files in look.thumbnails.items()},
        "seconds": round(time.perf_counter() - started, 2),
    }


def check_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """The same weights read as either process: pictures of the same seeds, and the loss at each noise level."""
    started = time.perf_counter()
    data = _opened_data(params["data"], folder)
    models = {name: _open({**params, "process": name}, folder, device) for name in PROCESSES}
    asked = models.get(params.get("process") or "", models["diffusion"])
    losses = process_losses(asked, data, num=min(_NUM_LOSS_SAMPLES, len(data)))
    protocol = Protocol(num_images=_NUM_PICTURES, num_steps=params.get("num_steps", 15), cfg_scale=1.0)
    images, notes = {}, []
    for name, model in models.items():
        try:
            images[name] = _pictures(model, name, protocol, folder)
        except EngineError as error:  # no autoencoder here, say: the losses tell as much
            images[name] = []
            notes.append(str(error))
    return {
        "timesteps": losses.noise_levels,
        "relative_loss": losses.relative,
        "images": images,
        "verdict": losses.verdict,
        "notes": sorted(set(notes)),
        "protocol": f"{_NUM_LOSS_SAMPLES} images of {data.name} · pictures: {protocol.label()}",
        "seconds": round(time.perf_counter() - started, 2),
    }


def _pictures(model: Model, name: str, protocol: Protocol, folder: Path) -> list[str]:
    labels = np.linspace(0, model.config.num_classes - 1, _NUM_PICTURES).astype(int)
    drawn = draw(model, labels=labels, seeds=np.arange(_NUM_PICTURES), protocol=protocol)
    files = [f"{name}_{index}.png" for index in range(_NUM_PICTURES)]
    for image, file in zip(drawn.images, files, strict=True):
        with writing(folder / file):
            Image.fromarray(image).save(folder / file)
    return files


def _opened_data(ref: str, folder: Path) -> Data:
    steps = opening_data(ref, workspace=_workspace(folder))
    return result_of(told_as(steps, lambda step: _tell(folder, step.message, step.done, step.total)))


def _tell(folder: Path, message: str, done: float, total: float) -> None:
    """How far a question is whose answer takes long. Raises EngineError where nobody waits for it any more: the engine
    answers one question at a time, and somebody's mistyped path mustn't hold up all others."""
    workspace = Workspace(_workspace(folder))
    if workspace.queue_file.exists() and not is_wanted(workspace, folder.name):
        raise EngineError("nobody waits for this answer any more; ask again")
    write_json(folder / "progress.json", {"message": message, "progress": min(1.0, done / total) if total else 0.0})


def _open(params: dict[str, Any], folder: Path, device: str) -> Model:
    return load_model(params["ref"], device=device, workspace=_workspace(folder), **model_options(params))


def _workspace(folder: Path) -> Path:
    return folder.resolve().parents[1]
