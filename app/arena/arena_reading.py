"""What the numbers of an arena allow to be said, and no more. Plain data in, words and plain data out.

FIDs are compared on a log scale, where the same share counts the same at 20 and at 200, and seed by seed: seed k of
every entrant had the same batches and the same starting noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import stdtrit

from app.importance.criteria import short

_FEWEST_RANDOM = 3  # sets drawn by lot that say something about chance


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One set of blocks, and everyone who chose it."""

    names: tuple[str, ...]
    kind: str  # "intact", "criterion" or "chance"; a set that both a criterion and the lot chose is a criterion's
    dropped: tuple[int, ...]
    row: dict[str, Any]  # of the arena's table
    fids: dict[int, float]  # by seed

    @property
    def title(self) -> str:
        return " = ".join(short(name) for name in self.names)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What a set drawn by lot gets: the middle, and where one more of them would lie."""

    middle: float
    low: float
    high: float
    num_sets: int


def entries(content: dict[str, Any]) -> list[Entry]:
    """Best mean first. Entrants with the same set are one entry: what they got is one measurement."""
    found: dict[tuple[int, ...], list[dict]] = {}
    for row in content["result"]["table"]:
        found.setdefault(tuple(row["dropped"]), []).append(row)
    fids: dict[tuple[int, ...], dict[int, float]] = {}
    for bout in content["bouts"]:
        fids.setdefault(tuple(bout["dropped"]), {})[bout["seed"]] = bout["fid"]
    kinds = ("intact", "criterion", "chance")
    return [
        Entry(
            names=tuple(row["entrant"] for row in rows),
            kind=min((row["kind"] for row in rows), key=kinds.index),
            dropped=dropped,
            row=rows[0],
            fids=fids.get(dropped, {}),
        )
        for dropped, rows in sorted(found.items(), key=lambda item: item[1][0]["fid"]["mean"])
    ]


def apart(first: Entry, second: Entry, *, confidence: float, num_comparisons: int = 1) -> bool:
    """Whether the two differ beyond noise: Student's interval of the paired log ratio leaves out 0, with Bonferroni's
    allowance for ``num_comparisons``. False where fewer than two seeds are common."""
    seeds = sorted(first.fids.keys() & second.fids.keys())
    pairs = [(first.fids[seed], second.fids[seed]) for seed in seeds]
    if len(pairs) < 2 or min(min(pair) for pair in pairs) <= 0:
        return False
    differences = [math.log(a / b) for a, b in pairs]
    mean, half = _mean_and_half(differences, 1 - (1 - confidence) / num_comparisons)
    return abs(mean) > half


def chance(content: dict[str, Any]) -> Chance | None:
    """Student's prediction interval for the mean FID of one more random set; None where too few were tried."""
    rows = [row for row in content["result"]["table"] if row["kind"] == "chance" and row["fid"]["mean"] > 0]
    means = [math.log(row["fid"]["mean"]) for row in {tuple(row["dropped"]): row for row in rows}.values()]
    num = len(means)
    if num < _FEWEST_RANDOM:
        return None
    mean, half = _mean_and_half(means, content["result"]["confidence"])
    half *= math.sqrt(num + 1)  # of a single new one, not of the mean: s√(1 + 1/n) in the place of s/√n
    return Chance(middle=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), num_sets=num)


def _mean_and_half(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Mean, and half the width of Student's interval for it."""
    num = len(values)
    mean = sum(values) / num
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (num - 1))
    return mean, float(stdtrit(num - 1, (1 + confidence) / 2)) * deviation / math.sqrt(num)


@dataclass(frozen=True, kw_only=True)
class Reading:
    best: Entry
    worse: tuple[Entry, ...]  # criteria that are worse than the best beyond noise
    level: tuple[Entry, ...]  # criteria that can't be told from it
    beats_chance: tuple[Entry, ...]
    chance: Chance | None
    intact: Entry | None

    @property
    def wins(self) -> bool:
        """The best is better than every other criterion's set beyond noise."""
        return not self.level and bool(self.worse)


def read(content: dict[str, Any]) -> Reading | None:
    """None while no criterion's set is measured."""
    known = entries(content)
    entrants = [entry for entry in known if entry.kind == "criterion"]
    if not entrants:
        return None
    best, others = entrants[0], entrants[1:]
    confidence = content["result"]["confidence"]
    worse = [entry for entry in others if apart(best, entry, confidence=confidence, num_comparisons=len(others))]
    lot = chance(content)
    return Reading(
        best=best,
        worse=tuple(worse),
        level=tuple(entry for entry in others if entry not in worse),
        beats_chance=tuple(entry for entry in entrants if lot and entry.row["fid"]["mean"] < lot.low),
        chance=lot,
        intact=next((entry for entry in known if entry.kind == "intact"), None),
    )


def sentences(content: dict[str, Any], *, metric: str) -> list[str]:
    """The answer first, then what chance and the intact model got, then foresight."""
    found = read(content)
    if found is None:
        return ["No criterion's set has been measured yet."]
    said = [_who_won(found, content["result"], metric), _against_chance(found, metric)]
    if found.intact is not None:
        said.append(f"The intact model with the same extra training gets {_with_interval(found.intact.row['fid'])}.")
    return [*said, _foresight(content["result"])]


def _who_won(found: Reading, result: dict[str, Any], metric: str) -> str:
    best = f"<b>{found.best.title}</b> got the lowest mean {metric}, {_with_interval(found.best.row['fid'])}"
    num_seeds = found.best.row["num_seeds"]
    if not found.worse and not found.level:
        return f"{best}; it is the only set that the criteria chose."
    if num_seeds < 2:
        return f"{best}. From one seed nobody can tell a difference from noise."
    budget = f"at this budget ({num_seeds} seeds, {result['num_dropped']} blocks dropped)"
    if found.wins:
        return f"{best}, and every other set that a criterion chose is worse beyond noise {budget}."
    if not found.worse:
        return f"{best}, but no other criterion's set can be told from it {budget}."
    level = ", ".join(entry.title for entry in found.level)
    worse = ", ".join(entry.title for entry in found.worse)
    return f"{best}. {budget.capitalize()} it can't be told from {level}; worse beyond noise: {worse}."


def _against_chance(found: Reading, metric: str) -> str:
    if found.chance is None:
        return "Too few random sets took part to say what chance gets."
    lot = f"Sets drawn by lot get about {found.chance.middle:.3g} ({found.chance.low:.3g} … {found.chance.high:.3g})"
    if not found.beats_chance:
        return f"{lot}: no criterion beats them beyond noise."
    return f"{lot}: beaten by {', '.join(entry.title for entry in found.beats_chance)}."


def _foresight(result: dict[str, Any]) -> str:
    known = {name: found["fid"] for name, found in result["foresight"].items() if found.get("fid")}
    if not known:
        return "Too few sets were tried to say whose scores foretold the outcome."
    sure = {name: found for name, found in known.items() if found["low"] > 0}
    if not sure:
        return "No criterion's scores foretold the outcome beyond noise: every interval reaches 0."
    best = max(sure, key=lambda name: sure[name]["value"])
    highest = f"{sure[best]['value']:+.2f} ({sure[best]['low']:+.2f} … {sure[best]['high']:+.2f})"
    return (
        f"The scores of {len(sure)} of {len(known)} criteria foretold the outcome beyond noise; the highest rank "
        f"correlation is that of {short(best)}, {highest}."
    )


def _with_interval(value: dict[str, float | None]) -> str:
    if value["low"] is None:
        return f"{value['mean']:.3g} (one seed)"
    return f"{value['mean']:.3g} ({value['low']:.3g} … {value['high']:.3g})"
