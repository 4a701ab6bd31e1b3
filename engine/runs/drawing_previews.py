"""What the worker answers about how one picture is drawn: on its way from noise, and from block to block."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation.protocol import ADAPTIVE, Protocol
from engine.evaluation.trajectory import following
from engine.learn.block_states import block_states
from engine.models.model import Model
from engine.runs.preview_picture import save_picture
from engine.runs.progress import config_from
from engine.runs.run_model import model_options
from engine.runs.threads import threads_for
from engine.runs.warm_models import warm_model
from engine.runs.workspace import write_json
from engine.steps import result_of, told_as

_TELL_SECONDS = 0.5


def trajectory_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """One picture on its way from noise, each row of frames as one PNG: they stand side by side in it."""
    started = time.perf_counter()
    model, protocol = _drawing(params, folder, device)
    with threads_for(model):
        steps = following(model, label=params["class"], seed=params["seed"], protocol=protocol)
        frames = result_of(told_as(steps, _teller(folder, protocol)))
    files = {"state": "states.png", "estimate": "estimates.png"}
    for name, file in files.items():
        save_picture(np.concatenate([getattr(frame, name) for frame in frames], axis=1), folder, file)
    return {
        "frames": [{"step": frame.step, "time": frame.time, "noise_left": frame.noise_left} for frame in frames],
        "images": files,
        "process": model.process.name,
        "protocol": asdict(protocol),
        "seconds": round(time.perf_counter() - started, 3),
    }


def block_states_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """For each step one PNG, the readings side by side in it, and how much each block changed each token."""
    started = time.perf_counter()
    model, protocol = _drawing(params, folder, device)
    with threads_for(model):
        found = block_states(
            model, label=params["class"], seed=params["seed"], steps=params["steps"], protocol=protocol
        )
    files = {}
    for states in found:
        files[states.step] = f"blocks_{states.step}.png"
        save_picture(np.concatenate(list(states.readings), axis=1), folder, files[states.step])
    return {
        "steps": [
            {
                "step": states.step,
                "time": states.time,
                "noise_left": states.noise_left,
                "image": files[states.step],
                "change": states.change.tolist(),
            }
            for states in found
        ],
        "process": model.process.name,
        "protocol": asdict(protocol),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _drawing(params: dict[str, Any], folder: Path, device: str) -> tuple[Model, Protocol]:
    """The model that is asked for, and the protocol with what it leaves to the model."""
    workspace = folder.resolve().parents[1]
    model = warm_model(params["model"], device=device, workspace=workspace, options=model_options(params)).model
    protocol = config_from(Protocol, params["protocol"])
    sampler = protocol.sampler or model.process.default_sampler
    return model, replace(protocol, sampler=sampler, device=model.device.type)


def _teller(folder: Path, protocol: Protocol) -> Callable[[int], None]:
    """Writes how far it is, at most twice a second: an adaptive sampler doesn't know how many steps there will be."""
    known = 0 if protocol.sampler in ADAPTIVE else protocol.num_steps
    said = [time.perf_counter()]

    def tell(done: int) -> None:
        if time.perf_counter() - said[-1] > _TELL_SECONDS:
            said[:] = [time.perf_counter()]
            words = f"step {done} of {known}" if known else f"step {done}"
            write_json(folder / "progress.json", {"message": words, "progress": done / known if known else 0.0})

    return tell
