"""What the criteria answer, and how far their orders agree."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class CriterionScores:
    """Low scores are removed first. The ends of the interval are None where nothing is estimated from samples."""

    title: str
    meaning: str
    origin: str
    scores: list[float]
    ci_low: list[float] | None
    ci_high: list[float] | None
    order: list[int]  # rows, least important first


@dataclass(frozen=True, kw_only=True)
class CriteriaResult:
    """Readings of CED are among the criteria, as "ced-target" and the like.

    ``spearman`` and ``kendall`` are [M][M] rank correlations of the scores of ``names``; None where one of the two
    gives every row the same score.
    """

    model: str
    data: str
    protocol: dict
    blocks: list[int]  # rows, by number
    labels: list[str]
    criteria: dict[str, CriterionScores]
    names: list[str]
    spearman: list[list[float | None]]
    kendall: list[list[float | None]]
    confidence: float
    seconds: float
    warnings: list[str]
    note: str

    def as_dict(self) -> dict:
        return asdict(self)


def rank_correlations(scores: list[list[float]]) -> tuple[list[list[float | None]], list[list[float | None]]]:
    """Spearman's ρ and Kendall's τ-b of every pair of M lists, two [M][M] matrices."""
    from scipy.stats import kendalltau, rankdata  # slow to import

    ranks = [rankdata(values) for values in scores]
    constant = [len(set(values.tolist())) == 1 for values in ranks]

    def matrix(correlation: Callable[[np.ndarray, np.ndarray], float]) -> list[list[float | None]]:
        return [
            [None if flat_a or flat_b else float(correlation(a, b)) for b, flat_b in zip(ranks, constant, strict=True)]
            for a, flat_a in zip(ranks, constant, strict=True)
        ]

    return matrix(lambda a, b: np.corrcoef(a, b)[0, 1]), matrix(lambda a, b: kendalltau(a, b).statistic)
