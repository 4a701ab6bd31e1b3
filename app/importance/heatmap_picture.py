"""The heatmap as a PNG file, complete in itself: scale, intervals and how it was measured are in the picture."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from plotly.colors import sample_colorscale

from app import charts
from app.style import LIGHT

_CELL = 44
_LEFT, _BARS, _GAP, _TOP, _BOTTOM = 96, 250, 70, 110, 150
_INK, _MUTED = LIGHT.text, LIGHT.muted


@dataclass(frozen=True)
class Side:
    title: str
    result: dict[str, Any]
    column_title: str


def draw(sides: list[Side], *, signed: bool, limit: float, rows: list[int]) -> bytes:
    """PNG of one heatmap, or of several beside each other with the same colours and the same order of rows."""
    widths = [_LEFT + _width_of_cells(side) + _BARS for side in sides]
    size = sum(widths) + _GAP * len(sides), _TOP + _CELL * len(rows) + _BOTTOM
    picture = Image.new("RGB", size, "#FFFFFF")
    pen, left = ImageDraw.Draw(picture), _GAP // 2
    top_of_bars = max(max(side.result["ci_high"]) for side in sides) or 1.0
    for side, width in zip(sides, widths, strict=True):
        pen.text((left, 22), side.title, fill=_INK, font=_font(28))
        _cells(pen, side, left + _LEFT, signed=signed, limit=limit, rows=rows)
        _bars(pen, side, left + _LEFT + _width_of_cells(side) + 24, rows=rows, top=top_of_bars)
        pen.text((left, size[1] - 40), protocol(side.result), fill=_MUTED, font=_font(16))
        left += width + _GAP
    _scale(pen, (_GAP // 2 + _LEFT + 80, size[1] - 84), signed=signed, limit=limit)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _width_of_cells(side: Side) -> int:
    return max(_CELL * len(side.result["timesteps"]), 420)


def _cells(pen: ImageDraw.ImageDraw, side: Side, left: int, *, signed: bool, limit: float, rows: list[int]) -> None:
    labels, columns = charts.row_labels(side.result), charts.column_labels(side.result)
    delta = charts.matrix(side.result, "delta")[rows]
    wide = _width_of_cells(side) / len(columns)
    for r, row in enumerate(rows):
        y = _TOP + r * _CELL
        pen.text((left - 12, y + _CELL / 2), labels[row], fill=_INK, font=_font(18), anchor="rm")
        for k in range(len(columns)):
            box = left + k * wide, y, left + (k + 1) * wide - 2, y + _CELL - 2
            pen.rectangle(box, fill=_colour(delta[r, k], signed=signed, limit=limit))
    every = max(1, round(56 / wide + 0.5))
    bottom = _TOP + _CELL * len(rows)
    for k in range(0, len(columns), every):
        pen.text((left + (k + 0.5) * wide, bottom + 14), columns[k], fill=_INK, font=_font(16), anchor="mm")
    pen.text((left, bottom + 30), side.column_title, fill=_MUTED, font=_font(16))


def _colour(value: float, *, signed: bool, limit: float) -> tuple[int, int, int] | str:
    if not np.isfinite(value):
        return "#FFFFFF"
    share = (value / limit + 1) / 2 if signed else abs(value) / limit
    return _rgb(charts.scale_of(signed), float(np.clip(share, 0, 1)))


def _rgb(scale: str, share: float) -> tuple[int, int, int]:
    return tuple(int(part) for part in sample_colorscale(scale, share)[0][4:-1].split(","))


def _bars(pen: ImageDraw.ImageDraw, side: Side, left: int, *, rows: list[int], top: float) -> None:
    result, wide = side.result, _BARS - 90
    pen.text(
        (left, _TOP - 16), f"CED, {result['confidence']:.0%} interval, rank", fill=_MUTED, font=_font(16), anchor="ls"
    )
    for r, row in enumerate(rows):
        y = _TOP + r * _CELL + _CELL / 2
        low, ced, high = (left + wide * result[key][row] / top for key in ("ci_low", "ced", "ci_high"))
        pen.rectangle((left, y - 11, max(left + 1, ced), y + 11), fill=LIGHT.intact)
        pen.line((low, y, high, y), fill=_INK, width=2)
        for end in (low, high):
            pen.line((end, y - 5, end, y + 5), fill=_INK, width=2)
        rank = result["order"].index(row) + 1
        pen.text((left + wide + 44, y), f"#{rank}", fill=_MUTED, font=_font(16), anchor="rm")


def _scale(pen: ImageDraw.ImageDraw, corner: tuple[int, int], *, signed: bool, limit: float) -> None:
    x, y = corner
    for step in range(200):
        pen.line((x + step, y, x + step, y + 16), fill=_rgb(charts.scale_of(signed), step / 199))
    ends = (f"-{limit:g} (sameness)", f"+{limit:g} (noise)") if signed else ("0", f"{limit:g}")
    pen.text((x - 8, y + 8), ends[0], fill=_INK, font=_font(16), anchor="rm")
    pen.text((x + 208, y + 8), f"{ends[1]}, nats per dimension", fill=_INK, font=_font(16), anchor="lm")


def protocol(result: dict[str, Any]) -> str:
    asked = result["protocol"]
    words = [
        f"CED on {result['variable']}", f"{asked['samples']} images", f"{asked['timesteps']} columns",
        f"seed {asked['seed']}", f"estimator {result['estimator']}", asked.get("process", ""),
        "within classes" if result["condition"] == "class" else "",
    ]  # fmt: skip
    return " · ".join(word for word in words if word)


def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(size)
