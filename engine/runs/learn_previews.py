"""What the worker answers for the lessons."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.evaluation.protocol import Protocol
from engine.learn.block_states import block_states
from engine.runs.progress import config_from
from engine.runs.run_model import model_options
from engine.runs.threads import threads_for
from engine.runs.warm_models import warm_model
from engine.runs.workspace import writing


def block_states_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """For each step one PNG, the readings side by side in it, and how much each block changed each token."""
    started = time.perf_counter()
    workspace = folder.resolve().parents[1]
    model = warm_model(params["model"], device=device, workspace=workspace, options=model_options(params)).model
    protocol = config_from(Protocol, params["protocol"])
    protocol = replace(protocol, sampler=protocol.sampler or model.process.default_sampler, device=model.device.type)
    with threads_for(model):
        found = block_states(
            model, label=params["class"], seed=params["seed"], steps=params["steps"], protocol=protocol
        )
    files = {}
    for states in found:
        files[states.step] = f"blocks_{states.step}.png"
        with writing(folder / files[states.step]):
            Image.fromarray(np.concatenate(list(states.readings), axis=1)).save(folder / files[states.step])
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
