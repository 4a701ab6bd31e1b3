"""The models that ship with the product: what they are, without opening their weights. Free of torch."""

import json
from dataclasses import dataclass
from pathlib import Path

from engine.assets import ASSETS
from engine.errors import AssetError

_FOLDER = ASSETS / "models"


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What ``config.json`` beside the weights says."""

    name: str
    folder: Path
    process: str  # "diffusion" or "flow"
    network: dict  # official constructor arguments: depth, hidden_size, …
    class_names: tuple[str, ...]
    trained_on: str
    parent: str | None
    kept_blocks: tuple[int, ...]  # of the parent; all blocks for a model that wasn't pruned
    labels_trained: bool

    @property
    def depth(self) -> int:
        return self.network["depth"]

    @property
    def title(self) -> str:
        kind = "DiT" if self.process == "diffusion" else "SiT"
        return f"{kind} that draws {self.trained_on}"


def bundled_model_names() -> list[str]:
    """Those adapted to digits first: they make the better first click."""
    names = (path.parent.name for path in _FOLDER.glob("*/config.json"))
    return sorted(names, key=lambda name: (not name.endswith("-digits"), "sit" not in name, name))


def read_model_info(folder: Path, *, name: str | None = None) -> ModelInfo:
    """Reads a model folder of ours: a bundled model, or a stage of a run. Raises AssetError."""
    file = folder / "config.json"
    try:
        about = json.loads(file.read_text())
        return ModelInfo(
            name=name or folder.name,
            folder=folder,
            process=about["process"],
            network=about["network"],
            class_names=tuple(about["class_names"]),
            trained_on=about["trained_on"],
            parent=about.get("parent"),
            kept_blocks=tuple(about.get("kept_blocks", range(about["network"]["depth"]))),
            labels_trained=about.get("labels_trained", True),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{file} can't be read as a model description ({error})") from error


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
