"""What can be chosen: bundled models and datasets first, then those that were opened here, most recently used first."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app import jobs
from engine.data.bundled import bundled_data, bundled_data_names
from engine.data.shared_classes import are_wnids, knows_all, rows_kept_by_name, same_classes, wnid_advice
from engine.errors import InputError
from engine.models.bundled import ModelInfo, bundled_models
from engine.runs import library
from engine.training.config import USUAL_ADAPTATION


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """A dataset as the pages show it, without opening its images."""

    name: str
    class_names: tuple[str, ...]
    counts: Mapping[str, int]  # by class name
    size: str  # of the images, in words
    about: str
    bundled: bool
    thumbnails: Mapping[str, tuple[Path, ...]]  # by class name; empty for a bundled dataset, whose images are at hand

    @property
    def num_images(self) -> int:
        return sum(self.counts.values())


def entries(kind: str) -> list[dict[str, Any]]:
    """What the library remembers, most recently used first; read again only when a file changed."""
    folder = jobs.workspace().root / "library" / kind
    try:
        state = tuple(sorted((file.name, file.stat().st_mtime_ns) for file in folder.glob("*.json")))
    except OSError:  # forgotten between the listing and the look
        state = (str(time.time()),)
    return _entries(str(jobs.workspace().root), kind, state)


@st.cache_resource(max_entries=16, show_spinner=False)
def _entries(root: str, kind: str, state: tuple) -> list[dict[str, Any]]:
    return library.list_entries(Path(root), kind)


def models() -> dict[str, ModelInfo]:
    """By name. Those whose description is damaged are left out; ``damaged`` names them."""
    opened = [entry for entry in entries("models") if "damaged" not in entry]
    found = {info.name: info for info in bundled_models()}
    for entry in opened:
        try:
            found[entry["name"]] = model_of_entry(entry)
        except InputError:
            continue
    return found


def damaged() -> list[str]:
    """One line for each remembered model or dataset that can't be read."""
    lines = []
    for kind in library.KINDS:
        for entry in entries(kind):
            if "damaged" in entry:
                lines.append(entry["damaged"])
            elif kind == "models":
                try:
                    model_of_entry(entry)
                except InputError as error:
                    lines.append(str(error))
    return lines


def model_titles() -> dict[str, str]:
    """Name -> a line such as ``dit-xl · DiT, 28 blocks, 675 M``."""
    bundled = {info.name: f"{info.name} · {info.title}, {info.depth} blocks" for info in bundled_models()}
    opened = {entry["name"]: entry for entry in entries("models")}
    return {name: bundled.get(name) or f"{name} · {summary(opened[name])}" for name in models()}


def summary(entry: dict[str, Any]) -> str:
    """A remembered model in half a line, as far as its entry says."""
    facts = entry.get("info", {})
    words = [kind_of(entry.get("process"))]
    if isinstance(facts.get("depth"), int):
        words.append(f"{facts['depth']} blocks")
    if isinstance(facts.get("parameters"), int | float):
        words.append(millions(facts["parameters"]))
    return ", ".join(words)


def kind_of(process: object) -> str:
    return {"diffusion": "DiT", "flow": "SiT"}.get(str(process), "model")


def millions(count: float) -> str:
    """675,129,632 -> ``675 M``"""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e8 else 1}f} M"


def model_of_entry(entry: dict[str, Any]) -> ModelInfo:
    """Raises InputError where the entry doesn't describe a network."""
    facts = entry.get("info", {})
    network = facts.get("network")
    needed = ("depth", "hidden_size", "num_heads", "patch_size", "in_channels", "input_size")
    if not isinstance(network, dict) or not all(isinstance(network.get(key), int) for key in needed):
        raise InputError(f"the model {entry['name']!r} was remembered without its shape; forget it and open it again")
    return ModelInfo(
        name=entry["name"],
        folder=Path(entry["ref"]),
        process=entry.get("process") or facts.get("process") or "diffusion",
        network=network,
        class_names=tuple(entry["class_names"]),
        trained_on=str(entry.get("data") or facts.get("trained_on") or ""),
        parent=facts.get("parent"),
        kept_blocks=tuple(facts.get("kept_blocks") or range(network["depth"])),
        labels_trained=bool(facts.get("labels_trained", True)),
    )


