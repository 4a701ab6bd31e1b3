"""When and how much to prune: candidates are ranked by cost, NTK and ZiCo, and the ranks are added with weights.

Our reading, after the same authors' AutoProg-Zero (arXiv 2410.00350), which adds ranks of the same proxies. Free of
torch: the app recounts a vote from its record when a person changes the weights, and overrides it.

A record is the ``decision`` of stage.json: plain JSON, from which the vote can be counted again.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.errors import InputError

#: voter -> whether its smaller or its larger value is better
BETTER = {"cost": "smaller", "ntk": "smaller", "zico": "larger"}
_WORDS = {"cost": "cost", "ntk": "trainability (NTK)", "zico": "gradient signal (ZiCo)"}
_SHORT = {"ntk": "NTK", "zico": "ZiCo"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    num_dropped: int
    dropped: tuple[int, ...]  # blocks of the model that was loaded
    macs: int  # of one forward of one image
    seconds_per_step: float  # of one forward, measured; shown, but it doesn't vote
    ntk: float | None  # None, like any number that isn't finite: couldn't be worked out, ranks last
    zico: float | None

    @property
    def votes(self) -> dict[str, float | None]:
        return {"cost": float(self.macs), "ntk": self.ntk, "zico": self.zico}


@dataclass(frozen=True, kw_only=True)
class Vote:
    ranks: list[dict[str, int]]  # one entry a candidate, 1 = best, equal values share a rank
    totals: list[float]
    chosen: int  # index of the candidate
    reason: str


def check_weights(weights: dict[str, float]) -> None:
    """Raises InputError unless every voter has a finite weight of at least 0, and one of them more."""
    if set(weights) != set(BETTER) or not all(_can_weigh(weight) for weight in weights.values()):
        raise InputError(f"weights are {weights}; expected a number ≥ 0 for each of {', '.join(BETTER)}")
    if not any(weights.values()):
        raise InputError("all weights are 0, so nobody would vote; give at least one of them a weight above 0")


def count_votes(candidates: list[Candidate], weights: dict[str, float]) -> Vote:
    """The lowest weighted sum of ranks wins; a tie goes to the candidate that removes fewer blocks."""
    check_weights(weights)
    ranks: list[dict[str, int]] = [{} for _ in candidates]
    for voter, direction in BETTER.items():
        values = [_to_minimise(candidate.votes[voter], direction) for candidate in candidates]
        for rank, value in zip(ranks, values, strict=True):
            rank[voter] = 1 + sum(other < value for other in values)
    totals = [sum(weights[voter] * rank[voter] for voter in BETTER) for rank in ranks]
    chosen = min(range(len(candidates)), key=lambda index: (totals[index], candidates[index].num_dropped))
    reason = _reason(candidates, ranks, totals, weights, chosen)
    return Vote(ranks=ranks, totals=totals, chosen=chosen, reason=reason)


def recount(record: dict[str, Any], weights: dict[str, float]) -> dict[str, Any]:
    """The record of the same candidates with the vote counted under ``weights``; nothing is scored again.

    With the record's own weights it is the record itself, but for one that was overridden: its override is lifted.
    Raises InputError for a decision without a vote and for weights that can't be.
    """
    candidates = _candidates_of(record)
    vote = count_votes(candidates, weights)
    scored = [
        {**entry, "ranks": ranks, "total": total}
        for entry, ranks, total in zip(record["candidates"], vote.ranks, vote.totals, strict=True)
    ]
    kept = {key: value for key, value in record.items() if key not in ("dropped", "vote")}
    told = {"weights": dict(weights), "chosen": vote.chosen, "reason": vote.reason}
    return {**kept, "mode": "adaptive", "candidates": scored, **told}


def override(
    record: dict[str, Any], *, num_dropped: int | None = None, drop: Iterable[int] | None = None
) -> dict[str, Any]:
    """The record with a person's choice, the vote's own beside it as ``vote`` (``chosen`` and ``reason``).

    Either ``num_dropped``, the so many least important blocks, or ``drop``, blocks of the model that was loaded.
    ``chosen`` is the candidate that drops just these blocks, or None; ``dropped`` are the blocks. Raises InputError
    for blocks that aren't in this stage, for all of them, and for a decision without a vote.
    """
    if (num_dropped is None) == (drop is None):
        raise InputError("say either how many blocks go or which, not both and not neither")
    candidates, order = _candidates_of(record), record["order"]
    dropped = _checked(order, num_dropped, drop)
    wanted = record.get("vote") or {"chosen": record["chosen"], "reason": record["reason"]}
    same = [index for index, candidate in enumerate(candidates) if sorted(candidate.dropped) == dropped]
    asked = f"{_going(len(dropped))}{_named(dropped)}, chosen by hand"
    by_vote = candidates[wanted["chosen"]]
    agreed = sorted(by_vote.dropped) == dropped
    said = (
        "as the vote had it" if agreed else f"the vote wanted {_number(by_vote.num_dropped)}{_named(by_vote.dropped)}"
    )
    return {
        **record,
        "mode": "overridden",
        "chosen": same[0] if same else None,
        "dropped": dropped,
        "vote": wanted,
        "reason": f"{asked}; {said}.",
    }


def blocks_going(record: dict[str, Any]) -> list[int] | None:
    """Blocks of the loaded model that a decision takes; None for blocks chosen beforehand, which no vote named."""
    if record["mode"] == "overridden":
        return list(record["dropped"])
    return None if record["chosen"] is None else list(record["candidates"][record["chosen"]]["dropped"])


def is_finite(value: float | None) -> bool:
    """None is what JSON makes of a number that isn't."""
    return value is not None and math.isfinite(value)


