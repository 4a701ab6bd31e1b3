"""The other criteria beside CED, on the same samples and, where they can share them, in the same passes.

Block influence, the change of the output and the rise of the loss fall out of the passes that CED makes anyway; Taylor
adds one pass with gradients a column; the rest look at weights or at nothing. Low scores are removed first, always.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.importance.ced_result import CedResult, CedTable, interval
from engine.importance.columns import Column, all_streams, columns, draw_probe, values_of
from engine.importance.config import CRITERIA, NOISED_VARIABLES, VARIABLES, CriteriaConfig
from engine.importance.criteria_result import CriteriaResult, CriterionScores, rank_correlations
from engine.importance.entropy import bootstrap_counts, estimator_for
from engine.importance.streams import Part
from engine.models.dit import DiT
from engine.models.model import Model


@dataclass(frozen=True, kw_only=True)
class CriteriaProgress:
    column: int  # columns done
    num_columns: int
    result: CriteriaResult | None  # with the last column


def compute_criteria(model: Model, data: Data, config: CriteriaConfig | None = None) -> CriteriaResult:
    """Scores of every block of ``model`` by each criterion, with rank correlations between them."""
    *_, last = criteria_columns(model, data, config or CriteriaConfig())
    assert last.result is not None
    return last.result


def criteria_columns(model: Model, data: Data, config: CriteriaConfig) -> Iterator[CriteriaProgress]:
    """The same, column by column; the last item holds the result."""
    collected = _Collected(model, data, config)
    passes = collected.passes()
    num_columns = config.timesteps * len(passes) + 1
    for done, column in enumerate((column for name in passes for column in passes[name]), start=1):
        collected.add(column)
        yield CriteriaProgress(column=done, num_columns=num_columns, result=None)
    yield CriteriaProgress(column=num_columns, num_columns=num_columns, result=collected.result())


class _Collected:
    """What the columns add up to."""

    def __init__(self, model: Model, data: Data, config: CriteriaConfig) -> None:
        self.model, self.data, self.config = model, data, config
        self.started = time.perf_counter()
        self.streams = all_streams(model, config.granularity)
        self.probe = draw_probe(model, data, config.ced("target"))
        self.tables = {name: CedTable(model, data, config.ced(name), self.probe.note) for name in config.variables}
        self.sums: dict[str, Tensor] = {}  # criterion -> (P, B), over the columns

    def passes(self) -> dict[str, Iterator[Column]]:
        """The columns of noised data, which serve all but one; and those of sampling, where that was asked for."""
        extras = [name for name in self.config.criteria if name in ("bi", "loss", "taylor")]
        passes = {}
        if extras or "output-mse" in self.config.criteria or set(NOISED_VARIABLES) & set(self.config.variables):
            passes["noised"] = columns(self.model, self.config.ced("target"), self.probe, self.streams, extras=extras)
        if "samples" in self.config.variables:
            passes["samples"] = columns(self.model, self.config.ced("samples"), self.probe, self.streams)
        return passes

    def add(self, column: Column) -> None:
        sampling = column.target is None
        for name, table in self.tables.items():
            if sampling == (name == "samples"):
                values = values_of(column, name, self.model.config.patch_size)
                table.add(column, estimator_for(table.config, self.probe.labels)(values, table.counts))
        if not sampling:
            for name in set(self.config.criteria) & _PER_SAMPLE.keys():
                self.sums[name] = self.sums.get(name, 0) + _PER_SAMPLE[name](column)

    def result(self) -> CriteriaResult:
        config, ced = self.config, {name: table.result() for name, table in self.tables.items()}
        found = {name: self._scores(name) for name in config.criteria}
        found |= {f"ced-{name}": _of_ced(result) for name, result in ced.items()}
        spearman, kendall = rank_correlations([criterion.scores for criterion in found.values()])
        reference = CedTable(self.model, self.data, config.ced("target"), self.probe.note)
        warnings = [text for result in ced.values() for text in result.warnings]
        return CriteriaResult(
            model=self.model.ref,
            data=self.data.name,
            protocol={**reference.protocol(), **asdict(config)},
            blocks=list(range(len(self.streams.parts))),
            labels=[part.label for part in self.streams.parts],
            criteria=found,
            names=list(found),
            spearman=spearman,
            kendall=kendall,
            confidence=config.confidence,
            seconds=round(time.perf_counter() - self.started, 3),
            warnings=list(dict.fromkeys(warnings)),
            note=self.probe.note,
        )

    def _scores(self, name: str) -> CriterionScores:
        if name not in self.sums:
            parts = self.streams.parts
            return _criterion(name, torch.tensor(_SAMPLELESS[name](self.model.network, parts, self.config.seed)))
        generator = torch.Generator().manual_seed(self.config.seed)
        counts = bootstrap_counts(self.config.samples, self.config.num_bootstrap, generator)
        means = self.sums[name] / self.config.timesteps @ counts.T / self.config.samples  # (P, 1+R)
        if name == "taylor":
            means = means.abs()
        return _criterion(name, means[:, 0], interval(means, self.config.confidence))


def _criterion(name: str, scores: Tensor, ends: tuple[Tensor, Tensor] | None = None) -> CriterionScores:
    about = CRITERIA[name]
    return CriterionScores(
        title=about.title,
        meaning=about.meaning,
        origin=about.origin,
        scores=scores.tolist(),
        ci_low=ends[0].tolist() if ends else None,
        ci_high=ends[1].tolist() if ends else None,
        order=scores.argsort(stable=True).tolist(),
    )


def _of_ced(result: CedResult) -> CriterionScores:
    about = VARIABLES[result.variable]
    return CriterionScores(
        title=f"CED · {about.title}",
        meaning=about.meaning,
        origin=about.origin,
        scores=result.ced,
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        order=result.order,
    )


def _output_mse(column: Column) -> Tensor:
    return (column.streams[1:] - column.streams[:1]).double().square().flatten(2).mean(2)


#: criterion -> one column's values (P, B) for each part and sample
_PER_SAMPLE: dict[str, Callable[[Column], Tensor]] = {
    "bi": lambda column: column.extras["bi"],
    "output-mse": _output_mse,
    "loss": lambda column: column.extras["loss"][1:] - column.extras["loss"][:1],
    "taylor": lambda column: column.extras["taylor"],
}


def _magnitude(network: DiT, parts: Sequence[Part], seed: int) -> list[float]:
    """Root mean square of each part's weights and biases, so that parts of different sizes compare."""

    def of_part(part: Part) -> float:
        weights = torch.cat([weight.detach().double().flatten() for weight in _weights(network, part)])
        return weights.square().mean().sqrt().item()

    return [of_part(part) for part in parts]


