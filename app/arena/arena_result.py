"""An arena on screen: who got what, what that allows to be said, and whose scores foretold it."""

import html
import math
import re
from typing import Any

import pandas as pd
import streamlit as st

from app import blocks, charts, jobs, rank_charts
from app.arena import arena_reading
from app.arena.arena_reading import Entry
from app.errors import one_line_errors
from app.importance.criteria import short
from app.style import palette
from engine.evaluation.protocol import Protocol

_KIND_WORDS = {"intact": "nothing dropped, the same extra training", "chance": "drawn by lot"}


def draw(content: dict[str, Any], name: str, *, depth: int) -> None:
    metric = f"FID ({content['config'].get('protocol', {}).get('features', Protocol.features)})"
    found = arena_reading.entries(content)
    said = arena_reading.sentences(content, metric=metric)
    st.html(
        f'<p class="ep-say">{said[0]}</p><ul class="ep-list">' + "".join(f"<li>{s}</li>" for s in said[1:]) + "</ul>"
    )
    _outcomes(found, content, metric)
    _table(found, content, metric, depth)
    _foresight(content["result"], metric)
    _protocol(content)
    _downloads(content, name)


def _outcomes(found: list[Entry], content: dict[str, Any], metric: str) -> None:
    shown = [entry for entry in found if entry.kind == "criterion"]
    reading = arena_reading.read(content)
    if reading is None:
        return
    lot, intact = reading.chance, reading.intact
    confidence = content["result"]["confidence"]
    st.html(
        '<p class="ep-question">Whose blocks cost least, after recovery?</p>' + _chart_legend(lot, intact, confidence)
    )
    values = [entry.row["fid"] for entry in shown]
    st.plotly_chart(
        rank_charts.dots(
            [entry.title for entry in shown], [v["mean"] for v in values], [v["low"] for v in values],
            [v["high"] for v in values], title=f"{metric}, lower is better", palette=palette(),
            marked=[reading.wins and entry is reading.best for entry in shown] if reading.wins else (),
            band=(lot.low, lot.high) if lot else None, line=intact.row["fid"]["mean"] if intact else None,
        ),
        key="arena_outcomes", config=charts.PICTURE_CONFIG, alt=f"Mean {metric} of each entrant with its interval",
    )  # fmt: skip


def _chart_legend(lot: arena_reading.Chance | None, intact: Entry | None, confidence: float) -> str:
    colours = palette()
    parts = [f'<span><i style="background:{colours.intact}"></i>mean over seeds, {confidence:.0%} interval</span>']
    if lot:
        parts.append(
            f'<span><i style="background:{colours.muted};opacity:.3"></i>where {confidence:.0%} of sets drawn by lot '
            f"would end, judged from {lot.num_sets}</span>"
        )
    if intact:
        parts.append('<span><i class="line"></i>intact model</span>')
    return f'<p class="ep-legend">{"".join(parts)}</p>'


def _table(found: list[Entry], content: dict[str, Any], metric: str, depth: int) -> None:
    reading = arena_reading.read(content)
    with_accuracy = any(entry.row["accuracy"] for entry in found)
    features = metric[3:].strip()
    heads = ["entrant", metric, "blocks dropped", f"KID {features}", "loss"]
    heads += [f"class accuracy {features}"] if with_accuracy else []
    rows = "".join(_row(entry, reading, depth, with_accuracy) for entry in found)
    st.html(
        '<div class="ep-scroll"><table class="ep-table ep-arena"><tr>'
        + "".join(f"<th>{html.escape(head)}</th>" for head in heads)
        + f"</tr>{rows}</table></div>"
        '<p class="ep-note">Entrants joined by = chose the same blocks, which were trained once. KID, the loss over a '
        "fixed grid of noise levels, and class accuracy stand beside as a check of the FID.</p>"
    )


def _row(entry: Entry, reading: arena_reading.Reading | None, depth: int, with_accuracy: bool) -> str:
    best = reading is not None and reading.wins and entry.dropped == reading.best.dropped
    states = ["dropped" if block in entry.dropped else "intact" for block in range(depth)]
    under = _KIND_WORDS.get(entry.kind, "")
    cells = [
        f"{html.escape(entry.title)}" + (f"<small>{under}</small>" if under else ""),
        f'<span class="{"best" if best else ""}">{_number(entry.row["fid"])}</span>' + _ends(entry.row["fid"]),
        f'<div class="ep-row-strip" style="--blocks:{depth}">{blocks.strip(states, small=True)}</div>',
        _number(entry.row["kid"]) + _ends(entry.row["kid"], least=-math.inf),
        _number(entry.row["loss"]) + _ends(entry.row["loss"]),
    ]
    if with_accuracy:
        cells.append(_number(entry.row["accuracy"]) + _ends(entry.row["accuracy"], most=1.0))
    css = ' class="chosen"' if best else ' class="aside"' if entry.kind != "criterion" else ""
    return f"<tr{css}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _number(value: dict[str, float | None] | None) -> str:
    return "–" if value is None else f"{value['mean']:.3g}".replace("-", "−")


