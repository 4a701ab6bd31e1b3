"""Opens models by reference, whoever saved them, and saves them in our own form.

Weights are copied once, in float32, into the memory of the device that will use them: a mapped file that changes under
a running model would change the model, or end the process.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.compute import USUAL, Compute
from engine.errors import AssetError, InputError
from engine.models.arithmetic import check_device, plain_fp32
from engine.models.autoencoder import BUNDLED, Autoencoder, PixelSpace, open_autoencoder
from engine.models.bundled import ModelInfo, read_model_info
from engine.models.content_hash import hash_file, hash_words
from engine.models.dit import DiT, position_embedding
from engine.models.model import Model
from engine.models.opened import Opened, open_files
from engine.models.process_probe import propose_process
from engine.models.references import WEIGHTS, library_entry, locate
from engine.models.tensor_files import not_finite
from engine.models.tensor_writing import write_tensors
from engine.process import make_process
from engine.runs.workspace import open_workspace, write_json


def load_model(
    ref: str | Path,
    *,
    device: str | torch.device = "cpu",
    process: str | None = None,
    autoencoder: str | None = None,
    workspace: Path | None = None,
    compute: Compute | None = None,
) -> Model:
    """Opens ``ref`` on ``device``; ``process`` and ``autoencoder`` override what is said elsewhere. ``compute``: in
    which numbers it works (default: fp32, not compiled).

    Raises InputError for a reference that leads nowhere and for numbers that the device hasn't, AssetError for files
    that can't be read.
    """
    device, compute = usable_device(device), compute or USUAL
    check_device(compute, device)
    if process is not None:
        make_process(process)
    entry = library_entry(str(ref), workspace) or {}
    path = entry.get("ref", str(ref))
    opened = open_files(path, locate(path, workspace))
    info = opened.info
    names = _class_names(entry, opened)
    latents = _autoencoder(autoencoder or entry.get("autoencoder") or info.autoencoder, opened, device, workspace)
    network = _network(opened, device)
    chosen, reason, notes = _process(process or entry.get("process"), opened, network)
    if info.layout != "ours" or chosen != info.process:
        # what the official SiT does with the half of its output that nobody trained
        network.config = replace(network.config, drop_sigma=chosen == "flow" and network.config.learn_sigma)
    return Model(
        ref=str(ref),
        network=network,
        process=make_process(chosen, learn_sigma=network.config.learn_sigma),
        autoencoder=latents,
        class_names=names,
        content_hash=_content_hash(opened, chosen, latents.ref, names, workspace),
        trained_on=info.trained_on,
        kept_blocks=info.kept_blocks,
        depth_of_parent=info.depth_of_parent,
        labels_trained=info.labels_trained,
        notes=(*info.notes, *notes),
        autoencoder_ref=latents.ref,
        layout=info.layout,
        licence=info.licence,
        taken=opened.file.taken,
        source=str(info.source),
        process_reason=reason,
        compute=compute,
    )


def find_model(ref: str, *, workspace: Path | None = None) -> ModelInfo:
    """What a reference stands for; of files of others the names and shapes of the tensors are read."""
    entry = library_entry(ref, workspace) or {}
    path = entry.get("ref", ref)
    place = locate(path, workspace)
    if place.kind == "ours":
        return read_model_info(place.path, name=ref)
    return replace(open_files(path, place).info, name=ref)


def usable_device(device: str | torch.device) -> torch.device:
    """Raises InputError for one that this machine hasn't."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's ways to say that there is no such device
        raise InputError(
            f"device {str(device)!r} can't be used here ({str(error).splitlines()[0]}); try cpu"
        ) from error
    device = torch.device(device)
    if device.type == "meta":  # torch's own, of tensors without numbers
        raise InputError("device 'meta' can't be used here: it has no memory to compute in; try cpu")
    if device.type == "cuda":
        plain_fp32()
    return device


def _network(opened: Opened, device: torch.device) -> DiT:
    """Built without memory of its own, then given one float32 copy of each tensor."""
    with torch.device("meta"):
        network = DiT(opened.config)
    state = opened.official_state()
    state.setdefault("pos_embed", position_embedding(opened.config))  # diffusers keeps none
    copies = {
        name: tensor.to(device, torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    damaged = next(not_finite(copies), None)
    if damaged is not None:
        raise AssetError(
            f"the weights of {opened.info.name} contain values that aren't finite (first in {damaged}); the file is "
            "damaged, or its training had diverged"
        )
    network.load_state_dict(copies, assign=True)
    return network.eval().requires_grad_(False)


def _process(said: str | None, opened: Opened, network: DiT) -> tuple[str, str, list[str]]:
    """The process, why this one, and notes."""
    if said:
        return said, "chosen by hand", []
    if opened.info.process:
        return opened.info.process, opened.process_reason or "its description says so", []
    proposal = propose_process(network)
    note = f"{proposal.reason} Say --process diffusion or --process flow where that is wrong."
    return proposal.process or "diffusion", proposal.reason, [note]


def _class_names(entry: dict[str, Any], opened: Opened) -> tuple[str, ...]:
    names = tuple(entry.get("class_names") or opened.info.class_names)
    if len(names) != opened.config.num_classes:
        raise AssetError(
            f"{opened.info.name} has {opened.config.num_classes} classes, but {len(names)} class names are given; "
            "give one name for each class"
        )
    return names


def _autoencoder(
    ref: str | None, opened: Opened, device: torch.device, workspace: Path | None
) -> Autoencoder | PixelSpace:
    latents = open_autoencoder(ref, device=device, workspace=workspace)
    channels = opened.config.in_channels
    if latents.latent_channels != channels:
        raise InputError(
            f"{opened.info.name} works on {channels} channels, but {latents.title} gives {latents.latent_channels}; "
            "name the autoencoder that it was trained with: --vae PATH"
        )
    return latents


def _content_hash(
    opened: Opened, process: str, autoencoder: str | None, names: tuple[str, ...], workspace: Path | None
) -> str:
    """Of the weights alone where a description of ours goes with them and nothing was overridden."""
    cache = open_workspace(workspace).cache if workspace else None
    hashes = [hash_file(file, cache=cache) for file in opened.file.files]
    info = opened.info
    as_described = (info.process, info.autoencoder, info.class_names) == (process, autoencoder, names)
    if info.layout == "ours" and as_described:
        return hashes[0]
    return hash_words(hashes, asdict(opened.config), process, autoencoder, names)


def save_model(model: Model, folder: Path, *, state: dict[str, Tensor] | None = None) -> None:
    """Writes config.json and weights.safetensors; ``state`` replaces the network's own weights (say, their average)."""
    about = {
        "process": model.process.name,
        "network": asdict(model.config),
        "class_names": list(model.class_names),
        "autoencoder": _lasting(model.autoencoder_ref),
        "trained_on": model.trained_on,
        "parent": model.ref,
        "kept_blocks": list(model.kept_blocks),
        "depth_of_parent": model.depth_of_parent,
        "labels_trained": model.labels_trained,
        "licence": model.licence,
        "source": model.source,
        "notes": list(model.notes),
    }
    write_json(folder / "config.json", about)
    write_tensors(folder / WEIGHTS, state if state is not None else model.network.state_dict())


def _lasting(autoencoder: str | None) -> str | None:
    """The reference as it still leads there from another current folder."""
    if autoencoder is None or autoencoder == BUNDLED or not Path(autoencoder).expanduser().is_dir():
        return autoencoder
    return str(Path(autoencoder).expanduser().absolute())
