"""The figures of a report as HTML and SVG text: plain data in, a string out. Free of torch.

Colours that carry values are written into the figure; everything else takes the page's, light or dark.
"""

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

_BLUE, _WHITE, _RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)
_MISSING = "#8884"
_CELL_HEIGHT, _LEFT, _TOP = 22, 64, 26
_MAP_WIDTH, _BAR_LEFT, _BAR_WIDTH = 560, 660, 200
_CURVE_WIDTH, _CURVE_HEIGHT = 900, 260


def block_strip(all_blocks: Sequence[int], kept: Sequence[int], dropped: Sequence[int]) -> str:
    """One square per block of the loaded model: kept, dropped in this stage, or gone before."""
    squares = []
    for block in all_blocks:
        kind = "dropped" if block in dropped else "kept" if block in kept else "gone"
        squares.append(f'<span class="{kind}" title="block {block}: {kind}">{block}</span>')
    label = f"{len(kept)} of {len(all_blocks)} blocks kept: {', '.join(map(str, kept))}"
    return f'<div class="strip" role="img" aria-label="{label}">{"".join(squares)}</div>'


def ced_figure(ced: dict) -> str:
    """Heatmap blocks × columns of the signed ΔH, and beside each row the block's CED with its interval."""
    delta = np.array(ced["delta"], dtype=float)  # (N, K); None becomes nan
    num_blocks, num_columns = delta.shape
    limit = colour_limit(delta)
    width, bottom = _MAP_WIDTH / num_columns, _TOP + num_blocks * _CELL_HEIGHT
    cells = [
        f'<rect x="{_LEFT + k * width:.1f}" y="{_TOP + n * _CELL_HEIGHT}" width="{width:.2f}" height="{_CELL_HEIGHT}" '
        f'fill="{diverging(value, limit)}"><title>block {ced["blocks"][n]}, {_short(ced["timesteps"][k])}: '
        f"ΔH {_signed(value)} nats</title></rect>"
        for n, row in enumerate(delta.tolist())
        for k, value in enumerate(row)
    ]
    rows = [
        f'<text x="{_LEFT - 8}" y="{_TOP + (n + 0.68) * _CELL_HEIGHT:.0f}" class="end">block {block}</text>'
        for n, block in enumerate(ced["blocks"])
    ]
    shown = range(0, num_columns, math.ceil(num_columns / 10))
    columns = [
        f'<text x="{_LEFT + (k + 0.5) * width:.1f}" y="{bottom + 16}" class="mid">{_short(ced["timesteps"][k])}</text>'
        for k in shown
    ]
    titles = (
        f'<text x="{_LEFT}" y="14" class="name">ΔH at each column, in nats</text>'
        f'<text x="{_BAR_LEFT}" y="14" class="name">CED of the block, {ced["confidence"]:.0%} interval</text>'
    )
    label = f"Heatmap of {num_blocks} blocks and {num_columns} columns; least important first: {_listed(ced['order'])}"
    drawing = titles + "".join(cells + rows + columns) + _ced_bars(ced) + _colour_scale(limit, bottom + 34)
    return _svg(_BAR_LEFT + _BAR_WIDTH + 30, bottom + 74, label, drawing)


def loss_figure(stages: Sequence[tuple[int, list[tuple[int, float]]]]) -> str:
    """Loss over steps, stage after stage: (stage, [(step, loss), …])."""
    losses = [loss for _, points in stages for _, loss in points]
    low, high = min(losses), float(np.quantile(losses, 0.99))
    high = high if high > low else low + 1.0
    total = sum(points[-1][0] for _, points in stages)
    left, right, top, bottom = 56, _CURVE_WIDTH - 12, 30, _CURVE_HEIGHT - 44

    def place(step: float, loss: float) -> str:
        share = (min(loss, high) - low) / (high - low)
        return f"{left + (right - left) * step / total:.1f},{bottom - (bottom - top) * share:.1f}"

    parts = [
        f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{left - 8}" y="{y + 4:.1f}" class="end">{low + (high - low) * share:.3g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
        for y in [bottom - (bottom - top) * share]
    ]
    before = 0
    for stage, points in stages:
        x = left + (right - left) * before / total
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" class="stage"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{top - 8}" class="name">stage {stage}</text>')
        parts.append(
            f'<polyline points="{" ".join(place(before + step, loss) for step, loss in points)}" class="curve"/>'
        )
        before += points[-1][0]
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + (right - left) * share
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" class="mid">{round(total * share)}</text>')
    parts.append(
        f'<text x="{(left + right) / 2}" y="{bottom + 38}" class="mid name">fine-tuning steps, all stages</text>'
    )
    label = f"Training loss over {total} steps, from {losses[0]:.3g} to {losses[-1]:.3g}"
    return _svg(_CURVE_WIDTH, _CURVE_HEIGHT, label, "".join(parts))


