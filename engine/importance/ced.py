"""Conditional Entropy Deviation (EntPruner, arXiv 2511.21122): how far the learned conditional distribution moves
when a block contributes nothing, everything else (x0 or starting noise, class, t, ε) staying the same.

    ΔH[i, t] = H(X_t without block i) − H(X_t)     > 0 towards noise, < 0 towards collapse
    CED[i]   = mean over columns of |ΔH[i, t]|     small = safe to remove

What X is isn't public; ``config.VARIABLES`` names our readings. For ``samples`` the last column decides alone.
Outputs are (S, B, C, H, W): S streams, of which the first is the intact model.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.errors import InputError
from engine.importance.ced_result import CedResult, CedTable
from engine.importance.config import CedConfig
from engine.importance.entropy import ESTIMATORS, gaussian_entropy_of_variance, within_classes
from engine.importance.streams import chunk_size, outputs_without, outputs_without_each
from engine.models.model import Model
from engine.runs.workspace import read_json, write_json

#: memory that the streams' states may take
_BUDGET_BYTES = {"cpu": 512 * 2**20, "cuda": 8 * 2**30}
#: (x, t, y) -> outputs of all streams
Streams = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class CedColumn:
    column: int  # columns done
    num_columns: int
    result: CedResult  # what is known so far


def compute_ced(model: Model, data: Data, config: CedConfig | None = None, *, cache: Path | None = None) -> CedResult:
    """CED of every block of ``model`` on ``data``. The same question is answered from ``cache`` (a folder)."""
    *_, last = ced_columns(model, data, config or CedConfig(), cache=cache)
    return last.result


def ced_columns(model: Model, data: Data, config: CedConfig, *, cache: Path | None = None) -> Iterator[CedColumn]:
    """The same, column by column; the last item holds the whole result."""
    file = cache / f"ced-{_key(model, data, config)}.json" if cache else None
    if file and file.exists():
        result = CedResult(**read_json(file))
        yield CedColumn(column=len(result.timesteps), num_columns=len(result.timesteps), result=result)
        return
    probe = draw_probe(model, data, config)
    table = CedTable(model, data, config, probe.note)
    for timestep, streams, target in _columns(model, config, probe):
        output_mse = torch.stack([(stream - streams[0]).square().mean() for stream in streams[1:]])
        table.add(timestep, _entropies(streams, target, table.counts, config, probe, model), output_mse)
        result = table.result()
        yield CedColumn(column=table.num_done, num_columns=config.timesteps, result=result)
    if file:
        write_json(file, result.as_dict())


@dataclass(frozen=True, kw_only=True)
class JointEffect:
    """What dropping several blocks at once does, beside the sum of what each would do alone (in a CedResult)."""

    timesteps: list[float]
    delta: list[float]
    output_mse: list[float]
    ced: float


def joint_effect(model: Model, data: Data, drop: list[int], config: CedConfig) -> JointEffect:
    """Signed ΔH of ``drop`` left out together, by the same definitions, samples and columns as ``compute_ced``."""
    probe = draw_probe(model, data, config)
    alone = torch.ones(1, config.samples, dtype=torch.float64)
    deltas, changes, times = [], [], []
    for timestep, streams, target in _columns(model, config, probe, drop=drop):
        entropy = _entropies(streams, target, alone, config, probe, model)[:, 0]
        deltas.append((entropy[1] - entropy[0]).item())
        changes.append((streams[1] - streams[0]).double().square().mean().item())
        times.append(timestep)
    overall = abs(deltas[-1]) if config.variable == "samples" else float(np.mean(np.abs(deltas)))
    return JointEffect(timesteps=times, delta=deltas, output_mse=changes, ced=overall)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The samples that every stream sees alike."""

    latents: Tensor  # x0 (B, C, H, W)
    labels: Tensor  # (B,) of the dataset
    y: Tensor  # (B,) what the model is told: the class, or the null class
    note: str


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
    return Probe(latents=model.latents_of(data, chosen), labels=labels, y=y, note=note)


