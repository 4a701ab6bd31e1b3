"""The arenas that there are, those that ship and one's own, and how long a new one would take."""

import json
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import jobs, measuring
from app.errors import show
from engine.arena.config import ArenaConfig
from engine.assets import ASSETS, read_asset
from engine.errors import AssetError
from engine.models.bundled import ModelInfo
from engine.runs.store import Run

_FOLDER = ASSETS / "arena"
#: multiply-adds times two a second, of two cores at work on small models; only where nothing was measured here yet
_GUESSED_RATE = 5e10
_FORWARDS_A_STEP = 3  # forward and backward, in forwards


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An arena that ships with the product."""

    name: str
    content: dict[str, Any]


def recorded() -> list[Recorded]:
    """Says so where one is damaged, and leaves it out."""
    found = []
    for file in sorted(_FOLDER.glob("*.json")):
        try:
            found.append(Recorded(name=file.stem, content=_checked(file.name, read_asset(file))))
        except AssetError as error:
            show(str(error))
    return found


@st.cache_data(max_entries=16, show_spinner=False)
def _checked(name: str, content: bytes) -> dict[str, Any]:
    try:
        arena = json.loads(content)
        missing = [key for key in ("scores", "bouts", "result", "model", "data", "config") if key not in arena]
        if missing:
            raise ValueError(f"{missing[0]!r} is missing")
        return arena
    except (ValueError, TypeError) as error:
        raise AssetError(f"the recorded arena assets/arena/{name} can't be read ({error}); get it again") from error


def own() -> list[Run]:
    """Newest first."""
    return [run for found in jobs.summaries("arena") if (run := jobs.readable(found.id)) is not None]


def content_of(run: Run) -> dict[str, Any] | None:
    """What an arena has come to so far, with what was asked; None before the first set is measured."""
    found = measuring.result(run)
    return found and {**found, **{key: run.params.get(key) for key in ("model", "data", "config")}}


def flops_of_forward(info: ModelInfo) -> float:
    """Of the blocks, for one image: twice the multiply-adds of the linear layers and of attention."""
    network = info.network
    width = network["hidden_size"]
    tokens = (network["input_size"] / network["patch_size"]) ** 2
    linear = tokens * width**2 * (4 + 2 * network.get("mlp_ratio", 4.0))
    return 2 * info.depth * (linear + 2 * tokens**2 * width)


def estimate_seconds(info: ModelInfo, config: ArenaConfig) -> tuple[float, bool]:
    """Seconds of a whole arena and whether they rest on a recovery that was measured on this machine.

    The most it can take: entrants that choose the same blocks share their training.
    """
    forward, measured = flops_of_forward(info), jobs.seconds_per_step(info.name)
    rate = _GUESSED_RATE
    if measured:
        rate = _FORWARDS_A_STEP * forward * config.finetune.batch_size / measured
    kept = 1 - config.num_dropped / info.depth
    num_sets = len(config.entrants) + config.num_random
    guidance = 1 if config.protocol.cfg_scale == 1 else 2
    images = (
        _FORWARDS_A_STEP * config.finetune.num_steps * config.finetune.batch_size
        + guidance * config.protocol.num_steps * config.protocol.num_images
    )
    passes = 0.5 + ("ced-samples" in config.entrants)  # of all blocks, one left out: half is shared, not in sampling
    scoring = config.samples * config.timesteps * info.depth * passes
    bouts = images * config.num_seeds * (1 + kept * num_sets)
    return forward * (scoring + bouts) / rate, bool(measured)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} hours"
