"""What a model is and what it takes: the facts that are shown before anything runs.

Expected bytes are worked out from the sizes alone: weights, what training keeps beside them, and the tokens that are
in flight. They are meant to say "this will not fit" in time, not to the last megabyte: on a CPU, a training step took
0.96 of what is expected, and drawing 0.8 to 1.3 of it (tests/unit/test_memory.py allows 0.5 to 2).
"""

from dataclasses import asdict
from typing import Any

import torch

from engine.evaluation.efficiency import count_macs, count_parameters
from engine.models.autoencoder import PUBLISHED, PixelSpace
from engine.models.class_names import unnamed
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model
from engine.models.presets import num_parameters
from engine.training.config import FinetuneConfig

_BYTES = 4  # float32
_WIDE = 16  # values per token and channel in flight in a forward: residual, qkv, the MLP's hidden layer, temporaries
_KEPT = 20  # of each block for the backward: inputs of both norms, qkv, attention, the hidden layer before and after
_COPIES_IN_TRAINING = 5  # weights, gradients, AdamW's two moments, the moving average
_HEATMAP_BUDGET = {"cpu": 512 * 2**20, "cuda": 8 * 2**30}
_PIXEL = 4000  # bytes for each pixel in an 8x autoencoder's widest layers
_PIXELS_AT_A_TIME = 64 * 64 * 64
_GUIDED_BATCH = 2 * 64  # images drawn at a time, with and without their class
_HEATMAP_SAMPLES = 256


def expected_memory(
    config: DiTConfig, *, device: str = "cpu", batch_size: int = FinetuneConfig.batch_size, autoencoder: bool = True
) -> dict[str, int]:
    """Bytes at the peak of each task; ``batch_size`` is that of recovery. ``autoencoder``: one of full size is used."""
    weights = _BYTES * num_parameters(asdict(config))
    tokens = _BYTES * config.num_tokens * config.hidden_size  # of one sample in one state
    latents = _BYTES * config.in_channels * config.input_size**2
    pixels = _PIXEL * _PIXELS_AT_A_TIME if autoencoder else 0
    budget = _HEATMAP_BUDGET.get(device.split(":")[0], _HEATMAP_BUDGET["cpu"])
    of_states = _HEATMAP_SAMPLES * (config.depth + 2 * config.mlp_ratio + 9) * tokens
    in_heatmap = max(min(budget, of_states), of_states / _HEATMAP_SAMPLES)
    heatmap = in_heatmap + _HEATMAP_SAMPLES * (config.depth + 1) * 2 * latents
    sampling = _GUIDED_BATCH * _WIDE * tokens
    training = _COPIES_IN_TRAINING * weights + batch_size * (config.depth * _KEPT + _WIDE) * tokens
    return {
        "opening": int(weights),
        "heatmap": int(weights + max(heatmap, pixels)),
        "drawing": int(weights + max(sampling, pixels)),
        "evaluating": int(weights + max(sampling, pixels)),
        f"pruning (batches of {batch_size})": int(weights + max(training, heatmap, sampling, pixels)),
    }


def _macs(config: DiTConfig) -> int:
    """Of a network without weights: counting takes shapes alone."""
    with torch.device("meta"):
        return count_macs(DiT(config).eval())


def describe(model: Model) -> dict[str, Any]:
    """Plain values: what ``inspect`` prints, and what the app shows of a model before anything runs."""
    config = model.config
    return {
        "model": model.ref,
        "ref": model.ref,
        "layout": model.layout,
        "taken": model.taken,
        "source": model.source,
        "process": model.process.name,
        "process_reason": model.process_reason,
        "prediction": model.process.prediction,
        **asdict(config),
        "network": asdict(config),
        "null_class": config.null_class,
        "num_tokens": config.num_tokens,
        "image_side": model.image_side,
        "parameters": count_parameters(model.network),
        "macs": _macs(config),
        "memory": expected_memory(
            config, device=str(model.device), autoencoder=model.autoencoder_ref not in (None, "autoencoder")
        ),
        "autoencoder": model.autoencoder_ref,
        "autoencoder_assumed": model.autoencoder_ref == PUBLISHED,
        "pixels": isinstance(model.autoencoder, PixelSpace),
        "trained_on": model.trained_on,
        "class_names": list(model.class_names),
        "named": not unnamed(model.class_names),
        "labels_trained": model.labels_trained,
        "kept_blocks": list(model.kept_blocks),
        "licence": model.licence,
        "notes": list(model.notes),
        "content_hash": model.content_hash,
    }
