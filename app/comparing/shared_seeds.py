"""Pictures of several stages, matched by seed and class: which ones all of them drew, and what is left out.

The pictures stay where they are, on the disk if they were written without compression; only those shown are touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from app import address, known
from app.comparing.picked import Picked
from engine.errors import EngineError
from engine.models.bundled import read_model_info
from engine.runs.stage import PictureScores, Stage


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The pictures of one stage."""

    images: np.ndarray  # uint8 (N, H, W, 3)
    classes: list[str]  # (N,)
    seeds: list[int]  # (N,)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """``rows[k, i]`` is where stage k keeps the picture of ``seeds[i]`` and ``classes[i]``."""

    classes: list[str]
    seeds: list[int]
    rows: np.ndarray  # (num_stages, num_shared)
    left_out: list[tuple[int, int]]  # per stage: its pictures with a seed that not all drew; with another class

    def of(self, *stages: int) -> "Shared":
        """The same pictures, of these stages only."""
        return replace(self, rows=self.rows[list(stages)], left_out=[self.left_out[stage] for stage in stages])


def match(kept: Sequence[Kept]) -> Shared:
    """In the order of the first. A picture that is there twice counts once."""
    places = [
        {key: row for row, key in reversed(list(enumerate(zip(one.seeds, one.classes, strict=True))))} for one in kept
    ]
    keys = [key for key in dict.fromkeys(zip(kept[0].seeds, kept[0].classes, strict=True))
            if all(key in place for place in places)]  # fmt: skip
    seeds_of_all = set.intersection(*(set(one.seeds) for one in kept))
    left_out = []
    for place in places:
        other_seed = sum(seed not in seeds_of_all for seed, _ in place)
        left_out.append((other_seed, len(place) - len(keys) - other_seed))
    return Shared(
        seeds=[seed for seed, _ in keys],
        classes=[name for _, name in keys],
        rows=np.array([[place[key] for key in keys] for place in places], dtype=np.int64).reshape(len(kept), len(keys)),
        left_out=left_out,
    )


def stamp(stage: Stage) -> tuple[str, int, int]:
    """Changes with the stage's pictures."""
    file = stage.path / "samples.npz"
    try:
        about = file.stat()
    except OSError:
        return str(file), 0, 0
    return str(file), about.st_mtime_ns, about.st_size


def kept_by(picked: Picked) -> Kept | None:
    """None for a stage without pictures. Raises AssetError for a damaged file."""
    return _kept(stamp(picked.stage), class_names(picked.stage), picked.stage)


def shared_by(picked: Sequence[Picked]) -> Shared:
    """Of stages that all have pictures."""
    return _matched(tuple((stamp(one.stage), class_names(one.stage)) for one in picked), picked)


def scores_of(picked: Picked) -> PictureScores | None:
    """None where the stage was evaluated before they were kept. Raises AssetError for a damaged file."""
    return _scores(stamp(picked.stage), picked.stage)


@st.cache_resource(max_entries=8, show_spinner=False)
def _kept(stamp: tuple, names: tuple[str, ...], _stage: Stage) -> Kept | None:
    found = _stage.samples()
    if found is None:
        return None
    images, labels, seeds = found
    return Kept(images=images, classes=[named(names, label) for label in labels.tolist()], seeds=seeds.tolist())


@st.cache_resource(max_entries=8, show_spinner=False)
def _matched(stamps: tuple, _picked: Sequence[Picked]) -> Shared:
    return match([kept for one in _picked if (kept := kept_by(one)) is not None])


@st.cache_resource(max_entries=8, show_spinner=False)
def _scores(stamp: tuple, _stage: Stage) -> PictureScores | None:
    return _stage.picture_scores()


def named(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else f"class {label}"


def class_names(stage: Stage) -> tuple[str, ...]:
    """As the model calls them that drew the pictures, else its data; none where neither is there any more."""
    if (stage.path / "config.json").exists():
        return read_model_info(stage.path).class_names
    return _names_elsewhere(str(stage.info.get("model")), str(stage.info.get("data")))


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def _names_elsewhere(model: str, data: str) -> tuple[str, ...]:
    for find, name in ((address.model_info, model), (known.dataset, data)):
        try:
            return find(name).class_names
        except EngineError:
            continue
    return ()
