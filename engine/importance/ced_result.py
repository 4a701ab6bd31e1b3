"""What a CED computation answers, and how its columns become one answer with intervals and ranks."""

import math
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.importance.config import CedConfig
from engine.importance.entropy import bootstrap_counts
from engine.models.model import Model


@dataclass(frozen=True, kw_only=True)
class CedResult:
    """``delta`` and the like are [N][K] nested lists: N blocks, K columns; None for columns not done yet."""

    model: str
    data: str
    variable: str
    estimator: str
    condition: str
    protocol: dict
    blocks: list[int]
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
    order: list[int]  # blocks, least important first
    confidence: float
    seconds: float
    warnings: list[str]
    note: str

    def as_dict(self) -> dict:
        return asdict(self)


class CedTable:
    """Collects columns and turns them into a CedResult."""

    def __init__(self, model: Model, data: Data, config: CedConfig, note: str) -> None:
        self.model, self.data, self.config, self.note = model, data, config, note
        generator = torch.Generator().manual_seed(config.seed)
        self.counts = bootstrap_counts(config.samples, config.num_bootstrap, generator)
        self.timesteps: list[float] = []
        self.entropies: list[Tensor] = []  # each (N+1, 1+R)
        self.output_mse: list[Tensor] = []  # each (N,)
        self.started = time.perf_counter()

    @property
    def num_done(self) -> int:
        return len(self.timesteps)

    def add(self, timestep: float, entropies: Tensor, output_mse: Tensor) -> None:
        """One column: entropies (N+1, 1+R) under every row of ``counts``, output_mse (N,)."""
        self.timesteps.append(timestep)
        self.entropies.append(entropies)
        self.output_mse.append(output_mse)

    def result(self) -> CedResult:
        entropy = torch.stack(self.entropies, dim=1)  # (N+1, K done, 1+R)
        delta = entropy[1:] - entropy[:1]  # (N, K done, 1+R)
        overall = delta[:, -1].abs() if self.config.variable == "samples" else delta.abs().mean(1)  # (N, 1+R)
        estimate, resampled = overall[:, 0], overall[:, 1:]
        tail = (1 - self.config.confidence) / 2
        quantiles = torch.tensor([tail, 1 - tail], dtype=torch.float64)
        low, high = resampled.quantile(quantiles, dim=1)
        # |ΔH| is never below 0 and resampling adds noise, so the interval of a tiny CED can lie above it
        low, high = torch.minimum(low, estimate), torch.maximum(high, estimate)
        ranks = resampled.argsort(0).argsort(0).double() + 1
        rank_low, rank_high = ranks.quantile(quantiles, dim=1, interpolation="nearest").long()
        cell_low, cell_high = delta[:, :, 1:].quantile(quantiles, dim=2)
        return CedResult(
            model=self.model.ref,
            data=self.data.name,
            variable=self.config.variable,
            estimator=self.config.estimator if self.config.variable != "target" else "gaussian-residual",
            condition=self.config.condition,
            protocol=self._protocol(),
            blocks=list(range(self.model.config.depth)),
            timesteps=self._padded(torch.tensor(self.timesteps)),
            entropy=self._padded(entropy[0, :, 0]),
            entropy_without=[self._padded(row) for row in entropy[1:, :, 0]],
            delta=[self._padded(row) for row in delta[:, :, 0]],
            cell_low=[self._padded(row) for row in cell_low],
            cell_high=[self._padded(row) for row in cell_high],
            output_mse=[self._padded(row) for row in torch.stack(self.output_mse, dim=1)],
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
        )

    def _padded(self, values: Tensor) -> list[float | None]:
        return values.tolist() + [None] * (self.config.timesteps - self.num_done)

    def _protocol(self) -> dict:
        return {
            **asdict(self.config),
            "process": self.model.process.name,
            "given_class": "null" if self.note else "own",
            "device": str(self.model.device),
            "precision": "fp32",
            "model_hash": self.model.content_hash,
            "data_hash": self.data.content_hash,
        }

    def _warnings(self) -> list[str]:
        config, d = self.config, math.prod(self.model.config.latent_shape)
        found = []
        if config.samples < 64:
            found.append(f"{config.samples} samples: intervals are wide; 256 is usual")
        if config.condition == "class" and config.samples < 8 * len(self.data.class_names):
            found.append(
                f"about {config.samples // len(self.data.class_names)} samples a class are few for an entropy within "
                f"classes; take {16 * len(self.data.class_names)} or more"
            )
        if config.variable != "target" and config.estimator == "gaussian-full" and config.samples * 4 < d:
            found.append(f"{config.samples} samples are few for a full covariance")
        return found
