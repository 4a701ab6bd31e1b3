"""Takes a model away: as the official repositories, as safetensors, or as a diffusers folder, with a manifest.

An export appears in one rename or not at all. Weights go from the network to the file; the diffusers layout alone needs
copies, of the embedders, which it repeats in every block.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import DiskFull, InputError, WorkspaceError
from engine.models import hub
from engine.models.checkpoints import save_model
from engine.models.export_diffusers import check_fits_diffusers, diffusers_notes, write_diffusers
from engine.models.export_readme import readme_of
from engine.models.hints import MANIFEST
from engine.models.model import Model
from engine.models.tensor_writing import saving
from engine.runs.workspace import read_json, sync_folder, write_bytes_atomically, write_json, writing

_DTYPES = {None: None, "fp32": torch.float32, "fp16": torch.float16}
_UNKNOWN_LICENCE = "The licence of the parent model applies to these weights; it is not known here."
_ROOM = 2**20  # bytes for everything but weights


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    path: Path
    layout: str
    files: tuple[str, ...]  # relative to the folder; of a single .pt, the names of it and its manifest
    num_bytes: int
    notes: tuple[str, ...]  # one sentence each: what whoever opens it should know


def export_model(
    model: Model,
    path: Path,
    *,
    layout: str,
    results: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    depth_of_parent: int | None = None,
    stages: Sequence[Mapping[str, Any]] = (),
) -> ExportSummary:
    """Writes ``model`` to a new folder; in the official layout a path that ends in .pt is that one file.

    ``results``: what a stage's metrics.json holds. ``stages``: stage.json of every stage from the intact model to this
    one. ``depth_of_parent``: of the model that the first of these was, where ``model`` itself doesn't know.
    ``dtype``: "fp16" or "fp32", None as the weights are.
    Raises InputError for what the layout can't hold and for a path that exists, WorkspaceError where writing fails.
    """
    path = Path(path).expanduser()
    _check_request(layout, dtype)
    single = layout == "official" and path.suffix == ".pt"
    for place in (path, path.with_suffix(".json")) if single else (path,):
        if os.path.lexists(place):
            raise InputError(f"{place} exists already; choose another name, or move it away")
    if layout == "diffusers":
        check_fits_diffusers(model)
    state = _state(model, _DTYPES[dtype])
    notes = _notes(model, layout)
    model = replace(model, depth_of_parent=_depth_of_parent(model, depth_of_parent, stages))
    manifest = _manifest(model, layout, results, notes, stages)
    _check_space(path, state)
    if single:
        files = _write_single(state, manifest, path)
        return _summary(path.parent, files, path=path, layout=layout, notes=notes)
    with _appearing(path) as folder:
        _WRITERS[layout](model, state, folder, manifest)
        write_json(folder / MANIFEST, manifest)
        write_bytes_atomically(folder / "README.md", readme_of(model, manifest).encode())
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return _summary(path, files, path=path, layout=layout, notes=notes)


def _summary(folder: Path, files: list[Path], *, path: Path, layout: str, notes: list[str]) -> ExportSummary:
    return ExportSummary(
        path=path,
        layout=layout,
        files=tuple(file.as_posix() for file in files),
        num_bytes=sum((folder / file).stat().st_size for file in files),
        notes=tuple(notes),
    )


def _check_request(layout: str, dtype: str | None) -> None:
    if layout not in _WRITERS:
        raise InputError(f"layout {str(layout)[:40]!r} is unknown; choose one of {', '.join(_WRITERS)}")
    if dtype not in _DTYPES:
        raise InputError(f"dtype {str(dtype)[:40]!r} is unknown; choose fp32 or fp16, or leave it out")


def _state(model: Model, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The weights on the CPU. A tensor that is a part of a larger storage is copied: torch.save writes storages."""
    state = {}
    for name, tensor in model.network.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if dtype is not None and name != "pos_embed":  # sines and cosines, which cost nothing at full precision
            tensor = tensor.to(dtype)
            if not tensor.isfinite().all():
                raise InputError(f"{name} has values that are too large for fp16; export as fp32")
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        state[name] = tensor if whole else tensor.clone()
    return state


