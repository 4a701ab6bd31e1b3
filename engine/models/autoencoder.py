"""Pixels <-> latents through a diffusers autoencoder; scale and shift come from the autoencoder's own config.

Images: uint8 (N, H, W, 3). Latents: float (N, C, h, w) with about unit deviation. Weights are read at the first
picture: to look at a network takes none of them.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from engine.assets import ASSETS, read_asset
from engine.errors import AssetError, EngineError, InputError
from engine.models import hub
from engine.models.content_hash import hash_file, hash_words
from engine.models.tensor_files import read_tensors

BUNDLED = "autoencoder"
NO_AUTOENCODER = "none"  # where the files of a model of pixels say otherwise
#: The autoencoder of the published DiT and SiT models; taken for a foreign model of four channels without its own.
PUBLISHED = "stabilityai/sd-vae-ft-ema"
#: What the configs of the published ones say, so that a model can be looked at before its autoencoder is fetched.
_KNOWN = {
    ref: {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4, "scaling_factor": 0.18215}
    for ref in (PUBLISHED, "stabilityai/sd-vae-ft-mse")
}

_PIXELS_AT_A_TIME = 64 * 64 * 64  # of all images of a chunk; an 8x autoencoder takes about 4 kB for each
_MOST_IMAGES = 64
_CLASSES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class Autoencoder:
    """``find`` gives the diffusers folder when it is needed; it may say in one line why there is none."""

    def __init__(
        self,
        find: Callable[[], Path],
        *,
        ref: str,
        device: torch.device | str = "cpu",
        content_hash: str | None = None,
        assumed: dict[str, Any] | None = None,  # what the config will say, where the folder isn't here yet
    ) -> None:
        self.ref = ref
        self._find, self._device, self._assumed = find, torch.device(device), assumed
        if content_hash is not None:
            self.content_hash = content_hash

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another machine: the weights, as the folder may not be there. Without them whoever decodes
        there is told what is missing."""
        with suppress(EngineError):
            _ = self.config, self.module
        return dict(self.__dict__)

    @property
    def title(self) -> str:
        return f"the autoencoder {self.ref}"

    @cached_property
    def folder(self) -> Path:
        return self._find()

    @cached_property
    def config(self) -> dict[str, Any]:
        if self._assumed is not None and "folder" not in self.__dict__:
            return self._assumed
        return _read_config(self.folder)

    @cached_property
    def content_hash(self) -> str:
        return hash_words(hash_file(_weights_file(self.folder)), _read_config(self.folder))

    @cached_property
    def module(self) -> AutoencoderKL | AutoencoderTiny:
        module = _read_module(self.folder).to(self._device)
        module.decoder.to(memory_format=torch.channels_last)  # a quarter less time on a CPU, the same up to rounding
        return module

    @property
    def scaling_factor(self) -> float:
        return self._said_or_usual("scaling_factor")

    @property
    def shift_factor(self) -> float | None:
        return self._said_or_usual("shift_factor")

    def _said_or_usual(self, name: str) -> float | None:
        """Of the config; where it says nothing, what diffusers' class takes, as the module's own config has it."""
        kind = _CLASSES[self.config.get("_class_name", "AutoencoderKL")]
        usual = inspect.signature(kind.__init__).parameters.get(name)
        return self.config.get(name, usual.default if usual else None)

    @property
    def downscale(self) -> int:
        """Pixels of an image along one side of a latent pixel."""
        return 2 ** (len(self.config.get("encoder_block_out_channels") or self.config["block_out_channels"]) - 1)

    @property
    def latent_channels(self) -> int:
        return self.config["latent_channels"]

    @property
    def _scale(self) -> tuple[float, float]:
        config = self.module.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 (N, H, W, 3) -> latents (N, C, h, w) on the CPU; a KL autoencoder's mean, without its noise."""
        scale, shift = self._scale
        chunks = []
        for chunk in torch.from_numpy(np.ascontiguousarray(images)).split(_chunk(images.shape[1])):
            pixels = chunk.to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
            encoded = self.module.encode(pixels)
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
            chunks.append(((latents - shift) * scale).float().cpu())
        return torch.cat(chunks).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (N, C, h, w) -> uint8 (N, H, W, 3)."""
        scale, shift = self._scale
        chunks = []
        for chunk in latents.split(_chunk(latents.shape[-1] * self.downscale)):
            pixels = self.module.decode(chunk.to(self._device).float() / scale + shift).sample
            chunks.append(_as_images(pixels))
        return np.concatenate(chunks)


class PixelSpace:
    """No autoencoder: the network works on pixels from -1 to 1, in three channels."""

    ref = scaling_factor = shift_factor = None
    title = "a network of pixels"
    content_hash = "pixels"
    downscale = 1
    latent_channels = 3

    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 (N, H, W, 3) -> (N, 3, H, W)."""
        return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1

    def decode(self, latents: Tensor) -> np.ndarray:
        """(N, 3, H, W) -> uint8 (N, H, W, 3)."""
        return _as_images(latents.float())


