"""What other criteria say about the same blocks, on the same samples, and how far they agree."""

import html
import json
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from app import charts, jobs, measuring, rank_charts
from app.errors import one_line_errors
from app.style import palette
from engine.arena.entrants import ENTRANTS
from engine.importance.config import NOISED_VARIABLES, CriteriaConfig
from engine.models.bundled import ModelInfo

_SHARED = ("estimator", "condition", "samples", "timesteps", "seed", "granularity")
_SHORT = {
    "bi": "Block influence", "output-mse": "Output change", "loss": "Loss rise", "magnitude": "Weight size",
    "taylor": "Taylor", "random": "Random", "first": "First blocks", "last": "Last blocks",
    "every-other": "Every other", "intact, same budget": "Intact model",
}  # fmt: skip


def short(name: str) -> str:
    """The name of a criterion, or of anyone in an arena, for an axis."""
    if name in _SHORT:
        return _SHORT[name]
    if name in ENTRANTS:
        return ENTRANTS[name].title
    if name.startswith("random "):
        return f"Random set {name.removeprefix('random ')}"
    kind, _, rest = name.partition("-")  # of an older arena
    return " · ".join([{"ced": "CED"}.get(kind, kind.capitalize()), rest]) if rest else name


def draw(info: ModelInfo, params: dict[str, Any], *, wanted: bool) -> None:
    with_samples = st.toggle(
        "Include CED on Samples", key="criteria_samples", persist_state="session", on_change=measuring.want,
        help="The finished pictures without each block. It samples anew for every block, so it takes several times "
        "longer than all the others together.",
    )  # fmt: skip
    variables = (*NOISED_VARIABLES, "samples") if with_samples else NOISED_VARIABLES
    config = CriteriaConfig(variables=variables, **{name: params["config"][name] for name in _SHARED})
    question = {"model": params["model"], "data": params["data"], "config": json.loads(json.dumps(asdict(config)))}
    found = measuring.answers("criteria", [question], wanted=wanted, ask="Ask all criteria")
    if found is not None:
        _show(found[0], measuring.find("criteria", question).id)


@st.fragment
@one_line_errors
def _show(result: dict, run_id: str) -> None:
    for warning in result["warnings"]:
        st.warning(warning)
    st.html(f'<p class="ep-say">{reading(result)}</p>')
    left, right = st.columns([1, 1], gap="large")
    with left:
        _agreement(result)
    with right:
        _ranks(result)
        _scores(result)
    _downloads(result, run_id)


def reading(result: dict) -> str:
    """Who agrees and who doesn't, of those that look at the model at all."""
    looking = [name for name in result["names"] if name not in ("random", "first", "last", "every-other")]
    pairs = [
        (value, short(a), short(b))
        for i, a in enumerate(looking)
        for b in looking[i + 1 :]
        if (value := result["spearman"][result["names"].index(a)][result["names"].index(b)]) is not None
    ]
    if len(pairs) < 2:
        return "Too few criteria to compare."
    high, low = max(pairs), min(pairs)
    most, least = (f"{pair[0]:+.2f}".replace("-", "−") for pair in (high, low))
    return (
        f"<b>{high[1]}</b> and <b>{high[2]}</b> agree most (ρ {most}); <b>{low[1]}</b> and <b>{low[2]}</b> "
        f"least (ρ {least}). Agreement doesn't say who is right: that is what the arena asks."
    )


def _agreement(result: dict) -> None:
    st.html('<p class="ep-question">Who agrees with whom?</p>')
    measure = st.segmented_control(
        "Measure of agreement", ["Spearman", "Kendall"], default="Spearman", required=True, key="agreement",
        help="Both compare orders: 1 is the same order, 0 no relation, −1 the reverse. Spearman weighs far moves more; "
        "Kendall counts pairs of blocks in the same order.",
    )  # fmt: skip
    st.plotly_chart(
        rank_charts.agreement([short(name) for name in result["names"]], result[measure.lower()]),
        key="agreement_chart", config=charts.PICTURE_CONFIG, alt=f"{measure}'s rank correlation of every two criteria",
    )  # fmt: skip
    st.html('<p class="ep-note">A dash: the criterion gives all blocks the same score, so it has no order.</p>')


