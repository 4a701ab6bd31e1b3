"""The files that a run consists of, and what each must hold where it comes from somewhere else. Free of torch.

A run that somebody sends is taken apart before it is taken in: a name that no run has, a file that isn't what its name
says, or a description that a page would stumble over, and nothing of it stays.
"""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError, safe_open

from engine.errors import AssetError
from engine.runs.run_shapes import SHAPES, mismatch
from engine.runs.stage import open_stage

_MOST_JSON = 64 * 2**20  # bytes; that of the largest arena is a hundredth of this
_MOST_PIXELS = 2**26
_PICTURE = re.compile(r"progress/[A-Za-z0-9][A-Za-z0-9_-]*\.png")
#: what is made again by asking for it, holds other people's formats, or belongs to the moment
LEFT_OUT = re.compile(
    r"cancel|pause|export\.zip|export/.*|export\.json|progress/samples[^/]*\.partial/.*|(.*/)?\.[^/]*(/.*)?"
)


def check_for(name: str) -> Callable[[Path], None] | None:
    """What looks at the file ``name`` of a run, a path with slashes, and raises AssetError. None: no run has it."""
    return next((check for pattern, check in _CHECKS.items() if re.fullmatch(pattern, name)), None)


def _json(path: Path) -> None:
    shape = SHAPES.get(path.name)
    found = _loaded(path)
    if path.parent.name == "start" or (path.name == "config.json" and path.parent.parent.name == "stages"):
        shape = SHAPES["config.json of a model"]
    if shape is not None and (line := mismatch(found, shape)):
        raise AssetError(f"{path.name}: {line}")


def _loaded(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_JSON:
        raise AssetError(f"{path.name} has {path.stat().st_size:,} bytes; no run's is larger than {_MOST_JSON:,}")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AssetError(f"{path.name} is no JSON ({str(error)[:120]})") from error
    if not isinstance(found, dict):
        raise AssetError(f"{path.name} holds a {type(found).__name__}; expected an object")
    return found


def _stage_json(path: Path) -> None:
    _json(path)
    number = _loaded(path)["stage"]
    if str(number) != path.parent.name:
        raise AssetError(f"stages/{path.parent.name}/stage.json says that it is stage {number}")


def _events(path: Path) -> None:
    """A last line may be torn; a picture must lie where pictures of a run lie."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            event = json.loads(line) if line else {}
        except (ValueError, RecursionError):  # of a process that was killed: it is skipped when read
            continue
        if isinstance(event, dict) and (known := SHAPES.get(f"event {event.get('event')}")):
            if words := mismatch(event, known):
                raise AssetError(f"events.jsonl: {words}")
            if "picture" in event and not _PICTURE.fullmatch(event["picture"]):
                raise AssetError(f"events.jsonl names the picture {event['picture'][:80]!r}, which isn't the run's")


def _text(path: Path) -> None:
    """Anything: it is only ever shown as text."""


def _tensors(path: Path) -> None:
    """The format's own reader compares every offset in the header with the file's length."""
    try:
        with safe_open(path, framework="np") as file:
            file.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise AssetError(f"{path.name} is no safetensors file ({str(error)[:120]})") from error


def _picture(path: Path) -> None:
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=["PNG"]) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise AssetError(f"{path.name} has {picture.width} × {picture.height} pixels; no run's has so many")
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AssetError(f"{path.name} is no PNG ({str(error)[:120]})") from error


def _samples(path: Path) -> None:
    stage = open_stage(path.parent)
    images, labels, seeds = stage.samples() or ([], [], [])
    if getattr(images, "ndim", 0) != 4 or images.dtype != "uint8" or images.shape[-1] != 3:
        raise AssetError(f"samples.npz of stage {stage.number} doesn't hold pictures (N, height, width, 3) of bytes")
    if not len(images) == len(labels) == len(seeds):
        raise AssetError(f"samples.npz of stage {stage.number} has {len(images)} pictures, {len(labels)} labels")


_CHECKS: dict[str, Callable[[Path], None]] = {
    r"(config|status|drive|ced|criteria|arena|train_state)\.json": _json,
    r"progress/(ced|arena)\.json|progress/start/config\.json": _json,
    r"stages/\d{1,6}/stage\.json": _stage_json,
    r"stages/\d{1,6}/(config|ced|metrics|provenance)\.json": _json,
    r"events\.jsonl": _events,
    r"log\.txt": _text,
    r"(stages/\d{1,6}/|)train_state\.safetensors": _tensors,
    r"(stages/\d{1,6}|progress/start)/weights\.safetensors": _tensors,
    r"stages/\d{1,6}/samples\.npz": _samples,
    _PICTURE.pattern: _picture,
}
