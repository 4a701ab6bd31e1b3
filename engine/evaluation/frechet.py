"""Fréchet distances (FID, arXiv 1706.08500) of many resamples of one set of features to one Gaussian.

torch-fidelity takes the eigenvalues of S₁S₂ by the general solver, seconds at 2048 features for each resample. Here
the root of S₂ is taken once: tr (S₁S₂)^½ is the sum of the singular values of Y = X S₂^½ / √(N − 1), X centred, hence
of the roots of the eigenvalues of YᵀY or, with fewer images than features, of YYᵀ. Float64; N images, F features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    mean: np.ndarray  # (F,)
    cov: np.ndarray  # (F, F)
    root: np.ndarray  # (F, F), symmetric: root @ root = cov

    @classmethod
    def of(cls, features: np.ndarray) -> "Gaussian":
        """features (N, F), N at least 2."""
        cov = np.cov(features, rowvar=False)
        values, vectors = np.linalg.eigh(cov)
        return cls(features.mean(axis=0), cov, (vectors * np.sqrt(values.clip(0))) @ vectors.T)


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
