"""Pictures and folders of them, made up for the tests of datasets."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    """Smooth enough that JPEG and resizing keep it recognisable."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def class_folders(root: Path, counts: dict[str, int], **size: int) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            put(root / name / f"{index:03d}.png", encoded(noise(1000 * number + index, **size)))
    return root
