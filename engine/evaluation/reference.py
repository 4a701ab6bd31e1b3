"""What is known of the real pictures once and for all: features, their Gaussian, kernel pairs and neighbours, cached.

The cache goes by the features' name, their weights, the pictures and the size at which they were looked at.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import Data, Images
from engine.evaluation.features import Features, extract
from engine.evaluation.frechet import Gaussian
from engine.evaluation.kernel import mean_of_pairs
from engine.evaluation.neighbours import Neighbours, nearest
from engine.runs.workspace import write_bytes_atomically

_PICTURES_READ = 1024  # of the data at a time; a multiple of what the extractor takes
_STATISTICS = ("mean", "cov", "root", "pairs", "distances", "indices")


@dataclass(frozen=True, kw_only=True)
class Reference:
    key: str  # what the cache knows it by
    features: np.ndarray  # float64 (M, F)
    labels: np.ndarray  # (M,)
    gaussian: Gaussian
    pairs: float  # the kernel's mean over pairs, for KID
    neighbours: Neighbours

    def __len__(self) -> int:
        return len(self.features)


def reference_of(features: Features, data: Data, side: int, cache: Path | None) -> Reference:
    """Of the data's pictures: of an array as they are, of files as they look at the generated images' ``side``."""
    pictures, at_side = data.images, ""
    if not isinstance(pictures, np.ndarray):
        pictures, at_side = data.at(side).images, f"-{side}"
    key = f"{features.name}-{features.sha256[:8]}-{data.pictures_hash or data.content_hash}{at_side}"
    files = (cache / f"features-{key}.npz", cache / f"statistics-{key}.npz") if cache else (None, None)
    found = _read(files[0], ("features",)) or _kept(files[0], {"features": _extracted(features, pictures)})
    points = found["features"].astype(np.float64)
    known = _read(files[1], _STATISTICS) or _kept(files[1], _statistics(points))
    return Reference(
        key=key,
        features=points,
        labels=data.labels,
        gaussian=Gaussian(known["mean"], known["cov"], known["root"]),
        pairs=float(known["pairs"]),
        neighbours=Neighbours(known["distances"], known["indices"]),
    )


def _statistics(features: np.ndarray) -> dict[str, np.ndarray]:
    gaussian, neighbours = Gaussian.of(features), nearest(features)
    return {
        "mean": gaussian.mean,
        "cov": gaussian.cov,
        "root": gaussian.root,
        "pairs": np.array(mean_of_pairs(features)),
        "distances": neighbours.distances,
        "indices": neighbours.indices,
    }


def _extracted(features: Features, pictures: np.ndarray | Images) -> np.ndarray:
    """float32 (M, F), as the network gave them. Pictures may be more than the memory holds: they are read in parts."""
    parts = [
        extract(features, pictures[start : start + _PICTURES_READ]).astype(np.float32)
        for start in range(0, len(pictures), _PICTURES_READ)
    ]
    return np.concatenate(parts)


def _read(file: Path | None, names: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    """None where it isn't there yet, or is damaged: it is then made anew."""
    if file is None:
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _kept(file: Path | None, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_bytes_atomically(file, content.getvalue())
    return arrays