def _as_images(pixels: Tensor) -> np.ndarray:
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _chunk(side: int) -> int:
    return max(1, min(_MOST_IMAGES, _PIXELS_AT_A_TIME // (side * side)))


def open_autoencoder(
    ref: str | None, *, device: torch.device | str = "cpu", workspace: Path | None = None
) -> Autoencoder | PixelSpace:
    """By reference: "autoencoder" (the bundled one), a diffusers folder, a hub id, or None (by hand: "none") for
    models of pixels.

    Raises InputError for a reference that leads nowhere. A hub id is looked for at the first picture.
    """
    if ref in (None, NO_AUTOENCODER):
        return PixelSpace()
    if ref == BUNDLED:
        folder = ASSETS / BUNDLED
        content = read_asset(folder / _WEIGHTS[0])
        return read_autoencoder(folder, content_hash=hashlib.sha256(content).hexdigest()[:16], device=device)
    path = Path(ref).expanduser()
    if path.is_dir():
        folder = path / "vae" if (path / "vae" / "config.json").is_file() else path
        _read_config(folder)
        return Autoencoder(lambda: folder, ref=ref, device=device)
    if hub.is_hub_id(ref):
        return Autoencoder(
            lambda: _in_snapshot(hub.autoencoder_folder(ref, workspace=workspace)),
            ref=ref,
            device=device,
            assumed=_KNOWN.get(ref),
        )
    raise InputError(
        f"no autoencoder {ref!r}: expected a diffusers folder with config.json and safetensors weights of "
        f"{' or '.join(_CLASSES)}, or a hub id such as {PUBLISHED}"
    )


def default_autoencoder(channels: int) -> str | None:
    """For a network that came without one."""
    return None if channels == 3 else PUBLISHED


def _in_snapshot(folder: Path) -> Path:
    return folder / "vae" if (folder / "vae" / "config.json").is_file() else folder


def read_autoencoder(
    folder: Path, *, content_hash: str | None = None, device: torch.device | str = "cpu"
) -> Autoencoder:
    """A diffusers autoencoder folder. Raises AssetError at once for a config, at the first picture for weights."""
    _read_config(folder)
    ref = BUNDLED if folder == ASSETS / BUNDLED else str(folder)
    return Autoencoder(lambda: folder, ref=ref, content_hash=content_hash, device=device)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        blocks = config.get("encoder_block_out_channels") or config["block_out_channels"]
        sizes = [*blocks, config["latent_channels"], *_as_list(config.get("layers_per_block", 1))]
        sizes += _as_list(config.get("num_encoder_blocks", [])) + _as_list(config.get("num_decoder_blocks", []))
        if config["_class_name"] not in _CLASSES:
            raise ValueError(f"it is of class {str(config['_class_name'])[:60]!r}")
        if not 1 <= len(blocks) <= 8 or not all(type(size) is int and 0 < size <= 4096 for size in sizes):
            raise ValueError("its sizes make no sense")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(folder, error) from error
    return config


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, list) else [value]


def _weights_file(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise AssetError(f"{folder} has the config of an autoencoder but no {_WEIGHTS[0]}; put it there")


def _read_module(folder: Path) -> AutoencoderKL | AutoencoderTiny:
    file = _weights_file(folder)
    read_tensors(file)  # says what is wrong with a damaged file, and that no code is in it, before diffusers opens it
    try:
        module = _CLASSES[_read_config(folder)["_class_name"]].from_pretrained(
            folder, use_safetensors=file.suffix == ".safetensors", local_files_only=True
        )
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError) as error:
        raise _unreadable(folder, error) from error
    return module.eval().requires_grad_(False)


def _unreadable(folder: Path, error: Exception) -> AssetError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return AssetError(
        f"the autoencoder in {folder} can't be read ({reason}); expected a diffusers folder with config.json and "
        f"safetensors weights of {' or '.join(_CLASSES)}"
    )
