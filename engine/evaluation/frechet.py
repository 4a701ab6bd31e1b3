"""Fréchet distances (FID, arXiv 1706.08500) of many resamples of one set of features to one Gaussian.

torch-fidelity takes the eigenvalues of S₁S₂ by the general solver, seconds at 2048 features for each resample. Here
the root of S₂ is taken once: tr (S₁S₂)^½ is the sum of the singular values of Y = X S₂^½ / √(N − 1), X centred, hence
of the roots of the eigenvalues of YᵀY or, with fewer images than features, of YYᵀ. Float64; N images, F features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_ROWS = 20_000  # of many features at a time


@dataclass(frozen=True)
class Gaussian:
    mean: np.ndarray  # (F,)
    cov: np.ndarray  # (F, F)
    root: np.ndarray  # (F, F), symmetric: root @ root = cov

    @classmethod
    def of(cls, features: np.ndarray) -> "Gaussian":
        """features (N, F), N at least 2."""
        mean = features.mean(axis=0, dtype=np.float64)
        cov = np.cov(features, rowvar=False) if len(features) <= _ROWS else _covariance(features, mean)
        values, vectors = np.linalg.eigh(cov)
        return cls(mean, cov, (vectors * np.sqrt(values.clip(0))) @ vectors.T)


def _covariance(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The same as ``np.cov``, without another copy of features that may fill half the memory."""
    total = np.zeros((len(mean), len(mean)))
    for start in range(0, len(features), _ROWS):
        centred = features[start : start + _ROWS] - mean
        total += centred.T @ centred
    return total / (len(features) - 1)


def frechet_distances(features: np.ndarray, resamples: Iterable[np.ndarray], reference: Gaussian) -> np.ndarray:
    """features (N, F); each resample is indices into them, repeats allowed. Returns a distance for each."""
    rooted = features @ reference.root
    return np.array([_distance(features[chosen], rooted[chosen], reference) for chosen in resamples])


def _distance(features: np.ndarray, rooted: np.ndarray, reference: Gaussian) -> float:
    num, num_features = features.shape
    offset = features.mean(axis=0) - reference.mean
    y = (rooted - rooted.mean(axis=0)) / np.sqrt(num - 1)
    values = np.linalg.eigvalsh(y.T @ y if num > num_features else y @ y.T)
    spread = features.var(axis=0, ddof=1).sum() + np.trace(reference.cov)
    return float(offset @ offset + spread - 2 * np.sqrt(values.clip(0)).sum())
