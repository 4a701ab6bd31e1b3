"""Which classes lose the most between the first picked stage and the others."""

import html
import re
from collections.abc import Mapping, Sequence

import streamlit as st

from app import charts, glossary
from app.comparing.compare_charts import looks, per_class
from app.comparing.measured import Measured, apart_in_words, measured
from app.comparing.picked import Picked
from app.errors import one_line_errors
from app.style import palette
from engine.evaluation.comparing import UNTRAINED_LABELS, compared, higher_is_better

_MOST_CLASSES = 25  # rows of one chart
_COUNTS = re.compile(r"\d+ generated and \d+ real images")  # in the engine's reason why a class lacks a number


def draw(picked: Sequence[Picked]) -> None:
    """Raises AssetError for damaged metrics."""
    stages = measured(picked)
    if len(stages) < 2:
        return
    st.header("Class by class", anchor=False)
    if untrained := [one.label for one in stages if one.untrained]:
        st.info(f"Left out here, compared with nothing: {', '.join(untrained)}. {UNTRAINED_LABELS}")
        stages = [one for one in stages if not one.untrained]
        if len(stages) < 2:
            return
    first, others = stages[0], [one for one in stages[1:] if not apart_in_words(stages[0], one)]
    apart = [one.label for one in stages[1:] if one not in others]
    without = [one.label for one in (first, *others) if not one.metrics.get("per_class")]
    if apart:
        st.info(f"Left out here, measured under other conditions than {first.label}: {', '.join(apart)}.")
    if without:
        st.info(f"No numbers of single classes were kept for {', '.join(without)}. Evaluate again to have them.")
    others = [one for one in others if one.label not in without]
    if others and first.label not in without:
        st.fragment(_chart)([first, *others])


@one_line_errors
def _chart(stages: list[Measured]) -> None:
    numbers = common_numbers([one.metrics["per_class"] for one in stages])
    if not numbers:
        st.info("No class has enough pictures in all of these stages. " + _reasons(stages))
        return
    name = st.segmented_control(
        "Measured by", list(numbers), default=usual_number(numbers), required=True, key="class_number",
        help="The Fréchet distance needs more pictures of each class than there are features; the class accuracy gets "
        "by with ten. " + glossary.explain("FID"),
    )  # fmt: skip
    names = sorted_by_drop(name, [one.metrics["per_class"] for one in stages], numbers[name])
    colours = looks([one.picked.intact for one in stages], palette())
    series = [(one.label, look, [one.metrics["per_class"][cls][name] for cls in names[:_MOST_CLASSES]])
              for one, look in zip(stages, colours, strict=True)]  # fmt: skip
    direction = "higher is better" if higher_is_better(name) else "lower is better"
    st.plotly_chart(
        per_class(names[:_MOST_CLASSES], series, metric=f"{name}, {direction}", palette=palette()),
        key="per_class", config=charts.CONFIG, alt=f"{name} of each class, the largest drop on top",
    )  # fmt: skip
    notes = [_verdict(name, names, stages[0], one) for one in stages[1:]]
    if len(names) > _MOST_CLASSES:
        notes.append(f"Shown are the {_MOST_CLASSES} classes that lose the most of {len(names)}.")
    notes += [_reasons(stages), f"Ranges are 90 % intervals; with many classes a few lie apart by chance. "
              f"Measured with {stages[0].protocol}."]  # fmt: skip
    st.html(f'<p class="ep-note">{"<br>".join(html.escape(note) for note in notes if note)}</p>')


def common_numbers(per_class: Sequence[Mapping[str, dict]]) -> dict[str, list[str]]:
    """Name of a number -> the classes that have it in every stage; numbers that no class has are left out."""
    names = dict.fromkeys(key for stage in per_class for cls in stage.values() for key in cls if "(" in key)
    shared = [cls for cls in per_class[0] if all(cls in stage for stage in per_class)]
    found = {name: [cls for cls in shared if all(stage[cls].get(name) for stage in per_class)] for name in names}
    return {name: classes for name, classes in found.items() if classes}


def usual_number(numbers: Mapping[str, list[str]]) -> str:
    """The Fréchet distance; the class accuracy where less than half of the classes have enough pictures for that."""
    most = max(len(classes) for classes in numbers.values())
    for start in ("FID", "class accuracy"):
        name = next((name for name in numbers if name.startswith(start)), None)
        if name and 2 * len(numbers[name]) >= most:
            return name
    return next(iter(numbers))


def sorted_by_drop(name: str, per_class: Sequence[Mapping[str, dict]], classes: Sequence[str]) -> list[str]:
    """The class first that is worse by the most in the worst of the other stages."""
    sign = -1 if higher_is_better(name) else 1

    def drop(cls: str) -> float:
        values = [stage[cls][name]["value"] for stage in per_class]
        return max(sign * (value - values[0]) for value in values[1:])

    return sorted(classes, key=drop, reverse=True)


def _verdict(name: str, classes: Sequence[str], first: Measured, other: Measured) -> str:
    worse, better = [], []
    for cls in classes:
        before, after = (one.metrics["per_class"][cls][name] for one in (first, other))
        if said := compared(name, before, after):
            (better if said > 0 else worse).append(cls)
    few = f" ({', '.join(worse[:8])}{' …' if len(worse) > 8 else ''})" if worse else ""
    return (
        f"{other.label} against {first.label}: worse beyond noise in {len(worse)} of {len(classes)} classes{few}, "
        f"better in {len(better)}, not to be told apart in {len(classes) - len(worse) - len(better)}."
    )


def _reasons(stages: Sequence[Measured]) -> str:
    """Which classes lack which numbers, and why; those with the same reason together, whatever their counts."""
    found: dict[str, list[tuple[str, dict]]] = {}
    for one in stages:
        for name, scores in one.metrics["per_class"].items():
            if scores.get("left_out"):
                reason = _COUNTS.sub("{counts}", scores["left_out"])
                reason = reason.replace("FID:", f"FID ({one.metrics['protocol']['features']}):")
                found.setdefault(reason, []).append((name, scores))
    parts = []
    for reason, lacking in found.items():
        names = list(dict.fromkeys(name for name, _ in lacking))
        few = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        generated, real = (_span([scores.get(key, 0) for _, scores in lacking])
                           for key in ("num_images", "num_reference"))  # fmt: skip
        parts.append(f"{few}: {reason.replace('{counts}', f'{generated} generated and {real} real images')}")
    return f"Numbers that are left out: {'; '.join(parts)}." if parts else ""


def _span(counts: list[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} … {most}"
