"""Small questions that the worker answers itself, its models warm: about a second on the bundled ones."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from engine.data import load_data
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.importance.ced import joint_effect
from engine.importance.config import CedConfig
from engine.pruning.config import check_blocks
from engine.runs.drawing_previews import block_states_preview, trajectory_preview
from engine.runs.opening_previews import check_preview, inspect_preview, look_preview
from engine.runs.preview_picture import save_picture
from engine.runs.run_model import model_options
from engine.runs.threads import threads_for
from engine.runs.warm_models import WarmModel, warm_model


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
            save_picture(image, folder, file)
    return pictures


PREVIEWS = {
    "drop": drop_preview,
    "trajectory": trajectory_preview,
    "block_states": block_states_preview,
    "inspect_model": inspect_preview,
    "look_data": look_preview,
    "check_process": check_preview,
}
