"""Outcomes of an arena: plain data -> plotly figure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app.arena.arena_entries import GROUPS
from app.remembered import remembered
from app.style import Palette

_WIDE = 6.0  # times the smallest value, from where on a log scale shows more
_LINE, _ROW, _GAP = 16, 16, 10  # pixels: of a line of a name, around it, between groups
_MOST_LINES = 3
_LONG = 24  # characters
_LABEL_FONT = 11
_NOMINAL_SIZE = (760, 380)  # of the scatter in pixels, for placing its labels


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A mean with its interval; ``low`` and ``high`` None where there is one seed."""

    names: tuple[str, ...]
    group: str  # a key of GROUPS
    value: float
    low: float | None
    high: float | None
    about: str  # for the hover
    x: float = 0.0  # of the scatter
    strong: bool = False  # outcomes: better than all others; scatter: chosen by the criterion itself


@remembered
def outcomes(
    dots: Sequence[Dot], *, lot: Dot | None, title: str, palette: Palette, band: tuple[float, float] | None = None,
    close: float | None = None,
) -> go.Figure:  # fmt: skip
    """A dot with its interval on a row for each way of pruning, group by group, in each the first on top.

    ``lot``: all random sets together, one row, their own means as small crosses; ``band``: where one more of them would
    end. A dashed line goes down from the intact model, a dotted one at ``close`` times that.
    """
    random = [dot for dot in dots if dot.group == "chance"]
    rows = [dot for group in GROUPS for dot in dots if dot.group == group != "chance"]
    rows += [lot] if lot else []
    log = _needs_log([dot.value for dot in dots])
    places, names, y = [], [], 0.0
    for row, above in zip(rows, [None, *rows], strict=False):
        names.append(_folded(row))
        height = _ROW + _LINE * (1 + names[-1].count("<br>"))
        y += _GAP if above is not None and above.group != row.group else 0
        places.append(y + height / 2)
        y += height
    fig = go.Figure()
    if band is not None:
        low, high = (_within(end, dots, log=log) for end in band)
        fig.add_scatter(
            x=[low, high, high, low], y=[0, 0, y, y], fill="toself", fillcolor=palette.muted, opacity=0.16, mode="none",
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    intact = next((row for row in rows if row.group == "intact"), None)
    if intact is not None:
        for times, dash in ((1.0, "dash"), (close, "dot")):
            if times is not None:
                fig.add_scatter(
                    x=[times * intact.value] * 2, y=[0, y], mode="lines", hoverinfo="skip", showlegend=False,
                    line=dict(color=palette.intact, dash=dash, width=1.2),
                )  # fmt: skip
    values = [row.value for row in rows]
    fig.add_trace(_points(rows, x=values, y=places, ends="error_x", palette=palette, floor=_floor(dots, log=log)))
    if lot and random:
        values = [dot.value for dot in random]
        fig.add_trace(_points(random, x=values, y=[places[-1]] * len(random), ends=None, palette=palette))
    _value_axis(fig.update_xaxes, title, log=log, palette=palette)
    fig.update_yaxes(
        tickmode="array", tickvals=places, ticktext=names, range=[y, 0], showgrid=False, zeroline=False,
        fixedrange=True, automargin=True,
    )  # fmt: skip
    longest = max(len(line.replace("<b>", "").replace("</b>", "")) for name in names for line in name.split("<br>"))
    fig.update_layout(height=y + 80, margin=dict(l=16 + 7 * longest, r=8, t=34, b=46), dragmode=False)
    return fig


@remembered
def importance_against_outcome(
    dots: Sequence[Dot], *, across: str, up: str, palette: Palette, size: tuple[int, int] = _NOMINAL_SIZE
) -> go.Figure:
    """A point for each set: ``x``, the sum of its blocks' scores, against what came out. Ringed: what the criterion
    would drop itself. Labels stand where there is room; the hover says them all."""
    log = _needs_log([dot.value for dot in dots])
    fig = go.Figure()
    x, y = [dot.x for dot in dots], [dot.value for dot in dots]
    fig.add_trace(_points(dots, x=x, y=y, ends="error_y", palette=palette, floor=_floor(dots, log=log)))
    if ringed := [dot for dot in dots if dot.strong]:
        fig.add_scatter(
            x=[dot.x for dot in ringed], y=[dot.value for dot in ringed], mode="markers", hoverinfo="skip",
            showlegend=False, marker=dict(size=19, symbol="circle-open", line=dict(width=2), color=palette.dropped),
        )  # fmt: skip
    for dot, (dx, dy, anchor) in _labels(dots, size=size, log=log):
        fig.add_annotation(
            x=dot.x, y=math.log10(dot.value) if log else dot.value, text=_first_name(dot), showarrow=False,
            xanchor=anchor, xshift=dx, yshift=dy, font=dict(size=_LABEL_FONT, color=palette.muted),
        )  # fmt: skip
    fig.update_xaxes(title=across, gridcolor=palette.grid, zeroline=False, fixedrange=True)
    _value_axis(fig.update_yaxes, up, log=log, palette=palette, from_zero=False)
    fig.update_layout(height=size[1] + 80, margin=dict(l=8, r=8, t=34, b=46), dragmode=False)
    return fig


def _points(
    dots: Sequence[Dot], *, x: Sequence[float], y: Sequence[float], ends: str | None, palette: Palette,
    floor: float = -math.inf,
) -> go.Scatter:  # fmt: skip
    """One trace for all of them: a browser draws that several times as fast as one for each. ``ends``: along which axis
    their intervals lie."""
    groups = [GROUPS[dot.group] for dot in dots]
    colours = [getattr(palette, group.colour) for group in groups]
    small = [dot.group == "chance" and ends != "error_y" and dot.low is None for dot in dots]
    interval = {}
    if ends and any(dot.low is not None for dot in dots):
        interval = {ends: dict(
            type="data", symmetric=False, thickness=1.6, width=4, color=palette.muted,
            array=[0.0 if dot.high is None else dot.high - dot.value for dot in dots],  # 0: behind the dot
            arrayminus=[0.0 if dot.low is None else dot.value - max(dot.low, floor) for dot in dots],
        )}  # fmt: skip
    return go.Scatter(
        x=x, y=y, mode="markers", showlegend=False, **interval,
        marker=dict(size=[7 if is_small else 10 for is_small in small], symbol=[group.symbol for group in groups],
                    color=colours, line=dict(width=2, color=colours), opacity=1),  # else 0.7, where sizes differ
        customdata=[
            [" = ".join(dot.names), "one seed: no interval" if dot.low is None else f"{dot.low:.3g} … {dot.high:.3g}",
             f"{dot.value:.3g}", dot.about] for dot in dots
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[2]} (%{customdata[1]})<br>%{customdata[3]}"
                      "<extra></extra>",
    )  # fmt: skip


def _value_axis(update: Callable, title: str, *, log: bool, palette: Palette, from_zero: bool = True) -> None:
    more: dict = dict(rangemode="tozero") if from_zero else {}
    if log:  # plotly writes 2 and 5 for 20 and 50
        ticks = [round(digit * 10**power, 6) for power in range(-5, 7) for digit in (1, 2, 5)]
        more = dict(type="log", tickmode="array", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    update(
        title=title + (", log scale" if log else ""), gridcolor=palette.grid, zeroline=False, fixedrange=True, **more
    )


def _needs_log(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)


def _floor(dots: Sequence[Dot], *, log: bool) -> float:
    """Where the lower end of an interval is cut off: a log scale has no 0."""
    return min(dot.value for dot in dots) / 2 if log else -math.inf


def _within(end: float, dots: Sequence[Dot], *, log: bool) -> float:
    """A band that is far wider than what there is would squeeze the dots."""
    least, most = min(dot.value for dot in dots), max(dot.high or dot.value for dot in dots)
    return min(max(end, least / 2 if log else 0.0), 1.3 * most)


def _folded(dot: Dot) -> str:
    """Its names on lines of their own, the first ones."""
    names = [_broken(name) for name in dot.names]
    if len(names) > _MOST_LINES:
        names = [*names[: _MOST_LINES - 1], f"{len(names) - _MOST_LINES + 1} more"]
    if dot.strong:
        names = [f"<b>{name}</b>" for name in names]
    return "<br>= ".join(names)


def _broken(name: str) -> str:
    """A long one on two lines."""
    head, sign, tail = name.rpartition(" · ")
    return f"{head}<br>· {tail}" if sign and len(name) > _LONG else name


def _first_name(dot: Dot) -> str:
    return dot.names[0] + (f" +{len(dot.names) - 1}" if len(dot.names) > 1 else "")


def _labels(dots: Sequence[Dot], *, size: tuple[int, int], log: bool) -> list[tuple[Dot, tuple[float, float, str]]]:
    """Which dots get their first name beside them, and where: (pixels right, pixels up, anchor). Greedy: beside, above
    or below, where no other label, dot or interval is; none for the lot, whose sign says it."""

    def scaled(value: float) -> float:
        return math.log(value) if log else value

    floor = _floor(dots, log=log)
    ends = [(max(floor, dot.value if dot.low is None else dot.low), dot.high or dot.value) for dot in dots]
    left, wide = min(dot.x for dot in dots), max(dot.x for dot in dots) - min(dot.x for dot in dots)
    bottom, top = scaled(min(low for low, _ in ends)), scaled(max(high for _, high in ends))

    def across(x: float) -> float:
        return (x - left) / (wide or 1.0) * size[0] * 0.9  # the axes' own margins take a tenth

    def up(value: float) -> float:
        return (scaled(value) - bottom) / ((top - bottom) or 1.0) * size[1] * 0.9

    at = [(across(dot.x), up(dot.value)) for dot in dots]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in at]
    taken += [(x - 5, up(low), x + 5, up(high)) for (x, _), (low, high) in zip(at, ends, strict=True)]
    found = []
    for index, (dot, (x, y)) in enumerate(zip(dots, at, strict=True)):
        if dot.group == "chance":
            continue
        width = 6.3 * len(_first_name(dot))
        for dx, dy, anchor in ((11, 0, "left"), (-11, 0, "right"), (8, 12, "left"), (8, -12, "left"),
                               (-8, 12, "right"), (-8, -12, "right")):  # fmt: skip
            begin = x + dx if anchor == "left" else x + dx - width
            box = (begin, y + dy - 7, begin + width, y + dy + 7)
            others = [other for place, other in enumerate(taken) if place not in (index, index + len(dots))]
            inside = box[0] > -0.03 * size[0] and box[2] < 0.95 * size[0]
            if inside and not any(_overlap(box, other) for other in others):
                taken.append(box)
                found.append((dot, (dx, dy, anchor)))
                break
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
