"""Figures of the lessons: plain data -> plotly figure. Each title is the question that the figure answers."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from app.style import Palette


def added_by_block(added: Mapping[str, Sequence[float]], *, title: str, palette: Palette) -> go.Figure:
    """A row of bars for each step: what each block adds, as a share of what was there."""
    fig = go.Figure()
    for (name, values), shade in zip(added.items(), (0.35, 0.65, 1.0), strict=True):
        fig.add_bar(
            x=list(range(len(values))), y=list(values), name=name, opacity=shade,
            marker=dict(color=palette.intact, cornerradius=3), hovertemplate=f"block %{{x}}, {name}: "
            f"%{{y:.2f}}<extra></extra>",
        )  # fmt: skip
    _axes(fig, "block", "added ÷ what was there", palette)
    fig.update_xaxes(dtick=1)
    return finished(fig, f"{title}: how much does each block add?", height=300)


def spread_of_values(
    values: np.ndarray, variance: float, *, name: str, palette: Palette, reach: float = 6.0, top: float | None = None
) -> go.Figure:
    """Samples as a histogram, and the Gaussian of the same variance whose entropy is taken."""
    x = np.linspace(-reach, reach, 241)
    curve = np.exp(-(x**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    fig = go.Figure()
    fig.add_histogram(
        x=values, histnorm="probability density", xbins=dict(start=-reach, end=reach, size=reach / 48), name=name,
        marker=dict(color=palette.pruned), opacity=0.6, hoverinfo="skip",
    )  # fmt: skip
    fig.add_scatter(
        x=x, y=curve, mode="lines", name="Gaussian of the same variance", line=dict(color=palette.intact, width=2.5),
        hoverinfo="skip",
    )  # fmt: skip
    _axes(fig, "value", "density", palette)
    fig.update_xaxes(range=[-reach, reach])
    if top:
        fig.update_yaxes(range=[0, top])
    return finished(fig, "How spread out are the values?", height=300)


def cloud(points: np.ndarray, *, palette: Palette, reach: float = 4.0) -> go.Figure:
    """points (N, 2)"""
    fig = go.Figure(
        go.Scatter(
            x=points[:, 0], y=points[:, 1], mode="markers", marker=dict(size=5, color=palette.pruned, opacity=0.55),
            hoverinfo="skip", showlegend=False,
        )
    )  # fmt: skip
    _axes(fig, "first value", "second value", palette)
    fig.update_xaxes(range=[-reach, reach])
    fig.update_yaxes(range=[-reach, reach], scaleanchor="x")
    return finished(fig, "What shape has the cloud?", height=380)


def entropy_against_spread(spreads: np.ndarray, entropies: np.ndarray, now: float, *, palette: Palette) -> go.Figure:
    """The change of entropy over the spread, and where the slider stands."""
    at = float(np.interp(now, spreads, entropies))
    fig = go.Figure(
        go.Scatter(x=spreads, y=entropies, mode="lines", line=dict(color=palette.muted, width=2), showlegend=False)
    )
    fig.add_scatter(
        x=[now], y=[at], mode="markers", showlegend=False, marker=dict(size=14, color=palette.dropped),
        hovertemplate="spread %{x:.2f}: ΔH %{y:+.2f} nats<extra></extra>",
    )  # fmt: skip
    for x, y, words in ((0.3, entropies.max(), "towards noise ↑"), (1, entropies.min(), "towards collapse ↓")):
        fig.add_annotation(
            x=x, xref="paper", xanchor="right", y=y, text=words, showarrow=False, font=dict(color=palette.muted)
        )
    _axes(fig, "spread, 1 = as it was", "ΔH, nats", palette)
    return finished(fig, "How far has the entropy moved?", height=300)


def votes_of_the_room(counts: Sequence[int], ranks: Sequence[int] | None, *, palette: Palette) -> go.Figure:
    """How many guessed each block; once the answer is shown, the block's rank stands above and the least is marked."""
    blocks = list(range(len(counts)))
    colours = [palette.pruned if ranks and ranks[block] == 1 else palette.intact for block in blocks]
    words = [f"#{ranks[block]}" if ranks else "" for block in blocks]
    fig = go.Figure(
        go.Bar(
            x=blocks, y=list(counts), text=words, textposition="outside", cliponaxis=False,
            marker=dict(color=colours, cornerradius=4), hovertemplate="block %{x}: %{y} guesses<extra></extra>",
        )
    )  # fmt: skip
    _axes(fig, "block", "guesses", palette)
    fig.update_xaxes(dtick=1)
    fig.update_yaxes(rangemode="tozero", range=[0, max([4, *counts]) * 1.15], nticks=5)
    return finished(fig, "Which block did the room guess?", height=320)


