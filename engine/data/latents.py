"""Datasets encoded once per autoencoder and size, and kept in the cache folder.

The file is written chunk by chunk and mapped into memory afterwards, so that a dataset may be larger than the memory.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from engine.data.crop import ResizedImages
from engine.data.dataset import Data, hash_of
from engine.errors import AssetError
from engine.models.model import Model
from engine.runs.workspace import sync_folder, writing
from engine.steps import result_of

_CHUNK = 256  # pictures at a time; a multiple of what the autoencoder takes, so that the chunks don't show in the bits
_SMALL = 64 * 2**20  # bytes up to which a file is read into memory


@dataclass(frozen=True, kw_only=True)
class EncodeProgress:
    done: int
    total: int
    mirrored: bool


def encoded(model: Model, data: Data, *, cache: Path | None = None, mirrored: bool = False) -> torch.Tensor:
    """Latents float32 (N, C, h, w) of every picture of ``data``, on the CPU; ``mirrored`` left to right.

    Raises InputError where they don't fit the network, AssetError where a picture can't be read, WorkspaceError where
    the cache can't be written.
    """
    return result_of(encoding(model, data, cache=cache, mirrored=mirrored))


def encoding(
    model: Model, data: Data, *, cache: Path | None = None, mirrored: bool = False
) -> Iterator[EncodeProgress]:
    """The same, yielding progress and returning the latents. Nothing is left behind when it is stopped half-way."""
    shape = (len(data), *model.config.latent_shape)
    if isinstance(data.latents, np.ndarray) and data.latents.dtype == np.float32:
        for done, _ in _chunks(model, data, mirrored):  # looked at, and used where they lie
            yield EncodeProgress(done=done, total=len(data), mirrored=mirrored)
        return torch.from_numpy(data.latents)
    if cache is None:
        latents = torch.empty(shape)
        for done, chunk in _chunks(model, data, mirrored):
            latents[done - len(chunk) : done] = chunk
            yield EncodeProgress(done=done, total=len(data), mirrored=mirrored)
        return latents
    file = cache / _file_name(model, data, mirrored)
    found = _read(file, shape)
    if found is None:
        yield from _write(file, model, data, mirrored, shape)
        found = _read(file, shape)
    if found is None:
        raise AssetError(f"{file} was written and can't be read back; check the disk and run again")
    return found


class Examples(NamedTuple):
    """What a recovery trains on, under the names that a Trainer takes; ``flipped`` where mirrored copies count too."""

    latents: torch.Tensor  # (N, C, h, w)
    flipped: torch.Tensor | None
    labels: torch.Tensor  # (N,)


def encoding_examples(model: Model, data: Data, *, cache: Path | None = None) -> Iterator[EncodeProgress]:
    """Yields progress, returns the Examples of ``data``. Latents that came ready-made have no mirrored copies."""
    latents = yield from encoding(model, data, cache=cache)
    flipped = (
        (yield from encoding(model, data, cache=cache, mirrored=True))
        if data.flip and data.images is not None
        else None
    )
    return Examples(latents, flipped, torch.from_numpy(data.labels))


@dataclass(frozen=True)
class DecodedImages:
    """Latents as the pictures that an autoencoder makes of them, for what needs pictures."""

    data: Data
    model: Model

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.data), self.model.image_side, self.model.image_side, 3

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        return self.model.autoencoder.decode(self.model.latents_of(self.data, index))

    def at(self, side: int) -> ResizedImages:
        return ResizedImages(self, side)


def with_pictures(model: Model, data: Data) -> Data:
    """``data`` itself, or encoded data with the pictures that the model's autoencoder makes of it: what a perfect
    model of these latents would draw."""
    if data.images is not None:
        return data
    pictures_hash = hash_of(data.pictures_hash or data.content_hash, model.autoencoder.content_hash)
    return replace(data, images=DecodedImages(data, model), pictures_hash=pictures_hash)


def _file_name(model: Model, data: Data, mirrored: bool) -> str:
    pictures = data.pictures_hash or data.content_hash
    if data.latents is not None:
        return f"latents-{hash_of(pictures)}.npy"
    side = f"{model.image_side}{'-mirrored' if mirrored else ''}"
    return f"latents-{hash_of(pictures)}-{model.autoencoder.content_hash}-{side}.npy"


def _chunks(model: Model, data: Data, mirrored: bool) -> Iterator[tuple[int, torch.Tensor]]:
    """(pictures done, latents of the last of them), one chunk after another."""
    for start in range(0, len(data), _CHUNK):
        stop = min(start + _CHUNK, len(data))
        latents = model.latents_of(data, slice(start, stop), mirrored=mirrored)
        if not torch.isfinite(latents).all():
            raise AssetError(
                f"{data.name}: the latents of pictures {start} … {stop - 1} aren't all finite; encode them in float32, "
                "or use another autoencoder"
            )
        yield stop, latents


def _write(file: Path, model: Model, data: Data, mirrored: bool, shape: tuple[int, ...]) -> Iterator[EncodeProgress]:
    """Written with plain writes, not through a mapping: on a full disk a mapping ends the process."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    try:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
        with open(temporary, "r+b", buffering=0) as target:
            with writing(file):
                np.lib.format.write_array_header_1_0(target, header)
            for done, chunk in _chunks(model, data, mirrored):
                with writing(file):
                    target.write(chunk.contiguous().numpy().astype("<f4", copy=False).tobytes())
                yield EncodeProgress(done=done, total=len(data), mirrored=mirrored)
            with writing(file):
                os.fsync(target.fileno())
        with writing(file):
            os.replace(temporary, file)
            sync_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _read(file: Path, shape: tuple[int, ...]) -> torch.Tensor | None:
    """None where the file isn't there or isn't whole: it is made again."""
    try:
        found = np.load(file, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if found.shape != shape or found.dtype != np.dtype("<f4"):
        return None
    return torch.from_numpy(np.array(found) if found.nbytes <= _SMALL else found)
