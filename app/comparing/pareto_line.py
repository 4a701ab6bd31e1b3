"""Which stages no other beats in speed and quality at once, and of which of them noise allows no such word."""

from collections.abc import Mapping, Sequence

from app.comparing.compare_charts import Trade
from engine.evaluation.comparing import beyond_noise


def pareto_line(trades: Sequence[Trade]) -> list[int]:
    """Places of those that no other beats in speed and score at once, from the slowest to the fastest."""
    order = sorted(range(len(trades)), key=lambda i: (-trades[i].speed["value"], trades[i].score["value"]))
    line, best = [], float("inf")
    for place in order:  # from the fastest on: a slower one must have a better score
        if trades[place].score["value"] < best:
            line.append(place)
            best = trades[place].score["value"]
    return line[::-1]


def doubted(trades: Sequence[Trade], line: Sequence[int], floor: dict | None) -> dict[int, int]:
    """Those of which noise alone may say whether they are on the line -> the fastest of the others that leave it open.

    On the line: one at least as fast can't be told from it in quality. Off it: each that beats it does so within noise.
    """
    found = {}
    for place, one in enumerate(trades):
        others = [other for other in range(len(trades))
                  if other != place and trades[other].speed["value"] >= one.speed["value"]]  # fmt: skip
        alike = [other for other in others if not beyond_noise(one.score, trades[other].score, floor=floor)]
        beaten = [other for other in others
                  if other not in alike and trades[other].score["value"] < one.score["value"]]  # fmt: skip
        if alike and not beaten:
            found[place] = max(alike, key=lambda other: trades[other].speed["value"])
    return found


def line_in_words(trades: Sequence[Trade], line: Sequence[int], doubts: Mapping[int, int]) -> list[str]:
    names = ", ".join(trades[place].name for place in line)
    one = len(line) == 1
    lines = [f"No other beats {names} in speed or quality." if one else
             f"The dotted line joins those that no other beats in both speed and quality: {names}."]  # fmt: skip
    pairs = "; ".join(f"{trades[place].name} and the faster {trades[rival].name}" for place, rival in doubts.items())
    if pairs:
        lines.append(
            f"Hollow: within noise, so that it may as well be otherwise. Their quality can't be told apart: {pairs}."
        )
    elif not one:
        lines.append("Each of them is better than every faster one beyond noise.")
    return lines
