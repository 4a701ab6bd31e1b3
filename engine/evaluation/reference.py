"""What is known of the real pictures once and for all: features, their Gaussian, kernel pairs and neighbours, cached.

The cache goes by the features' name, their weights, the pictures and the size at which they were looked at. Pairs and
neighbours take time as the square of the pictures: of more than ``MOST_COMPARED`` they are those of a part that holds
every class in its share. M pictures, C of them compared, F features.
"""

import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import Data, Images, hash_of
from engine.evaluation.features import Features, extract
from engine.evaluation.frechet import Gaussian
from engine.evaluation.kernel import mean_of_pairs
from engine.evaluation.neighbours import Neighbours, nearest
from engine.runs.workspace import replacing
from engine.steps import result_of

MOST_COMPARED = 20_000  # 10 s of one core at 128 features
_PICTURES_READ = 256  # of the data at a time; a multiple of what the extractor takes
_STATISTICS = ("mean", "cov", "root", "pairs", "distances", "indices")


@dataclass(frozen=True, kw_only=True)
class Reference:
    key: str  # what the cache knows it by
    features: np.ndarray  # float64 (C, F), as are labels, pairs and neighbours of what is compared
    labels: np.ndarray  # (C,)
    gaussian: Gaussian  # of all M pictures
    pairs: float  # the kernel's mean over pairs, for KID
    neighbours: Neighbours
    every_feature: np.ndarray | None = None  # float32 (M, F), where more than are compared
    every_label: np.ndarray | None = None  # (M,)

    def __len__(self) -> int:
        return len(self.features)

    def of_class(self, label: int) -> np.ndarray:
        """Features float64 (n, F) of all its pictures, or of those compared where these are more than may be."""
        if self.every_feature is not None and self.every_label is not None:
            own = self.every_label == label
            if own.sum() <= MOST_COMPARED:
                return self.every_feature[own].astype(np.float64)
        return self.features[self.labels == label]


@dataclass(frozen=True, kw_only=True)
class ReferenceProgress:
    done: int  # pictures whose features are known
    total: int


def reference_of(features: Features, data: Data, side: int, cache: Path | None) -> Reference:
    """Of the data's pictures: of an array as they are, of files as they look at the generated images' ``side``."""
    return result_of(reading_reference(features, data, side, cache))


def reading_reference(
    features: Features, data: Data, side: int, cache: Path | None
) -> Generator[ReferenceProgress, None, Reference]:
    """The same, yielding progress where the cache doesn't know the pictures."""
    pictures, at_side = data.images, ""
    if not isinstance(pictures, np.ndarray):
        pictures, at_side = data.at(side).images, f"-{side}"
    key = f"{features.name}-{features.sha256[:8]}-{data.pictures_hash or data.content_hash}{at_side}"
    file = cache / f"features-{key}.npz" if cache else None
    found = _read(file, ("features",))
    if found is None:
        every = yield from _extracting(features, pictures)
        found = _kept(file, {"features": every})
    every, labels, more = found["features"], data.labels, {}
    chosen = compared(labels)
    if len(chosen) < len(every):
        key += f"-{len(chosen)}-{hash_of(chosen.tolist())}"
        more = {"every_feature": every, "every_label": labels}
        labels = labels[chosen]
    points = every[chosen].astype(np.float64)
    file = cache / f"statistics-{key}.npz" if cache else None
    known = _read(file, _STATISTICS) or _kept(file, _statistics(every if more else points, points))
    return Reference(
        key=key,
        features=points,
        labels=labels,
        gaussian=Gaussian(known["mean"], known["cov"], known["root"]),
        pairs=float(known["pairs"]),
        neighbours=Neighbours(known["distances"], known["indices"]),
        **more,
    )


def compared(labels: np.ndarray) -> np.ndarray:
    """Places, in order, of the pictures that are compared one by one: all, or a part drawn by lot, always the same, in
    which each of the ``labels`` (M,) has its share to within one picture."""
    if len(labels) <= MOST_COMPARED:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    shares = counts * (MOST_COMPARED / len(labels))
    wanted = np.floor(shares).astype(int)
    left = MOST_COMPARED - wanted.sum()
    wanted[np.argsort(wanted - shares, kind="stable")[:left]] += 1
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    rng = np.random.default_rng(0)
    return np.sort(np.concatenate([rng.permutation(own)[:n] for own, n in zip(members, wanted, strict=True)]))


def _statistics(every: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    gaussian, neighbours = Gaussian.of(every), nearest(features)
    return {
        "mean": gaussian.mean,
        "cov": gaussian.cov,
        "root": gaussian.root,
        "pairs": np.array(mean_of_pairs(features)),
        "distances": neighbours.distances,
        "indices": neighbours.indices,
    }


def _extracting(features: Features, pictures: np.ndarray | Images) -> Generator[ReferenceProgress, None, np.ndarray]:
    """Returns float32 (M, F), as the network gave them. Pictures may be more than the memory holds: they are read in
    parts."""
    found: np.ndarray | None = None
    for start in range(0, len(pictures), _PICTURES_READ):
        part = extract(features, pictures[start : start + _PICTURES_READ])
        if found is None:
            found = np.empty((len(pictures), part.shape[1]), np.float32)
        found[start : start + len(part)] = part
        yield ReferenceProgress(done=start + len(part), total=len(pictures))
    assert found is not None
    return found


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
        with replacing(file) as temporary, open(temporary, "wb") as target:  # too much to be made in memory first
            np.savez(target, **arrays)
    return arrays
