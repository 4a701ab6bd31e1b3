"""Kernel distances (KID, arXiv 1801.01401) of many resamples of one set of features, in one pass over the kernel."""

import numpy as np

_ROWS = 1024  # of the kernel at a time


def resampled_kernel_distances(generated: np.ndarray, reference: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Unbiased squared MMD under KID's kernel (x·y / F + 1)³ of each resample of ``generated`` against ``reference``.

    generated (N, F), reference (M, F); counts (N, R): how often resample r holds image n. Returns (R,). It estimates
    what KID's average over random subsets estimates, without their scatter; repeats of an image are pairs like others.
    """
    counts = counts.astype(np.float64)
    num = counts.sum(axis=0)  # (R,)
    within, across = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for start in range(0, len(generated), _ROWS):
        rows = slice(start, start + _ROWS)
        within += (counts[rows] * (_kernel(generated[rows], generated) @ counts)).sum(axis=0)
        across += counts[rows].T @ _kernel(generated[rows], reference).mean(axis=1)
    own = counts.T @ _diagonal(generated)
    return (within - own) / (num * (num - 1)) + _mean_of_pairs(reference) - 2 * across / num


def _mean_of_pairs(features: np.ndarray) -> float:
    total = sum(_kernel(features[i : i + _ROWS], features).sum() for i in range(0, len(features), _ROWS))
    return float((total - _diagonal(features).sum()) / (len(features) * (len(features) - 1)))


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _diagonal(features: np.ndarray) -> np.ndarray:
    return (np.square(features).sum(axis=1) / features.shape[1] + 1) ** 3
