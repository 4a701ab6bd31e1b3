"""X of every stream, one column of the heatmap after the other: the passes that CED and the other criteria rest on.

S streams: first the network as it stands, then the same without one part each. B samples, P parts of the network.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.cluster.executor import executor
from engine.data.dataset import Data
from engine.data.shared_classes import are_wnids, wnid_advice
from engine.errors import InputError
from engine.importance.config import CedConfig
from engine.importance.streams import (
    Part,
    chunk_size,
    forward_through,
    outputs_without,
    outputs_without_each,
    parts_of,
)
from engine.importance.taylor import loss_slopes
from engine.models.model import Model

#: samples that go through together at most. What is shared out is whole chunks of so many, so that the bits of a sample
#: are the same wherever it is worked out; on a CPU, more of them don't fit its cache, and are slower
_MOST_SAMPLES = 64
#: memory that the streams' states may take
_BUDGET_BYTES = {"cpu": 512 * 2**20, "cuda": 8 * 2**30}
#: a pass with gradients keeps about so many times the states of one without
_GRADIENT_SHARE = 16


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The samples that every stream sees alike."""

    latents: Tensor  # x0 (B, C, H, W)
    labels: Tensor  # (B,) of the dataset
    y: Tensor  # (B,) what the model is told: the class, or the null class
    note: str


@dataclass(frozen=True, kw_only=True)
class Column:
    timestep: float
    streams: Tensor  # X (S, B, C, H, W), the variance half left out
    target: Tensor | None  # (B, C, H, W); None for "samples"
    extras: dict[str, Tensor]  # "bi" (P, B), "loss" (S, B), "taylor" (P, B), as far as they were asked for


def draw_probe(model: Model, data: Data, config: CedConfig) -> Probe:
    """``config.samples`` images of ``data``, encoded; raises InputError where there are fewer."""
    if config.samples > len(data):
        raise InputError(f"{config.samples} samples were asked for, but {data.name} has only {len(data)} images")
    chosen = np.random.default_rng(config.seed).choice(len(data), config.samples, replace=False)
    labels = torch.from_numpy(data.labels[chosen])
    if model.knows_classes_of(data):
        y, note = labels, ""
    else:
        y = torch.full_like(labels, model.null_class_or_raise())
        note = (
            f"{data.name} has other classes than the model, so the model was given no class (null class "
            f"{model.null_class_or_raise()}); scores may change once it is adapted to the data"
        )
        if are_wnids(data.class_names):
            note += f"; {wnid_advice()}"
    return Probe(latents=model.latents_of(data, chosen), labels=labels, y=y, note=note)


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Which streams there are: all of ``parts``, then without each of ``rows`` alone, or without all of ``drop``."""

    parts: Sequence[Part]
    rows: Collection[int]
    drop: Collection[int] | None = None

    def outputs(
        self,
        model: Model,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        observe: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """(S, B, C_out, H, W)"""
        if self.drop is not None:
            return outputs_without(model.network, x, t, y, self.drop, parts=self.parts)
        return outputs_without_each(model.network, x, t, y, parts=self.parts, rows=self.rows, observe=observe)

    def parts_of_each(self) -> list[list[Part]]:
        """What contributes in each stream."""
        left_out = [{row} for row in sorted(self.rows)] if self.drop is None else [set(self.drop)]
        return [[part for row, part in enumerate(self.parts) if row not in gone] for gone in [set(), *left_out]]


def all_streams(model: Model, granularity: str) -> Streams:
    parts = parts_of(model.network, granularity)
    return Streams(parts=parts, rows=range(len(parts)))


def columns(
    model: Model,
    config: CedConfig,
    probe: Probe,
    streams: Streams,
    *,
    chosen: slice = slice(None),
    extras: Collection[str] = (),
    only: int | None = None,
) -> Iterator[Column]:
    """``chosen``: the samples of ``probe`` to run; each keeps its own noise. ``extras`` and ``only``, the number of the
    one column to give, are not for "samples", where each column begins at the one before.

    Columns, and groups of samples, are shared out where an executor has room for them: the bits are the same.
    """
    assert config.variable != "samples" or (only is None and not extras)
    start, stop, _ = chosen.indices(len(probe.y))
    asked = _Asked(model=model, config=config, probe=probe, extras=extras)
    numbers = [None] if config.variable == "samples" else range(config.timesteps) if only is None else [only]
    groups = _groups(model, streams, start, stop, most=-(-executor().num_slots // len(numbers)))
    pieces = [(streams, number, group) for number in numbers for group in groups]
    waiting: dict[int, list[Column | None]] = {}  # column -> what its groups have given
    come, turn = [0] * len(pieces), 0
    shared_out = executor().run(_piece, pieces, shared=asked)
    try:
        for piece, found in shared_out:
            number = piece // len(groups) + come[piece]  # of "samples", a piece gives all columns
            come[piece] += 1
            waiting.setdefault(number, [None] * len(groups))[piece % len(groups)] = found
            while turn in waiting and None not in waiting[turn]:
                yield _joined(waiting.pop(turn))
                turn += 1
    finally:
        shared_out.close()


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What every piece needs, wherever it is worked out."""

    model: Model
    config: CedConfig
    probe: Probe
    extras: Collection[str]


