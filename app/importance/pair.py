"""Two measurements side by side: the same colours, and which blocks change places."""

import html
from typing import Any

import streamlit as st

from app import address, blocks, charts, known, measuring, rank_charts
from app.errors import one_line_errors
from app.importance import branches, heatmap, heatmap_picture
from app.style import palette
from engine.importance.config import NOISED_VARIABLES, VARIABLES
from engine.models.bundled import ModelInfo

_SAME = "the same"
#: ranks have intervals where every row is scored alone, on all samples
_ALONE = {"order": "independent", "method": "exact", "num_candidates": None}


def draw(info: ModelInfo, params: dict[str, Any], *, wanted: bool) -> None:
    params = {**params, "config": {**params["config"], **_ALONE}}
    other = _other_question(params)
    if other == params:
        st.info("Both sides ask the same question. Choose other data or another variable for the right side.")
        return

    def draw_partial(results: list[dict | None]) -> None:
        num_rows = info.depth * (2 if params["config"]["granularity"] == "branch" else 1)
        for result in results:
            heatmap.draw_partial(result, depth=num_rows, num_columns=params["config"]["timesteps"])

    found = measuring.answers("ced", [params, other], wanted=wanted, ask="Measure both", draw_partial=draw_partial)
    if found is not None:
        _compare(*found, info)


def _other_question(params: dict[str, Any]) -> dict[str, Any]:
    left, right, _ = st.columns([1, 1, 1.6], gap="medium")
    names = [name for name in known.data_names() if name != params["data"]]
    with left:
        data = address.choose(
            "Beside it: data", [*names, _SAME], param="data2", page="importance", on_change=measuring.want,
            help="The images that the right side is measured on. Choose 'the same' to compare two variables.",
        )  # fmt: skip
    with right:
        others = [name for name in VARIABLES if name != params["config"]["variable"]]
        variable = address.choose(
            "Beside it: variable", [_SAME, *others], param="variable2", page="importance", on_change=measuring.want,
            format_func=lambda name: name.capitalize(),
            help="What the right side measures. Change one thing at a time, or a difference has two explanations.",
        )  # fmt: skip
    config = params["config"] if variable == _SAME else {**params["config"], "variable": variable}
    if config["variable"] not in NOISED_VARIABLES:
        config = {**config, "weighting": "even"}  # there are no noise levels to weigh
    return {**params, "data": params["data"] if data == _SAME else data, "config": config}


@st.fragment
@one_line_errors
def _compare(first: dict, second: dict, info: ModelInfo) -> None:
    names = _names(first, second)
    signed, limit, rows = heatmap.view_controls([first, second])
    st.html(heatmap.scale(signed, limit))
    sides = []
    for place, result, name in zip(st.columns(2, gap="large"), (first, second), names, strict=True):
        title = heatmap.column_title(result, info)
        sides.append(heatmap_picture.Side(title=f"{first['model']}: {name}", result=result, column_title=title))
        with place:
            st.html(f'<p class="ep-question">{html.escape(name)}</p>')
            st.plotly_chart(
                charts.heatmap(
                    result, signed=signed, limit=limit, rows=rows, column_title=title, palette=palette(), hint=""
                ),
                key=f"pair_{len(sides)}", config=charts.CONFIG,
                alt=f"Heatmap of the entropy deviation on {name}, blocks from top to bottom",
            )  # fmt: skip
    if first["variable"] != second["variable"]:
        st.html(
            '<p class="ep-note">The two variables move by different amounts, so one side may look pale under shared '
            "colours. The ranks below don't depend on that.</p>"
        )
    for result, name in zip((first, second), names, strict=True):
        lines = [html.escape(line) for line in [*result.get("warnings", []), result["note"]] if line]
        for line in [*lines, heatmap.measured_with(result)]:
            st.html(f'<p class="ep-note"><b>{html.escape(name)}</b>: {line}</p>')
    heatmap.downloads(f"{first['model']}-{names[0]}-{names[1]}".replace(" ", "-"), sides,
                      signed=signed, limit=limit, rows=rows)  # fmt: skip
    _changes(first, second, names)


