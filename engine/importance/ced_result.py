"""What a CED computation answers, and how its columns become one answer with intervals and ranks."""

import math
import time
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.importance.columns import Column
from engine.importance.config import CedConfig
from engine.importance.entropy import bootstrap_counts, expected_error, too_few_samples
from engine.importance.streams import parts_of
from engine.models.model import Model


@dataclass(frozen=True, kw_only=True)
class CedResult:
    """``delta`` and the like are [N][K] nested lists: N rows, K columns; None for columns not done yet.

    A row is a block, or with granularity "branch" one of a block's two branches: 2N rows, named by ``labels``.
    """

    model: str
    data: str
    variable: str
    estimator: str
    condition: str
    protocol: dict
    blocks: list[int]  # rows, by number
    timesteps: list[float]  # for "samples": numbers of the sampling steps, 1 … K
    entropy: list[float | None]
    entropy_without: list[list[float | None]]
    delta: list[list[float | None]]
    cell_low: list[list[float | None]]
    cell_high: list[list[float | None]]
    output_mse: list[list[float | None]]
    ced: list[float]
    ci_low: list[float]
    ci_high: list[float]
    rank_low: list[int]
    rank_high: list[int]
    order: list[int]  # rows, least important first
    confidence: float
    seconds: float
    warnings: list[str]
    note: str
    labels: list[str] = field(default_factory=list)  # of the rows: "3", or "3 attn" and "3 mlp"
    entropy_error: float | None = None  # nats per dimension that the estimator may be off, see entropy.py
    greedy: list[dict] | None = None  # order "greedy": the removals, see greedy.py
    racing: dict | None = None  # method "racing": what was spent, see racing.py

    def __post_init__(self) -> None:
        if not self.labels:  # results of before there were branches
            object.__setattr__(self, "labels", [str(block) for block in self.blocks])

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CedColumn:
    column: int  # columns done
    num_columns: int
    result: CedResult  # what is known so far


