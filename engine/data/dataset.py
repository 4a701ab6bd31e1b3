"""What every dataset is to the rest of the engine: pictures (or latents) by index, labels, names. Free of torch.

Pictures are uint8 (N, H, W, 3), labels int64 (N,), latents float (N, C, h, w), scaled as the network sees them.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np


class Images(Protocol):
    """Pictures read when asked for; a NumPy array is the simplest kind."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        """uint8 (n, H, W, 3). Raises AssetError where a file can't be read any more."""

    def at(self, side: int) -> "Images":
        """The same pictures, cropped and resized to ``side`` × ``side``."""


@dataclass(frozen=True)
class Data:
    name: str
    images: np.ndarray | Images | None  # None: the dataset has latents only
    labels: np.ndarray
    class_names: tuple[str, ...]
    content_hash: str
    about: str = ""
    latents: np.ndarray | None = None
    flip: bool = False  # whether a mirrored picture is as good as the picture: training then sees both

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self) -> dict[str, int]:
        return dict(
            zip(self.class_names, np.bincount(self.labels, minlength=len(self.class_names)).tolist(), strict=True)
        )

    def at(self, side: int) -> "Data":
        """The same dataset with pictures of ``side`` × ``side``, by ADM's centre crop where they have another size."""
        if self.images is None or self.images.shape[1:3] == (side, side):
            return self
        if isinstance(self.images, np.ndarray):
            from engine.data.crop import ResizedImages

            return replace(self, images=ResizedImages(self.images, side))
        return replace(self, images=self.images.at(side))
