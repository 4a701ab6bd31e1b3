"""The heatmap with its bars, the strip to pick blocks from, and the downloads."""

import html

import numpy as np
import pandas as pd
import streamlit as st
from plotly.colors import sample_colorscale

from app import address, blocks, charts, glossary, jobs
from app.errors import one_line_errors
from app.importance import branches, effect, heatmap_picture, removal
from app.keeping import report_button
from app.style import palette
from engine.models.bundled import ModelInfo
from engine.runs.store import Run

#: below the columns, short enough for a phone: each process counts its own way
_TIME = {"diffusion": "timestep: 0 clean picture … 999 pure noise", "flow": "time: 0 pure noise … 1 clean picture"}


def explore(run: Run, info: ModelInfo) -> None:
    result = jobs.ced_result(run)
    if result is None:
        st.error("This run is done but its ced.json is missing; measure again.")
        return
    _say(result)
    removal.draw(result)
    _explore(run.id, result, info)


@st.fragment
@one_line_errors
def _explore(run_id: str, result: dict, info: ModelInfo) -> None:
    if branches.are_rows(result):
        _explore_branches(run_id, result, info)
        return
    depth = len(result["blocks"])
    _take_from_address(run_id, depth, len(result["timesteps"]))
    drop = blocks.pick_blocks(
        depth,
        key="importance",
        label="Blocks taken out",
        help="Click blocks to take them out, alone or several together. A click on the heatmap or a bar takes out one.",
    )
    address.remember(block=",".join(map(str, drop)), timestep=st.session_state["timestep"] if drop else None)
    left, right = st.columns([1.38, 1], gap="large")
    with right:  # first: the engine begins to draw while the charts are made here
        effect.draw(result, info, drop, column_title=column_title(result, info))
    with left:
        _chart(run_id, result, drop, column_title(result, info))


def _explore_branches(run_id: str, result: dict, info: ModelInfo) -> None:
    """A click explains the row: pictures without it exist for whole blocks only."""
    row = st.session_state.get("branch_row", 0)
    if row >= len(result["blocks"]) or st.session_state.get("explored") != run_id:
        st.session_state["explored"] = run_id
        st.session_state["timestep"] = None
        row = st.session_state["branch_row"] = result["order"][-1]
    left, right = st.columns([1.38, 1], gap="large")
    with right:
        branches.explain(result, row)
    with left:
        _chart(run_id, result, [row], column_title(result, info))


def _chart(run_id: str, result: dict, drop: list[int], title: str) -> None:
    signed, limit, rows = view_controls([result])
    hint = "click: what is this?" if branches.are_rows(result) else "click: see the pictures without it"
    cells, bars = st.columns([2.5, 1], gap="small")
    with cells:
        st.html('<p class="ep-question">Where does each block matter?</p>' + scale(signed, limit))
        st.plotly_chart(
            charts.heatmap(
                result, signed=signed, limit=limit, rows=rows, column_title=title, palette=palette(),
                chosen=drop, column=st.session_state["timestep"], hint=hint,
            ),
            key="heatmap", on_select=lambda: _clicked("heatmap"), selection_mode="points", config=charts.CONFIG,
            alt="Heatmap of the entropy deviation, blocks from top to bottom, timesteps from left to right",
        )  # fmt: skip
        _pick_column(charts.column_labels(result), disabled=len(drop) != 1)
    with bars:
        first_rank = "#1 goes first" if result.get("greedy") else "#1 matters least"
        st.html('<p class="ep-question">How much in all?</p><p class="ep-scale">' + first_rank + "</p>")
        st.plotly_chart(
            charts.importance_bars(result, rows=rows, palette=palette(), chosen=drop),
            key="bars", on_select=lambda: _clicked("bars"), selection_mode="points", config=charts.CONFIG,
            alt="Bars of the importance of each block with its interval and rank",
        )  # fmt: skip
    _notes(result, signed, limit)
    picture = heatmap_picture.Side(title=heading(result), result=result, column_title=title)
    downloads(run_id, [picture], signed=signed, limit=limit, rows=rows)


def heading(result: dict) -> str:
    return f"{result['model']} on {result['data']}: {result['variable']}"


def scale(signed: bool, limit: float) -> str:
    low, high = (f"−{limit:g} sameness", f"noise +{limit:g}") if signed else ("0", f"{limit:g}")
    return (
        f'<p class="ep-scale"><span>{low}</span><i style="background:{charts.scale_css(signed)}"></i>'
        f"<span>{high}</span><span>nats per dimension</span></p>"
    )