def _check_space(path: Path, state: dict[str, Tensor]) -> None:
    """Before minutes of writing; a disk that fills up meanwhile is noticed there."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values()) + _ROOM
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DiskFull(path, num_bytes=needed, free=free)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that becomes it, flushed to the disk, where nothing goes wrong."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        temporary.mkdir()
        try:
            with saving():
                yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            os.rename(temporary, path)
            sync_folder(path.parent)
        except DiskFull as error:
            raise DiskFull(path, num_bytes=error.num_bytes) from error
        except WorkspaceError as error:  # about a file in there: a name that nobody asked for and that is gone
            raise WorkspaceError(str(error).replace(str(temporary), str(path))) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _flush(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def _write_single(state: dict[str, Tensor], manifest: dict, path: Path) -> list[Path]:
    beside = path.with_suffix(".json")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        try:
            with saving():
                torch.save(state, temporary)
            _flush(temporary)
            write_json(beside, manifest)
            os.rename(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            if not path.exists():
                beside.unlink(missing_ok=True)
    return [Path(path.name), Path(beside.name)]


def _write_official(model: Model, state: dict[str, Tensor], folder: Path, manifest: dict) -> None:
    torch.save(state, folder / "model.pt")


def _write_safetensors(model: Model, state: dict[str, Tensor], folder: Path, manifest: dict) -> None:
    save_model(model, folder, state=state)
    if not _is_local(model):
        return
    _copy_autoencoder(model, folder / "autoencoder")
    manifest["autoencoder"]["ref"] = "./autoencoder"
    about = read_json(folder / "config.json")
    write_json(folder / "config.json", {**about, "autoencoder": "./autoencoder"})


def _is_local(model: Model) -> bool:
    """Whether the autoencoder is a folder on this machine, which another machine would not find."""
    ref = model.autoencoder.ref
    return ref is not None and (Path(ref).is_dir() or not hub.is_hub_id(ref))


def _copy_autoencoder(model: Model, folder: Path) -> None:
    folder.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"):
        with suppress(FileNotFoundError):  # it has its weights in one of the two
            shutil.copyfile(model.autoencoder.folder / name, folder / name)


_WRITERS: dict[str, Callable[[Model, dict[str, Tensor], Path, dict], None]] = {
    "official": _write_official,
    "safetensors": _write_safetensors,
    "diffusers": write_diffusers,
}


def _notes(model: Model, layout: str) -> list[str]:
    notes = []
    if model.config.null_class is None:
        notes.append("The model has no null class, so it can't be sampled with classifier-free guidance.")
    if layout == "official" and model.config.time_embedding == "diffusers":
        notes.append("The weights go with diffusers' timestep frequencies; the official code uses slightly others.")
    return notes + (diffusers_notes(model) if layout == "diffusers" else [])


def _step(stage: Mapping[str, Any]) -> dict[str, Any]:
    decision = stage.get("decision") or {}
    kept = {key: stage.get(key) for key in ("stage", "model", "data", "depth", "finetune", "train")}
    return {
        **kept,
        "dropped_blocks": stage.get("dropped_blocks") or [],
        "mode": decision.get("mode"),
        "reason": decision.get("reason") or "",
    }


def _depth_of_parent(model: Model, said: int | None, stages: Sequence[Mapping[str, Any]]) -> int | None:
    """Of an intact model its own; None where blocks went and nobody noted how many there were."""
    known = model.depth_of_parent or said
    intact = model.is_intact and not any(stage.get("dropped_blocks") for stage in stages)
    return known or (model.config.depth if intact else None)


def _manifest(
    model: Model,
    layout: str,
    results: Mapping[str, Any] | None,
    notes: list[str],
    stages: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    config, autoencoder = model.config, model.autoencoder
    return {
        "schema": 1,
        "product": "EntPruner Studio",
        "layout": layout,
        "process": model.process.name,
        "prediction": model.process.prediction,
        "network": asdict(config),
        "time_embedding": config.time_embedding,
        "num_classes": config.num_classes,
        "null_class": config.null_class,
        "class_names": list(model.class_names),
        "parent": model.ref,
        "kept_blocks": list(model.kept_blocks),
        "depth_of_parent": model.depth_of_parent,
        "pruning": [_step(stage) for stage in stages],
        "autoencoder": {
            "ref": autoencoder.ref,
            "scaling_factor": autoencoder.scaling_factor,
            "shift_factor": autoencoder.shift_factor,
        },
        "protocol": results["protocol"] if results else None,
        "metrics": {key: value for key, value in results.items() if key != "protocol"} if results else None,
        "trained_on": model.trained_on,
        "licence": model.licence or _UNKNOWN_LICENCE,
        "content_hash": model.content_hash,
        "notes": notes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