def data_names() -> list[str]:
    opened = [entry["name"] for entry in entries("data") if "damaged" not in entry]
    return bundled_data_names() + opened


def dataset(name: str) -> DataInfo:
    """Raises InputError for an unknown name, AssetError for a damaged one."""
    if name in bundled_data_names():
        data = bundled_data(name)
        size = "{1} × {0} px".format(*data.images.shape[1:3])
        counts = data.class_counts()
        return DataInfo(name=name, class_names=data.class_names, counts=counts, size=size, about=data.about,
                        bundled=True, thumbnails={})  # fmt: skip
    entry = library.read_entry(jobs.workspace(), "data", name)
    if entry is None:
        raise InputError(f"no dataset named {name!r}; there are {', '.join(data_names())}")
    facts, names = entry.get("facts", {}), tuple(entry["class_names"])
    # counts and pictures were written under the names found in the files; the names shown may be others by now
    found = facts.get("class_names") or names
    folder = library.pictures_folder(jobs.workspace(), "data", name)
    kept = entry.get("thumbnails") or {}
    pairs = list(zip(names, found, strict=False))
    return DataInfo(
        name=name,
        class_names=names,
        counts={shown: int(facts.get("counts", {}).get(before, 0)) for shown, before in pairs},
        size=size_in_words(facts),
        about=str(facts.get("about") or entry["ref"]),
        bundled=False,
        thumbnails={shown: tuple(folder / Path(file).name for file in kept.get(before, ())) for shown, before in pairs},
    )


def size_in_words(facts: dict[str, Any]) -> str:
    sizes = facts.get("sizes") or {}
    if not sizes.get("min") or not sizes.get("max"):
        return "encoded features" if facts.get("has_latents") else "–"
    low, high = ("{} × {}".format(*sizes[key]) for key in ("min", "max"))
    return f"{low} px" if low == high else f"{low} to {high} px"


def thumbnails(info: DataInfo, class_name: str, num: int) -> list[np.ndarray | Path]:
    """The first pictures of one class: pixels of a bundled dataset, files of one that was opened."""
    if not info.bundled:
        return [file for file in info.thumbnails.get(class_name, ())[:num] if file.is_file()]
    data = bundled_data(info.name)
    chosen = np.flatnonzero(data.labels == data.class_names.index(class_name))[:num]
    return list(data.images[chosen])


def how_they_fit(model: ModelInfo, class_names: tuple[str, ...], data_name: str) -> str:
    """What recovery does about the classes, in words; empty where there is nothing to say."""
    if same_classes(model.class_names, class_names):
        return ""
    shared = [class_names[row] for row in rows_kept_by_name(model.class_names, class_names)]
    kept = (
        f" {len(shared)} of the {len(class_names)} classes carry a name that the model knows ({few(shared)}) and keep "
        "what it learned about them."
        if shared
        else ""
    )
    if len(shared) < len(class_names) and are_wnids(class_names):
        kept += f" As it stands, {wnid_advice()}."
    return (
        f"{data_name} has other classes ({few(class_names)}) than {model.name} was trained on "
        f"({few(model.class_names)}). In recovery the label table is made afresh and every other weight is kept.{kept} "
        "Scores before any adaptation use the null class, that is, no class at all."
    )


def usual_adaptation(model: ModelInfo, data_name: str) -> int:
    """Steps of training the intact model on this data before its blocks are scored: some where it doesn't know the
    classes yet, none where it does."""
    names = dataset(data_name).class_names
    knows = model.labels_trained and knows_all(model.class_names, names)
    return 0 if knows else USUAL_ADAPTATION


def few(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:3]) + (f" … {names[-1]}" if len(names) > 3 else "")


def samples_there(data: str, samples: int) -> int:
    """So many images, or all of a dataset that has fewer."""
    return min(samples, dataset(data).num_images or samples)  # an old entry may not say
