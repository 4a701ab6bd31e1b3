"""What every dataset is to the rest of the engine: pictures (or latents) by index, labels, names. Free of torch.

Pictures are uint8 (N, H, W, 3), labels int64 (N,), latents float (N, C, h, w), scaled as the network sees them.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from engine.errors import AssetError


class Images(Protocol):
    """Pictures read when asked for; a NumPy array is the simplest kind."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        """uint8 (n, H, W, 3). Raises AssetError where a file can't be read any more."""

    def at(self, side: int) -> "Images":
        """The same pictures, cropped and resized to ``side`` × ``side``."""


class Latents(Protocol):
    """Latents read when asked for; a NumPy array is the simplest kind."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        """float (n, C, h, w). Raises AssetError where a file can't be read any more."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was seen while a dataset was opened, for a person to look at."""

    kind: str  # "folder of class folders", "archive of pictures", …
    sizes: np.ndarray | None = None  # int (N, 2): width and height of each picture before any cropping
    modes: dict[str, int] = field(default_factory=dict)  # Pillow's mode -> pictures
    unreadable: tuple[tuple[str, str], ...] = ()  # file and reason; left out of the data
    duplicates: int = 0  # pictures whose very bytes also lie in another class
    notes: tuple[str, ...] = ()  # one sentence each


@dataclass(frozen=True)
class Data:
    name: str  # what opens it again: a bundled name, a name in the library, a path, a hub id
    images: np.ndarray | Images | None  # None: the dataset has latents only
    labels: np.ndarray
    class_names: tuple[str, ...]
    content_hash: str
    about: str = ""
    latents: np.ndarray | Latents | None = None
    flip: bool = False  # whether a mirrored picture is as good as the picture: training then sees both
    findings: Findings | None = None
    pictures_hash: str = ""  # of the pictures without the classes' names; "" where content_hash serves for both

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

    def with_names(self, class_names: tuple[str, ...]) -> "Data":
        """The same dataset with other names for its classes; raises AssetError for another number of them."""
        if len(class_names) != len(self.class_names):
            raise AssetError(
                f"{self.name} has {len(self.class_names)} classes, but {len(class_names)} names are kept for it: the "
                "data changed since it was opened; open it again"
            )
        if class_names == self.class_names:
            return self
        content_hash = hash_of(self.content_hash, *class_names)
        pictures_hash = self.pictures_hash or self.content_hash
        return replace(self, class_names=class_names, content_hash=content_hash, pictures_hash=pictures_hash)


def hash_of(*parts: object) -> str:
    """16 hex digits of SHA-256 over the parts, each set off from the next."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def unnamed_classes(num_classes: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(num_classes))
