"""The figures of a report: plain data -> {"data", "layout"} for plotly. Colours are named as in colours.py.

Names come in as ``label_text`` gives them; everything else is a number. None is a value that isn't there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.report.colours import SIGNED
from engine.training.curves import LABEL_LINE, label_rows, running_mean

_ROW, _MOST_LABELS = 22, 12
#: {"data", "layout"}, and "share": of the paper's width; "bottom": margin on a narrow screen, where it stands alone
Plot = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value with its interval, where it has one. ``x`` is another number, or what tells rows of one name apart."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    x: float | str | None = None
    x_low: float | None = None
    x_high: float | None = None
    colour: str = "$kept"
    symbol: str = "circle"


def heatmap(ced: dict[str, Any], *, rows: Sequence[str], column_title: str, limit: float) -> Plot:
    """ΔH of rows × columns with its interval on hover; colours are full at ± ``limit`` (nats per dimension)."""
    columns = [_short(t) for t in ced["timesteps"]]
    z = _finite(ced["delta"])
    words = [
        [
            f"block {name}, {column_title} {column}<br>" + _with_interval("ΔH", value, low, high)
            for column, value, low, high in zip(columns, values, lows, highs, strict=True)
        ]
        for name, values, lows, highs in zip(rows, z, *_intervals(ced), strict=True)
    ]
    every = math.ceil(len(columns) / _MOST_LABELS)
    trace: Plot = {
        "type": "heatmap", "z": z, "zmin": -limit, "zmax": limit, "colorscale": [*SIGNED], "xgap": 1, "ygap": 1,
        "text": words, "hovertemplate": "%{text}<extra></extra>",
        "colorbar": {"orientation": "h", "thickness": 8, "len": 0.7, "x": 0, "xanchor": "left", "ypad": 0,
                     "yanchor": "top", "y": -62 / (_ROW * len(rows)), "nticks": 5,
                     "tickfont": {"color": "$muted", "size": 11}, "outlinewidth": 0},
    }  # fmt: skip
    places = list(range(len(columns)))[::every]
    x = {"title": {"text": column_title, "standoff": 6}, "tickmode": "array", "tickvals": places,
         "ticktext": [columns[place] for place in places], "showgrid": False, "zeroline": False}  # fmt: skip
    return {"data": [trace], "layout": _rows_layout(rows, x), "share": 0.58}


def importance_bars(ced: dict[str, Any], *, rows: Sequence[str], dropped: Sequence[bool]) -> Plot:
    """CED of each row with its interval, beside the heatmap; ``dropped`` rows stand out."""
    trace = {
        "type": "bar", "orientation": "h", "x": ced["ced"], "y": list(range(len(rows))),
        "marker": {"color": ["$dropped" if gone else "$kept" for gone in dropped]},
        "error_x": _error([(v, a, b) for v, a, b in zip(ced["ced"], ced["ci_low"], ced["ci_high"], strict=True)]),
        "text": [
            f"block {name}{', dropped' if gone else ''}<br>{_with_interval('CED', value, low, high)}"
            f"<br>rank {first} … {last}, 1 is least important"
            for name, gone, value, low, high, first, last in zip(
                rows, dropped, ced["ced"], ced["ci_low"], ced["ci_high"], *_ranks(ced), strict=True
            )
        ],
        "textposition": "none", "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    x = {"title": {"text": "CED, nats per dimension", "standoff": 6}, "nticks": 4, "rangemode": "tozero"}
    layout = _rows_layout(rows, x)
    return {"data": [trace], "layout": {**layout, "bargap": 0.3}, "share": 0.42, "bottom": 52}


def losses(stages: Sequence[tuple[int, Sequence[tuple[int, float]]]], bands: dict[int, dict[str, float]]) -> Plot:
    """Training loss, stage after stage ((stage, [(step, loss), …]), …), with what the intact model's loss was."""
    data: list[Plot] = []
    marks: list[Plot] = []
    before = 0
    for stage, points in stages:
        steps = [before + step for step, _ in points]
        values = [loss for _, loss in points]
        name = "intact model adapts" if stage == 0 else f"stage {stage}"
        data += _band(bands.get(stage), before, steps[-1])
        data.append(_line(steps, values, color="$pruned", width=1, opacity=0.4, words="loss", name=name))
        data.append(_line(steps, running_mean(values), color="$pruned", width=2.5, words="running mean", name=name))
        marks.append({"x": before, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "bottom", "text": name,
                      "showarrow": False, "font": {"color": "$muted"}})  # fmt: skip
        before = steps[-1]
    rows = label_rows([mark["x"] for mark in marks], before, adapts=stages[0][0] == 0)
    marks = [mark | {"yshift": LABEL_LINE * row} for mark, row in zip(marks, rows, strict=True)]
    starts = [{"type": "line", "x0": mark["x"], "x1": mark["x"], "y0": 0, "y1": 1, "yref": "paper",
               "line": {"color": "$muted", "dash": "dot", "width": 1}} for mark in marks[1:]]  # fmt: skip
    layout = _layout(320, x="training step, all stages", y="training loss")
    layout["margin"]["t"] += LABEL_LINE * max(rows)
    return {"data": data, "layout": {**layout, "annotations": marks, "shapes": starts}}


