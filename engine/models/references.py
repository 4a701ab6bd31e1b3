"""Where a model's reference leads: to a bundled model, a run's stage, a file or folder, or the hub.

A reference is a bundled name, a name of the library, a file or folder, ``<run>@<stage>``, or a hub id, tried in this
order.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.assets import ASSETS
from engine.errors import AssetError, InputError
from engine.models import hub
from engine.models.bundled import bundled_model_names
from engine.runs.library import read_entry
from engine.runs.store import open_run
from engine.runs.workspace import open_workspace

WEIGHTS = "weights.safetensors"
_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_DIFFUSERS_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """``path`` is a folder for "ours" and "diffusers", the file itself for "file"."""

    kind: str
    path: Path

    @property
    def transformer(self) -> Path:
        """Of a diffusers folder: where the network's own config and weights are."""
        inside = self.path / "transformer"
        return inside if (inside / "config.json").is_file() else self.path

    @property
    def weights(self) -> Path:
        if self.kind == "file":
            return self.path
        if self.kind == "ours":
            return self.path / WEIGHTS
        found = _diffusers_weights(self.transformer)
        assert found is not None, self.path
        return found


def library_entry(ref: str, workspace: Path | None) -> dict[str, Any] | None:
    """What the workspace's library keeps under this name; None where ``ref`` is something else."""
    return None if ref in bundled_model_names() else read_entry(workspace, "models", ref)


def locate(ref: str, workspace: Path | None) -> Place:
    """Raises InputError for a reference that leads nowhere, AssetError for a hub that can't be reached."""
    if ref in bundled_model_names():
        return Place(kind="ours", path=ASSETS / "models" / ref)
    path = _existing_path(ref)
    if path is not None:
        return _place_at(path)
    if "@" in ref:
        run_id, _, stage = ref.rpartition("@")
        if not (stage.isascii() and stage.isdecimal() and len(stage) < 7):
            raise InputError(f"{ref[:200]!r}: after the @ comes the number of a stage, as in <run>@1")
        return Place(kind="ours", path=open_run(open_workspace(workspace), run_id).stage(int(stage)).path)
    if hub.is_hub_id(ref):
        return _place_at(hub.model_folder(ref, workspace=workspace))
    raise InputError(
        f"no model {ref[:200]!r}: it is neither bundled ({', '.join(bundled_model_names())}), nor in the library, nor "
        "a run's stage (<run>@<stage>), nor a file or folder here, nor a hub id (owner/name)"
    )


def _existing_path(ref: str) -> Path | None:
    try:
        path = Path(ref).expanduser()
        return path if ref and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte in it, or ~ of nobody
        return None


def _place_at(path: Path) -> Place:
    if path.is_file():
        return Place(kind="file", path=path)
    if (path / "config.json").is_file() and (path / WEIGHTS).is_file():
        return Place(kind="ours", path=path)
    for transformer in (path / "transformer", path):
        if (transformer / "config.json").is_file() and _diffusers_weights(transformer):
            return Place(kind="diffusers", path=path)
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise AssetError(f"{path} can't be opened ({error.strerror}); check that it may be read") from error
    files = [file for file in inside if file.suffix in _FILES and file.is_file()]
    if len(files) == 1:
        return Place(kind="file", path=files[0])
    found = ", ".join(file.name for file in inside[:5]) or "nothing"
    raise InputError(
        f"no model in {path}: it holds {found}; expected config.json with {WEIGHTS}, a diffusers folder, or one file "
        f"of weights ({', '.join(_FILES)}), which you may also name itself"
    )


def _diffusers_weights(transformer: Path) -> Path | None:
    return next((transformer / name for name in _DIFFUSERS_WEIGHTS if (transformer / name).is_file()), None)
