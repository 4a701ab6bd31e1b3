"""Pixels <-> latents through a diffusers autoencoder; scale and shift come from the autoencoder's own config.

Images: uint8 (N, H, W, 3). Latents: float (N, C, h, w) with about unit deviation.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from engine.errors import AssetError

_CHUNK = 64  # images at a time
_CLASSES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}


@dataclass(frozen=True)
class Autoencoder:
    module: AutoencoderKL | AutoencoderTiny
    content_hash: str

    @property
    def downscale(self) -> int:
        """Pixels of an image along one side of a latent pixel."""
        config = self.module.config
        return 2 ** (len(getattr(config, "encoder_block_out_channels", config.get("block_out_channels"))) - 1)

    @property
    def _scale(self) -> tuple[float, float]:
        config = self.module.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> Tensor:
        """uint8 (N, H, W, 3) -> latents (N, C, h, w) on the CPU; a KL autoencoder's mean, without its noise."""
        scale, shift = self._scale
        chunks = []
        for chunk in torch.from_numpy(np.ascontiguousarray(images)).split(_CHUNK):
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
        for chunk in latents.split(_CHUNK):
            pixels = self.module.decode(chunk.to(self._device) / scale + shift).sample
            pixels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            chunks.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(chunks)


def read_autoencoder(folder: Path, *, content_hash: str, device: torch.device | str = "cpu") -> Autoencoder:
    """Opens a diffusers autoencoder folder, ``AutoencoderKL`` or ``AutoencoderTiny``, from safetensors."""
    try:
        name = AutoencoderKL.load_config(folder)["_class_name"]
        module = _CLASSES[name].from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise AssetError(
            f"the autoencoder in {folder} can't be read ({str(error).splitlines()[0][:160]}); expected a diffusers "
            f"folder with config.json and safetensors weights of {' or '.join(_CLASSES)}"
        ) from error
    return Autoencoder(module.eval().requires_grad_(False).to(device), content_hash)
