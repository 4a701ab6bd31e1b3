"""Distributions small enough to see, and their entropies, in nats. numpy only; N samples, d values each.

The Gaussian entropies are those of engine/importance/entropy.py, which needs torch and so can't be called from here;
a test holds the two together.
"""

import math
from functools import lru_cache

import numpy as np

NUM = 3000
_LOG_2PI_E = math.log(2 * math.pi * math.e)


def gaussian_entropy(variance: float) -> float:
    """½·log(2πe·σ²) = log σ + ½·log 2π + ½"""
    return 0.5 * (_LOG_2PI_E + math.log(variance))


@lru_cache(maxsize=1)
def two_bumps() -> np.ndarray:
    """(N,) values about −1 and +1, scaled to mean 0 and variance 1 exactly."""
    rng = np.random.default_rng(0)
    values = rng.choice([-1.0, 1.0], NUM) + 0.45 * rng.standard_normal(NUM)
    return (values - values.mean()) / values.std(ddof=1)


@lru_cache(maxsize=1)
def _round_cloud() -> np.ndarray:
    """(N, 2) with covariance 1 exactly."""
    values = np.random.default_rng(1).standard_normal((NUM // 4, 2))
    values -= values.mean(0)
    root = np.linalg.cholesky(np.linalg.inv(np.cov(values, rowvar=False)))
    return values @ root


def cloud(along: float, across: float) -> np.ndarray:
    """(N, 2), spread ``along`` the diagonal and ``across`` it."""
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)  # rows: along, across
    return (_round_cloud() * [along, across]) @ turn


def entropies_of_cloud(points: np.ndarray) -> tuple[float, float]:
    """Nats per dimension of points (N, 2): each dimension alone, and both together (½·log det(2πe·Σ)/2)."""
    covariance = np.cov(points, rowvar=False)
    alone = float(np.mean([gaussian_entropy(v) for v in np.diag(covariance)]))
    together = 0.5 * (_LOG_2PI_E + 0.5 * math.log(np.linalg.det(covariance)))
    return alone, float(together)


def turned(pictures: np.ndarray, turn: float) -> np.ndarray:
    """Float pictures (N, …) in 0 … 1: ``turn`` < 0 pulls them to their mean (−1: all alike), > 0 adds noise. The values
    may leave 0 … 1."""
    if turn < 0:
        mean = pictures.mean(0)
        return mean + (1 + turn) * (pictures - mean)
    noise = np.random.default_rng(2).standard_normal(pictures.shape)
    return pictures + 0.8 * turn * noise


def pooled_entropy(values: np.ndarray) -> float:
    """Of values (N, …): one variance for all dimensions, each about its own mean; nats per dimension."""
    variance = values.reshape(len(values), -1).var(axis=0, ddof=1).mean()
    return gaussian_entropy(float(variance))


def same_variance(shape: float, num: int = NUM) -> np.ndarray:
    """(N,) of variance 1 whatever ``shape`` in 0 … 1: 0 is a Gaussian, towards 1 two ever narrower peaks."""
    rng, (peak, width) = np.random.default_rng(3), _peaks(shape)
    return rng.choice([-peak, peak], num) + width * rng.standard_normal(num)


def true_entropy(shape: float) -> float:
    """Of ``same_variance`` itself, by summing −p·log p over a fine grid."""
    peak, width = _peaks(shape)
    x = np.linspace(-peak - 9 * width, peak + 9 * width, 20_001)
    p = sum(np.exp(-((x - side) ** 2) / (2 * width**2)) for side in (-peak, peak)) / (
        2 * width * math.sqrt(2 * math.pi)
    )
    return float(-np.trapezoid(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0), x))


def _peaks(shape: float) -> tuple[float, float]:
    """(where the peaks are, how wide): peak² + width² = 1."""
    peak = 0.995 * shape
    return peak, math.sqrt(1 - peak**2)