def draw_partial(result: dict | None, *, depth: int, num_columns: int) -> None:
    """While columns still arrive: the same colours in plain boxes. They cost the browser a tenth of the chart, and the
    browser may work on the cores that measure."""
    limit = charts.natural_limit(result) if result else 1.0
    delta = charts.matrix(result, "delta") if result else np.full((depth, num_columns), np.nan)
    done = int(np.isfinite(delta[0]).sum())
    shares = np.clip(delta / limit / 2 + 0.5, 0, 1)
    boxes = "".join(f"<b>{block}</b>" + "".join(map(_box, row)) for block, row in enumerate(shares))
    left, _ = st.columns(2, gap="large")  # where the finished one will be
    with left:
        st.html(
            (scale(True, limit) if result else "")
            + f'<div role="img" aria-label="Heatmap so far, {done} of {num_columns} columns" class="ep-partial" '
            f'style="grid-template-columns:2.5rem repeat({num_columns}, 1fr);'
            f'grid-auto-rows:{charts.row_height(depth) - 2}px">{boxes}</div>' + _PARTIAL_CSS
        )


_PARTIAL_CSS = (
    "<style>.ep-partial{display:grid;gap:2px}.ep-partial>i{background:var(--soft)}"
    ".ep-partial>b{font-size:.75rem;font-weight:400;color:var(--muted);text-align:right;padding-right:.5rem}</style>"
)


def _box(share: float) -> str:
    """A cell; empty where its column isn't there yet."""
    return (
        f'<i style="background:{sample_colorscale("RdBu_r", float(share))[0]}"></i>'
        if np.isfinite(share)
        else "<i></i>"
    )


def column_title(result: dict, info: ModelInfo) -> str:
    if result["variable"] == "samples":
        return "after sampling step, the last is the picture"
    return _TIME[info.process]


def _say(result: dict) -> None:
    order = result["order"]
    if result.get("greedy"):  # this sentence is about each block alone
        order = sorted(order, key=result["ced"].__getitem__)
    least, most = order[0], order[-1]
    labels = charts.row_labels(result)
    what = "Branch" if branches.are_rows(result) else "Block"
    places = result["rank_low"][least], result["rank_high"][least]
    place = f"{places[0]}" if places[0] == places[1] else f"{places[0]} to {places[1]}"
    st.markdown(
        f"{what} **{labels[least]}** matters least: CED {result['ced'][least]:.4f} "
        f"({result['confidence']:.0%} interval {result['ci_low'][least]:.4f} … {result['ci_high'][least]:.4f}, "
        f"rank {place}). {what} **{labels[most]}** matters most: {result['ced'][most]:.4f}.",
        help=glossary.explain("CED", "interval") + " CED is averaged over the columns, weighted where the settings say "
        "so; its interval comes from resampling the images.",
    )
    for warning in result.get("warnings", []):
        st.warning(warning)


def _take_from_address(run_id: str, depth: int, num_columns: int) -> None:
    """The first time this result is on screen: the blocks and the column that the address names."""
    if st.session_state.get("explored") == run_id and "strip_importance" in st.session_state:
        return
    st.session_state["explored"] = run_id
    st.session_state["strip_importance"] = address.asked_blocks(depth)
    st.session_state["timestep"] = address.asked_number("timestep", range(num_columns))


def view_controls(results: list[dict]) -> tuple[bool, float, list[int]]:
    """Signed or not, the shared end of the colours, and the rows in their order, which is that of the first result."""
    depth = len(results[0]["blocks"])
    first, second, third = st.columns([1.15, 1.35, 1], gap="small")
    view = first.segmented_control(
        "Show", ["Signed", "Size only"], default="Signed", required=True, key="view", persist_state="session",
        help="Signed: red is above zero, blue below. Size only: how big, either way. " + glossary.explain("ΔH"),
    )  # fmt: skip
    order = second.segmented_control(
        "Order of blocks", ["By depth", "By importance"], default="By depth", required=True, key="row_order",
        persist_state="session",
        help="By depth: input at the top. By importance: the block that matters least at the top.",
    )  # fmt: skip
    natural = max(charts.natural_limit(result) for result in results)
    pinned = third.number_input(
        "Colours end at", min_value=1e-6, value=None, step=natural / 4, format="%.3g", key="limit",
        persist_state="session", placeholder=f"{natural:g}",
        help="Empty fits the colours to what is on screen. A number, in nats per dimension, stays for the next "
        "heatmaps too, so that their colours can be compared.",
    )  # fmt: skip
    return view == "Signed", pinned or natural, list(range(depth)) if order == "By depth" else list(results[0]["order"])