def _ranks(result: dict) -> None:
    st.html('<p class="ep-question">Who would remove what?</p><p class="ep-scale">1, dark: removed first</p>')
    names = result["names"]
    places = [[result["criteria"][name]["order"].index(row) + 1 for row in result["blocks"]] for name in names]
    st.plotly_chart(
        rank_charts.ranks_by_criterion([short(name) for name in names], places, charts.row_labels(result)),
        key="criteria_ranks", config=charts.PICTURE_CONFIG, alt="Rank of each block by each criterion",
    )  # fmt: skip


def _scores(result: dict) -> None:
    name = st.selectbox(
        "Scores of", result["names"], format_func=lambda name: result["criteria"][name]["title"], key="criterion",
        help="Choose a criterion to see its scores with their intervals, and what it is.",
    )  # fmt: skip
    chosen = result["criteria"][name]
    none = [None] * len(chosen["scores"])
    st.html(
        f'<p class="ep-note">{html.escape(chosen["meaning"])} <i>({html.escape(chosen["origin"])})</i>'
        + (
            " Where no line shows, the interval is narrower than the dot."
            if chosen["ci_low"]
            else " Nothing is estimated from samples here, so there is no interval."
        )
        + "</p>"
    )
    st.plotly_chart(
        rank_charts.dots(
            charts.row_labels(result), chosen["scores"], chosen["ci_low"] or none, chosen["ci_high"] or none,
            title="score; low goes first", palette=palette(), zero=True,
        ),
        key="criterion_scores", config=charts.PICTURE_CONFIG, alt=f"Score of each block by {chosen['title']}",
    )  # fmt: skip


def table(result: dict) -> pd.DataFrame:
    """One row for each criterion and block."""
    labels = charts.row_labels(result)
    rows = []
    for name in result["names"]:
        found = result["criteria"][name]
        none = [None] * len(labels)
        ends = zip(found["scores"], found["ci_low"] or none, found["ci_high"] or none, strict=True)
        rows += [
            {"criterion": name, "block": labels[row], "score": score, "low": low, "high": high,
             "rank": found["order"].index(row) + 1}
            for row, (score, low, high) in enumerate(ends)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _downloads(result: dict, run_id: str) -> None:
    protocol = result["protocol"]
    st.html(
        f'<p class="ep-note">{protocol["samples"]} images · {protocol["timesteps"]} columns · seed '
        f"{protocol['seed']} · {result['confidence']:.0%} intervals by resampling the images · {protocol['device']} "
        f"{protocol['precision']} · {result['seconds']:.0f} s. {html.escape(result['note'])} Pictures: the camera at "
        "the top right of each chart.</p>"
    )
    with st.container(horizontal=True):
        st.download_button(
            "CSV of scores", lambda: table(result).to_csv(index=False), file_name=f"{run_id}.csv", mime="text/csv",
            on_click="ignore", type="tertiary", help="Score, interval and rank of each block by each criterion.",
        )  # fmt: skip
        for measure in ("spearman", "kendall"):
            st.download_button(
                f"CSV of {measure.capitalize()}",
                lambda measure=measure: _matrix(result, measure).to_csv(), file_name=f"{run_id}-{measure}.csv",
                mime="text/csv", on_click="ignore", type="tertiary", help="The matrix of rank correlations.",
            )  # fmt: skip
        st.download_button(
            "JSON", lambda: jobs.as_json(result), file_name=f"{run_id}.json", mime="application/json",
            on_click="ignore", type="tertiary", help="Everything, with the protocol, for scripts.",
        )  # fmt: skip


def _matrix(result: dict, measure: str) -> pd.DataFrame:
    return pd.DataFrame(result[measure], index=result["names"], columns=result["names"])