def _ends(value: dict[str, float | None] | None, *, least: float = 0.0, most: float = math.inf) -> str:
    """The interval, within what the measure can be."""
    if value is None:
        return ""
    if value["low"] is None:
        return "<small>one seed</small>"
    return f"<small>{max(value['low'], least):.3g} … {min(value['high'], most):.3g}</small>".replace("-", "−")


@st.fragment
@one_line_errors
def _foresight(result: dict[str, Any], metric: str) -> None:
    st.html('<p class="ep-question">Whose scores foretold the outcome?</p>')
    measure = st.segmented_control(
        "Outcome", ["fid", "loss"], default="fid", required=True, key="foresight", label_visibility="collapsed",
        format_func={"fid": metric, "loss": "Training loss"}.get,
        help="What was measured after recovery: the pictures, or the loss over a fixed grid of noise levels.",
    )  # fmt: skip
    known = {name: found[measure] for name, found in result["foresight"].items() if found.get(measure)}
    if not known:
        st.html('<p class="ep-note">At least four different sets are needed for a rank correlation.</p>')
        return
    names = sorted(known, key=lambda name: -known[name]["value"])
    st.plotly_chart(
        rank_charts.dots(
            [short(name) for name in names], [known[name]["value"] for name in names],
            [known[name]["low"] for name in names], [known[name]["high"] for name in names],
            title="rank correlation (Spearman)", palette=palette(), zero=True,
        ),
        key="arena_foresight", config=charts.PICTURE_CONFIG, alt="Rank correlation of scores and outcome by criterion",
    )  # fmt: skip
    st.html(
        f'<p class="ep-note">Over all {result["num_sets"]} sets that were tried, those drawn by lot as well: the sum '
        "of a criterion's scores of the dropped blocks against what came out. 1 would be a criterion that always knew, "
        f"0 one that knows nothing; the line is a {result['confidence']:.0%} interval by resampling the sets. So few "
        "sets make wide intervals.</p>"
    )


def _protocol(content: dict[str, Any]) -> None:
    config, result = content["config"], content["result"]
    recovery, protocol = config.get("finetune", {}), config.get("protocol", {})
    words = [
        f"{content['model']} on {content['data']}", f"{result['num_dropped']} blocks dropped at once",
        f"{recovery.get('num_steps')} steps of {recovery.get('batch_size')} images at rate "
        f"{recovery.get('learning_rate', 0):.1e}",
        f"{result['num_seeds']} seeds", f"scores from {config.get('samples')} images", Protocol(**protocol).label(),
    ]  # fmt: skip
    command = content.get("command")
    st.html(
        f'<p class="ep-note">Measured with: {html.escape(" · ".join(words))}. Differences are judged seed by seed on a '
        f"log scale, {result['confidence']:.0%} intervals over seeds, with allowance for the number of comparisons."
        + (f" Done again with: <code>{html.escape(command)}</code>" if command else "")
        + " Pictures: the camera at the top right of each chart.</p>"
    )


def table(content: dict[str, Any]) -> pd.DataFrame:
    """One row for each entrant."""
    rows = []
    for row in content["result"]["table"]:
        flat = {"entrant": row["entrant"], "kind": row["kind"], "dropped": " ".join(map(str, row["dropped"])),
                "num_seeds": row["num_seeds"]}  # fmt: skip
        for measure in ("fid", "kid", "loss", "accuracy"):
            value = row[measure] or {}
            flat |= {f"{measure}_{end}": value.get(end) for end in ("mean", "low", "high")}
        rows.append(flat)
    return pd.DataFrame(rows)


def _downloads(content: dict[str, Any], name: str) -> None:
    file = re.sub(r"[^\w.-]+", "-", name)
    with st.container(horizontal=True):
        st.download_button(
            "CSV of entrants", lambda: table(content).to_csv(index=False), file_name=f"{file}.csv", mime="text/csv",
            on_click="ignore", type="tertiary", help="Every entrant with its blocks, means and intervals.",
        )  # fmt: skip
        st.download_button(
            "CSV of bouts", lambda: pd.DataFrame(content["bouts"]).to_csv(index=False),
            file_name=f"{file}-bouts.csv", mime="text/csv", on_click="ignore", type="tertiary",
            help="One row for each set and seed: what was measured before any averaging.",
        )  # fmt: skip
        st.download_button(
            "JSON", lambda: jobs.as_json(content), file_name=f"{file}.json", mime="application/json",
            on_click="ignore", type="tertiary", help="Everything: scores, sets, bouts, result and settings.",
        )  # fmt: skip
