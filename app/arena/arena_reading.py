"""What the numbers of an arena allow to be said, and no more. Plain data in, words and plain data out.

FIDs are compared on a log scale, where the same share counts the same at 20 and at 200, and seed by seed: seed k of
every entrant had the same batches and the same starting noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from scipy.special import stdtrit

from app.arena.arena_entries import Entry, entries
from app.importance.criteria import short
from app.numbers import decimals_for

_FEWEST_RANDOM = 3  # sets drawn by lot that say something about chance
CLOSE = 1.3  # times the intact model's FID: what pruning should stay within
_NEAR = 1.3  # times the best's mean: beyond it, "within noise" would say that the two are alike
_PATTERN = "last"  # the criterion that looks at nothing and costs nothing


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What a set drawn by lot gets: the middle, and where one more of them would lie."""

    middle: float
    low: float
    high: float
    num_sets: int


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
    """Of the sets that criteria chose and the ways of pruning in stages, together the ways of pruning."""

    best: Entry
    worse: tuple[Entry, ...]  # those that are worse than the best beyond noise
    level: tuple[Entry, ...]  # those near it that can't be told from it
    unsettled: tuple[Entry, ...]  # those whose mean is far off, though these seeds can't tell them from it either
    lower_by_lot: tuple[Entry, ...]  # random sets with a mean below the best's
    decimals: int  # of every FID that is written
    beats_chance: tuple[Entry, ...]
    chance: Chance | None
    intact: Entry | None
    pattern: Entry | None  # dropping the last blocks, whatever they do

    @property
    def wins(self) -> bool:
        """The best is better than every other way beyond noise."""
        return not self.level and not self.unsettled and bool(self.worse)


def read(content: dict[str, Any]) -> Reading | None:
    """None while no way of pruning is measured."""
    known = entries(content)
    ways = [entry for entry in known if entry.kind in ("criterion", "progressive")]
    if not ways:
        return None
    best, others = ways[0], ways[1:]
    confidence = content["result"]["confidence"]
    worse = [entry for entry in others if apart(best, entry, confidence=confidence, num_comparisons=len(others))]
    lot, best_mean = chance(content), best.row["fid"]["mean"]
    level = [entry for entry in others if entry not in worse]
    unsettled = [entry for entry in level if entry.row["fid"]["mean"] > _NEAR * best_mean]
    return Reading(
        best=best,
        worse=tuple(worse),
        level=tuple(entry for entry in level if entry not in unsettled),
        unsettled=tuple(unsettled),
        lower_by_lot=tuple(x for x in known if x.kind == "chance" and x.row["fid"]["mean"] < best_mean),
        decimals=decimals([entry.row["fid"] for entry in known]),
        beats_chance=tuple(entry for entry in ways if lot and _beats(entry, lot)),
        chance=lot,
        intact=next((entry for entry in known if entry.kind == "intact"), None),
        pattern=next((entry for entry in ways if _PATTERN in entry.names), None),
    )


def _beats(entry: Entry, lot: Chance) -> bool:
    """Its own interval lies wholly below that of the lot; one seed has none, so that it is never enough."""
    high = entry.row["fid"]["high"]
    return high is not None and high < lot.low


def sentences(content: dict[str, Any], *, metric: str) -> list[str]:
    """The answer in two sentences; then one each on chance and on foresight."""
    found = read(content)
    if found is None:
        return ["No way of pruning has been measured yet."]
    return [
        f"{_who_won(found, metric)} {_how_good(found)}".rstrip(),
        _against_chance(found),
        _foresight(content["result"]),
    ]


def _who_won(found: Reading, metric: str) -> str:
    best, num_seeds = found.best, found.best.row["num_seeds"]
    num_others = len(found.worse) + len(found.level) + len(found.unsettled)
    said = f"<b>{best.label}</b> came out best{_but_the_lot(found)}, with a mean {metric} of "
    said += with_interval(best.row["fid"], found.decimals)
    if not num_others:
        return f"{said}; nothing else was tried."
    if num_seeds < 2:
        return f"{said}; from one seed nobody can tell a difference from noise."
    if found.wins:
        return f"{said}; every other way of pruning is worse beyond noise ({num_seeds} seeds)."
    level, far = (_few([entry.label for entry in some]) for some in (found.level, found.unsettled))
    if not found.worse and not far:
        return f"{said} over {num_seeds} seeds, but it can't be told from any other: {level}."
    parts = [f"it can't be told from {level}" if level else ""]
    if found.worse:
        are = "is" if len(found.worse) == 1 else "are"
        parts.append(f"{len(found.worse)} of the {num_others} others {are} worse beyond noise")
    if far:
        lie = "lies" if len(found.unsettled) == 1 else "lie"
        parts.append(f"{far} {lie} far off, which {unsettled(num_seeds)}")
    return f"{said} over {num_seeds} seeds; {'; '.join(filter(None, parts))}."


