"""A finished stage of a run: its folder, read as it stands or written so that it appears whole or not at all.

Free of torch.
"""

import os
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.arrays import read_arrays
from engine.errors import AssetError
from engine.evaluation.comparing import UNTRAINED_LABELS
from engine.runs.workspace import read_json, sync_folder, sync_tree, writing

_DAMAGE = (OSError, ValueError, KeyError, EOFError, SyntaxError, RuntimeError, TypeError, MemoryError)
_DAMAGE += (struct.error, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class PictureScores:
    """What the demo CNN says of each picture of a stage; see engine/evaluation/picture_scores.py."""

    features: np.ndarray  # float32 (N, F)
    weights: str  # SHA-256 of the CNN that gave them: only features of the same one have distances
    confidence: np.ndarray | None  # float32 (N,): 0 … 1; None where the CNN doesn't know the data's classes
    seen_class: np.ndarray | None  # (N,) class ids


@dataclass(frozen=True)
class Stage:
    """A finished stage; it never changes. All reading raises AssetError for a damaged file."""

    number: int
    path: Path
    info: dict[str, Any]  # stage.json

    @property
    def title(self) -> str:
        return self.info["title"]

    @property
    def depth(self) -> int:
        return self.info["depth"]

    @property
    def kept_blocks(self) -> tuple[int, ...]:
        return tuple(self.info["kept_blocks"])

    def metrics(self) -> dict[str, Any] | None:
        """Where they were written before they said so, whether the label table was trained is read from the model."""
        metrics = self._json("metrics.json")
        if isinstance(metrics, dict) and "labels_trained" not in metrics and self._labels_untrained():
            return {**metrics, "labels_trained": False, "warnings": [UNTRAINED_LABELS, *metrics.get("warnings", [])]}
        return metrics

    def _labels_untrained(self) -> bool:
        try:
            about = self._json("config.json")
        except AssetError:  # whoever opens the model is told; the numbers stand without it
            return False
        return isinstance(about, dict) and about.get("labels_trained") is False

    def ced(self) -> dict[str, Any] | None:
        return self._json("ced.json")

    def provenance(self) -> dict[str, Any] | None:
        """Versions, machine and hashes; None for a stage of before they were noted."""
        return self._json("provenance.json")

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Images uint8 (N, H, W, 3), labels (N,), seeds (N,). Images that were written without compression stay on
        the disk, mapped into memory."""
        file = self.path / "samples.npz"
        if not file.exists():
            return None
        with _reading(file):
            arrays = read_arrays(file)
            images, labels, seeds = arrays["arr_0"], arrays["labels"], arrays["seeds"]
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                raise ValueError(f"arr_0 is {images.dtype} {images.shape}, not uint8 (N, H, W, 3)")
            for name, column in (("labels", labels), ("seeds", seeds)):
                if column.shape != (len(images),) or column.dtype.kind not in "iu":
                    raise ValueError(f"{name} are {column.dtype} {column.shape}, not {len(images)} whole numbers")
            return images, labels, seeds

    def picture_scores(self) -> PictureScores | None:
        """None for a stage without pictures, or evaluated before these numbers were kept."""
        file = self.path / "samples.npz"
        if not file.exists():
            return None
        with _reading(file):
            arrays = read_arrays(file)
            if "demo_features" not in arrays:
                return None
            features, confidence = arrays["demo_features"], arrays.get("class_confidence")
            seen_class, num = arrays.get("seen_class"), len(arrays["arr_0"])
            columns = [column for column in (confidence, seen_class) if column is not None]
            if features.ndim != 2 or {len(column) for column in (features, *columns)} != {num}:
                raise ValueError(f"its scores aren't those of {num} pictures")
            return PictureScores(
                features=features, weights=str(arrays["demo_cnn"]), confidence=confidence, seen_class=seen_class
            )

    def _json(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        return read_json(file) if file.exists() else None


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise AssetError(f"{file} is damaged ({error}); evaluate this stage again") from error


def open_stage(folder: Path) -> Stage:
    """Raises AssetError for a damaged one."""
    return Stage(int(folder.name), folder, read_json(folder / "stage.json"))


def stage_folders(path: Path) -> dict[int, Path]:
    """The finished ones of the run at ``path``, by number."""
    try:
        names = os.listdir(path / "stages")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {number: path / "stages" / str(number) for number in sorted(int(name) for name in names if name.isdigit())}


@contextmanager
def new_stage_folder(path: Path, number: int) -> Iterator[Path]:
    """A folder to fill, stage.json included, in the run at ``path``; it becomes stages/<number> in one rename when the
    body ends well."""
    stages = path / "stages"
    final = stages / str(number)
    assert not final.exists(), f"stage {number} of {path.name} is written already"
    with writing(final):
        stages.mkdir(exist_ok=True)
        sync_folder(path)
        for leftover in stages.glob(".new-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        folder = stages / f".new-{number}-{secrets.token_hex(4)}"
        folder.mkdir()
    try:
        with writing(final):
            yield folder
            assert (folder / "stage.json").exists(), f"stage {number} has no stage.json"
            sync_tree(folder)
            os.rename(folder, final)
            sync_folder(stages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