def _can_weigh(weight: object) -> bool:
    return isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0


def _to_minimise(value: float | None, direction: str) -> float:
    if value is None or not is_finite(value):
        return math.inf
    return value if direction == "smaller" else -value


def _candidates_of(record: dict[str, Any]) -> list[Candidate]:
    if not record["candidates"]:
        raise InputError("there was no vote: these blocks were chosen beforehand")
    names = Candidate.__dataclass_fields__
    return [
        Candidate(**{name: tuple(entry[name]) if name == "dropped" else entry[name] for name in names})
        for entry in record["candidates"]
    ]


def _checked(order: list[int], num_dropped: int | None, drop: Iterable[int] | None) -> list[int]:
    if num_dropped is not None:
        if not 0 <= num_dropped < len(order):
            raise InputError(f"{num_dropped} of {len(order)} blocks can't go; choose 0 … {len(order) - 1}")
        return sorted(order[:num_dropped])
    blocks = sorted(drop or ())
    missing = [block for block in blocks if block not in order]
    if missing:
        raise InputError(f"block {missing[0]} isn't there in this stage; it has {', '.join(map(str, sorted(order)))}")
    if len(set(blocks)) != len(blocks):
        raise InputError(f"a block is named twice in {blocks}")
    if len(blocks) >= len(order):
        raise InputError(f"all {len(order)} blocks would go; keep at least one")
    return blocks


def _reason(
    candidates: list[Candidate],
    ranks: list[dict[str, int]],
    totals: list[float],
    weights: dict[str, float],
    chosen: int,
) -> str:
    """One sentence: what goes, who wanted that, who wanted what instead."""
    what = _going(candidates[chosen].num_dropped)
    voting = [voter for voter in BETTER if weights[voter] > 0]
    gaps = _gaps(candidates, voting)
    if len(candidates) == 1:
        return f"{what}: {'; '.join(['nothing else would still reach the target', *gaps])}."
    undecided = [voter for voter in voting if all(rank[voter] == 1 for rank in ranks)]
    wanted: dict[str, list[str]] = {}  # what -> by whom
    for voter in voting:
        if voter not in undecided:
            favourites = [c.num_dropped for c, rank in zip(candidates, ranks, strict=True) if rank[voter] == 1]
            mine = ranks[chosen][voter] == 1
            wish = "this" if mine else " or ".join(_number(number) for number in favourites)
            wanted.setdefault(wish, []).append(_WORDS[voter])
    supporters = wanted.pop("this", [])
    if supporters:
        against = [f"{_listed(voters)}, who wanted {wish}" for wish, voters in wanted.items()]
        parts = [f"{_listed(supporters)} wanted that" + (f", against {', and '.join(against)}" if against else "")]
    else:
        parts = [f"{_listed(voters)} wanted {wish}" for wish, voters in wanted.items()]
        parts += ["this has the best sum of ranks"] if wanted else []
    if undecided:
        parts.append(f"{_listed([_WORDS[voter] for voter in undecided])} saw no difference")
    if totals.count(totals[chosen]) > 1:
        parts.append("a tie, settled for fewer blocks")
    return f"{what}: {'; '.join([*parts, *gaps])}."


def _gaps(candidates: list[Candidate], voting: list[str]) -> list[str]:
    """What couldn't be worked out, for which candidates and why: a record holds None for it.

    Gradients that aren't finite spoil both scores. Where ZiCo has its number, they were finite, and the NTK's kernel
    is what failed.
    """
    found: dict[tuple[str, str], list[str]] = {}  # (score, why) -> numbers of blocks
    for candidate in candidates:
        for voter in voting:
            if voter != "cost" and not is_finite(candidate.votes[voter]):
                singular = voter == "ntk" and is_finite(candidate.zico)
                why = "its kernel is singular to rounding" if singular else "its gradients aren't finite"
                found.setdefault((_SHORT[voter], why), []).append(_number(candidate.num_dropped))
    return [
        f"{score} couldn't be worked out for dropping {_listed(numbers)}: {why}"
        for (score, why), numbers in found.items()
    ]


def _going(number: int) -> str:
    if number == 0:
        return "No block goes now"
    return "1 block goes" if number == 1 else f"{number} blocks go"


def _number(number: int) -> str:
    return str(number) if number else "none"


def _named(blocks: Iterable[int]) -> str:
    names = ", ".join(map(str, sorted(blocks)))
    return f" ({names})" if names else ""


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
