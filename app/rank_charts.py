"""Orders of blocks against each other: plain data -> plotly figure."""

import numpy as np
import plotly.graph_objects as go

from app import charts
from app.style import Palette

#: without a size of its own plotly makes the numbers as large as the cells, and leaves them out where they don't fit
_FITTING = "%{text}"


def rank_changes(first: dict, second: dict, *, names: tuple[str, str], sure: list[int], palette: Palette) -> go.Figure:
    """A line for each row from its rank in the first result to its rank in the second, with the ranks' intervals.

    ``sure``: the rows whose intervals lie apart; only these are coloured, by who needs the row more.
    """
    labels, num_rows = charts.row_labels(first), len(first["blocks"])
    ranks = [{row: place for place, row in enumerate(result["order"], start=1)} for result in (first, second)]
    fig = go.Figure()
    for row in sorted(range(num_rows), key=lambda row: row in sure):  # coloured lines on top
        here, there = ranks[0][row], ranks[1][row]
        colour = palette.muted
        if row in sure:
            colour = palette.intact if here > there else palette.dropped
        spans = [(result["rank_low"][row], result["rank_high"][row]) for result in (first, second)]
        fig.add_scatter(
            x=[0, 1], y=[here, there], mode="lines+markers", showlegend=False, opacity=1 if row in sure else 0.45,
            line=dict(color=colour, width=3 if row in sure else 1.2), marker=dict(size=7),
            error_y=dict(
                type="data", symmetric=False, array=[spans[0][1] - here, spans[1][1] - there],
                arrayminus=[here - spans[0][0], there - spans[1][0]], color=colour, thickness=1.2, width=3,
            ),
            hovertemplate=f"block {labels[row]}: rank {here} ({spans[0][0]} … {spans[0][1]}) on {names[0]}, "
            f"{there} ({spans[1][0]} … {spans[1][1]}) on {names[1]}<extra></extra>",
        )  # fmt: skip
        for x, y, anchor, shift in ((0, here, "right", -12), (1, there, "left", 12)):
            fig.add_annotation(
                x=x, y=y, text=labels[row], showarrow=False, xanchor=anchor, xshift=shift,
                font=dict(size=12, color=colour),
            )  # fmt: skip
    fig.update_xaxes(
        tickvals=[0, 1], ticktext=list(names), range=[-0.28, 1.28], showgrid=False, zeroline=False, fixedrange=True,
        side="top",
    )  # fmt: skip
    fig.update_yaxes(
        title="rank, 1 matters least", range=[0.3, num_rows + 0.7], gridcolor=palette.grid, zeroline=False,
        fixedrange=True, dtick=max(1, num_rows // 12),
    )  # fmt: skip
    return _plain(fig, height=max(360, 24 * num_rows + 90))


def agreement(names: list[str], matrix: list[list[float | None]]) -> go.Figure:
    """Rank correlation of every two criteria, as numbers on colours from −1 to 1."""
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix], dtype=float)
    words = [["–" if np.isnan(value) else f"{value:.2f}".replace("-", "−") for value in row] for row in values]
    fig = go.Figure(
        go.Heatmap(
            z=values, x=names, y=names, zmin=-1, zmax=1, colorscale=charts.scale_of(True), showscale=False, xgap=2,
            ygap=2, text=words, texttemplate=_FITTING, hovertemplate="%{y}<br>and %{x}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(side="bottom", tickangle=-40, showgrid=False, fixedrange=True)
    fig.update_yaxes(autorange="reversed", showgrid=False, fixedrange=True)
    return _plain(fig, height=34 * len(names) + 160)


def ranks_by_criterion(names: list[str], ranks: list[list[int]], labels: list[str]) -> go.Figure:
    """Criteria × rows: the rank that each criterion gives each row; 1 would be removed first."""
    fig = go.Figure(
        go.Heatmap(
            z=np.array(ranks), x=labels, y=names, zmin=1, zmax=len(labels), colorscale="Oranges_r", showscale=False,
            xgap=2, ygap=2, text=ranks, texttemplate=_FITTING,
            hovertemplate="%{y}: block %{x} is number %{z} to go<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(type="category", title="block", showgrid=False, fixedrange=True, tickangle=0)
    fig.update_yaxes(autorange="reversed", showgrid=False, fixedrange=True)
    return _plain(fig, height=30 * len(names) + 80)


def dots(
    names: list[str], values: list[float], lows: list[float | None], highs: list[float | None], *, title: str,
    palette: Palette, zero: bool = False, marked: list[bool] = (),
    band: tuple[float, float] | None = None, line: float | None = None,
) -> go.Figure:  # fmt: skip
    """A dot with its interval on a row for each name, first on top.

    ``marked`` rows have the colour of what is chosen; ``band`` is what chance gets; ``line`` a value to compare with;
    ``zero`` draws the line at 0.
    """
    fig = go.Figure()
    if band is not None:
        fig.add_vrect(x0=band[0], x1=band[1], fillcolor=palette.muted, opacity=0.16, line_width=0, layer="below")
    if line is not None:
        fig.add_vline(x=line, line=dict(color=palette.intact, dash="dash", width=1.5))
    elif zero:
        fig.add_vline(x=0, line=dict(color=palette.muted, width=1.2))
    colours = [palette.pruned if mark else palette.intact for mark in (marked or [False] * len(names))]
    known = [low is not None and high is not None for low, high in zip(lows, highs, strict=True)]
    fig.add_scatter(
        x=values, y=list(range(len(names))), mode="markers", showlegend=False,
        marker=dict(size=9, color=colours),
        error_x=dict(
            type="data", symmetric=False, thickness=1.6, width=4, color=palette.muted,
            array=[high - value if there else 0 for value, high, there in zip(values, highs, known, strict=True)],
            arrayminus=[value - low if there else 0 for value, low, there in zip(values, lows, known, strict=True)],
        ),
        customdata=[
            f"{low:.3g} … {high:.3g}" if there else "one seed: no interval"
            for low, high, there in zip(lows, highs, known, strict=True)
        ],
        text=names, hovertemplate="%{text}: %{x:.3g} (%{customdata})<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(title=title, gridcolor=palette.grid, zeroline=False, fixedrange=True, rangemode="tozero")
    fig.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=[_folded(name) for name in names],
        range=[len(names) - 0.5, -0.5], showgrid=False, zeroline=False, fixedrange=True, automargin=True,
    )  # fmt: skip
    lines = [line for name in names for line in _folded(name).split("<br>")]
    fig = _plain(fig, height=80 + sum(14 + 16 * (1 + _folded(name).count("<br>")) for name in names))
    # the picture of the camera has a wider font than the page
    return fig.update_layout(margin_l=16 + 8 * max(len(line) for line in lines))


def _folded(name: str) -> str:
    """A name on several lines, at most two criteria on each."""
    parts = name.split(" = ")
    return " =<br>".join(" = ".join(parts[i : i + 2]) for i in range(0, len(parts), 2))


def _plain(fig: go.Figure, *, height: int) -> go.Figure:
    """Room at the top for the camera."""
    fig.update_layout(height=height, margin=dict(l=8, r=8, t=34, b=40), dragmode=False)
    return fig
