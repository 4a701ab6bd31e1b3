"""The ways of several stages from one noise, set beside each other: frames that belong together, and how far apart they
are."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, UnidentifiedImageError

from engine.errors import AssetError

CLOSE = 0.02  # of the way: estimates further apart in time aren't subtracted
MOST_PIXELS = 128  # side of a frame on screen; larger ones are made smaller, and lossy, to be quick


@dataclass(frozen=True, kw_only=True)
class Way:
    """One stage's frames, side by side in two pictures; at each place of the slider which of them, and what it says."""

    label: str
    colour: str
    side: int  # of a frame in the strips, in pixels
    state: str  # data URI
    estimate: str  # data URI
    places: list[int]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Film:
    """What the engine answered: ``estimates`` uint8 (F, H, W, 3) and so on; ``frames`` as in its result.json."""

    frames: list[dict[str, Any]]
    estimates: np.ndarray
    state_uri: str
    estimate_uri: str
    side: int
    sample: np.ndarray  # (H, W, 3), the last frame


def read_film(folder: Path, answer: dict[str, Any]) -> Film:
    """Raises AssetError where the pictures are gone or damaged."""
    return _read(str(folder), [dict(frame) for frame in answer["frames"]], answer["images"])


@st.cache_data(max_entries=24, show_spinner=False)
def _read(folder: str, frames: list[dict], files: dict[str, str]) -> Film:
    strips = {name: _strip(Path(folder) / file, len(frames)) for name, file in files.items()}
    uris = {name: _uri(strip) for name, strip in strips.items()}
    return Film(
        frames=frames,
        estimates=strips["estimate"],
        state_uri=uris["state"],
        estimate_uri=uris["estimate"],
        side=min(strips["state"].shape[1], MOST_PIXELS),
        sample=strips["state"][-1],
    )


def _strip(file: Path, num: int) -> np.ndarray:
    """(F, H, W, 3)"""
    try:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise AssetError(f"{file} can't be read ({error}); draw the way again") from error
    if pixels.shape[1] != num * pixels.shape[0]:
        raise AssetError(f"{file} holds {pixels.shape[1]} × {pixels.shape[0]} pixels, not {num} frames; draw it again")
    return np.stack(np.split(pixels, num, axis=1))


def _uri(strip: np.ndarray) -> str:
    """The frames as they are, or made smaller where they are large."""
    num, side = strip.shape[:2]
    picture, buffer = Image.fromarray(np.concatenate(list(strip), axis=1)), io.BytesIO()
    if side > MOST_PIXELS:
        picture = picture.resize((num * MOST_PIXELS, MOST_PIXELS), Image.Resampling.BOX)
        picture.save(buffer, format="WEBP", quality=88)
    else:
        picture.save(buffer, format="PNG")
    kind = "webp" if side > MOST_PIXELS else "png"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def places_beside(frames: Sequence[dict], others: Sequence[dict]) -> list[int]:
    """For each frame the place of the other stage's that belongs to it: the same step where both take the same ones,
    else the nearest in time. Ends belong to ends."""
    if same_steps(frames, others):
        return list(range(len(frames)))
    left = np.array([frame["noise_left"] for frame in others])
    places = [int(np.abs(left - frame["noise_left"]).argmin()) for frame in frames]
    return [0, *places[1:-1], len(others) - 1]


def same_steps(frames: Sequence[dict], others: Sequence[dict]) -> bool:
    return [frame["time"] for frame in frames] == [frame["time"] for frame in others]


def rms_apart(first: Film, other: Film, places: Sequence[int]) -> list[float | None] | None:
    """RMS difference of the two estimates in grey levels (0 … 255) at each frame of the first; None at those where the
    other has no frame at about the same time, and for all where the pictures are of different sizes."""
    if first.estimates.shape[1:] != other.estimates.shape[1:]:
        return None
    difference = first.estimates.astype(np.float64) - other.estimates[list(places)]
    rms = np.sqrt(np.square(difference).mean(axis=(1, 2, 3))).tolist()
    beside = [other.frames[place]["noise_left"] for place in places]
    return [
        value if abs(frame["noise_left"] - left) <= CLOSE else None
        for value, frame, left in zip(rms, first.frames, beside, strict=True)
    ]
