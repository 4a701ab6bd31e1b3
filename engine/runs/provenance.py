"""What a stage came from: versions of the packages, the machine, and SHA-256 of the weights. Free of torch.

``provenance.json`` of a stage holds it; stages of before this was noted have none.
"""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from engine.errors import AssetError
from engine.runs.workspace import write_json

PROVENANCE = "provenance.json"
PACKAGES = (
    "torch", "torchvision", "diffusers", "torch-fidelity", "numpy", "scipy", "scikit-learn", "safetensors", "pillow",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Of Python and of every package that a number may rest on, as installed here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}


def file_sha256(path: Path) -> str:
    """Raises AssetError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AssetError(f"{path} can't be read ({error.strerror}); check that it is still there") from error


def write_provenance(folder: Path, *, source: str, loaded: bool) -> None:
    """Into the folder of a stage that is being written, its weights included. ``source``: the file that the loaded
    model came from, hashed where the stage is the model as it was ``loaded``."""
    about: dict[str, Any] = {"versions": package_versions(), "machine": machine()}
    if loaded and source and Path(source).is_file():
        about["source"] = {"file": Path(source).name, "sha256": file_sha256(Path(source))}
    weights = folder / "weights.safetensors"
    if weights.exists():
        about["weights_sha256"] = file_sha256(weights)
    write_json(folder / PROVENANCE, about)
