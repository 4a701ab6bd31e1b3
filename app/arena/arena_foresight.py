"""Whose scores foretold the outcome: one criterion's importance against what came out, then all correlations."""

from typing import Any

import streamlit as st

from app import charts, rank_charts
from app.arena import arena_charts, arena_reading
from app.arena.arena_charts import Dot
from app.arena.arena_entries import Entry, place
from app.errors import one_line_errors
from app.importance.criteria import short
from app.style import palette


@st.fragment
@one_line_errors
def draw(content: dict[str, Any], found: list[Entry], metric: str) -> None:
    result, scores = content["result"], content["scores"]["of"]
    sets = [entry for entry in found if entry.kind in ("criterion", "chance")]
    if not scores or not sets:
        return
    st.html('<p class="ep-question">Does low importance foretell good quality after recovery?</p>')
    left, right = st.columns([1, 1], gap="medium", vertical_alignment="bottom")
    name = left.selectbox(
        "Criterion", sorted(scores, key=place), format_func=short, key="arena_scores_of",
        help="Whose scores are added up over the blocks that a set drops. Greedy ones score sets, not blocks, so they "
        "have no such sum.",
    )  # fmt: skip
    measure = right.segmented_control(
        "Outcome", ["fid", "loss"], default="fid", required=True, key="foresight",
        format_func={"fid": metric, "loss": "Training loss"}.get,
        help="What was measured after recovery: the pictures, or the loss over a fixed grid of noise levels.",
    )  # fmt: skip
    up = metric if measure == "fid" else "training loss"
    st.plotly_chart(
        arena_charts.importance_against_outcome(
            [_dot(entry, name, scores[name], measure) for entry in sets],
            across=f"summed importance by {short(name)}", up=up, palette=palette(),
        ),
        key="arena_scatter", config=charts.PICTURE_CONFIG,
        alt=f"{up} of each set that went at once against the importance of its blocks by {short(name)}",
    )  # fmt: skip
    st.html(f'<p class="ep-note">{_caption(result["foresight"].get(name, {}).get(measure), name, len(sets))}</p>')
    _all(result, measure)


def _dot(entry: Entry, name: str, scores: list[float], measure: str) -> Dot:
    value = entry.row[measure]
    return Dot(
        names=tuple(short(who) for who in entry.names), group=entry.group, value=value["mean"], low=value["low"],
        high=value["high"], about=f"without {', '.join(map(str, entry.dropped))}",
        x=sum(scores[block] for block in entry.dropped), strong=name in entry.names,
    )  # fmt: skip


def _caption(found: dict[str, float] | None, name: str, num_sets: int) -> str:
    said = (
        "Each point is a set that was dropped at once, with its interval over seeds; signs as above, ringed what "
        f"{short(name)} would drop itself. "
    )
    if found is None:
        return said + "A rank correlation needs at least four sets that differ in both."
    sure = (
        "more than noise would give" if found["low"] > 0
        else "the wrong way round beyond noise" if found["high"] < 0 else "no more than noise may give"
    )  # fmt: skip
    return said + (
        f"<b>Spearman's rank correlation {arena_reading.correlation(found)}</b> over {num_sets} sets: {sure}. Points "
        "that rise from left to right speak for the criterion."
    )


def _all(result: dict[str, Any], measure: str) -> None:
    st.html('<p class="ep-question">Whose scores foretold the outcome?</p>')
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
        f'<p class="ep-note">Over all {result["num_sets"]} sets that were dropped at once, those drawn by lot as well: '
        "the sum of a criterion's scores of the dropped blocks against what came out. 1 would be a criterion that "
        f"always knew, 0 one that knows nothing; the line is a {result['confidence']:.0%} interval by resampling the "
        "sets. So few sets make wide intervals.</p>"
    )
