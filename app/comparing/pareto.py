"""Quality against speed: every stage of the picked runs, where it was measured as the picked ones were."""

import html
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import streamlit as st

from app import charts
from app.comparing.compare_charts import Look, Trade, looks, quality_against_speed
from app.comparing.measured import Measured, apart_in_words, fid_of, floor_of, measured
from app.comparing.pareto_line import doubted, line_in_words, pareto_line
from app.comparing.picked import Picked
from app.errors import one_line_errors
from app.style import palette
from engine.evaluation.comparing import UNTRAINED_LABELS, speedup

_ITSELF = {"value": 1.0, "low": 1.0, "high": 1.0}  # the intact model over itself


def draw(picked: Sequence[Picked]) -> None:
    """Raises AssetError for damaged metrics."""
    chosen = measured(picked)
    if not chosen:
        return
    st.header("Quality against speed", anchor=False)
    name = fid_of(chosen[:1])
    if name is None:
        st.info(f"{chosen[0].label} was measured without a Fréchet distance, so its quality has no place here.")
        return
    shown, left_out = _comparable(picked, next((one for one in chosen if not one.untrained), chosen[0]), name)
    colours = dict(zip((one.ref for one in picked), looks([one.intact for one in picked], palette()), strict=True))
    trades = [_trade(one, colours.get(one.picked.ref), name) for one in shown]
    if len(trades) < 2:
        st.info("Two stages at least are needed here, measured alike and timed together with their intact model."
                + "".join(f" {line}" for line in left_out))  # fmt: skip
        return
    line = pareto_line(trades)
    doubts = doubted(trades, line, floor_of(name, shown))
    trades = [replace(trade, doubted=place in doubts) for place, trade in enumerate(trades)]
    st.fragment(_chart)(trades, line, name)
    notes = [*line_in_words(trades, line, doubts), _ranges(shown), *left_out]
    st.html(f'<p class="ep-note">{"<br>".join(map(html.escape, notes))}</p>')


@one_line_errors
def _chart(trades: list[Trade], line: list[int], name: str) -> None:
    event = st.plotly_chart(
        quality_against_speed(trades, line, metric=name, palette=palette()), key="quality_speed",
        config=charts.CONFIG, on_select="rerun", selection_mode="points",
        alt=f"{name} of each stage by its speed-up over the intact model",
    )  # fmt: skip
    points = event["selection"]["points"] if event else []
    places = [point["customdata"][0] for point in points if point.get("customdata")]
    if places and places[0] < len(trades):
        trade = trades[places[0]]
        st.html(f'<p class="ep-say"><b>{html.escape(trade.name)}</b> · {html.escape(trade.about)}</p>')


def _comparable(picked: Sequence[Picked], first: Measured, name: str) -> tuple[list[Measured], list[str]]:
    """All stages of the picked runs that may stand in one picture, and in words which may not."""
    stages, left_out = measured(_all_stages(picked)), []
    timing = next((_timing(one) for one in stages if not one.picked.intact and _speed(one)), "")
    reasons: list[tuple[str, Callable[[Measured], str]]] = [
        ("compared with nothing", lambda one: UNTRAINED_LABELS.removesuffix(".") if one.untrained else ""),
        ("measured otherwise", lambda one: apart_in_words(first, one)),
        (f"without {name}", lambda one: "" if one.score(name) else "not among its numbers"),
        ("no speed-up known", lambda one: "" if _speed(one) else "not timed together with an intact model"),
        ("timed otherwise", lambda one: "" if one.picked.intact or _timing(one) == timing else
         f"{_timing(one)} against {timing}"),
    ]  # fmt: skip
    for what, reason in reasons:
        lacking = [one for one in stages if reason(one)]
        if lacking:
            why = "; ".join(dict.fromkeys(map(reason, lacking)))
            left_out.append(f"Left out, {what}: {', '.join(one.label for one in lacking)} ({why}).")
        stages = [one for one in stages if one not in lacking]
    return stages, left_out


def _timing(one: Measured) -> str:
    """How a speed was measured; others don't belong on the same axis."""
    efficiency = one.metrics.get("efficiency") or {}
    batch = f"batch {efficiency['batch_size']}" if efficiency.get("batch_size") else ""
    return ", ".join(filter(None, [batch, efficiency.get("device", ""), efficiency.get("precision", "")]))


def _all_stages(picked: Sequence[Picked]) -> list[Picked]:
    """The picked ones by their labels, the others by number, and by run where there are several."""
    known, runs = {one.ref: one for one in picked}, {one.run.id: one.run for one in picked}
    titles = Counter(run.title for run in runs.values())
    for run in runs.values():
        of = f" of {run.title if titles[run.title] == 1 else run.id}" if len(runs) > 1 else ""
        for place, stage in enumerate(run.stages()):
            whole = run.kind == "prune" and place == 0
            other = Picked(run=run, stage=stage, label=f"stage {stage.number}{of}", intact=whole)
            known.setdefault(other.ref, other)
    return list(known.values())


def _speed(one: Measured) -> dict | None:
    return _ITSELF if one.picked.intact else speedup(one.metrics)


def _trade(one: Measured, look: Look | None, name: str) -> Trade:
    stage = one.picked.stage
    about = f"{stage.title}, {stage.depth} blocks, {one.picked.ref}"
    short = one.label if look else f"stage {stage.number}"
    return Trade(name=one.label, short=short, about=about, speed=_speed(one), score=one.score(name), look=look)


def _ranges(shown: Sequence[Measured]) -> str:
    timing = next((_timing(one) for one in shown if not one.picked.intact), "")
    several = len({one.picked.run.id for one in shown}) > 1
    each = " Each run's stages are set against its own intact model." if several else ""
    return (
        "Bars both ways: 90 % intervals; speed is the median of many turns "
        f"({', '.join(filter(None, ['one forward', timing]))}, in turns with the intact model).{each} "
        f"Measured with {shown[0].protocol}."
    )
