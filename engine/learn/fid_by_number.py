"""FID from kept features at any number of images: how it falls as the number grows, and how far it scatters.

Free of torch. F features, N images; real pictures are the reference, all of them.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import AssetError, InputError
from engine.evaluation.frechet import Gaussian, frechet_distances
from engine.evaluation.interval import CONFIDENCE, Interval, share_interval

FEWEST = 2  # images that a covariance needs
MODELS = ("intact", "pruned", "cut")
_SHOWN = ("intact", "cut")


@dataclass(frozen=True)
class KeptFeatures:
    """features: model -> float64 (N, F); labels (N,), seen: model -> (N,) what the CNN takes each picture for;
    pictures: of two of the models, uint8 (classes, n, H, W, 3); reference: of ``num_real`` real pictures."""

    features: dict[str, np.ndarray]
    labels: np.ndarray
    seen: dict[str, np.ndarray]
    pictures: dict[str, np.ndarray]
    reference: Gaussian
    num_real: int
    about: dict[str, Any]

    def accuracy(self, model: str, label: int) -> Interval:
        """Share of the model's pictures of a class that the CNN takes for it, with Wilson's 90 % interval."""
        own = self.labels == label
        return share_interval(float((self.seen[model][own] == label).mean()), int(own.sum()))


def read_kept_features(content: bytes, *, name: str) -> KeptFeatures:
    """Raises AssetError, in one line, for what isn't such a file."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            num_classes = len(about["class_names"])
            return KeptFeatures(
                features={model: arrays[f"{model}_features"].astype(np.float64) for model in MODELS},
                labels=arrays["labels"].astype(int),
                seen={model: arrays[f"{model}_seen"].astype(int) for model in MODELS},
                pictures={model: _cut(arrays[f"{model}_pictures"].tobytes(), num_classes) for model in _SHOWN},
                reference=_gaussian(arrays["real_mean"].astype(np.float64), arrays["real_cov"].astype(np.float64)),
                num_real=int(arrays["num_real"]),
                about=about,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise AssetError(f"{name} doesn't hold kept features ({error}); record it again") from error


def _gaussian(mean: np.ndarray, cov: np.ndarray) -> Gaussian:
    values, vectors = np.linalg.eigh(cov)
    return Gaussian(mean, cov, (vectors * np.sqrt(values.clip(0))) @ vectors.T)


def _cut(png: bytes, num_classes: int) -> np.ndarray:
    """A picture of square ones, a class in each row -> (classes, n, H, W, 3)"""
    with Image.open(io.BytesIO(png)) as grid:
        pixels = np.asarray(grid.convert("RGB"))
    side = len(pixels) // num_classes
    rows = pixels.reshape(num_classes, side, -1, side, 3)
    return rows.transpose(0, 2, 1, 3, 4)


def fid_of(kept: KeptFeatures, model: str, num: int, *, draw: int) -> float:
    """Of ``num`` images taken at random without repeats, classes alike; ``draw`` says which."""
    chosen = balanced(kept.labels, num, np.random.default_rng([draw, num]))
    return float(frechet_distances(kept.features[model], [chosen], kept.reference)[0])


def fid_of_draws(kept: KeptFeatures, model: str, num: int, *, draws: int) -> Interval:
    """Mean of ``draws`` such sets, and between which values 90 % of them lie.

    The sets come from the same N images, so near N they share most of them and scatter less than new ones would.
    """
    sets = (balanced(kept.labels, num, np.random.default_rng([draw, num])) for draw in range(draws))
    values = frechet_distances(kept.features[model], sets, kept.reference)
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(value=float(values.mean()), low=float(low), high=float(high))


def balanced(labels: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (num,) without repeats, every class as often as every other, give or take one.

    Raises InputError where there are fewer.
    """
    if not FEWEST <= num <= len(labels):
        raise InputError(f"{num} images: choose {FEWEST} … {len(labels)}, of which features are kept")
    classes = np.unique(labels)
    queues = [rng.permutation(np.flatnonzero(labels == label)) for label in rng.permutation(classes)]
    rounds = np.full((max(map(len, queues)), len(queues)), -1)
    for column, queue in enumerate(queues):
        rounds[: len(queue), column] = queue
    return rounds[rounds >= 0][:num]
