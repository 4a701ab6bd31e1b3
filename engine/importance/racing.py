"""Method "racing": which k blocks are the least important, without scoring all of them on all samples.

Samples come in rounds, each row with all columns. After a round the rows still open are compared across the boundary
between the k least and the others, by the paired bootstrap of their difference. A row that is clear of every row on the
other side is settled, and is left out of the rounds that follow: the intact stream and the open ones are all that runs.
A row never settled ends with all samples, and so with the very number that the exact way gives.

What is predicted is the order that *all* ``config.samples`` would give, not that of endless data: a deviation shrinks
with the share of samples still unseen, by √(1 − n/B).
"""

import math
from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.errors import InputError
from engine.importance.ced_result import CedColumn, CedResult, CedTable
from engine.importance.columns import Probe, Streams, columns, values_of
from engine.importance.config import CedConfig
from engine.importance.entropy import bootstrap_counts, estimator_for
from engine.importance.streams import part_evaluations, parts_of
from engine.models.model import Model

#: shares of the samples after which rows may be settled
_LOOKS = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
#: standard deviations that a row must be clear of each row across the boundary; it is looked at several times
_CLEAR = 3.0
_FEWEST = 16  # samples of a first round: a bootstrap of fewer says little


def racing_columns(model: Model, data: Data, config: CedConfig, probe: Probe) -> Iterator[CedColumn]:
    """One item for each round. ``order`` of the result begins with the k least important rows
    (``config.num_candidates``, half of them by default); ``racing`` says what was spent: ``{"num_candidates", "least":
    [rows], "samples": [of each row], "evaluations", "share": of the exact way's evaluations of parts}``.

    Raises InputError where k leaves nothing to choose between.
    """
    race = _Race(model, data, config, probe)
    looks = sorted({min(config.samples, max(_FEWEST, math.ceil(share * config.samples))) for share in _LOOKS})
    for look, num_samples in enumerate(looks, start=1):
        race.run_until(num_samples)
        race.settle()
        yield CedColumn(column=look, num_columns=len(looks), result=race.result())
        if not race.open:
            return


class _Race:
    def __init__(self, model: Model, data: Data, config: CedConfig, probe: Probe) -> None:
        self.model, self.config, self.probe = model, config, probe
        self.table = CedTable(model, data, config, probe.note)
        self.parts = parts_of(model.network, config.granularity)
        P = len(self.parts)
        self.num_least = config.num_candidates or P // 2
        if not 1 <= self.num_least < P:
            raise InputError(f"racing looks for the {self.num_least} least important of {P}; choose 1 … {P - 1}")
        self.open = list(range(P))
        self.inside: list[int] = []  # settled: among the least
        self.num_samples, self.evaluations = 0, 0
        self.values: list[Tensor] = []  # of each column (1 + open, n, T, d), the intact stream first
        self.changes = torch.zeros(P, config.timesteps, dtype=torch.float64)  # summed over each row's samples
        self.samples = torch.zeros(P, dtype=torch.float64)
        self.delta = torch.zeros(P, config.timesteps, 1 + config.num_bootstrap, dtype=torch.float64)
        self.intact = torch.zeros(1, config.timesteps, 1 + config.num_bootstrap, dtype=torch.float64)

    def run_until(self, num_samples: int) -> None:
        """Runs the open rows on the samples they haven't seen, and works their deviations out afresh."""
        streams = Streams(parts=self.parts, rows=self.open)
        chosen = slice(self.num_samples, num_samples)
        fresh, times = [], []
        for number, column in enumerate(columns(self.model, self.config, self.probe, streams, chosen=chosen)):
            fresh.append(values_of(column, self.config.variable, self.model.config.patch_size))
            times.append(column.timestep)
            change = (column.streams[1:] - column.streams[:1]).double().square()
            self.changes[self.open, number] += change.flatten(2).mean(2).sum(1)
        self.values = (
            [torch.cat(pair, dim=1) for pair in zip(self.values, fresh, strict=True)] if self.values else fresh
        )
        self.table.timesteps = times
        self.evaluations += (num_samples - self.num_samples) * _evaluations(self.config, len(self.parts), self.open)
        self.num_samples = num_samples
        self.samples[self.open] = num_samples
        generator = torch.Generator().manual_seed(self.config.seed)
        counts = bootstrap_counts(num_samples, self.config.num_bootstrap, generator)
        estimator = estimator_for(self.config, self.probe.labels[:num_samples])
        entropies = torch.stack([estimator(values, counts) for values in self.values], dim=1)  # (1 + open, K, 1+R)
        self.intact = entropies[:1]
        self.delta[self.open] = entropies[1:] - entropies[:1]

    def settle(self) -> None:
        """Takes out of the race the rows that are clear of every row on the other side of the boundary."""
        deltas = self.delta[self.open]
        estimate = deltas[:, :, :1]
        unseen = math.sqrt(1 - self.num_samples / self.config.samples)
        overall = self.table.overall(torch.cat([estimate, estimate + unseen * (deltas[:, :, 1:] - estimate)], dim=2))
        ranked = overall[:, 0].argsort(stable=True)
        below, above = ranked.split([self._wanted, len(ranked) - self._wanted])
        gap = overall[above, None] - overall[None, below]  # (above, below, 1+R)
        clear = gap[:, :, 0] > _CLEAR * gap[:, :, 1:].std(2)
        if self.num_samples == self.config.samples:  # nothing is left to see: equal values keep their order
            clear = torch.ones_like(clear)
        settled_below, settled_above = below[clear.all(0)].tolist(), above[clear.all(1)].tolist()
        self.inside += [self.open[index] for index in settled_below]
        still = [index for index in range(len(self.open)) if index not in settled_below + settled_above]
        self.values = [values[[0, *(1 + index for index in still)]] for values in self.values]
        self.open = [self.open[index] for index in still]

    @property
    def _wanted(self) -> int:
        """How many of the open rows are among the least."""
        return self.num_least - len(self.inside)

    def result(self) -> CedResult:
        ranked = self.table.overall(self.delta)[:, 0].argsort(stable=True).tolist()
        order = sorted(ranked, key=lambda row: 0 if row in self.inside else 1 if row in self.open else 2)
        P = len(self.parts)
        share = self.evaluations / (self.config.samples * _evaluations(self.config, P, range(P)))
        spent = {
            "num_candidates": self.num_least,
            "least": sorted(order[: self.num_least]),
            "samples": self.samples.int().tolist(),
            "evaluations": self.evaluations,
            "share": share,
        }
        return self.table.result_of(
            torch.cat([self.intact, self.intact + self.delta]),
            self.delta,
            self.changes / self.samples[:, None],
            order=order,
            racing=spent,
        )


def _evaluations(config: CedConfig, num_parts: int, rows: Collection[int]) -> int:
    """Evaluations of parts for each sample, all columns together; sampling shares a prefix in its first step only."""
    shared = part_evaluations(num_parts, rows)
    if config.variable != "samples":
        return shared * config.timesteps
    return shared + (config.timesteps - 1) * (num_parts + len(rows) * (num_parts - 1))
