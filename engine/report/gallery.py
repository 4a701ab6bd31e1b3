"""Pictures of the same seeds, stage below stage; few enough and small enough to be sent by mail."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from engine.report.lineage import class_names, way_to_last
from engine.report.page import section
from engine.runs.stage import Stage

NUM_SEEDS = 24
_MOST_STAGES = 4  # below each other
_LARGEST_SIDE = 192  # pixels; larger pictures are made smaller
_SMALL_SIDE = 64  # up to here a picture is kept bit by bit

Samples = tuple[np.ndarray, np.ndarray, np.ndarray]


def gallery_section(stages: Sequence[Stage]) -> str:
    drawn = [(stage, samples) for stage in way_to_last(stages) if (samples := stage.samples())]
    drawn = _some(drawn)
    if not drawn:
        return ""
    title = "Before and after" if len(drawn) > 1 else "What it draws"
    places = [_places(samples) for _, samples in drawn]
    keys = [key for key in places[0] if all(key in found for found in places)]
    if not keys:
        return section(title, "<p>The stages share no seed and class, so their pictures can't be paired.</p>")
    shown = _every_class(keys)
    names = class_names(drawn[-1][0])
    side = drawn[0][1][0].shape[1]
    how = f"{len(shown)} of {len(keys)} seeds are shown: the first of each class, not chosen."
    if side > _LARGEST_SIDE:
        how += f" Shown at {_LARGEST_SIDE} of {side} pixels."
    figures = [_figure(key, drawn, places, names) for key in shown]
    legend = "".join(f"<li>{_look(stage)}</li>" for stage, _ in drawn)
    intro = (
        f'<p>From the same starting noise and class, from top to bottom:</p><ol class="looks">{legend}</ol><p>{how}</p>'
        if len(drawn) > 1
        else f"<p>{how}</p>"
    )
    return section(title, intro, _control(drawn), f'<div class="gallery">{"".join(figures)}</div>')


def picture(image: np.ndarray, caption: str) -> str:
    """uint8 (H, W, 3) -> an <img> that needs no file."""
    buffer, kind = io.BytesIO(), "png"
    shown = Image.fromarray(image)
    if max(shown.size) <= _SMALL_SIDE:
        shown.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        shown.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
        shown.save(buffer, "JPEG", quality=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(caption)}">'


def _some(drawn: list[tuple[Stage, Samples]]) -> list[tuple[Stage, Samples]]:
    """The first, the last, and evenly some between."""
    if len(drawn) <= _MOST_STAGES:
        return drawn
    chosen = np.linspace(0, len(drawn) - 1, _MOST_STAGES).round().astype(int)
    return [drawn[place] for place in chosen]


def _places(samples: Samples) -> dict[tuple[int, int], int]:
    """(seed, label) -> place."""
    _, labels, seeds = samples
    return {key: place for place, key in enumerate(zip(seeds.tolist(), labels.tolist(), strict=True))}


def _every_class(keys: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first of each class, then the second of each, …, until there are enough; class by class."""
    turns: dict[int, int] = {}
    ordered = []
    for place, (seed, label) in enumerate(keys):
        ordered.append((turns.get(label, 0), place, (seed, label)))
        turns[label] = turns.get(label, 0) + 1
    chosen = sorted(ordered)[:NUM_SEEDS]
    return [key for _, _, key in sorted(chosen, key=lambda item: (item[2][1], item[1]))]


def _figure(
    key: tuple[int, int],
    drawn: list[tuple[Stage, Samples]],
    places: list[dict[tuple[int, int], int]],
    names: Mapping[int, str],
) -> str:
    seed, label = key
    what = names.get(label, f"class {label}")
    pictures = ""
    for (stage, samples), found in zip(drawn, places, strict=True):
        image = picture(samples[0][found[key]], f"{what}, stage {stage.number}, seed {seed}")
        pictures += f'<span class="{_kind(stage)}">{image}</span>'
    return f'<figure><div class="stack">{pictures}</div><figcaption>{escape(what)}<br>seed {seed}</figcaption></figure>'


def _kind(stage: Stage) -> str:
    return "pruned" if stage.info["dropped_blocks"] or stage.number else "intact"


def _look(stage: Stage) -> str:
    return f'<i class="{_kind(stage)}"></i>stage {stage.number}: {escape(stage.title)}'


def _control(drawn: Sequence[tuple[Stage, Samples]]) -> str:
    """Works with the page's script alone, and is hidden without it."""
    if len(drawn) < 2:
        return ""
    first, last = (stage.number for stage in (drawn[0][0], drawn[-1][0]))
    return (
        f'<div class="control" hidden><label><input type="checkbox"> Lay stage {last} over stage {first}</label>'
        f'<label>stage {first} <input type="range" class="reveal" min="0" max="100" value="50" '
        f'aria-label="how much of stage {last} is seen"> stage {last}</label></div>'
    )
