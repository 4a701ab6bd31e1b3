"""Draws images from a model, one seed per image: image k is the same in whatever company it is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.models.model import Model
from engine.process.guidance import guided


@dataclass(frozen=True)
class SampleSet:
    """images uint8 (N, H, W, 3), labels (N,) class ids, seeds (N,)."""

    images: np.ndarray
    labels: np.ndarray
    seeds: np.ndarray


def sample_batches(
    model: Model, protocol: Protocol, *, classes: list[int] | None = None, batch_size: int = 64
) -> Iterator[SampleSet]:
    """Yields ``protocol.num_images`` images in batches; image k has seed ``protocol.seed + k`` and the classes in turn.

    Raises InputError for classes that the model hasn't, and for a sampler of the other process.
    """
    classes = list(range(model.config.num_classes)) if classes is None else list(classes)
    outside = [label for label in classes if not 0 <= label < model.config.num_classes]
    if outside or not classes:
        raise InputError(
            f"class {outside[:1]} doesn't exist: {model.ref} has classes 0 … {model.config.num_classes - 1}"
        )
    for start in range(0, protocol.num_images, batch_size):
        index = np.arange(start, min(start + batch_size, protocol.num_images))
        labels = np.array(classes)[index % len(classes)]
        yield draw(model, labels=labels, seeds=protocol.seed + index, protocol=protocol)


def sample(model: Model, protocol: Protocol, *, classes: list[int] | None = None, batch_size: int = 64) -> SampleSet:
    batches = list(sample_batches(model, protocol, classes=classes, batch_size=batch_size))
    return SampleSet(*(np.concatenate([getattr(b, name) for b in batches]) for name in ("images", "labels", "seeds")))


def draw(model: Model, *, labels: np.ndarray, seeds: np.ndarray, protocol: Protocol) -> SampleSet:
    """One image for each pair of label and seed."""
    sampler = protocol.sampler or model.process.default_sampler
    if sampler not in model.process.samplers:
        raise InputError(
            f"sampler {sampler!r} doesn't fit a {model.process.name} model; choose {', '.join(model.process.samplers)}"
        )
    if protocol.cfg_scale != 1:
        model.null_class_or_raise()
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    noise = torch.stack([torch.randn(model.config.latent_shape, generator=g) for g in generators])
    network = guided(
        model.network,
        null_class=model.config.null_class,
        cfg_scale=protocol.cfg_scale,
        num_guided_channels=protocol.guided_channels,
    )
    y = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(model.device)
    with torch.inference_mode():
        *_, (_, latents) = model.process.sample(
            network, noise.to(model.device), y, num_steps=protocol.num_steps, sampler=sampler, generators=generators
        )
    return SampleSet(model.autoencoder.decode(latents), np.asarray(labels), np.asarray(seeds))
