"""When and how much to prune: candidates are ranked by cost, NTK and ZiCo, and the ranks are added with weights.

Our reading, after the same authors' AutoProg-Zero (arXiv 2410.00350), which adds ranks of the same proxies. Free of
torch: the app recounts a vote from its record when a person changes the weights.
"""

from dataclasses import dataclass

#: voter -> whether its smaller or its larger value is better
BETTER = {"cost": "smaller", "ntk": "smaller", "zico": "larger"}
_WORDS = {"cost": "cost", "ntk": "trainability (NTK)", "zico": "gradient signal (ZiCo)"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    num_dropped: int
    dropped: tuple[int, ...]  # blocks of the model that was loaded
    macs: int  # of one forward of one image
    seconds_per_step: float  # of one forward, measured; shown, but it doesn't vote
    ntk: float
    zico: float

    @property
    def votes(self) -> dict[str, float]:
        return {"cost": float(self.macs), "ntk": self.ntk, "zico": self.zico}


@dataclass(frozen=True, kw_only=True)
class Vote:
    ranks: list[dict[str, int]]  # one entry a candidate, 1 = best, equal values share a rank
    totals: list[float]
    chosen: int  # index of the candidate
    reason: str


def count_votes(candidates: list[Candidate], weights: dict[str, float]) -> Vote:
    """The lowest weighted sum of ranks wins; a tie goes to the candidate that removes fewer blocks."""
    ranks: list[dict[str, int]] = [{} for _ in candidates]
    for voter, direction in BETTER.items():
        values = [c.votes[voter] if direction == "smaller" else -c.votes[voter] for c in candidates]
        for rank, value in zip(ranks, values, strict=True):
            rank[voter] = 1 + sum(other < value for other in values)
    totals = [sum(weights[voter] * rank[voter] for voter in BETTER) for rank in ranks]
    chosen = min(range(len(candidates)), key=lambda index: (totals[index], candidates[index].num_dropped))
    return Vote(ranks=ranks, totals=totals, chosen=chosen, reason=_reason(candidates, ranks, totals, chosen))


def _reason(candidates: list[Candidate], ranks: list[dict[str, int]], totals: list[float], chosen: int) -> str:
    number = candidates[chosen].num_dropped
    what = (
        "No block goes now"
        if number == 0
        else f"{number} block{'s' if number > 1 else ''} go{'es' if number == 1 else ''}"
    )
    if len(candidates) == 1:
        return f"{what}: nothing else would still reach the target."
    best = [_WORDS[voter] for voter in BETTER if ranks[chosen][voter] == 1]
    others = [_WORDS[voter] for voter in BETTER if ranks[chosen][voter] > 1]
    parts = [f"best on {' and '.join(best)}" if best else "best on none alone, but the best sum"]
    if others and best:
        parts.append(f"outvoting {' and '.join(others)}")
    if totals.count(totals[chosen]) > 1:
        parts.append("a tie, settled for fewer blocks")
    return f"{what}: {', '.join(parts)}."
