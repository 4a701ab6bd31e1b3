"""The comparison in one sentence."""

import html
from collections.abc import Sequence

from app.comparing.measured import Measured, fid_of, floor_of
from app.numbers import interval, ranged
from engine.evaluation.comparing import best_of, compared, speedup


def headline(groups: Sequence[Sequence[Measured]]) -> str:
    """Of stages in groups that were measured alike."""
    stages = [one for group in groups for one in group]
    parts = [_depths(stages), *_speed(stages)]
    if any(one.untrained for one in stages):
        parts.append(_untrained(stages))
    elif len(groups) > 1:
        parts.append("scores not comparable: measured under different conditions")
    elif len(stages) > 1 and (name := fid_of(stages)):
        parts.append(_of_two(name, *stages) if len(stages) == 2 else _of_several(name, stages))
    return f'<p class="ep-say">{" · ".join(filter(None, parts))}</p>'


def _untrained(stages: Sequence[Measured]) -> str:
    names = " and ".join(html.escape(one.label) for one in stages if one.untrained)
    return f"no word about quality: the pictures of {names} are of no class, as the label table wasn't trained yet"


def _depths(stages: Sequence[Measured]) -> str:
    depths = [str(one.picked.stage.depth) for one in stages]
    arrow = " → " if _one_run(stages) else " against "
    return f"<b>{arrow.join(depths)} blocks</b>"


def _one_run(stages: Sequence[Measured]) -> bool:
    return len({one.picked.run.id for one in stages}) == 1


def _speed(stages: Sequence[Measured]) -> list[str]:
    """Of the fastest, over its own run's intact model."""
    found = [(one, fast) for one in stages if (fast := speedup(one.metrics)) and not one.picked.intact]
    if not found:
        return []
    one, fast = max(found, key=lambda pair: pair[1]["value"])
    who = "" if len(found) == 1 else f"{html.escape(one.label)} is "
    return [f"{who}<b>{fast['value']:.2f}× as fast</b> ({fast['low']:.2f} … {fast['high']:.2f}) as its intact model, "
            "timed in turns"]  # fmt: skip


def _of_two(name: str, first: Measured, second: Measured) -> str:
    values = first.score(name), second.score(name)
    floor = floor_of(name, (first, second))
    words = {1: "better", 0: "no clear difference: within noise", -1: "worse"}[compared(name, *values, floor=floor)]
    return f"{html.escape(name)} {ranged(values[0])} → {ranged(values[1])} ({words})"


def _of_several(name: str, stages: Sequence[Measured]) -> str:
    values = [one.score(name) for one in stages]
    best = best_of(name, values, floor=floor_of(name, stages))
    if best is None:
        return f"no stage's {html.escape(name)} is better than all the others beyond noise"
    value = values[best]
    return (
        f"best {html.escape(name)}: <b>{html.escape(stages[best].label)}</b> with {ranged(value)} "
        f"({interval(value)}), beyond noise"
    )
