"""Plain data -> plotly figure. A title is the question the chart answers; axes carry units."""

import html

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale

from app.remembered import remembered
from app.style import Palette
from engine.training.curves import LABEL_LINE, label_rows, running_mean

_MARGIN = dict(l=44, r=6, t=6, b=50)
_MOST_LABELS = 12  # below the heatmap, so that they don't run into each other
_TITLE_ROOM = 20  # px beside the labels of an axis
_SIGNED, _SIZE = "RdBu_r", "Viridis"
_LEGEND_LINE = 26  # px
_MOST_BARS_BESIDE, _LONGEST_BESIDE = 12, 14  # bars, and characters of a name, that have room side by side
_LONGEST_NAME = 28  # characters at an axis
#: settings for every chart: nothing to press that isn't explained
CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}
#: the same with a camera at the top right, for charts that are complete as a picture
PICTURE_CONFIG = {
    **CONFIG,
    "displayModeBar": True,
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 2},
}


def row_height(num_rows: int) -> int:
    """Pixels of one block in the heatmap: a small model is easy to click, a deep one still fits a screen."""
    return 29 if num_rows <= 16 else 21


def row_labels(result: dict) -> list[str]:
    """What the rows are called: "3", or "3 attn" and "3 mlp" where the branches of a block stand apart."""
    return result.get("labels") or [str(block) for block in result["blocks"]]


def scale_of(signed: bool) -> str:
    """Name of the heatmap's colours."""
    return _SIGNED if signed else _SIZE


def scale_css(signed: bool) -> str:
    """The colours of the heatmap as a CSS gradient, for the scale beside it."""
    colours = get_colorscale(scale_of(signed))
    return "linear-gradient(90deg, " + ", ".join(f"{colour} {share:.0%}" for share, colour in colours) + ")"


def matrix(result: dict, key: str) -> np.ndarray:
    """(N, K) float; what isn't computed yet is NaN."""
    return np.array([[np.nan if v is None else v for v in row] for row in result[key]], dtype=float)


def natural_limit(result: dict) -> float:
    """Where the colours end unless somebody pins them: 19 of 20 cells lie below, so that one can't hide the rest."""
    delta = np.abs(matrix(result, "delta"))
    if np.isnan(delta).all():
        return 1.0
    return float(f"{max(np.nanpercentile(delta, 95), 1e-6):.2g}")


def column_labels(result: dict) -> list[str]:
    """Empty where a column isn't computed yet."""
    return ["" if t is None else f"{t:.3g}" if t < 10 else f"{t:g}" for t in result["timesteps"]]


