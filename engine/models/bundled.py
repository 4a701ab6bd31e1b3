"""What a model is, without opening its weights; and the models that ship with the product. Free of torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.assets import ASSETS
from engine.errors import AssetError
from engine.models.presets import num_parameters

_FOLDER = ASSETS / "models"
_MOST_BLOCKS = 100_000


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What ``config.json`` beside the weights says, or what was found in files of others."""

    name: str
    folder: Path  # of the weights
    process: str  # "diffusion" or "flow"; "" where the files leave it open
    network: dict  # official constructor arguments: depth, hidden_size, …
    class_names: tuple[str, ...]
    trained_on: str
    parent: str | None
    kept_blocks: tuple[int, ...]  # of the parent; all blocks for a model that wasn't pruned
    labels_trained: bool
    layout: str = "ours"  # "ours", "official" or "diffusers"
    autoencoder: str | None = "autoencoder"  # the bundled one, a folder, a hub id; None for a model of pixels
    notes: tuple[str, ...] = ()  # one sentence each: what was assumed
    source: Path | None = None  # the file that the weights come from
    licence: str = ""
    depth_of_parent: int | None = None  # where blocks were dropped and it is known how many there were

    @property
    def depth(self) -> int:
        return self.network["depth"]

    @property
    def num_parameters(self) -> int | None:
        """None where the description doesn't say."""
        return num_parameters(self.network)

    @property
    def title(self) -> str:
        kind = {"diffusion": "DiT", "flow": "SiT"}.get(self.process, "DiT or SiT")
        return f"{kind} that draws {self.trained_on}"


def bundled_model_names() -> list[str]:
    """Those adapted to digits first: they make the better first click."""
    names = (path.parent.name for path in _FOLDER.glob("*/config.json"))
    return sorted(names, key=lambda name: (not name.endswith("-digits"), "sit" not in name, name))


def read_model_info(folder: Path, *, name: str | None = None) -> ModelInfo:
    """Reads a model folder of ours: a bundled model, a stage of a run, an export. Raises AssetError."""
    file = folder / "config.json"
    try:
        about = json.loads(file.read_bytes())
        depth = _depth(about["network"])
        return ModelInfo(
            name=name or folder.name,
            folder=folder,
            process=_text(about["process"]),
            network=about["network"],
            class_names=tuple(_text(known) for known in _items(about["class_names"])),
            trained_on=_text(about["trained_on"]),
            parent=about.get("parent"),
            kept_blocks=_block_numbers(about.get("kept_blocks", list(range(depth))), depth),
            labels_trained=bool(about.get("labels_trained", True)),
            layout=_text(about.get("layout", "ours")),
            autoencoder=_beside(folder, about.get("autoencoder", "autoencoder")),
            notes=tuple(_text(note) for note in _items(about.get("notes", []))),
            source=folder / "weights.safetensors",
            licence=_text(about.get("licence", "")),
            depth_of_parent=_depth_of_parent(about.get("depth_of_parent"), depth),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)[:160]
        raise AssetError(f"{file} can't be read as a model description ({reason})") from error


def _depth(network: Any) -> int:
    if not isinstance(network, dict) or not all(isinstance(value, int | float | str) for value in network.values()):
        raise ValueError("network is not a table of numbers")
    if type(network["depth"]) is not int or not 0 < network["depth"] < _MOST_BLOCKS:
        raise ValueError(f"depth is {str(network['depth'])[:40]}")
    return network["depth"]


def _block_numbers(blocks: Any, depth: int) -> tuple[int, ...]:
    if len(_items(blocks)) != depth or not all(type(block) is int and block >= 0 for block in blocks):
        raise ValueError(f"kept_blocks aren't {depth} block numbers")
    return tuple(blocks)


def _depth_of_parent(value: Any, depth: int) -> int | None:
    if value is not None and (type(value) is not int or not depth <= value < _MOST_BLOCKS):
        raise ValueError(f"depth_of_parent is {str(value)[:40]}, of a model with {depth} blocks")
    return value


def _items(value: Any) -> list:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:40]!r} is not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} is not a word")
    return value


def _beside(folder: Path, autoencoder: Any) -> str | None:
    """ "./autoencoder" is a folder beside the weights and nothing above it."""
    if autoencoder is None or not _text(autoencoder).startswith("./"):
        return autoencoder
    path = (folder / autoencoder).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"autoencoder {autoencoder[:60]!r} leads out of the folder")
    return str(path)


def bundled_models() -> list[ModelInfo]:
    """Those that can be read; ``damaged_models`` says what is wrong with the others."""
    return _read_all()[0]


def damaged_models() -> list[str]:
    """One line for each bundled model whose description can't be read."""
    return _read_all()[1]


def _read_all() -> tuple[list[ModelInfo], list[str]]:
    healthy, damaged = [], []
    for name in bundled_model_names():
        try:
            healthy.append(read_model_info(_FOLDER / name))
        except AssetError as error:
            damaged.append(str(error))
    return healthy, damaged
