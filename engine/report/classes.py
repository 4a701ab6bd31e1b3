"""Class by class: the first and the last stage side by side."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from engine.evaluation.comparing import higher_is_better
from engine.report.measured import measured_stages
from engine.report.page import Page, label_text, section
from engine.report.plots import Point, dots
from engine.report.words import count, number
from engine.runs.stage import Stage

_MOST_CLASSES = 40  # in the figure
_SCORES = ("FID", "KID", "class accuracy", "precision", "recall")  # the first that is there is drawn

PerClass = Mapping[str, Mapping[str, Any]]


def classes_section(page: Page, stages: Sequence[Stage]) -> str:
    """Empty where nothing was measured class by class."""
    alike = measured_stages(stages)
    ends = alike[:1] + alike[1:][-1:]
    tables = [metrics.get("per_class") or {} for _, metrics in ends]
    name = _score(tables)
    if name is None:
        return ""
    known = [c for c in tables[0] if all(name in classes.get(c, {}) for classes in tables)]
    worst = sorted(known, key=lambda c: _loss(name, c, tables), reverse=True)
    shown = worst[:_MOST_CLASSES]
    heads = [f"stage {stage.number}" for stage, _ in ends]
    figure = page.figure(
        dots(
            [
                (head, [_point(c, classes[c][name], stage) for c in shown])
                for head, (stage, _), classes in zip(heads, ends, tables, strict=True)
            ],
            title=label_text(name),
        ),
        label=f"{name} of {len(shown)} classes, {' and '.join(heads)}",
        caption=_caption(name, tables, num_shown=len(shown), num_known=len(known)),
        head=("class", *heads, "generated", "real images"),
        rows=[_row(c, name, tables) for c in worst],
    )
    note = "<p>Few images a class make wide intervals: where two overlap, the class shows no difference.</p>"
    return section("Class by class", note, figure)


def _score(tables: Sequence[PerClass]) -> str | None:
    """What every table knows of at least one class."""
    names = [name for values in (tables[0].values() if tables else ()) for name in values]
    for prefix in _SCORES:
        for name in names:
            if name.startswith(prefix) and any(all(name in t.get(c, {}) for t in tables) for c in tables[0]):
                return name
    return None


def _loss(name: str, label: str, tables: Sequence[PerClass]) -> float:
    """How much worse the class has become; for one stage alone, how bad it is."""
    sign = -1 if higher_is_better(name) else 1
    values = [classes[label][name]["value"] for classes in tables]
    return sign * (values[-1] - values[0] if len(values) > 1 else values[0])


def _caption(name: str, tables: Sequence[PerClass], *, num_shown: int, num_known: int) -> str:
    order = "those that lost most first" if len(tables) > 1 else "the worst first"
    caption = f"{escape(name)} of each class, {order}, with 90 % intervals."
    if num_shown < num_known:
        caption += f" {num_shown} of {num_known} classes are drawn."
    left_out = [values["left_out"] for values in tables[-1].values() if values.get("left_out")]
    if left_out:
        others = f" (and so for {count(len(left_out) - 1, 'other')})" if left_out[1:] else ""
        caption += f" Left out: {escape(left_out[0])}{others}."
    return caption


def _row(label: str, name: str, tables: Sequence[PerClass]) -> tuple:
    values = [classes[label][name] for classes in tables]
    cells = (f"{number(v['value'])} [{number(v['low'])}, {number(v['high'])}]" for v in values)
    return (label, *cells, tables[-1][label].get("num_images", ""), tables[-1][label].get("num_reference", ""))


def _point(name: str, value: Mapping[str, float], stage: Stage) -> Point:
    dropped = bool(stage.info["dropped_blocks"])
    return Point(
        name=label_text(name, most=28), x=name, value=value["value"], low=value["low"], high=value["high"],
        colour="$pruned" if dropped else "$kept", symbol="diamond" if dropped else "circle",
    )  # fmt: skip
