"""Stages against each other: plain data -> plotly figure. A stage has the same colour and sign in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from app.style import Palette

_SIGNS = ("circle", "diamond", "square", "triangle-up")
_DASHES = ("solid", "dash", "dot", "dashdot")
_ROW = 30  # pixels of a class with two stages
_STEP = 9  # more for each further stage


@dataclass(frozen=True, kw_only=True)
class Look:
    colour: str
    sign: str
    dash: str = "solid"


def looks(intact: Sequence[bool], palette: Palette) -> list[Look]:
    """Of the picked stages in their order: several pruned ones differ by colour and sign, intact ones by sign and
    line."""
    pruned, whole_ones = iter((palette.pruned, palette.dropped, palette.reading, palette.muted)), iter(_DASHES)
    return [
        Look(colour=palette.intact, sign=_SIGNS[index], dash=next(whole_ones))
        if whole
        else Look(colour=next(pruned), sign=_SIGNS[index])
        for index, whole in enumerate(intact)
    ]


@dataclass(frozen=True, kw_only=True)
class Trade:
    """A stage by what it costs and what it gives; ``speed`` and ``score`` are {"value", "low", "high"}."""

    name: str
    short: str  # beside its point
    about: str
    speed: dict
    score: dict
    look: Look | None  # None of a stage that wasn't picked
    doubted: bool = False  # whether it is on the line isn't beyond noise


def quality_against_speed(trades: Sequence[Trade], line: Sequence[int], *, metric: str, palette: Palette) -> go.Figure:
    """``line``: places in ``trades`` of those that no other beats in both, by speed."""
    fig = go.Figure()
    fig.add_scatter(
        x=[trades[place].speed["value"] for place in line], y=[trades[place].score["value"] for place in line],
        mode="lines", line=dict(color=palette.muted, width=1.4, dash="dot"), hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for place, trade in enumerate(trades):
        colour = trade.look.colour if trade.look else palette.muted
        sign = trade.look.sign if trade.look else "circle"
        fig.add_scatter(
            x=[trade.speed["value"]], y=[trade.score["value"]], mode="markers+text", showlegend=False,
            text=[f"<b>{escape(trade.short)}</b>" if trade.look else escape(trade.short)], textposition="top right",
            textfont=dict(size=12, color=palette.text if trade.look else palette.muted), cliponaxis=False,
            marker=dict(size=13 if trade.look else 8, color=colour, symbol=f"{sign}-open" if trade.doubted else sign,
                        line=dict(width=2, color=colour)),
            error_x=_ends(trade.speed, palette), error_y=_ends(trade.score, palette), customdata=[[place]],
            hovertemplate=_hover(trade, metric), unselected=dict(marker=dict(opacity=1)),
        )  # fmt: skip
    fig.update_xaxes(title="speed-up over the intact model (×)", gridcolor=palette.grid,
                     zeroline=False, fixedrange=True)  # fmt: skip
    fig.update_yaxes(title=f"{metric}, lower is better", gridcolor=palette.grid, zeroline=False, fixedrange=True)
    return _titled(fig, "What does speed cost in quality?", height=420)


def _hover(trade: Trade, metric: str) -> str:
    speed, score = trade.speed, trade.score
    return (
        f"<b>{_plain(trade.name)}</b><br>{_plain(trade.about)}<br>%{{x:.2f}}× "
        f"({speed['low']:.2f} … {speed['high']:.2f}), {metric} %{{y:.4g}} "
        f"({score['low']:.4g} … {score['high']:.4g})<extra></extra>"
    )


def per_class(
    names: Sequence[str], series: Sequence[tuple[str, Look, Sequence[dict | None]]], *, metric: str, palette: Palette
) -> go.Figure:
    """A row for each class, first on top, and in it a dot with its interval for each stage."""
    fig = go.Figure()
    spread = 0.16 * (len(series) - 1)
    for place, (label, look, values) in enumerate(series):
        shift = -spread + 2 * spread * place / max(1, len(series) - 1)
        there = [(row, value) for row, value in enumerate(values) if value is not None]
        fig.add_scatter(
            x=[value["value"] for _, value in there], y=[row + shift for row, _ in there], mode="markers", name=label,
            marker=dict(size=9, color=look.colour, symbol=look.sign),
            error_x=dict(
                type="data", symmetric=False, thickness=1.6, width=3, color=look.colour,
                array=[value["high"] - value["value"] for _, value in there],
                arrayminus=[value["value"] - value["low"] for _, value in there],
            ),
            customdata=[[names[row], value["low"], value["high"]] for row, value in there],
            hovertemplate=f"%{{customdata[0]}}, {label}: %{{x:.4g}} (%{{customdata[1]:.4g}} … %{{customdata[2]:.4g}})"
            "<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title=metric, gridcolor=palette.grid, zeroline=False, fixedrange=True)
    fig.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=list(names), range=[len(names) - 0.5, -0.5],
        showgrid=False, zeroline=False, fixedrange=True, automargin=True,
    )  # fmt: skip
    height = len(names) * (_ROW + _STEP * (len(series) - 2)) + 60
    return _titled(fig, "Which classes lose the most?", height=height)


def parting(
    ways: Sequence[tuple[str, Look, Sequence[float], Sequence[float | None]]], *, first: str, palette: Palette
) -> go.Figure:
    """(stage, its look, share of the way done, RMS difference from the first's estimate) of the others; None where
    two have no frame at the same time."""
    fig = go.Figure()
    for label, look, done, rms in ways:
        fig.add_scatter(
            x=list(done), y=list(rms), name=label, mode="lines+markers", connectgaps=True,
            line=dict(color=look.colour, width=2.5, dash=look.dash),
            marker=dict(size=6, symbol=look.sign), showlegend=len(ways) > 1,
            hovertemplate=f"{label}, %{{x:.0%}} of the way: %{{y:.1f}} grey levels from {first}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title="way from noise (left) to picture", tickformat=".0%", range=[-0.02, 1.02],
                     showgrid=False, zeroline=False, fixedrange=True)  # fmt: skip
    fig.update_yaxes(title="RMS difference, grey levels", gridcolor=palette.grid, rangemode="tozero",
                     zeroline=False, fixedrange=True)  # fmt: skip
    return _titled(fig, f"Where do they part from {first}?", height=300)


def _ends(value: dict, palette: Palette) -> dict:
    return dict(
        type="data", symmetric=False, array=[value["high"] - value["value"]],
        arrayminus=[value["value"] - value["low"]], color=palette.muted, thickness=1.2, width=4,
    )  # fmt: skip


def _titled(fig: go.Figure, title: str, *, height: int) -> go.Figure:
    """The legend has a row of its own below the title."""
    has_legend = len([trace for trace in fig.data if trace.showlegend is not False]) > 1
    fig.update_layout(
        title=dict(text=title, font=dict(size=16), x=0, xanchor="left", y=1, yanchor="top", pad=dict(t=10)),
        height=height + 30 + 26 * has_legend,
        margin=dict(l=8, r=16, t=46 + 26 * has_legend, b=46),
        dragmode=False,
        legend=dict(orientation="h", x=0, y=1, yanchor="bottom"),
    )
    return fig


def _plain(words: str) -> str:
    """A person's words in a hover, where plotly would take tags and %{…} as its own."""
    return escape(words).replace("%{", "% {")
