"""Conditional Entropy Deviation (EntPruner, arXiv 2511.21122): how far the learned conditional distribution moves
when a block contributes nothing, everything else (x0 or starting noise, class, t, ε) staying the same.

    ΔH[i, t] = H(X_t without block i) − H(X_t)     > 0 towards noise, < 0 towards collapse
    CED[i]   = mean over columns of |ΔH[i, t]|     small = safe to remove; weighted where ``weighting`` says so

What X is isn't public; ``config.VARIABLES`` names our readings. For ``samples`` the last column decides alone.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from engine.cluster.executor import executor, in_order
from engine.data.dataset import Data
from engine.importance.ced_result import CedColumn, CedResult, CedTable, output_mse_of, over_columns
from engine.importance.columns import Probe, Streams, all_streams, columns, draw_probe, values_of
from engine.importance.config import CedConfig
from engine.importance.entropy import estimator_for
from engine.importance.greedy import greedy_columns
from engine.importance.racing import racing_columns
from engine.importance.streams import parts_of
from engine.models.model import Model
from engine.runs.workspace import read_json, write_json

#: settings that came later: a question that doesn't use them keeps the key, and the answer, it had before
_LATER = ("granularity", "order", "method", "num_candidates", "weighting")


def compute_ced(model: Model, data: Data, config: CedConfig | None = None, *, cache: Path | None = None) -> CedResult:
    """CED of every block of ``model`` on ``data``. The same question is answered from ``cache`` (a folder)."""
    *_, last = ced_columns(model, data, config or CedConfig(), cache=cache)
    return last.result


def ced_columns(model: Model, data: Data, config: CedConfig, *, cache: Path | None = None) -> Iterator[CedColumn]:
    """The same, column by column; the last item holds the whole result."""
    file = cache / f"ced-{cache_key(model, data, config)}.json" if cache else None
    if file and file.exists():
        result = CedResult(**read_json(file))
        yield CedColumn(column=len(result.timesteps), num_columns=len(result.timesteps), result=result)
        return
    probe = draw_probe(model, data, config)
    for column in _ways(config)(model, data, config, probe):
        yield column
    if file:
        write_json(file, column.result.as_dict())


def _ways(config: CedConfig) -> Callable[[Model, Data, CedConfig, Probe], Iterator[CedColumn]]:
    if config.order == "greedy":
        return greedy_columns
    return racing_columns if config.method == "racing" else _exact_columns


def _exact_columns(model: Model, data: Data, config: CedConfig, probe: Probe) -> Iterator[CedColumn]:
    streams = all_streams(model, config.granularity)
    table = CedTable(model, data, config, probe.note)
    estimator = estimator_for(config, probe.labels)
    if config.variable == "samples" or executor().num_slots > config.timesteps:  # samples are shared out, too
        for column in columns(model, config, probe, streams):
            table.add(column, estimator(values_of(column, config.variable, model.config.patch_size), table.counts))
            yield CedColumn(column=table.num_done, num_columns=config.timesteps, result=table.result())
        return
    asked = _Asked(model=model, config=config, probe=probe, counts=table.counts)
    for scored in in_order(_scored_column, range(config.timesteps), shared=asked):
        table.add_scored(*scored)
        yield CedColumn(column=table.num_done, num_columns=config.timesteps, result=table.result())


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What every column needs, wherever it is worked out."""

    model: Model
    config: CedConfig
    probe: Probe
    counts: Tensor  # (1+R, B) of the bootstrap


def _scored_column(asked: _Asked, number: int) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Time, entropies (N+1, 1+R) and output_mse (N,) of one column: kilobytes, where its streams are megabytes."""
    model, config = asked.model, asked.config
    streams, estimator = all_streams(model, config.granularity), estimator_for(config, asked.probe.labels)
    for column in columns(model, config, asked.probe, streams, only=number):
        entropies = estimator(values_of(column, config.variable, model.config.patch_size), asked.counts)
        yield column.timestep, entropies, output_mse_of(column)


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
    streams = Streams(parts=parts_of(model.network, config.granularity), rows=(), drop=drop)
    estimator = estimator_for(config, probe.labels)
    alone = torch.ones(1, config.samples, dtype=torch.float64)
    deltas, changes, times = [], [], []
    for column in columns(model, config, probe, streams):
        entropy = estimator(values_of(column, config.variable, model.config.patch_size), alone)[:, 0]
        deltas.append((entropy[1] - entropy[0]).item())
        changes.append((column.streams[1] - column.streams[0]).double().square().mean().item())
        times.append(column.timestep)
    overall = over_columns(config, torch.tensor([deltas], dtype=torch.float64))[0].item()
    return JointEffect(timesteps=times, delta=deltas, output_mse=changes, ced=overall)


def cache_key(model: Model, data: Data, config: CedConfig) -> str:
    usual = {field.name: field.default for field in fields(config) if field.default is not MISSING}
    settings = {name: value for name, value in asdict(config).items() if name not in _LATER or value != usual[name]}
    question = [model.content_hash, model.ref, data.content_hash, settings, "ced-1"]
    if model.compute.precision != "fp32":  # that came later, too
        question.append(model.compute.precision)
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
