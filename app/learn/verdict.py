"""What an arena's outcomes say of one block: sets that dropped it against sets that kept it. Plain data in and out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """ratio: geometric mean FID of the sets that dropped the block over that of those that kept it, with the ends of
    Welch's interval; above 1 the block was missed."""

    ratio: float
    low: float
    high: float
    num_without: int  # sets that dropped it
    num_with: int

    @property
    def words(self) -> str:
        if self.low > 1:
            return "beyond noise, it was missed"
        if self.high < 1:
            return "beyond noise, it wasn’t missed: those sets came out better"
        return "within noise: this experiment can’t say"


def verdict(content: dict[str, Any], block: int) -> Verdict | None:
    """Over the sets that were dropped at once, each with the mean over its seeds; None where fewer than two sets
    dropped the block, or fewer than two kept it."""
    outcomes: dict[tuple, list[float]] = {}
    for bout in content["bouts"]:
        if bout["dropped"] and not bout.get("strategy"):
            outcomes.setdefault(tuple(bout["dropped"]), []).append(math.log(bout["fid"]))
    means = {blocks: float(np.mean(values)) for blocks, values in outcomes.items()}
    without = [mean for blocks, mean in means.items() if block in blocks]
    kept = [mean for blocks, mean in means.items() if block not in blocks]
    if min(len(without), len(kept)) < 2:
        return None
    difference, half = _welch(np.array(without), np.array(kept), content["result"]["confidence"])
    return Verdict(
        ratio=math.exp(difference), low=math.exp(difference - half), high=math.exp(difference + half),
        num_without=len(without), num_with=len(kept),
    )  # fmt: skip


def _welch(first: np.ndarray, second: np.ndarray, confidence: float) -> tuple[float, float]:
    """Difference of the means, and half the width of its interval (Welch 1947, Satterthwaite's degrees of freedom)."""
    from scipy.special import stdtrit  # half a second to import, and only this lesson needs it

    parts = [values.var(ddof=1) / len(values) for values in (first, second)]
    total = sum(parts)
    if total == 0:
        return float(first.mean() - second.mean()), 0.0
    freedom = total**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    return float(first.mean() - second.mean()), float(stdtrit(freedom, (1 + confidence) / 2) * math.sqrt(total))