def picture(image: np.ndarray, caption: str) -> str:
    """uint8 (H, W, 3) -> an <img> that needs no file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(caption, quote=True)}">'


def colour_limit(delta: np.ndarray) -> float:
    """Value at which colours are full: the 98th percentile of |ΔH|, so that one block can't bleach the others."""
    known = np.abs(delta[np.isfinite(delta)])
    return float(np.quantile(known, 0.98)) or 1.0 if known.size else 1.0


def diverging(value: float, limit: float) -> str:
    """Blue below zero, white at zero, red above, as a CSS colour."""
    if not math.isfinite(value):
        return _MISSING
    share = max(-1.0, min(1.0, value / limit))
    end = _RED if share > 0 else _BLUE
    channels = [round(white + (full - white) * abs(share)) for white, full in zip(_WHITE, end, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def _ced_bars(ced: dict) -> str:
    low = min(0.0, *ced["ci_low"])
    high = max(*ced["ci_high"], low + 1e-12)

    def x(value: float) -> float:
        return _BAR_LEFT + _BAR_WIDTH * (value - low) / (high - low)

    parts = []
    for n, (value, least, most) in enumerate(zip(ced["ced"], ced["ci_low"], ced["ci_high"], strict=True)):
        y = _TOP + n * _CELL_HEIGHT
        start, end = sorted((x(0.0), x(value)))
        parts.append(
            f'<rect x="{start:.1f}" y="{y + 4}" width="{end - start:.1f}" height="{_CELL_HEIGHT - 8}" class="bar">'
            f"<title>block {ced['blocks'][n]}: CED {value:.4g} [{least:.4g}, {most:.4g}] nats</title></rect>"
            f'<line x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{y + 11}" y2="{y + 11}" class="interval"/>'
        )
    bottom = _TOP + len(ced["ced"]) * _CELL_HEIGHT
    ends = f'<text x="{x(0):.1f}" y="{bottom + 16}" class="mid">0</text>'
    ends += f'<text x="{_BAR_LEFT + _BAR_WIDTH}" y="{bottom + 16}" class="end">{high:.3g} nats</text>'
    return "".join(parts) + ends


def _colour_scale(limit: float, y: int) -> str:
    steps = 40
    width = 240 / steps
    boxes = "".join(
        f'<rect x="{_LEFT + i * width:.1f}" y="{y}" width="{width + 0.2:.1f}" height="10" '
        f'fill="{diverging(2 * i / (steps - 1) - 1, 1)}"/>'
        for i in range(steps)
    )
    ends = "".join(
        f'<text x="{_LEFT + share * 240}" y="{y + 26}" class="mid">{text}</text>'
        for share, text in ((0, f"−{limit:.2g}"), (0.5, "0"), (1, f"+{limit:.2g}"))
    )
    text = f"red: less certain without the block; colours are full at ±{limit:.2g}"
    note = f'<text x="{_LEFT + 270}" y="{y + 10}">{text}</text>'
    return boxes + ends + note


def _svg(width: int, height: int, label: str, drawing: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}" '
        f'style="max-width:{width}px">{drawing}</svg>'
    )


def _short(value: float) -> str:
    return f"{value:g}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.2g}"


def _signed(value: float) -> str:
    return f"{value:+.4f}" if math.isfinite(value) else "not computed"


def _listed(blocks: Sequence[int]) -> str:
    return ", ".join(map(str, blocks))
