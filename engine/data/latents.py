"""Datasets encoded once per autoencoder, and kept in the cache folder."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from engine.data.dataset import Data
from engine.models.model import Model
from engine.runs.workspace import write_bytes_atomically


def encoded(model: Model, data: Data, *, cache: Path | None = None) -> torch.Tensor:
    """Latents (N, C, h, w) of every image of ``data``, on the CPU."""
    name = f"latents-{data.content_hash}-{model.autoencoder.content_hash}.safetensors"
    file = cache / name if cache else None
    if file and file.exists():
        try:
            return load_file(file)["latents"]
        except SafetensorError:  # a cache file cut short by a crash is made again
            file.unlink()
    latents = model.latents_of(data)
    if file:
        write_bytes_atomically(file, save({"latents": latents}))
    return latents