def _columns(
    model: Model, config: CedConfig, probe: Probe, *, drop: list[int] | None = None
) -> Iterator[tuple[float, Tensor, Tensor | None]]:
    """Yields (timestep, X of all streams (S, B, C, H, W), training target (B, C, H, W) or None) for each column."""
    if config.variable == "samples":
        yield from _sampling_columns(model, config, probe, drop)
        return
    process, device = model.process, model.device
    budget = _BUDGET_BYTES.get(device.type, _BUDGET_BYTES["cpu"])
    size = chunk_size(model.network, num_samples=config.samples, budget_bytes=budget)
    streams = _streams(model, drop)
    for column, t in enumerate(process.timestep_grid(config.timesteps).tolist()):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + column)
        eps = torch.randn(probe.latents.shape, generator=generator)
        parts = []
        for x0, y, noise in zip(probe.latents.split(size), probe.y.split(size), eps.split(size), strict=True):
            times = torch.full((len(x0),), t)
            x_t = process.noise(x0, times, noise)
            with torch.inference_mode():
                out = streams(x_t.to(device), times.to(device), y.to(device))
            parts.append(out[:, :, : x0.shape[1]].float().cpu())  # the variance half is left out
        times = torch.full((config.samples,), t)
        yield t, torch.cat(parts, dim=1), process.target(probe.latents, times, eps)


def _sampling_columns(
    model: Model, config: CedConfig, probe: Probe, drop: list[int] | None
) -> Iterator[tuple[float, Tensor, None]]:
    """All trajectories advance as one batch, each stream skipping its block; unguided, so cfg can't hide a block."""
    B, device = config.samples, model.device
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(probe.latents.shape, generator=generator).to(device)
    skips = [()] + ([tuple(drop)] if drop is not None else [(block,) for block in range(model.config.depth)])
    size = chunk_size(model.network, num_samples=B, budget_bytes=_BUDGET_BYTES.get(device.type, _BUDGET_BYTES["cpu"]))
    shared_first_step = _streams(model, drop)

    def network(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        nonlocal first
        if first:  # all streams still stand at the same noise
            first = False
            parts = [
                shared_first_step(*part)
                for part in zip(x[:B].split(size), t[:B].split(size), y[:B].split(size), strict=True)
            ]
            return torch.cat(parts, dim=1).flatten(0, 1)
        return torch.cat([
            model.network(*part, skip=skip)
            for stream, skip in enumerate(skips)
            for part in zip(*(v[stream * B : (stream + 1) * B].split(size) for v in (x, t, y)), strict=True)
        ])  # fmt: skip

    first = True
    S = len(skips)
    states = model.process.sample(
        network, noise.repeat(S, 1, 1, 1), probe.y.to(device).repeat(S), num_steps=config.timesteps
    )
    step = 0
    while True:
        with torch.inference_mode():
            state = next(states, None)
        if state is None:
            return
        step += 1
        yield step, state[1].unflatten(0, (S, B)).float().cpu(), None


def _streams(model: Model, drop: list[int] | None) -> Streams:
    if drop is None:
        return lambda x, t, y: outputs_without_each(model.network, x, t, y)
    return lambda x, t, y: outputs_without(model.network, x, t, y, drop)


def _entropies(
    streams: Tensor, target: Tensor | None, counts: Tensor, config: CedConfig, probe: Probe, model: Model
) -> Tensor:
    """(S, R) entropies of one column in nats per dimension; R rows of ``counts``."""
    if config.variable == "target":
        # h(target | x_t, t, c) is bounded by the Gaussian of the residual: the residual's own spread about zero
        assert target is not None
        errors = (streams - target).double().square().flatten(2).mean(2)  # (S, B)

        def of_residual(values: Tensor, counts: Tensor) -> Tensor:
            return gaussian_entropy_of_variance(values[:, :, 0, 0] @ (counts / counts.sum(1, keepdim=True)).T)

        estimator, values = of_residual, errors[:, :, None, None]
    else:
        estimator, values = ESTIMATORS[config.estimator], _as_tokens(streams, model.config.patch_size)
    if config.condition == "class":
        estimator = within_classes(estimator, probe.labels)
    return estimator(values, counts)


def _as_tokens(streams: Tensor, patch_size: int) -> Tensor:
    """(S, B, C, H, W) -> (S, B, T, C·P·P), the values of a token together."""
    S, B, C, H, W = streams.shape
    P = patch_size
    return streams.view(S, B, C, H // P, P, W // P, P).permute(0, 1, 3, 5, 2, 4, 6).reshape(S, B, -1, C * P * P)


def _key(model: Model, data: Data, config: CedConfig) -> str:
    question = [model.content_hash, model.ref, data.content_hash, asdict(config), "ced-1"]
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