def cell_of(event: dict) -> tuple[int, int] | None:
    """Block and second number (a cell's column, a bar's rank) of what was clicked; None beside everything."""
    points = event["selection"]["points"]
    data = next((point["customdata"] for point in points if point.get("customdata") is not None), None)
    return None if data is None else (int(data[0]), int(data[1]))


def _clicked(chart: str) -> None:
    """A click on a cell or a bar takes that one block out; several are picked on the strip."""
    cell = cell_of(st.session_state[chart])
    if cell is not None:
        st.session_state["strip_importance"] = [cell[0]]
        st.session_state["branch_row"] = cell[0]
        st.session_state["timestep"] = cell[1] if chart == "heatmap" else None


def _pick_column(labels: list[str], *, disabled: bool) -> None:
    """The keyboard's way to a cell; a click on one shows here as well."""
    chosen = st.session_state["timestep"]
    st.session_state["heatmap_column"] = -1 if chosen is None else chosen
    st.selectbox(
        "Column", range(-1, len(labels)), key="heatmap_column", on_change=_take_column, disabled=disabled,
        format_func=lambda column: "none" if column < 0 else labels[column],
        help="Marks one cell in the row of the block that is out and says its numbers, as a click on the cell does.",
    )  # fmt: skip


def _take_column() -> None:
    column = st.session_state["heatmap_column"]
    st.session_state["timestep"] = None if column < 0 else column


def _notes(result: dict, signed: bool, limit: float) -> None:
    beyond = int((abs(charts.matrix(result, "delta")) > limit).sum())
    words = [
        "ΔH is the entropy without the block minus the entropy with it: above zero drifts towards noise, "
        "below zero collapses towards sameness."
        if signed
        else "The size of the entropy change, whichever way it goes.",
        f"{beyond} cells lie beyond the end of the colours." if beyond else "",
        result["note"] and result["note"].rstrip(".") + ".",
    ]
    said = " ".join(word for word in words if word)
    st.html(f'<p class="ep-note">{said}<br>{measured_with(result)}</p>')


def measured_with(result: dict) -> str:
    """The whole protocol, in HTML."""
    asked = result["protocol"]
    words = [
        heatmap_picture.protocol(result),
        f"{result['confidence']:.0%} intervals by resampling the images",
        " ".join(asked[key] for key in ("device", "precision") if asked.get(key)),
        f"{result['seconds']:.1f} s" if result.get("seconds") else "",
    ]
    return f"Measured with: {html.escape(' · '.join(word for word in words if word))}."


def table(result: dict) -> pd.DataFrame:
    """One row a cell, for spreadsheets."""
    labels = charts.row_labels(result)
    rows = [
        {"block": labels[i], "timestep": time, "delta": result["delta"][i][k], "low": result["cell_low"][i][k],
         "high": result["cell_high"][i][k], "output_mse": result["output_mse"][i][k], "ced": result["ced"][i],
         "ced_low": result["ci_low"][i], "ced_high": result["ci_high"][i], "rank": result["order"].index(block) + 1,
         "rank_low": result["rank_low"][i], "rank_high": result["rank_high"][i]}
        for i, block in enumerate(result["blocks"])
        for k, time in enumerate(result["timesteps"])
    ]  # fmt: skip
    return pd.DataFrame(rows)


def downloads(name: str, sides: list[heatmap_picture.Side], *, signed: bool, limit: float, rows: list[int]) -> None:
    """Table, whole result and picture of what is on screen; ``name``: the run's id, or of a pair what its files are
    called."""
    results = [side.result for side in sides]
    with st.container(horizontal=True, horizontal_alignment="left"):
        st.download_button(
            "CSV", lambda: _table_of(results).to_csv(index=False), file_name=f"{name}.csv", mime="text/csv",
            on_click="ignore", type="tertiary", help="Every cell of the heatmap as one row of a table.",
        )  # fmt: skip
        st.download_button(
            "JSON", lambda: jobs.as_json(results[0] if len(results) == 1 else results), file_name=f"{name}.json",
            mime="application/json", on_click="ignore", type="tertiary",
            help="The whole result with its protocol, for scripts.",
        )  # fmt: skip
        st.download_button(
            "PNG", lambda: heatmap_picture.draw(sides, signed=signed, limit=limit, rows=rows),
            file_name=f"{name}.png", mime="image/png", on_click="ignore", type="tertiary",
            help="The heatmap as a picture, with its scale, the intervals of each block and how it was measured.",
        )  # fmt: skip
        if run := jobs.readable(name):  # not of a pair
            report_button.draw(run)


def _table_of(results: list[dict]) -> pd.DataFrame:
    if len(results) == 1:
        return table(results[0])
    return pd.concat([table(result).assign(data=result["data"], variable=result["variable"]) for result in results])