def _groups(model: Model, streams: Streams, start: int, stop: int, *, most: int) -> list[slice]:
    """``most`` groups of samples, each a whole number of chunks: these are the same however many groups there are."""
    size = _chunk_size(model, streams, stop - start)
    num_chunks = -(-(stop - start) // size)
    chunks_of_each = -(-num_chunks // max(1, min(most, num_chunks)))
    step = max(1, chunks_of_each * size)
    return [slice(begin, min(begin + step, stop)) for begin in range(start, stop, step)]


def _joined(parts: Sequence[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    first, targets = parts[0], [part.target for part in parts]
    return Column(
        timestep=first.timestep,
        streams=torch.cat([part.streams for part in parts], dim=1),
        target=None if first.target is None else torch.cat(targets),
        extras={name: torch.cat([part.extras[name] for part in parts], dim=1) for name in first.extras},
    )


def _piece(asked: _Asked, item: tuple[Streams, int | None, slice]) -> Iterator[Column]:
    """Some samples of column ``number``, or with None, which is for "samples", of all columns."""
    model, config, probe = asked.model, asked.config, asked.probe
    streams, number, chosen = item
    if number is None:
        yield from _sampling_columns(model, config, probe, streams, chosen)
        return
    t = model.process.timestep_grid(config.timesteps).tolist()[number]
    size = _chunk_size(model, streams, len(probe.y[chosen]))
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
    eps = torch.randn(probe.latents.shape, generator=generator)[chosen]
    x0, y = probe.latents[chosen], probe.y[chosen]
    outputs, found = [], []
    for part in zip(x0.split(size), y.split(size), eps.split(size), strict=True):
        out, extra = _noised_chunk(model, streams, t, *part, extras=asked.extras)
        outputs.append(out)
        found.append(extra)
    yield Column(
        timestep=t,
        streams=torch.cat(outputs, dim=1),
        target=model.process.target(x0, torch.full((len(x0),), t), eps),
        extras={name: torch.cat([extra[name] for extra in found], dim=1) for name in asked.extras},
    )


def _noised_chunk(
    model: Model, streams: Streams, t: float, x0: Tensor, y: Tensor, eps: Tensor, *, extras: Collection[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs (S, n, C, H, W) on noised data, and what else follows from the same passes, on the CPU."""
    process, device = model.process, model.device
    times = torch.full((len(x0),), t)
    x_t = process.noise(x0, times, eps)
    given = (x_t.to(device), times.to(device), y.to(device))
    turns: list[Tensor] = []

    def watch(before: Tensor, after: Tensor) -> None:
        # (n,): ShortGPT's 1 − cosine, token by token
        turns.append(1 - F.cosine_similarity(before.float(), after.float(), dim=-1).mean(1))

    found = {}
    with torch.inference_mode():
        with model.working():
            out = streams.outputs(model, *given, watch if "bi" in extras else None).float()
        if "bi" in extras:
            found["bi"] = torch.stack(turns).double().cpu()
        if "loss" in extras:
            clean = (x0.to(device), times.to(device), eps.to(device))
            found["loss"] = torch.stack([process.loss(stream.float(), *clean) for stream in out]).double().cpu()
        out = out[:, :, : x0.shape[1]].float().cpu()  # the variance half is left out
    if "taylor" in extras:
        size = max(1, _num_that_fit(model, streams, len(x0)) // _GRADIENT_SHARE)
        slopes = [
            loss_slopes(model.network, process, *part, parts=streams.parts)
            for part in zip(*(v.to(device).split(size) for v in (x0, times, eps, y)), strict=True)
        ]
        found["taylor"] = torch.cat(slopes, dim=1).double().cpu()
    return out, found


def _sampling_columns(
    model: Model, config: CedConfig, probe: Probe, streams: Streams, chosen: slice
) -> Iterator[Column]:
    """All trajectories advance as one batch, each stream skipping its part; unguided, so cfg can't hide a part."""
    device = model.device
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(probe.latents.shape, generator=generator)[chosen].to(device)
    given, B = probe.y[chosen].to(device), len(noise)
    each = streams.parts_of_each()
    size = _chunk_size(model, streams, B)

    def network(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        with model.working():
            return all_outputs(x, t, y).float()

    def all_outputs(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        nonlocal first
        if first:  # all streams still stand at the same noise
            first = False
            shared = [
                streams.outputs(model, *part)
                for part in zip(x[:B].split(size), t[:B].split(size), y[:B].split(size), strict=True)
            ]
            return torch.cat(shared, dim=1).flatten(0, 1)
        return torch.cat([
            forward_through(model.network, *part, parts=kept)
            for stream, kept in enumerate(each)
            for part in zip(*(v[stream * B : (stream + 1) * B].split(size) for v in (x, t, y)), strict=True)
        ])  # fmt: skip

    first = True
    S = len(each)
    states = model.process.sample(network, noise.repeat(S, 1, 1, 1), given.repeat(S), num_steps=config.timesteps)
    step = 0
    while True:
        with torch.inference_mode():
            state = next(states, None)
        if state is None:
            return
        step += 1
        yield Column(timestep=step, streams=state[1].unflatten(0, (S, B)).float().cpu(), target=None, extras={})


def _chunk_size(model: Model, streams: Streams, num_samples: int) -> int:
    return min(_num_that_fit(model, streams, num_samples), _MOST_SAMPLES)


def _num_that_fit(model: Model, streams: Streams, num_samples: int) -> int:
    budget = _BUDGET_BYTES.get(model.device.type, _BUDGET_BYTES["cpu"])
    return chunk_size(model.network, num_samples=num_samples, budget_bytes=budget, num_parts=len(streams.parts))


def values_of(column: Column, variable: str, patch_size: int) -> Tensor:
    """(S, B, T, d) that an entropy is taken of: squared errors for "target", else X with a token's values together."""
    if variable == "target":
        errors = (column.streams - column.target).double().square().flatten(2).mean(2)  # (S, B)
        return errors[:, :, None, None]
    S, B, C, H, W = column.streams.shape
    P = patch_size
    tokens = column.streams.view(S, B, C, H // P, P, W // P, P).permute(0, 1, 3, 5, 2, 4, 6)
    return tokens.reshape(S, B, -1, C * P * P)
