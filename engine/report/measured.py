"""What was measured: the table of stages, quality against speed, class by class."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from engine.byte_size import byte_size
from engine.evaluation.comparing import (
    UNTRAINED_LABELS,
    best_of,
    differences,
    higher_is_better,
    labels_untrained,
    speedup,
)
from engine.report.page import Page, label_text, section, table
from engine.report.plots import Point, against
from engine.report.protocols import protocol_of
from engine.report.words import interval, number, si
from engine.runs.stage import Stage

Metrics = dict[str, Any]


def measured_stages(stages: Sequence[Stage]) -> list[tuple[Stage, Metrics]]:
    """Those with numbers that may stand beside those of the first that has any; numbers of an untrained label table
    stand beside none, and are there only where there are no others."""
    measured = [(stage, metrics) for stage in stages if (metrics := stage.metrics())]
    trained = [(stage, metrics) for stage, metrics in measured if not labels_untrained(metrics)]
    if not trained:
        return measured[:1]
    measured = trained
    return [(stage, metrics) for stage, metrics in measured if not differences(measured[0][1], metrics)]


def floor_of(metrics: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What real images score; older runs have the value alone."""
    floor = (metrics.get("noise_floor") or {}).get(name)
    return {"value": floor, "low": floor, "high": floor} if isinstance(floor, int | float) else floor


def main_score(metrics: Mapping[str, Any]) -> str | None:
    """FID where there is one."""
    names = list(metrics["fidelity"])
    return next((name for name in names if name.startswith("FID")), names[0] if names else None)


def measured_section(page: Page, stages: Sequence[Stage]) -> str:
    alike = measured_stages(stages)
    if not alike:
        return section("Measured", "<p>No stage was evaluated.</p>")
    protocol = escape(protocol_of(alike[0][1]).label())
    marked = "A value is marked best (★) only where its interval is clear of every other stage's."
    marked = marked if len(alike) > 1 else ""
    intro = f"<p>{protocol}. Below each value its 90 % interval over the generated images. {marked}</p>"
    return section(
        "Measured",
        intro + table(["", *(f"stage {s.number} · {s.depth} blocks" for s, _ in alike)], _rows(alike)),
        _left_out(stages, alike),
        _quality_against_speed(page, alike),
    )


def _rows(alike: list[tuple[Stage, Metrics]]) -> list[list[str]]:
    base, rows = alike[0][1], []
    for name in base["fidelity"]:
        values = [metrics["fidelity"].get(name) for _, metrics in alike]
        floor = floor_of(base, name)
        best = best_of(name, values, floor=floor)
        better = "higher" if higher_is_better(name) else "lower"
        real = f"; real images score {number(floor['value'])}" if floor else ""
        cells = [f'<span class="best">{interval(v)}</span>' if i == best else interval(v) for i, v in enumerate(values)]
        rows.append([f"{escape(name)}<small>{better} is better{real}</small>", *cells])
    costs = [metrics["efficiency"] for _, metrics in alike]
    rows.append(["parameters", *(si(cost["parameters"]) for cost in costs)])
    rows.append(["multiply-adds (MACs)<small>of one forward, one image</small>", *(si(cost["macs"]) for cost in costs)])
    how = "batch {batch_size}, {device}, {precision}; in brackets 5th and 95th percentile".format(**costs[0])
    if len(alike) > 1:
        how += ". Timed at different moments: compare with the intact model of the same column, not across"
    rows.append([f"latency of a forward, ms<small>{escape(how)}</small>", *(_latency(metrics) for _, metrics in alike)])
    memory = [cost.get("peak_memory_bytes") for cost in costs]
    if any(memory):
        rows.append(["peak memory", *(byte_size(value) if value else "–" for value in memory)])
    if len(alike) > 1:
        rows.append(["speed beside the intact model<small>timed in turns with it</small>", *map(_speed, alike)])
    return rows


def _speed(measured: tuple[Stage, Metrics]) -> str:
    times = speedup(measured[1])
    return "–" if times is None else f"{times['value']:.2f}×<small>[{times['low']:.2f}, {times['high']:.2f}]</small>"


def _latency(metrics: Metrics) -> str:
    intact = metrics.get("efficiency_of_intact")
    beside = f"<small>intact, in turns: {number(intact['latency_ms']['median'])}</small>" if intact else ""
    return interval(metrics["efficiency"]["latency_ms"], "median") + beside


def _left_out(stages: Sequence[Stage], alike: list[tuple[Stage, Metrics]]) -> str:
    shown, parts = {stage.number for stage, _ in alike}, ""
    for stage in stages:
        metrics = stage.metrics()
        if metrics and labels_untrained(metrics):
            parts += f"<p><b>Stage {stage.number} stands beside none</b>. {escape(UNTRAINED_LABELS)}</p>"
            continue
        if stage.number in shown:
            continue
        why = "was not evaluated" if metrics is None else "was measured differently: " + ", ".join(
            differences(alike[0][1], metrics)
        )  # fmt: skip
        parts += f"<p><b>Stage {stage.number} is left out</b>: it {escape(why)}.</p>"
    return parts


def _quality_against_speed(page: Page, alike: list[tuple[Stage, Metrics]]) -> str:
    name = main_score(alike[0][1])
    points, rows = [], []
    for stage, metrics in alike:
        value, times = metrics["fidelity"].get(name), speedup(metrics)
        if value is None or (times is None and stage.depth != alike[0][0].depth):
            continue
        label, times = f"stage {stage.number} · {stage.depth} blocks", times or {"value": 1.0, "low": 1.0, "high": 1.0}
        points.append(_stage_point(label, stage, value, times))
        rows.append((label, *(f"{number(side['value'])} [{number(side['low'])}, {number(side['high'])}]"
                              for side in (times, value))))  # fmt: skip
    if len(points) < 2:
        return ""
    floor = floor_of(alike[0][1], name)
    plot = against(
        points, x="times as fast as the intact model, one forward, measured", y=label_text(name),
        floor=floor["value"] if floor else None,
    )  # fmt: skip
    best = "upper right" if higher_is_better(name) else "lower right"
    caption = f"Quality against speed, stage by stage: {best} is best. Lines are 90 % intervals; speed is the "
    caption += "median of the ratios of forwards timed in turns"
    caption += "; dashed: what real images score." if floor else "."
    return "<h3>Quality against speed</h3>" + page.figure(
        plot, label=f"{name} against speed for {len(points)} stages", caption=caption, rows=rows,
        head=("stage", "times as fast", name),
    )  # fmt: skip


def _stage_point(label: str, stage: Stage, value: Mapping[str, float], times: Mapping[str, float]) -> Point:
    return Point(
        name=label, value=value["value"], low=value["low"], high=value["high"],
        x=times["value"], x_low=times["low"], x_high=times["high"],
        colour="$pruned" if stage.info["dropped_blocks"] else "$kept",
    )  # fmt: skip