class CedTable:
    """Collects columns and turns them into a CedResult."""

    def __init__(self, model: Model, data: Data, config: CedConfig, note: str) -> None:
        self.model, self.data, self.config, self.note = model, data, config, note
        self.parts = parts_of(model.network, config.granularity)
        generator = torch.Generator().manual_seed(config.seed)
        self.counts = bootstrap_counts(config.samples, config.num_bootstrap, generator)
        self.timesteps: list[float] = []
        self.entropies: list[Tensor] = []  # each (N+1, 1+R)
        self.output_mse: list[Tensor] = []  # each (N,)
        self.started = time.perf_counter()

    @property
    def num_done(self) -> int:
        return len(self.timesteps)

    def add(self, column: Column, entropies: Tensor) -> None:
        """One column with its entropies (N+1, 1+R) under every row of ``counts``."""
        self.add_scored(column.timestep, entropies, output_mse_of(column))

    def add_scored(self, timestep: float, entropies: Tensor, output_mse: Tensor) -> None:
        """The same of a column whose streams have gone; output_mse (N,)."""
        self.timesteps.append(timestep)
        self.entropies.append(entropies)
        self.output_mse.append(output_mse)

    def result(self) -> CedResult:
        entropy = torch.stack(self.entropies, dim=1)  # (N+1, K done, 1+R)
        return self.result_of(entropy, entropy[1:] - entropy[:1], torch.stack(self.output_mse, dim=1))

    def result_of(self, entropy: Tensor, delta: Tensor, output_mse: Tensor, **more) -> CedResult:
        """entropy (N+1, K done, 1+R), delta (N, K done, 1+R), output_mse (N, K done); ``more``: fields to replace."""
        overall = self.overall(delta)  # (N, 1+R)
        estimate, resampled = overall[:, 0], overall[:, 1:]
        low, high = interval(overall, self.config.confidence)
        ranks = resampled.argsort(0).argsort(0).double() + 1
        quantiles = _quantiles(self.config.confidence)
        rank_low, rank_high = ranks.quantile(quantiles, dim=1, interpolation="nearest").long()
        cell_low, cell_high = delta[:, :, 1:].quantile(quantiles, dim=2)
        estimator = self.config.estimator if self.config.variable != "target" else "gaussian-residual"
        fields = dict(
            model=self.model.ref,
            data=self.data.name,
            variable=self.config.variable,
            estimator=estimator,
            condition=self.config.condition,
            protocol=self.protocol(),
            blocks=list(range(len(self.parts))),
            labels=[part.label for part in self.parts],
            timesteps=self._padded(torch.tensor(self.timesteps)),
            entropy=self._padded(entropy[0, :, 0]),
            entropy_without=[self._padded(row) for row in entropy[1:, :, 0]],
            delta=[self._padded(row) for row in delta[:, :, 0]],
            cell_low=[self._padded(row) for row in cell_low],
            cell_high=[self._padded(row) for row in cell_high],
            output_mse=[self._padded(row) for row in output_mse],
            ced=estimate.tolist(),
            ci_low=low.tolist(),
            ci_high=high.tolist(),
            rank_low=rank_low.tolist(),
            rank_high=rank_high.tolist(),
            order=estimate.argsort(stable=True).tolist(),
            confidence=self.config.confidence,
            seconds=round(time.perf_counter() - self.started, 3),
            warnings=self._warnings(),
            note=self.note,
            entropy_error=expected_error(estimator, **self._values_at_hand()),
        )
        return CedResult(**{**fields, **more})

    def overall(self, delta: Tensor) -> Tensor:
        """CED (N, 1+R) of signed deviations (N, K, 1+R)."""
        return over_columns(self.config, delta)

    def _padded(self, values: Tensor) -> list[float | None]:
        return values.tolist() + [None] * (self.config.timesteps - self.num_done)

    def protocol(self) -> dict:
        return {
            **asdict(self.config),
            "process": self.model.process.name,
            "given_class": "null" if self.note else "own",
            "device": str(self.model.device),
            "precision": self.model.compute.precision,
            "model_hash": self.model.content_hash,
            "data_hash": self.data.content_hash,
        }

    def _warnings(self) -> list[str]:
        config, found = self.config, []
        if config.samples < 64:
            found.append(f"{config.samples} samples: intervals are wide; 256 is usual")
        if config.condition == "class" and config.samples < 8 * len(self.data.class_names):
            found.append(
                f"about {config.samples // len(self.data.class_names)} samples a class are few for an entropy within "
                f"classes; take {16 * len(self.data.class_names)} or more"
            )
        if config.variable != "target":
            found += too_few_samples(config.estimator, **self._values_at_hand())
        return found

    def _values_at_hand(self) -> dict[str, int]:
        """What one entropy is estimated from."""
        network = self.model.config
        num_groups = len(self.data.class_names) if self.config.condition == "class" else 1
        return dict(
            num_samples=max(1, self.config.samples // num_groups),
            num_tokens=network.num_tokens,
            num_values=math.prod(network.latent_shape) // network.num_tokens,
        )


def output_mse_of(column: Column) -> Tensor:
    """(N,) mean squared change of the output without each row."""
    return torch.stack([(stream - column.streams[0]).square().mean() for stream in column.streams[1:]])


def over_columns(config: CedConfig, delta: Tensor) -> Tensor:
    """CED (N, …) of signed deviations (N, K, …), columns from clean to noisy as far as they are done. "samples" is
    decided by its end alone; else the columns' absolute values are averaged, weighted as ``config.weighting`` says."""
    if config.variable == "samples":
        return delta[:, -1].abs()
    if config.weighting == "even":
        return delta.abs().mean(1)
    weights = torch.arange(1, delta.shape[1] + 1, dtype=delta.dtype, device=delta.device)
    weights = weights.flip(0) if config.weighting == "clean" else weights
    return torch.einsum("nk...,k->n...", delta.abs(), weights / weights.sum())


def interval(values: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Ends (N,), (N,) of the intervals of values (N, 1+R): estimates first, then resamples.

    |ΔH| is never below 0 and resampling adds noise, so the resamples of a tiny value can all lie above it: an interval
    holds its estimate.
    """
    low, high = values[:, 1:].quantile(_quantiles(confidence), dim=1)
    return torch.minimum(low, values[:, 0]), torch.maximum(high, values[:, 0])


def _quantiles(confidence: float) -> Tensor:
    tail = (1 - confidence) / 2
    return torch.tensor([tail, 1 - tail], dtype=torch.float64)
