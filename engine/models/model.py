"""A loaded model: the network, its process, its autoencoder and the names of its classes."""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from engine.compute import USUAL, Compute
from engine.data.dataset import Data
from engine.data.shared_classes import same_classes
from engine.errors import InputError
from engine.models.arithmetic import called_in, working_in
from engine.models.autoencoder import Autoencoder, PixelSpace
from engine.models.dit import DiT, DiTConfig
from engine.process import Process
from engine.process.guidance import Network


@dataclass(frozen=True, kw_only=True, eq=False)  # equal only to itself: comparing weights by accident is slow
class Model:
    ref: str  # what the user calls it: a bundled name, a path, run@stage
    network: DiT
    process: Process
    autoencoder: Autoencoder | PixelSpace
    class_names: tuple[str, ...]
    content_hash: str
    trained_on: str
    kept_blocks: tuple[int, ...]  # of the network that was first loaded; all of them for an intact model
    depth_of_parent: int | None = None  # blocks that that network had; None where nobody noted that any were dropped
    labels_trained: bool = True  # False while a fresh label table hasn't seen a training step
    notes: tuple[str, ...] = ()  # one sentence each: what was assumed when the files were read
    autoencoder_ref: str | None = "autoencoder"  # the bundled one, a folder, a hub id; None for a model of pixels
    layout: str = "ours"  # of the files: "ours", "official" or "diffusers"
    licence: str = ""  # a line on whose terms apply to the weights
    taken: str = "bare"  # which weights of a training checkpoint: "ema", "model", or "bare" where there were no others
    source: str = ""  # the file that the weights came from
    process_reason: str = ""  # why this process
    compute: Compute = USUAL  # how the network works where its outputs are drawn from, scored or trained

    @property
    def config(self) -> DiTConfig:
        return self.network.config

    @property
    def is_intact(self) -> bool:
        """Whether it has all its blocks, as far as was noted: without the last ones, ``kept_blocks`` doesn't tell."""
        depth = self.config.depth
        return self.kept_blocks == tuple(range(depth)) and self.depth_of_parent in (None, depth)

    @property
    def device(self) -> torch.device:
        return self.network.pos_embed.device

    @property
    def forward(self) -> Network:
        """The network, each call in the numbers of ``compute``; what it gives is fp32."""
        return called_in(self.network, self.compute, self.device)

    def working(self) -> AbstractContextManager[None]:
        """In which parts of the network work in the numbers of ``compute``."""
        return working_in(self.compute, self.device)

    def null_class_or_raise(self) -> int:
        if self.config.null_class is None:
            raise InputError(
                f"{self.ref} was trained without label dropout, so it has no null class: guidance and data of other "
                "classes need one"
            )
        return self.config.null_class

    def knows_classes_of(self, data: Data) -> bool:
        """Whether the model can be told the data's classes; else it is given the null class."""
        return self.has_classes_of(data) and self.labels_trained

    def has_classes_of(self, data: Data) -> bool:
        """The same classes in the same order; see ``same_classes`` for what counts as the same."""
        return same_classes(self.class_names, data.class_names)

    @property
    def image_side(self) -> int:
        """Side in pixels of the pictures that become this model's latents."""
        return self.config.input_size * self.autoencoder.downscale

    def latents_of(self, data: Data, chosen: np.ndarray | slice = slice(None), *, mirrored: bool = False) -> Tensor:
        """Latents (n, C, h, w) on the CPU of these images of ``data``; ``mirrored`` left to right.

        Raises InputError where the latents don't fit the network or can't be mirrored, AssetError where a file can't
        be read.
        """
        if data.latents is not None:
            if mirrored:
                raise InputError(
                    f"{data.name} holds encoded pictures, which can't be mirrored; turn mirrored copies off"
                )
            latents = torch.from_numpy(np.array(data.latents[chosen], dtype=np.float32))
        else:
            images = data.at(self.image_side).images[chosen]
            latents = self.autoencoder.encode(images[:, :, ::-1] if mirrored else images)
        if tuple(latents.shape[1:]) != self.config.latent_shape:
            raise InputError(
                f"{data.name} gives latents of {tuple(latents.shape[1:])}, but {self.ref} expects "
                f"{self.config.latent_shape}; use the autoencoder that the model was trained with, or other data"
            )
        return latents

    def with_network(self, network: DiT, *, change: str, kept: list[int] | None = None) -> "Model":
        """The same model around another network; ``change`` says what is different, for the content hash."""
        kept_blocks, depth_of_parent = self.kept_blocks, self.depth_of_parent
        if kept is not None:
            kept_blocks = tuple(self.kept_blocks[index] for index in kept)
            depth_of_parent = self.config.depth if self.is_intact else self.depth_of_parent
        content_hash = hashlib.sha256(f"{self.content_hash} {change}".encode()).hexdigest()[:16]
        return replace(
            self, network=network, kept_blocks=kept_blocks, depth_of_parent=depth_of_parent, content_hash=content_hash
        )
