"""A picture in a preview's folder."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from engine.runs.workspace import writing


def save_picture(image: np.ndarray, folder: Path, file: str) -> None:
    """uint8 (H, W, 3) as PNG, whole or not there: somebody may look at it already."""
    with writing(folder / file):
        Image.fromarray(image).save(folder / f".{file}.tmp", format="PNG")
        os.replace(folder / f".{file}.tmp", folder / file)