def ranks_of_block(names: Sequence[str], ranks: Sequence[int], depth: int, *, palette: Palette) -> go.Figure:
    """For one block, the rank that each reading gives it; 1 would go first."""
    fig = go.Figure(
        go.Scatter(
            x=list(ranks), y=list(range(len(names))), mode="markers", showlegend=False, text=list(names),
            marker=dict(size=13, color=[palette.reading if "CED" in name else palette.intact for name in names]),
            hovertemplate="%{text}: rank %{x}<extra></extra>",
        )
    )  # fmt: skip
    _axes(fig, "rank of this block: 1 would go first, the last stays longest", None, palette)
    fig.update_xaxes(range=[0.4, depth + 0.6], dtick=1)
    fig.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=list(names), range=[len(names) - 0.5, -0.5],
        showgrid=False, automargin=True,
    )  # fmt: skip
    return finished(fig, "How needed is this block?", height=110 + 30 * len(names))


def fid_by_number(
    numbers: Sequence[int], lines: Mapping[str, Sequence[tuple[float, float, float]]], now: Mapping[str, float],
    number: int, *, title: str, palette: Palette,
) -> go.Figure:  # fmt: skip
    """``lines``: name -> (mean, low, high) at each of ``numbers``; ``now``: name -> value of the draw at ``number``."""
    fig = go.Figure()
    looks = {"intact": (palette.intact, "circle"), "pruned": (palette.pruned, "diamond")}
    for name, values in lines.items():
        colour, symbol = looks[name]
        mean, low, high = (np.array(column) for column in zip(*values, strict=True))
        fig.add_scatter(
            x=list(numbers), y=mean, mode="lines+markers", name=name, line=dict(color=colour, width=2),
            marker=dict(size=8, symbol=symbol),
            error_y=dict(type="data", symmetric=False, array=high - mean, arrayminus=mean - low, color=colour,
                         thickness=1.4, width=5),
            hovertemplate=f"{name}, N = %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        fig.add_scatter(
            x=[number], y=[now[name]], mode="markers", showlegend=False,
            marker=dict(size=15, symbol="circle-open", color=palette.dropped, line=dict(width=3)),
            hovertemplate=f"{name}, this draw at N = {number}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    _axes(fig, "number of images N, log scale", title, palette)
    fig.update_xaxes(type="log", tickmode="array", tickvals=list(numbers), ticktext=[str(n) for n in numbers])
    fig.update_yaxes(rangemode="tozero")
    return finished(fig, "What is scored from fewer pictures?", height=360)


def accuracy_by_class(
    names: Sequence[str], lines: Mapping[str, Sequence[tuple[float, float, float]]], *, palette: Palette
) -> go.Figure:
    """``lines``: the intact model, then the other: name -> (share, low, high) of each class."""
    fig = go.Figure()
    for (name, values), colour in zip(lines.items(), (palette.intact, palette.dropped), strict=True):
        share, low, high = (np.array(column) for column in zip(*values, strict=True))
        fig.add_bar(
            x=list(names), y=share, name=name, marker=dict(color=colour, cornerradius=3),
            error_y=dict(type="data", symmetric=False, array=high - share, arrayminus=share - low, color=palette.muted,
                         thickness=1.2, width=3),
            hovertemplate=f"{name}, class %{{x}}: %{{y:.0%}}<extra></extra>",
        )  # fmt: skip
    _axes(fig, "class", "taken for what it should be", palette)
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 1.05], tickformat=".0%")
    return finished(fig, "Is every class still drawn?", height=320)


def _axes(fig: go.Figure, across: str, up: str | None, palette: Palette) -> None:
    fig.update_xaxes(title=across, showgrid=False, zeroline=False, fixedrange=True)
    fig.update_yaxes(title=up, gridcolor=palette.grid, zerolinecolor=palette.muted, fixedrange=True)


def finished(fig: go.Figure, title: str, *, height: int) -> go.Figure:
    has_legend = len([trace for trace in fig.data if trace.showlegend is not False]) > 1
    fig.update_layout(
        title=dict(text=title, font=dict(size=16), x=0, xanchor="left", y=1, yanchor="top", pad=dict(t=10)),
        height=height + 26 * has_legend, margin=dict(l=8, r=8, t=46 + 26 * has_legend, b=44), dragmode=False,
        bargap=0.25,
        legend=dict(orientation="h", x=0, y=1.02, yanchor="bottom"),
    )  # fmt: skip
    return fig
