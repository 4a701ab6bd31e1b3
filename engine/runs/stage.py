"""A finished stage of a run: its folder, read as it stands or written so that it appears whole or not at all.

Free of torch.
"""

import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import AssetError
from engine.runs.workspace import read_json, sync_folder, writing


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
        return self._json("metrics.json")

    def ced(self) -> dict[str, Any] | None:
        return self._json("ced.json")

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Images uint8 (N, H, W, 3), labels (N,), seeds (N,)."""
        file = self.path / "samples.npz"
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return arrays["arr_0"], arrays["labels"], arrays["seeds"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise AssetError(f"{file} is damaged ({error}); evaluate this stage again") from error

    def _json(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        return read_json(file) if file.exists() else None


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
        for leftover in stages.glob(".new-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        folder = stages / f".new-{number}-{secrets.token_hex(4)}"
        folder.mkdir()
    try:
        with writing(final):
            yield folder
            assert (folder / "stage.json").exists(), f"stage {number} has no stage.json"
            _sync_tree(folder)
            os.rename(folder, final)
            sync_folder(stages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        sync_folder(path)  # a file's content or a sub-folder's names: the same call
    sync_folder(folder)