def _names(first: dict, second: dict) -> tuple[str, str]:
    """What tells the two apart."""
    if first["variable"] == second["variable"]:
        return first["data"], second["data"]
    if first["data"] == second["data"]:
        return first["variable"].capitalize(), second["variable"].capitalize()
    return tuple(f"{result['data']}, {result['variable'].capitalize()}" for result in (first, second))


def _changes(first: dict, second: dict, names: tuple[str, str]) -> None:
    sure = sure_changes(first, second)
    left, right = st.columns([1.1, 1], gap="large")
    with left:
        st.html('<p class="ep-question">Which blocks change places?</p>' + _line_legend(names))
        st.plotly_chart(
            rank_charts.rank_changes(first, second, names=names, sure=sure, palette=palette()),
            key="rank_changes", config=charts.PICTURE_CONFIG,
            alt=f"Rank of each block on {names[0]} and on {names[1]}, joined by lines",
        )  # fmt: skip
    with right:
        _needs(first, second, names, sure)


def _line_legend(names: tuple[str, str]) -> str:
    colours = palette()
    dots = ((colours.intact, f"{names[0]} needs it more"), (colours.dropped, f"{names[1]} needs it more"))
    return (
        '<p class="ep-legend">'
        + "".join(f'<span><i style="background:{colour}"></i>{html.escape(words)}</span>' for colour, words in dots)
        + f'<span><i style="background:{colours.muted};opacity:.5"></i>within the intervals of the ranks</span></p>'
    )


def _needs(first: dict, second: dict, names: tuple[str, str], sure: list[int]) -> None:
    num_rows = len(first["blocks"])
    what = "branches" if branches.are_rows(first) else "blocks"
    num = st.slider(
        f"If so many {what} went", 1, num_rows - 1, num_rows // 2, key="pair_num",
        help="The least important go first, on either side by its own order.",
    )  # fmt: skip
    labels = charts.row_labels(first)
    st.html(f'<p class="ep-say">{needs(first, second, names, num, sure)}</p>')
    if what == "blocks":
        for result, name in zip((first, second), names, strict=True):
            gone = set(result["order"][:num])
            st.html(
                f'<p class="ep-note">{html.escape(name)}</p>'
                + blocks.strip(["dropped" if row in gone else "intact" for row in range(num_rows)], small=True)
            )
    rho = rank_correlation(first["ced"], second["ced"])
    steps = f"{len(sure)} of {num_rows} change places beyond their intervals" + (
        f": {', '.join(labels[row] for row in sure)}." if sure else "."
    )
    st.html(
        f'<p class="ep-note">Rank correlation of the two orders (Spearman): {rho:+.2f}. {steps} '
        f"Intervals are of {first['confidence']:.0%}, one rank at a time.</p>"
    )


def needs(first: dict, second: dict, names: tuple[str, str], num: int, sure: list[int]) -> str:
    """Which rows one side would keep and the other drop, if ``num`` went; those beyond doubt are said to be."""
    labels = charts.row_labels(first)
    gone = [set(result["order"][:num]) for result in (first, second)]
    if gone[0] == gone[1]:
        return f"<b>{html.escape(names[0])}</b> and <b>{html.escape(names[1])}</b> would drop the very same {num}."
    parts = []
    for mine, name, other in ((0, names[0], names[1]), (1, names[1], names[0])):
        rows = sorted(gone[1 - mine] - gone[mine])
        listed = ", ".join(f"<b>{labels[row]}</b>" + ("" if row in sure else " (not certain)") for row in rows)
        parts.append(f"<b>{html.escape(name)}</b> needs {listed}, which {html.escape(other)} would drop.")
    return " ".join(parts)


def sure_changes(first: dict, second: dict) -> list[int]:
    """Rows whose intervals of the rank lie apart."""
    return [
        row
        for row in range(len(first["blocks"]))
        if first["rank_low"][row] > second["rank_high"][row] or first["rank_high"][row] < second["rank_low"][row]
    ]


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's ρ of numbers without ties."""
    ranks = [sorted(range(len(values)), key=values.__getitem__) for values in (first, second)]
    places = [{row: place for place, row in enumerate(order)} for order in ranks]
    num = len(first)
    squares = sum((places[0][row] - places[1][row]) ** 2 for row in range(num))
    return 1 - 6 * squares / (num * (num**2 - 1))