def _weights(network: DiT, part: Part) -> list[Tensor]:
    block = network.blocks[part.block]
    if not part.branch:
        return list(block.parameters())
    half = 0 if part.branch == "attn" else 1  # of the conditioning: shift, scale and gate of one branch
    conditioning = [weight.chunk(2)[half] for weight in block.adaLN_modulation.parameters()]
    return [*getattr(block, part.branch).parameters(), *conditioning]


def _random(network: DiT, parts: Sequence[Part], seed: int) -> list[float]:
    return torch.randperm(len(parts), generator=torch.Generator().manual_seed(seed)).double().tolist()


def _first(network: DiT, parts: Sequence[Part], seed: int) -> list[float]:
    return [float(row) for row in range(len(parts))]


def _last(network: DiT, parts: Sequence[Part], seed: int) -> list[float]:
    return [float(len(parts) - 1 - row) for row in range(len(parts))]


def _every_other(network: DiT, parts: Sequence[Part], seed: int) -> list[float]:
    """Odd blocks, then even ones, the first block last; each time the one farthest from those gone and both ends."""
    depth = network.config.depth
    order: list[int] = []
    for blocks in (range(1, depth, 2), range(2, depth, 2)):
        gone, left = [-1, depth], list(blocks)
        while left:
            block = max(left, key=lambda candidate: min(abs(candidate - other) for other in gone))
            left.remove(block)
            gone.append(block)
        order += gone[2:]
    order.append(0)
    return [float(order.index(part.block)) for part in parts]


#: criterion -> scores (P,) that no sample is needed for
_SAMPLELESS: dict[str, Callable[[DiT, Sequence[Part], int], list[float]]] = {
    "magnitude": _magnitude,
    "random": _random,
    "first": _first,
    "last": _last,
    "every-other": _every_other,
}