def _but_the_lot(found: Reading) -> str:
    lower = found.lower_by_lot
    if not lower:
        return ""
    sets = "one random set was" if len(lower) == 1 else f"{len(lower)} random sets were"
    return f" of the ways tried ({sets} lower: {lower[0].row['fid']['mean']:.{found.decimals}f})"


def unsettled(num_seeds: int) -> str:
    return f"{num_seeds} seeds can't settle"


def _how_good(found: Reading) -> str:
    """Against the lot, the simplest pattern and the intact model."""
    ratio, simplest = found.best.row["against_intact"], _against_the_simplest(found)
    if ratio is None:
        return f"{simplest}." if simplest else ""
    times = f"{simplest}; its" if simplest else "Its"
    times += f" FID is {_times(ratio)} that of the equally trained intact model"
    if ratio["low"] is None:
        return f"{times}, from one seed."
    if ratio["high"] <= CLOSE:
        return f"{times}: within {CLOSE}×."
    if ratio["low"] > CLOSE:
        return f"{times}: not within {CLOSE}×."
    return f"{times}: whether that is within {CLOSE}× can't be told."


def _against_the_simplest(found: Reading) -> str:
    """Does the best beat sets drawn by lot, and dropping the last blocks? Empty where that can't be asked."""
    if found.best.row["num_seeds"] < 2:
        return ""
    beaten, unbeaten = [], []
    if found.chance is not None:
        (beaten if found.best in found.beats_chance else unbeaten).append("sets drawn by lot")
    if found.pattern is not None and found.pattern is not found.best:
        (beaten if found.pattern in found.worse else unbeaten).append("dropping the last blocks")
    if beaten and unbeaten:
        return f"Beyond noise it beats {beaten[0]}, but not {unbeaten[0]}"
    if beaten:
        return f"It beats {' and '.join(beaten)} beyond noise"
    if len(unbeaten) == 2:
        return f"Beyond noise it beats neither {' nor '.join(unbeaten)}"
    return f"Beyond noise it doesn't beat {unbeaten[0]}" if unbeaten else ""


def _against_chance(found: Reading) -> str:
    if found.chance is None:
        return "Too few random sets took part to say what chance gets."
    middle, *ends = (f"{x:.{found.decimals}f}" for x in (found.chance.middle, found.chance.low, found.chance.high))
    lot = f"Sets drawn by lot get about {middle} ({' … '.join(ends)})"
    if found.best.row["num_seeds"] < 2:
        return f"{lot}, from one seed."
    if not found.beats_chance:
        return f"{lot}: nothing beats them beyond noise, as no way's own interval lies wholly below theirs."
    winners = _few([entry.label for entry in found.beats_chance], most=8)
    return f"{lot}: beaten beyond noise by {winners}, whose own interval lies wholly below theirs."


def _foresight(result: dict[str, Any]) -> str:
    known = {name: found["fid"] for name, found in result["foresight"].items() if found.get("fid")}
    if not known:
        return "Too few sets were tried to say whose scores foretold the outcome."
    sure = {name: found for name, found in known.items() if found["low"] > 0}
    if not sure:
        return "No criterion's scores foretold the outcome beyond noise: every interval reaches 0."
    best = max(sure, key=lambda name: sure[name]["value"])
    return (
        f"The scores of {len(sure)} of {len(known)} criteria foretold the outcome beyond noise; the highest rank "
        f"correlation is that of {short(best)}, {correlation(sure[best])}."
    )


def correlation(found: dict[str, float]) -> str:
    """+0.70 (+0.20 … +0.90)"""
    return f"{found['value']:+.2f} ({found['low']:+.2f} … {found['high']:+.2f})".replace("-", "−")


def with_interval(value: dict[str, float | None], digits: int) -> str:
    if value["low"] is None:
        return f"{value['mean']:.{digits}f} (one seed)"
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} … {value['high']:.{digits}f})"


def decimals(values: Sequence[dict[str, float | None]], *, times: float = 1.0) -> int:
    """For all of a measure's values ``times`` what they are: two digits of the usual interval's width, or three of the
    usual value where no interval is known."""
    widths = [times * (value["high"] - value["low"]) for value in values if value["low"] is not None]
    usual, digits = (median(widths), 2) if any(widths) else (median(times * abs(v["mean"]) for v in values), 3)
    return decimals_for(usual, digits=digits) if usual else digits


def _times(ratio: dict[str, float | None]) -> str:
    if ratio["low"] is None:
        return f"{ratio['mean']:.2f}×"
    return f"{ratio['mean']:.2f}× ({ratio['low']:.2f} … {ratio['high']:.2f})"


def _few(names: list[str], *, most: int = 4) -> str:
    """One, two and three; beyond ``most`` the first ones and how many more."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(([", ".join(names[:-1])] if names[1:] else []) + names[-1:])