@remembered
def heatmap(
    result: dict,
    *,
    signed: bool,
    limit: float,
    rows: list[int],
    column_title: str,
    palette: Palette,
    chosen: list[int] = (),
    column: int | None = None,
    hint: str = "click: see the pictures without it",
) -> go.Figure:
    """Rows × timesteps. An invisible layer carries ``customdata`` [row, column, …]: heatmaps can't be clicked."""
    labels = row_labels(result)
    delta = matrix(result, "delta")[rows]
    low, high = matrix(result, "cell_low")[rows], matrix(result, "cell_high")[rows]
    columns = column_labels(result)
    shown = delta if signed else np.abs(delta)
    fig = go.Figure(
        go.Heatmap(
            z=shown,
            zmin=-limit if signed else 0,
            zmax=limit,
            colorscale=_SIGNED if signed else _SIZE,
            xgap=2,
            ygap=2,
            hoverinfo="skip",
            showscale=False,  # the page draws the scale: plotly's would push the rows out of line with the bars
        )
    )
    cells = [(r, k) for r in range(len(rows)) for k in range(len(columns)) if np.isfinite(delta[r, k])]
    fig.add_scatter(
        x=[k for _, k in cells],
        y=[r for r, _ in cells],
        mode="markers",
        marker=dict(symbol="square", size=row_height(len(rows)) - 3, opacity=0, color="#000"),
        customdata=[
            [rows[r], k, float(delta[r, k]), float(low[r, k]), float(high[r, k]), columns[k], labels[rows[r]]]
            for r, k in cells
        ],
        hovertemplate="block %{customdata[6]}, %{customdata[5]}<br>ΔH %{customdata[2]:+.4f} "
        "(%{customdata[3]:+.4f} … %{customdata[4]:+.4f})" + (f"<br>{hint}" if hint else "") + "<extra></extra>",
        showlegend=False,
    )
    _frame(fig, [r for r, block in enumerate(rows) if block in chosen], len(columns), column, palette)
    every = -(-len(columns) // _MOST_LABELS)
    fig.update_xaxes(
        title=column_title, tickmode="array", tickvals=list(range(len(columns)))[::every], ticktext=columns[::every],
        showgrid=False, zeroline=False, range=[-0.5, len(columns) - 0.5], fixedrange=True, tickangle=0,
    )  # fmt: skip
    _block_axis(fig, [labels[row] for row in rows], title="block")
    return _finish(fig, [labels[row] for row in rows])


def _frame(fig: go.Figure, chosen: list[int], num_columns: int, column: int | None, palette: Palette) -> None:
    """Frames around the chosen rows of a heatmap, by their place, and around their cells in the chosen column."""
    for r in chosen:
        fig.add_shape(
            type="rect", x0=-0.5, x1=num_columns - 0.5, y0=r - 0.47, y1=r + 0.47,
            line=dict(color=palette.dropped, width=2.5),
        )  # fmt: skip
        if column is not None and column < num_columns:
            fig.add_shape(
                type="rect", x0=column - 0.48, x1=column + 0.48, y0=r - 0.45, y1=r + 0.45,
                line=dict(color=palette.text, width=2.5),
            )  # fmt: skip


@remembered
def importance_bars(result: dict, *, rows: list[int], palette: Palette, chosen: list[int] = ()) -> go.Figure:
    """CED of each block with its interval; the rows stand beside those of the heatmap."""
    ced, low, high = (np.array(result[key], dtype=float)[rows] for key in ("ced", "ci_low", "ci_high"))
    rank = {block: place + 1 for place, block in enumerate(result["order"])}
    labels = row_labels(result)
    fig = go.Figure(
        go.Bar(
            x=ced,
            y=list(range(len(rows))),
            orientation="h",
            marker=dict(
                color=[palette.dropped if block in chosen else palette.intact for block in rows], cornerradius=3
            ),
            error_x=dict(
                type="data",
                symmetric=False,
                array=np.maximum(high - ced, 0),
                arrayminus=np.maximum(ced - low, 0),
                thickness=1.2,
                width=2,
                color=palette.muted,
            ),
            customdata=[
                [
                    block,
                    rank[block],
                    result["rank_low"][block],
                    result["rank_high"][block],
                    float(least),
                    float(most),
                    labels[block],
                ]
                for block, least, most in zip(rows, low, high, strict=True)
            ],
            hovertemplate="block %{customdata[6]}: CED %{x:.4f} (%{customdata[4]:.4f} … %{customdata[5]:.4f})<br>"
            "rank %{customdata[1]} (%{customdata[2]} … %{customdata[3]}), 1 = least important<extra></extra>",
            unselected=dict(marker=dict(opacity=1)),
        )
    )
    top = float(np.nanmax(high)) or 1.0
    ranks = [
        dict(x=1.0, xref="paper", xanchor="right", y=r, text=f"#{rank[block]}", showarrow=False,
             font=dict(size=12, color=palette.muted))
        for r, block in enumerate(rows)
    ]  # fmt: skip
    fig.update_layout(annotations=ranks)  # all at once: one by one takes most of the chart's time
    fig.update_xaxes(title="CED, nats/dim", range=[0, top * 1.35], gridcolor=palette.grid, fixedrange=True, nticks=4)
    _block_axis(fig, [labels[row] for row in rows], title=None)
    return _finish(fig, [labels[row] for row in rows])


def joint_effect(
    labels: list[str], together: list[float], apart: list[float] | None, *, column_title: str, palette: Palette
) -> go.Figure:
    fig = go.Figure()
    if apart is not None:
        fig.add_scatter(
            x=labels, y=apart, name="sum of the single effects", mode="lines",
            line=dict(color=palette.muted, width=2, dash="dot"),
        )  # fmt: skip
    fig.add_scatter(
        x=labels, y=together, name="dropped together", mode="lines+markers", line=dict(color=palette.dropped, width=2.5)
    )
    fig.update_xaxes(title=column_title, type="category", showgrid=False, fixedrange=True)
    fig.update_yaxes(
        title="ΔH, nats per dimension", gridcolor=palette.grid, zerolinecolor=palette.muted, fixedrange=True
    )
    return _curve(fig, "How far from the intact model?", height=250)


def class_counts(counts: dict[str, int], *, palette: Palette) -> go.Figure:
    """Bars beside each other, or below each other where there are many or their names are long."""
    names = [html.escape(name, quote=False) for name in counts]  # plotly takes <b> for a tag
    short = [html.escape(_cut(name), quote=False) for name in counts]
    places, values = list(range(len(names))), list(counts.values())
    below = len(names) > _MOST_BARS_BESIDE or max(map(len, counts), default=0) > _LONGEST_BESIDE
    along, across = dict(title="images", gridcolor=palette.grid), dict(tickvals=places, ticktext=short, showgrid=False)
    bars = go.Bar(
        x=values if below else places, y=places if below else values, orientation="h" if below else "v",
        customdata=names, marker=dict(color=palette.intact, cornerradius=4),
        hovertemplate="%{customdata}: %{" + ("x" if below else "y") + "} images<extra></extra>",
    )  # fmt: skip
    fig = go.Figure(bars)
    fig.update_xaxes(fixedrange=True, **(along if below else across | dict(title="class")))
    fig.update_yaxes(fixedrange=True, **(across | dict(autorange="reversed", automargin=True) if below else along))
    return _curve(fig, "How many images of each class?", height=100 + 18 * len(names) if below else 280)


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def relative_loss(
    timesteps: list[float], losses: dict[str, list[float]], *, chosen: str, names: dict[str, str], palette: Palette
) -> go.Figure:
    """Loss under each process over the noise levels, as a share of what guessing the average would cost."""
    fig = go.Figure()
    for process, values in losses.items():
        mine = process == chosen
        fig.add_scatter(
            x=timesteps, y=values, name=names[process] + (", your choice" if mine else ""), mode="lines+markers",
            line=dict(color=palette.intact if mine else palette.muted, width=2.5 if mine else 1.5,
                      dash="solid" if mine else "dot"),
            hovertemplate="%{y:.3f} of guessing<extra></extra>",
        )  # fmt: skip
    fig.add_scatter(
        x=timesteps, y=[1.0] * len(timesteps), name="no better than guessing", mode="lines", hoverinfo="skip",
        line=dict(color=palette.dropped, dash="dash", width=1.2),
    )  # fmt: skip
    fig.update_xaxes(title="noise: 0 is a clean picture, 1 pure noise", showgrid=False, fixedrange=True)
    fig.update_yaxes(title="loss, guessing = 1", gridcolor=palette.grid, rangemode="tozero", fixedrange=True)
    return _curve(fig, "Which process was it trained for?", height=290)


def loss_curve(events: list[dict], *, palette: Palette, bands: dict[int, dict] | None = None) -> go.Figure:
    """Training loss over all stages, one after another, with a running mean on top. Stage 0 is the intact model's
    adaptation to the data.

    ``bands``: stage -> {"mean", "low", "high"}, what the intact model's loss was on the same batches.
    """
    by_stage: dict[int, list[tuple[int, float]]] = {}
    for event in events:
        by_stage.setdefault(event["stage"], []).append((event["step"], event["loss"]))
    fig = go.Figure()
    starts, start = [], 0
    for stage, points in by_stage.items():
        steps, losses = [start + step for step, _ in points], [loss for _, loss in points]
        _band(fig, (bands or {}).get(stage), start, steps[-1], palette)
        first = not starts  # of the stages: it names the lines of all
        fig.add_scatter(
            x=steps, y=losses, mode="lines", line=dict(color=palette.pruned, width=1), opacity=0.35, showlegend=first,
            name="a few steps each", hovertemplate="step %{x}: loss %{y:.4f}<extra></extra>",
        )  # fmt: skip
        fig.add_scatter(  # a stage begins with a jump, which a mean across it would smear
            x=steps, y=running_mean(losses), mode="lines", line=dict(color=palette.pruned, width=2.5),
            showlegend=first, name="running mean", hovertemplate="running mean %{y:.4f}<extra></extra>",
        )  # fmt: skip
        starts.append(start)
        start = steps[-1]
    adapted = 0 in by_stage
    names = ["intact model adapts" if stage == 0 else f"stage {stage}" for stage in by_stage]
    rows = label_rows(starts, start, adapts=adapted)
    for name, begin, row in zip(names, starts, rows, strict=True):
        if begin:
            fig.add_vline(x=begin, line=dict(color=palette.muted, dash="dot", width=1))
        if len(names) > 1 or adapted:
            fig.add_annotation(
                x=begin, y=1, yref="y domain", text=name, showarrow=False, xanchor="left", yanchor="bottom",
                yshift=LABEL_LINE * row, font=dict(color=palette.muted),
            )  # fmt: skip
    fig.update_xaxes(title="training step" if adapted else "recovery step", showgrid=False, fixedrange=True)
    fig.update_yaxes(title="training loss", gridcolor=palette.grid, fixedrange=True)
    only_adapted = adapted and len(by_stage) == 1
    _curve(fig, "Is it learning the data?" if only_adapted else "Is the model learning again?", height=300)
    more = LABEL_LINE * max(rows)  # room for the rows of names, below the title
    return fig.update_layout(
        height=300 + more + _LEGEND_LINE, margin=dict(t=46 + more, b=40 + _LEGEND_LINE),
        legend=dict(yref="container", y=0, yanchor="bottom", itemclick=False, itemdoubleclick=False),
    )  # fmt: skip


def _band(fig: go.Figure, band: dict | None, start: float, end: float, palette: Palette) -> None:
    if band is None:
        return
    fig.add_scatter(
        x=[start, end, end, start], y=[band["low"], band["low"], band["high"], band["high"]], fill="toself",
        fillcolor=palette.intact, opacity=0.16, line=dict(width=0), mode="lines", hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    fig.add_scatter(
        x=[start, end], y=[band["mean"], band["mean"]], mode="lines", showlegend=False,
        line=dict(color=palette.intact, width=1.5, dash="dash"), hovertemplate="intact model %{y:.4f}<extra></extra>",
    )  # fmt: skip


def stages_curve(points: list[tuple[int, float, float, float]], *, metric: str, palette: Palette) -> go.Figure:
    """(depth, value, low, high) of each stage."""
    depth, value, low, high = (list(column) for column in zip(*points, strict=True))
    fig = go.Figure(
        go.Scatter(
            x=depth, y=value, mode="lines+markers", line=dict(color=palette.pruned, width=2.5), marker=dict(size=9),
            error_y=dict(
                type="data", symmetric=False, array=np.subtract(high, value), arrayminus=np.subtract(value, low),
                color=palette.muted, thickness=1.2,
            ),
            hovertemplate="depth %{x}: %{y:.3g}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title="blocks kept", autorange="reversed", dtick=1, showgrid=False, fixedrange=True)
    fig.update_yaxes(title=metric, gridcolor=palette.grid, rangemode="tozero", fixedrange=True)
    return _curve(fig, "What does each block cost?", height=300)


def _block_axis(fig: go.Figure, labels: list[str], *, title: str | None) -> None:
    fig.update_yaxes(
        title=title, tickmode="array", tickvals=list(range(len(labels))), ticktext=labels,
        range=[len(labels) - 0.5, -0.5], showgrid=False, zeroline=False, fixedrange=True, automargin=False,
        title_standoff=4,
    )  # fmt: skip


def _finish(fig: go.Figure, labels: list[str]) -> go.Figure:
    fig.update_xaxes(automargin=False, title_standoff=8)
    room = 16 + 8 * max(len(label) for label in labels) + (_TITLE_ROOM if fig.layout.yaxis.title.text else 0)
    fig.update_layout(
        height=len(labels) * row_height(len(labels)) + _MARGIN["t"] + _MARGIN["b"],
        margin={**_MARGIN, "l": max(_MARGIN["l"], room)},
        bargap=0.28,
        dragmode=False,
        clickmode="event+select",
    )
    return fig


def _curve(fig: go.Figure, title: str, *, height: int) -> go.Figure:
    has_legend = len([trace for trace in fig.data if trace.showlegend is not False]) > 1
    fig.update_layout(
        title=dict(text=title, font=dict(size=16), x=0, xanchor="left", y=1, yanchor="top", pad=dict(t=10)),
        height=height + 26 * has_legend,
        margin=dict(l=8, r=8, t=46 + 26 * has_legend, b=40),
        dragmode=False,
        legend=dict(orientation="h", x=0, y=1.02, yanchor="bottom"),
    )
    return fig
