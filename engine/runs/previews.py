"""Small questions that the worker answers itself, its models warm: about a second on the bundled ones."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.data import load_data
from engine.errors import InputError
from engine.evaluation.protocol import ADAPTIVE, Protocol
from engine.evaluation.sampling import draw
from engine.evaluation.trajectory import following
from engine.importance.ced import joint_effect
from engine.importance.config import CedConfig
from engine.pruning.config import check_blocks
from engine.runs.learn_previews import block_states_preview
from engine.runs.opening_previews import check_preview, inspect_preview, look_preview
from engine.runs.progress import config_from
from engine.runs.run_model import model_options
from engine.runs.threads import threads_for
from engine.runs.warm_models import WarmModel, warm_model
from engine.runs.workspace import write_json, writing
from engine.steps import result_of, told_as

_TELL_SECONDS = 0.5


def answer_preview(kind: str, params: dict[str, Any], *, folder: Path, device: str) -> dict[str, Any]:
    """Writes pictures into ``folder`` and returns the rest. Raises InputError for a question that makes no sense."""
    if kind not in PREVIEWS:
        raise InputError(f"preview {kind!r} is unknown; this version has {', '.join(PREVIEWS)}")
    return PREVIEWS[kind](params, folder, device)


def drop_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """What happens without these blocks: signed ΔH by column, change of the output, the same seeds with and without."""
    started = time.perf_counter()
    workspace = folder.resolve().parents[1]
    warm = warm_model(params["model"], device=device, workspace=workspace, options=model_options(params))
    model = warm.model
    data = load_data(params["data"], workspace=workspace)
    drop = sorted(set(params["drop"]))
    check_blocks(drop, model.config.depth)
    variable = params.get("variable", "target")
    config = CedConfig(
        variable=variable,
        estimator="gaussian",
        samples=min(64, len(data)),  # a quarter of a heatmap's: about a second
        timesteps=10,
        seed=params.get("seed", 0),
        num_bootstrap=20,
    )
    protocol = Protocol(
        num_images=len(params["seeds"]),
        num_steps=params.get("num_steps", 15),
        cfg_scale=params.get("cfg_scale", Protocol.cfg_scale),
    )
    with threads_for(model):
        pictures = _pairs(warm, drop, params, protocol, folder)  # first: whoever asked looks at them meanwhile
        effect = joint_effect(model, data, drop, config)
    return {
        "drop": drop,
        "timesteps": effect.timesteps,
        "delta": effect.delta,
        "output_mse": effect.output_mse,
        "ced": effect.ced,
        "samples": config.samples,
        "protocol": protocol.label(),
        "images": pictures,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _pairs(
    warm: WarmModel, drop: list[int], params: dict[str, Any], protocol: Protocol, folder: Path
) -> dict[str, list[str]]:
    """The same seeds and classes, intact and without the blocks, as PNG files; returns their names."""
    model = warm.model
    labels, seeds = tuple(params["classes"]), tuple(params["seeds"])
    if len(labels) != len(seeds) or not seeds:
        raise InputError(f"{len(seeds)} seeds and {len(labels)} classes: give one class for each seed")
    if min(labels) < 0 or max(labels) >= model.config.num_classes:
        raise InputError(f"classes must be 0 … {model.config.num_classes - 1}, the classes of {model.ref}")
    kept = [block for block in range(model.config.depth) if block not in drop]
    without = model.with_network(model.network.with_blocks(kept), change=f"keep {kept}", kept=kept)
    drawn = {
        "intact": warm.intact_images(labels, seeds, protocol),
        "pruned": draw(without, labels=np.array(labels), seeds=np.array(seeds), protocol=protocol).images,
    }
    pictures = {}
    for name, images in drawn.items():
        pictures[name] = [f"{name}_{index}.png" for index in range(len(seeds))]
        for image, file in zip(images, pictures[name], strict=True):
            _save(image, folder, file)
    return pictures


def trajectory_preview(params: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """One picture on its way from noise, each row of frames as one PNG: they stand side by side in it."""
    started = time.perf_counter()
    workspace = folder.resolve().parents[1]
    model = warm_model(params["model"], device=device, workspace=workspace, options=model_options(params)).model
    protocol = config_from(Protocol, params["protocol"])
    protocol = replace(protocol, sampler=protocol.sampler or model.process.default_sampler, device=model.device.type)
    with threads_for(model):
        steps = following(model, label=params["class"], seed=params["seed"], protocol=protocol)
        frames = result_of(told_as(steps, _teller(folder, protocol)))
    files = {"state": "states.png", "estimate": "estimates.png"}
    for name, file in files.items():
        _save(np.concatenate([getattr(frame, name) for frame in frames], axis=1), folder, file)
    return {
        "frames": [{"step": frame.step, "time": frame.time, "noise_left": frame.noise_left} for frame in frames],
        "images": files,
        "process": model.process.name,
        "protocol": asdict(protocol),
        "seconds": round(time.perf_counter() - started, 3),
    }


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


def _save(image: np.ndarray, folder: Path, file: str) -> None:
    """Whole or not there."""
    with writing(folder / file):
        Image.fromarray(image).save(folder / f".{file}.tmp", format="PNG")
        os.replace(folder / f".{file}.tmp", folder / file)


PREVIEWS = {
    "drop": drop_preview,
    "trajectory": trajectory_preview,
    "block_states": block_states_preview,
    "inspect_model": inspect_preview,
    "look_data": look_preview,
    "check_process": check_preview,
}