def dots(groups: Sequence[tuple[str, Sequence[Point]]], *, title: str, floor: float | None = None) -> Plot:
    """One row for each name, one dot for each group ((name, points), …), intervals as lines."""
    names = {_row_of(point): point.name for _, points in groups for point in points}
    places = {row: index for index, row in enumerate(names)}
    shift = 0.28 / max(1, len(groups) - 1)
    data = []
    for index, (group, points) in enumerate(groups):
        offset = shift * (index - (len(groups) - 1) / 2)
        data.append(_scatter(points, [point.value for point in points], [places[_row_of(p)] + offset for p in points],
                             group, error="error_x"))  # fmt: skip
    layout = _layout(_ROW * len(names) + 110 + 24 * (len(groups) > 1), x=title, y=None)
    layout["yaxis"] |= _row_axis(list(names.values()))
    layout["showlegend"] = len(groups) > 1
    if floor is not None:
        layout["shapes"] = [_floor_line(floor, "x")]
    return {"data": data, "layout": layout}


def against(points: Sequence[Point], *, x: str, y: str, floor: float | None = None) -> Plot:
    """Each point at its ``x`` and its value, named."""
    trace = _scatter(points, [point.x for point in points], [point.value for point in points], "", error="error_y")
    trace["error_x"] = _error([(point.x, point.x_low, point.x_high) for point in points])
    trace |= {"mode": "markers+text", "texttemplate": "%{customdata}", "customdata": [point.name for point in points],
              "textposition": "top right", "textfont": {"color": "$muted"}}  # fmt: skip
    layout = _layout(360, x=x, y=y)
    ends = [end for point in points for end in (point.x, point.x_low, point.x_high) if isinstance(end, float)]
    span = max(ends) - min(ends) or 0.1
    layout["xaxis"]["range"] = [min(ends) - 0.08 * span, max(ends) + 0.3 * span]  # room for the last name
    if floor is not None:
        layout["shapes"] = [_floor_line(floor, "y")]
    return {"data": [trace], "layout": layout}


def colour_limit(delta: Sequence[Sequence[float | None]]) -> float:
    """Value at which colours are full: 98 of 100 cells lie below it, so that one block can't bleach the others."""
    known = [abs(value) for row in _finite(delta) for value in row if value is not None]
    return float(np.quantile(known, 0.98)) or 1.0 if known else 1.0


