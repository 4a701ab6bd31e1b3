"""Draws images from a model, one seed per image: image k is the same in whatever company it is drawn.

A matrix product of few rows may add its terms in another order than one of many, so the same image could differ in its
last bits between batches. On a CPU images are therefore drawn in groups of one fixed size, the last one filled up with
images that are thrown away: an image's bits depend on its seed, its class and the protocol alone. A GPU takes whole
batches, and there the equality is up to rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from engine.cluster.executor import in_order
from engine.errors import InputError
from engine.evaluation.class_order import class_labels
from engine.evaluation.protocol import Protocol
from engine.models.model import Model
from engine.process.guidance import Network, guided

_TOKENS_AT_A_TIME = 256  # of a group on a CPU: 16 images of the bundled models, 8 if guided; 1 of DiT-XL/2


@dataclass(frozen=True)
class SampleSet:
    """images uint8 (N, H, W, 3), labels (N,) class ids, seeds (N,)."""

    images: np.ndarray
    labels: np.ndarray
    seeds: np.ndarray


def sample_batches(
    model: Model, protocol: Protocol, *, classes: list[int] | None = None, batch_size: int = 64, start: int = 0
) -> Iterator[SampleSet]:
    """Yields ``protocol.num_images`` images in batches; image k has seed ``protocol.seed + k`` and the class that
    is k-th in the order of class_order.py.

    ``start``: the first image, where those before it are there already or are another worker's. Raises InputError for
    classes that the model hasn't, and for a sampler of the other process.
    """
    asked = (model, protocol, chosen_classes(model, classes))
    ends = [*range(start, protocol.num_images, batch_size), max(start, protocol.num_images)]
    yield from in_order(_drawn_batch, list(pairwise(ends)), shared=asked)


def _drawn_batch(asked: tuple[Model, Protocol, list[int]], ends: tuple[int, int]) -> Iterator[SampleSet]:
    """Images ``ends[0]`` … ``ends[1] − 1``."""
    model, protocol, classes = asked
    index = np.arange(*ends)
    yield draw(model, labels=class_labels(index, classes), seeds=protocol.seed + index, protocol=protocol)


def chosen_classes(model: Model, classes: list[int] | None) -> list[int]:
    """None takes all. Raises InputError for one that the model hasn't."""
    if classes is None:
        return list(range(model.config.num_classes))
    outside = [label for label in classes if not 0 <= label < model.config.num_classes]
    if outside or not classes:
        raise InputError(
            f"class {outside[:1]} doesn't exist: {model.ref} has classes 0 … {model.config.num_classes - 1}"
        )
    return list(classes)


def sample(model: Model, protocol: Protocol, *, classes: list[int] | None = None, batch_size: int = 64) -> SampleSet:
    return joined(list(sample_batches(model, protocol, classes=classes, batch_size=batch_size)))


def draw(model: Model, *, labels: np.ndarray, seeds: np.ndarray, protocol: Protocol) -> SampleSet:
    """One image for each pair of label and seed."""
    labels, seeds = np.asarray(labels, dtype=np.int64), np.asarray(seeds, dtype=np.int64)
    size = images_at_a_time(model, protocol) or len(seeds)
    groups = []
    for begin in range(0, len(seeds), size):
        group = [column[begin : begin + size] for column in (labels, seeds)]
        num = len(group[0])
        filled = [np.pad(column, (0, size - num), mode="edge") for column in group]
        drawn = draw_together(model, labels=filled[0], seeds=filled[1], protocol=protocol)
        groups.append(SampleSet(drawn.images[:num], *group))
    return joined(groups)


def images_at_a_time(model: Model, protocol: Protocol) -> int | None:
    """The fixed size of a group; None where it may be any, on a GPU."""
    if model.device.type != "cpu":
        return None
    halves = 1 if protocol.cfg_scale == 1 else 2
    return max(1, _TOKENS_AT_A_TIME // (halves * model.config.num_tokens))


def draw_together(model: Model, *, labels: np.ndarray, seeds: np.ndarray, protocol: Protocol) -> SampleSet:
    """All in one batch, whatever that does to the last bits."""
    *_, (_, latents) = trajectory(model, labels=labels, seeds=seeds, protocol=protocol)
    return SampleSet(model.autoencoder.decode(latents), labels, seeds)


@torch.inference_mode()
def trajectory(
    model: Model, *, labels: np.ndarray, seeds: np.ndarray, protocol: Protocol
) -> Iterator[tuple[float, Tensor]]:
    """From each seed's noise to its latent: (time, state) after each step, as the process tells time."""
    start = start_of(model, labels=labels, seeds=seeds, protocol=protocol)
    yield from model.process.sample(
        start.network,
        start.noise,
        start.y,
        num_steps=protocol.num_steps,
        sampler=start.sampler,
        generators=start.generators,
    )


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a sampler starts from: its own name, the network with its guidance, noise (B, C, H, W), classes y (B,), and
    each image's generator for the noise that is added on the way."""

    sampler: str
    network: Network
    noise: Tensor
    y: Tensor
    generators: list[torch.Generator]


def start_of(model: Model, *, labels: np.ndarray, seeds: np.ndarray, protocol: Protocol) -> Start:
    """Raises InputError for a sampler of the other process, and for guidance where there is no null class."""
    sampler = protocol.sampler or model.process.default_sampler
    if sampler not in model.process.samplers:
        raise InputError(
            f"sampler {sampler!r} doesn't fit a {model.process.name} model; choose {', '.join(model.process.samplers)}"
        )
    if protocol.cfg_scale != 1:
        model.null_class_or_raise()
    # noise that a sampler adds on its way comes from the image's own generator, too
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    noise = torch.stack([torch.randn(model.config.latent_shape, generator=g) for g in generators])
    network = guided(
        model.forward,
        null_class=model.config.null_class,
        cfg_scale=protocol.cfg_scale,
        num_guided_channels=protocol.guided_channels,
    )
    y = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(model.device)
    return Start(sampler=sampler, network=network, noise=noise.to(model.device), y=y, generators=generators)


def joined(sets: list[SampleSet]) -> SampleSet:
    return SampleSet(*(np.concatenate([getattr(s, name) for s in sets]) for name in ("images", "labels", "seeds")))
