"""Small pictures as HTML: always with alt text, the smallest enlarged without smoothing, inside the page (no extra
requests)."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from app import known
from app.known import DataInfo
from engine.data.bundled import bundled_data

SMOOTH_FROM = 64  # pixels; smaller pictures are shown pixel by pixel


@dataclass(frozen=True)
class Pair:
    first: bytes  # PNG
    second: bytes  # PNG
    caption: str


def png(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> PNG"""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6 if len(image) < SMOOTH_FROM else 1)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def img(content: bytes, alt: str, *, css: str = "") -> str:
    css += " smooth" if _width(content) >= SMOOTH_FROM else ""
    return f'<img class="{css.strip()}" src="{data_uri(content)}" alt="{html.escape(alt, quote=True)}">'


def _width(content: bytes) -> int:
    """Of a PNG, in pixels."""
    return int.from_bytes(content[16:20])


def cell(image: np.ndarray, words: str, *, look: str, seed: int, pick: bool) -> str:
    """A small picture that is enlarged, with ``words`` below it, under the pointer or with the keyboard's focus. Its
    pixels are in the page once, as a background. With ``pick`` a click on it says its ``seed``."""
    words = html.escape(words, quote=True)
    smooth = " smooth" if image.shape[1] >= SMOOTH_FROM else ""
    role = "button" if pick else "img"
    return (
        f'<span class="ep-cell {look}{smooth}" role="{role}" tabindex="0" aria-label="{words}" data-say="{words}" '
        f'data-seed="{seed}" style="--picture:url({data_uri(png(image))})"></span>'
    )


def pairs(
    shown: Sequence[Pair], *, names: tuple[str, str], looks: tuple[str, str] = ("intact", "pruned"), css: str = ""
) -> str:
    """Two pictures above each other, drawn from the same seed. ``looks`` colours their edges; ``css``: "eight" for two
    rows of four, "old" to grey them while newer ones are made."""
    figures = "".join(
        f"<figure>{img(pair.first, f'{names[0]}, {pair.caption}', css=looks[0])}"
        f"{img(pair.second, f'{names[1]}, {pair.caption}', css=looks[1])}"
        f"<figcaption>{html.escape(pair.caption)}</figcaption></figure>"
        for pair in shown
    )
    return f'<div class="ep-pairs {css}">{figures}</div>'


@st.cache_data(max_entries=32, show_spinner=False)
def tiles(file: str, caption: str) -> str:
    """A wide strip of square pictures, cut up and laid out in rows of eight."""
    with Image.open(file) as strip:
        side = strip.height
        cut = [np.asarray(strip.convert("RGB").crop((x, 0, x + side, side))) for x in range(0, strip.width, side)]
    images = "".join(img(png(picture), f"{caption}, picture {i}") for i, picture in enumerate(cut))
    return (
        f'<div class="ep-tiles">{images}</div><p class="ep-scale" style="margin-top:.5rem">{html.escape(caption)}</p>'
    )


def class_thumbs(data: DataInfo, class_name: str, num: int) -> str:
    """The first images of one class."""
    shown = known.thumbnails(data, class_name, num)
    if not shown:
        return '<p class="ep-scale">no pictures kept</p>'
    return thumbs([_content(picture) for picture in shown], f"{data.name}: {class_name}")


def _content(picture: np.ndarray | Path) -> bytes:
    return picture.read_bytes() if isinstance(picture, Path) else png(picture)


def thumbs(contents: Sequence[bytes], alt: str, *, css: str = "") -> str:
    """PNG files in rows of eight; ``css``: "four" for rows of four."""
    images = "".join(img(content, f"{alt}, image {i}") for i, content in enumerate(contents))
    return f'<div class="ep-thumbs {css}">{images}</div>'


@st.cache_data(max_entries=64, show_spinner=False)
def data_strip(data: str, num: int = 8) -> bytes:
    """One image of each of the first classes, side by side."""
    found = bundled_data(data)
    first = [np.flatnonzero(found.labels == label)[1] for label in range(min(num, len(found.class_names)))]
    return png(np.concatenate(list(found.images[first]), axis=1))
