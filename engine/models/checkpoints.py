"""Opens models: a bundled name, ``<run>@<stage>``, or a folder with config.json and weights.safetensors."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from engine.assets import ASSETS, read_asset
from engine.errors import AssetError, InputError
from engine.models.autoencoder import Autoencoder, read_autoencoder
from engine.models.bundled import ModelInfo, bundled_model_names, read_model_info
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model
from engine.process import make_process
from engine.runs.store import open_run
from engine.runs.workspace import open_workspace, write_bytes_atomically, write_json


def load_model(
    ref: str | Path, *, device: str | torch.device = "cpu", process: str | None = None, workspace: Path | None = None
) -> Model:
    """Opens ``ref`` on ``device``; ``process`` overrides what the model's description says.

    Raises InputError for a reference that leads nowhere, AssetError for files that can't be read.
    """
    device = _usable_device(device)
    info = find_model(str(ref), workspace=workspace)
    state, content_hash = _read_weights(info.folder / "weights.safetensors")
    network = DiT(DiTConfig(**info.network))
    _load_strictly(network, state, info)
    name = process or info.process
    return Model(
        ref=str(ref),
        network=network.eval().requires_grad_(False).to(device),
        process=make_process(name, learn_sigma=network.config.learn_sigma),
        autoencoder=_bundled_autoencoder(device),
        class_names=info.class_names,
        content_hash=content_hash,
        trained_on=info.trained_on,
        kept_blocks=info.kept_blocks,
        labels_trained=info.labels_trained,
    )


def _usable_device(device: str | torch.device) -> torch.device:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's ways to say that there is no such device
        raise InputError(
            f"device {str(device)!r} can't be used here ({str(error).splitlines()[0]}); try cpu"
        ) from error
    return torch.device(device)


def find_model(ref: str, *, workspace: Path | None = None) -> ModelInfo:
    """What a reference stands for, without opening weights."""
    if ref in bundled_model_names():
        return read_model_info(ASSETS / "models" / ref)
    if "@" in ref:
        run_id, _, stage = ref.rpartition("@")
        if not stage.isdecimal():
            raise InputError(f"{ref!r}: after the @ comes the number of a stage, as in {run_id}@1")
        return read_model_info(open_run(open_workspace(workspace), run_id).stage(int(stage)).path, name=ref)
    folder = Path(ref)
    if (folder / "config.json").is_file() and (folder / "weights.safetensors").is_file():
        return read_model_info(folder)
    raise InputError(
        f"no model {ref!r}: it is neither bundled ({', '.join(bundled_model_names())}), nor a run's stage "
        "(<run>@<stage>), nor a folder with config.json and weights.safetensors"
    )


def save_model(model: Model, folder: Path, *, state: dict[str, torch.Tensor] | None = None) -> None:
    """Writes config.json and weights.safetensors; ``state`` replaces the network's own weights (say, their average)."""
    about = {
        "process": model.process.name,
        "network": asdict(model.config),
        "class_names": list(model.class_names),
        "autoencoder": "autoencoder",
        "trained_on": model.trained_on,
        "parent": model.ref,
        "kept_blocks": list(model.kept_blocks),
        "labels_trained": model.labels_trained,
    }
    write_json(folder / "config.json", about)
    tensors = state if state is not None else model.network.state_dict()
    content = save({name: value.contiguous().cpu() for name, value in tensors.items()})
    write_bytes_atomically(folder / "weights.safetensors", content)


def _read_weights(file: Path) -> tuple[dict[str, torch.Tensor], str]:
    try:
        content = read_asset(file) if file.is_relative_to(ASSETS) else file.read_bytes()
        return load(content), hashlib.sha256(content).hexdigest()[:16]
    except (OSError, SafetensorError) as error:
        raise AssetError(
            f"{file} can't be read as safetensors ({error}); put an undamaged copy in its place"
        ) from error


def _load_strictly(network: DiT, state: dict[str, torch.Tensor], info: ModelInfo) -> None:
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    misshapen = [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    if missing or unexpected or misshapen:
        raise AssetError(
            f"the weights of {info.name} don't fit its description: {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(misshapen)} of another shape {misshapen[:3]}"
        )
    if any(not value.isfinite().all() for value in state.values()):
        raise AssetError(f"the weights of {info.name} contain values that aren't finite; the file is damaged")
    network.load_state_dict({key: value.float() for key, value in state.items()})


def _bundled_autoencoder(device: str | torch.device) -> Autoencoder:
    folder = ASSETS / "autoencoder"
    content = read_asset(folder / "diffusion_pytorch_model.safetensors")
    return read_autoencoder(folder, content_hash=hashlib.sha256(content).hexdigest()[:16], device=device)
