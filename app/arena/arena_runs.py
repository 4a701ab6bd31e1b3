"""The arenas that there are, those that ship and one's own, and how long a new one would take."""

import json
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import jobs, measuring
from app.errors import show
from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.arena.result import arena_result
from engine.assets import ASSETS, read_asset
from engine.errors import AssetError
from engine.importance.config import CedConfig
from engine.models.bundled import ModelInfo
from engine.runs.store import Run

_FOLDER = ASSETS / "arena"
#: multiply-adds times two a second, of two cores at work on small models; only where nothing was measured here yet
_GUESSED_RATE = 5e10
_FORWARDS_A_STEP = 3  # forward and backward, in forwards
_STAGED = 1.2  # training of one that prunes in stages: its first stages have more blocks than the last depth


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An arena that ships with the product."""

    name: str
    content: dict[str, Any]

    @property
    def title(self) -> str:
        """With what tells it from others of the same model and data."""
        arena, training = self.content, self.content["config"]["finetune"]
        parts = [f"{arena['model']} on {arena['data']}", f"{training['num_steps']:,} steps"]
        if training.get("distill_weight"):
            parts.append(f"distillation {training['distill_weight']:g}")
        if self.share < 1:
            parts.append(f"{len(arena['bouts'])} of {arena['planned']} trainings")
        return " · ".join(parts)

    @property
    def share(self) -> float:
        """Of what was planned, how much is measured."""
        return len(self.content["bouts"]) / (self.content.get("planned") or len(self.content["bouts"]) or 1)


def recorded() -> list[Recorded]:
    """The most complete first, and of these the largest. Says so where one is damaged, and leaves it out."""
    found = []
    for file in sorted(_FOLDER.glob("*.json")):
        try:
            found.append(Recorded(name=file.stem, content=_checked(file.name, read_asset(file))))
        except AssetError as error:
            show(str(error))
    return sorted(found, key=lambda arena: (-arena.share, -len(arena.content["bouts"])))


@st.cache_data(max_entries=16, show_spinner=False)
def _checked(name: str, content: bytes) -> dict[str, Any]:
    try:
        arena = json.loads(content)
        missing = [key for key in ("scores", "bouts", "result", "model", "data", "config") if key not in arena]
        if missing:
            raise ValueError(f"{missing[0]!r} is missing")
        return _with_result_of_today(arena)
    except (ValueError, TypeError, KeyError) as error:
        raise AssetError(f"the recorded arena assets/arena/{name} can't be read ({error}); get it again") from error


def own() -> list[Run]:
    """Newest first."""
    return [run for found in jobs.summaries("arena") if (run := jobs.readable(found.id)) is not None]


def content_of(run: Run) -> dict[str, Any] | None:
    """What an arena has come to so far, with what was asked; None before the first set is measured."""
    found = measuring.result(run)
    return found and {
        **_with_result_of_today(found),
        **{key: run.params.get(key) for key in ("model", "data", "config")},
    }


def _with_result_of_today(arena: dict[str, Any]) -> dict[str, Any]:
    """Arenas of before strategies took part have the same bouts, but say less of what follows from them."""
    result = arena["result"]
    if "chance" in result:
        return arena
    return {**arena, "result": _worked_out(result["num_dropped"], result["num_seeds"], arena["scores"], arena["bouts"])}


@st.cache_data(max_entries=16, show_spinner=False)
def _worked_out(num_dropped: int, num_seeds: int, scores: dict, bouts: list[dict]) -> dict[str, Any]:
    return arena_result(ArenaConfig(num_dropped=num_dropped, num_seeds=num_seeds), scores, bouts)


def flops_of_forward(info: ModelInfo) -> float:
    """Of the blocks, for one image: twice the multiply-adds of the linear layers and of attention."""
    network = info.network
    width = network["hidden_size"]
    tokens = (network["input_size"] / network["patch_size"]) ** 2
    linear = tokens * width**2 * (4 + 2 * network.get("mlp_ratio", 4.0))
    return 2 * info.depth * (linear + 2 * tokens**2 * width)


def estimate_seconds(info: ModelInfo, config: ArenaConfig) -> tuple[float, bool]:
    """Seconds of a whole arena and whether they rest on a training that was measured on this machine.

    The most it can take: entrants that choose the same blocks share their training.
    """
    measured = jobs.seconds_per_image(info.name)
    seconds_of_forward = measured / _FORWARDS_A_STEP if measured else flops_of_forward(info) / _GUESSED_RATE
    forwards = _adapting(config) + _scoring(info, config) + config.num_seeds * _round(info, config)
    return seconds_of_forward * forwards, bool(measured)


def _adapting(config: ArenaConfig) -> float:
    """In forwards of one image through the whole model, as all that follow."""
    return _FORWARDS_A_STEP * config.adapt_steps * config.finetune.batch_size


def _scoring(info: ModelInfo, config: ArenaConfig) -> float:
    """Before the first round: the criteria together, then each reading of CED; weightings share their passes."""
    one_pass = config.samples * config.timesteps * info.depth  # each block left out once
    criteria = any(not ENTRANTS[name].ced and not ENTRANTS[name].progressive for name in config.entrants)
    readings = {
        (entrant.ced["variable"], entrant.greedy)
        for entrant in (ENTRANTS[name] for name in config.entrants)
        if entrant.ced and not entrant.progressive
    }
    passes = 0.5 * criteria + sum(
        _pass(variable) * (config.num_dropped if greedy else 1) for variable, greedy in readings
    )
    return passes * one_pass


def _pass(variable: str) -> float:
    """Of the forwards that each block left out would take, half is shared; not in sampling."""
    return 1.0 if variable == "samples" else 0.5


def _round(info: ModelInfo, config: ArenaConfig) -> float:
    """One seed of everybody."""
    kept = 1 - config.num_dropped / info.depth
    images = config.finetune.num_steps * config.finetune.batch_size
    guidance = 1 if config.protocol.cfg_scale == 1 else 2
    drawn = guidance * config.protocol.num_steps * config.protocol.num_images
    teacher = images if config.finetune.distill_weight else 0  # a forward of the intact model
    staged = [ENTRANTS[name] for name in config.entrants if ENTRANTS[name].progressive]
    num_sets = len(config.entrants) - len(staged) + config.num_random
    training = _FORWARDS_A_STEP * images * kept
    total = _FORWARDS_A_STEP * images + teacher + drawn  # the intact model
    total += num_sets * (training + teacher + kept * drawn)
    for entrant in staged:
        passes = _pass((entrant.ced or {}).get("variable", CedConfig.variable))
        passes *= config.num_dropped if entrant.greedy else entrant.prune["num_stages"]
        scoring = passes * config.samples * config.timesteps * info.depth
        total += _STAGED * training + teacher + kept * drawn + scoring
    return total


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} hours"