def _scatter(points: Sequence[Point], x: list, y: list, name: str, *, error: str) -> Plot:
    return {
        "type": "scatter", "mode": "markers", "x": x, "y": y, "name": name,
        "marker": {"size": 9, "color": [p.colour for p in points], "symbol": [p.symbol for p in points]},
        error: _error([(p.value, p.low, p.high) for p in points]),
        "text": [
            f"{p.name}{f', {name}' if name else ''}<br>{_with_interval('', p.value, p.low, p.high)}" for p in points
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _line(x: list, y: list, *, color: str, width: float, opacity: float = 1.0, words: str, name: str) -> Plot:
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "opacity": opacity, "showlegend": False,
            "line": {"color": color, "width": width},
            "hovertemplate": f"{name}, step %{{x}}: {words} %{{y:.4g}}<extra></extra>"}  # fmt: skip


def _band(band: dict[str, float] | None, start: float, end: float) -> list[Plot]:
    if band is None or None in (band.get("low"), band.get("high"), band.get("mean")):
        return []
    area = {"type": "scatter", "mode": "lines", "x": [start, end, end, start], "fill": "toself", "fillcolor": "$kept",
            "y": [band["low"], band["low"], band["high"], band["high"]], "line": {"width": 0}, "opacity": 0.16,
            "hoverinfo": "skip", "showlegend": False}  # fmt: skip
    mean = _line([start, end], [band["mean"]] * 2, color="$kept", width=1.5, words="intact model", name="same batches")
    mean["line"]["dash"] = "dash"
    return [area, mean]


def _floor_line(value: float, axis: str) -> Plot:
    other = "y" if axis == "x" else "x"
    return {"type": "line", f"{axis}0": value, f"{axis}1": value, f"{other}0": 0, f"{other}1": 1,
            f"{other}ref": "paper", "line": {"color": "$dropped", "dash": "dash", "width": 1.2}}  # fmt: skip


def _row_of(point: Point) -> float | str:
    return point.name if point.x is None else point.x


def _error(values: Sequence[tuple[float, float | None, float | None]]) -> Plot:
    """Lengths of the lines to both sides; 0 where there is no interval."""
    above = [max(0.0, high - value) if high is not None else 0.0 for value, _, high in values]
    below = [max(0.0, value - low) if low is not None else 0.0 for value, low, _ in values]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": "$muted",
            "thickness": 1.3, "width": 3}  # fmt: skip


def _layout(height: int, *, x: str, y: str | None) -> Plot:
    axis = {"gridcolor": "$line", "zerolinecolor": "$muted", "linecolor": "$line", "automargin": True,
            "tickfont": {"color": "$muted"}}  # fmt: skip
    return {
        "height": height, "margin": {"l": 8, "r": 8, "t": 28, "b": 44}, "autosize": True,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False, "hovermode": "closest",
        "font": {"color": "$text", "size": 12, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": "$soft", "bordercolor": "$line", "font": {"color": "$text"}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}} if y else {**axis},
    }  # fmt: skip


def _rows_layout(rows: Sequence[str], x: Plot) -> Plot:
    """The heatmap and the bars have their rows at the same height."""
    layout = _layout(_ROW * len(rows) + 8 + 92, x="", y=None)
    layout["margin"] = {"l": 16 + 7 * max(len(name) for name in rows), "r": 10, "t": 8, "b": 92}
    layout["xaxis"] |= {**x, "automargin": False}
    layout["yaxis"] |= {**_row_axis(rows), "automargin": False}
    return layout


def _row_axis(names: Sequence[str]) -> Plot:
    return {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": list(names), "zeroline": False,
            "range": [len(names) - 0.5, -0.5], "showgrid": False}  # fmt: skip


def _ranks(ced: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Results of before there were intervals of ranks have the rank alone."""
    rank = [ced["order"].index(row) + 1 for row in range(len(ced["ced"]))]
    return ced.get("rank_low") or rank, ced.get("rank_high") or rank


def _intervals(ced: dict[str, Any]) -> tuple[list, list]:
    missing = [[None] * len(row) for row in ced["delta"]]
    return ced.get("cell_low") or missing, ced.get("cell_high") or missing


def _finite(rows: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    return [[value if value is not None and math.isfinite(value) else None for value in row] for row in rows]


def _with_interval(name: str, value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return f"{name} not computed"
    words = f"{name} {value:.4g}".strip()
    return words if low is None or high is None else f"{words} [{low:.4g}, {high:.4g}]"


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.2g}"
