"""ADM's centre crop (arXiv 2105.05233), with which the published DiT and SiT models were trained. Free of torch."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.data.dataset import Images


def centre_crop(picture: Image.Image, side: int) -> np.ndarray:
    """An RGB picture of any size -> uint8 (side, side, 3).

    Halved by box filter while the short side is at least twice ``side``, then resized bicubically, then cut out of the
    middle: the official training code's order, so that the same file gives the same pixels.
    """
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), resample=Image.Resampling.BOX)
    scale = side / min(picture.size)
    if scale != 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, resample=Image.Resampling.BICUBIC)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture)[top : top + side, left : left + side]


@dataclass(frozen=True)
class ResizedImages:
    """Pictures of one size, read at another."""

    images: np.ndarray | Images  # uint8 (N, H, W, 3)
    side: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.images), self.side, self.side, 3

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        chosen = [centre_crop(Image.fromarray(picture), self.side) for picture in self.images[index]]
        return np.stack(chosen) if chosen else np.empty((0, self.side, self.side, 3), np.uint8)

    def at(self, side: int) -> "ResizedImages":
        return ResizedImages(self.images, side)
