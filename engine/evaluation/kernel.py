"""Kernel distances (KID, arXiv 1801.01401): torch-fidelity's, and those of many resamples in one pass."""

import numpy as np
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

_SUBSETS, _SUBSET_SIZE = 100, 100
_ROWS = 1024  # of the kernel at a time


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """KID (arXiv 1801.01401): mean and deviation over 100 random subsets of min(100, N // 2) images."""
    found = kid_features_to_metric(
        torch.from_numpy(features_a).float(),  # as torch-fidelity has them; twice as fast
        torch.from_numpy(features_b).float(),
        kid_subsets=_SUBSETS,
        kid_subset_size=subset_size(len(features_a), len(features_b)),
        rng_seed=seed,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def subset_size(num_a: int, num_b: int) -> int:
    return min(_SUBSET_SIZE, num_a // 2, num_b // 2)


def resampled_kernel_distances(
    generated: np.ndarray, reference: np.ndarray, counts: np.ndarray, *, reference_pairs: float | None = None
) -> np.ndarray:
    """Squared MMD under KID's kernel (x·y / F + 1)³ of each resample of ``generated`` against ``reference``.

    It is torch-fidelity's estimator, without bias for pictures drawn independently. Equally many of each class aren't:
    their pairs are of one class more seldom than those of independent ones, and the value reads low, the less so the
    more pictures there are (demo-cnn, real digits against the others: by 0.011 at 100, 0.002 at 890). The noise floor
    has the same counts and reads low alike.

    generated (N, F), reference (M, F); counts (N, R): how often resample r holds image n; ``reference_pairs``: the
    ``mean_of_pairs`` of the reference, where it is known. Returns (R,). It estimates what KID's average over random
    subsets estimates, without their scatter; repeats of an image are pairs like others.
    """
    counts = counts.astype(np.float64)
    num = counts.sum(axis=0)  # (R,)
    within, across = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for start in range(0, len(generated), _ROWS):
        rows = slice(start, start + _ROWS)
        within += (counts[rows] * (_kernel(generated[rows], generated) @ counts)).sum(axis=0)
        across += counts[rows].T @ _kernel(generated[rows], reference).mean(axis=1)
    own = counts.T @ _diagonal(generated)
    pairs = mean_of_pairs(reference) if reference_pairs is None else reference_pairs
    return (within - own) / (num * (num - 1)) + pairs - 2 * across / num


def split_kernel_distance(features: np.ndarray, chosen: np.ndarray, pairs: float) -> float:
    """The same distance between the ``chosen`` (M,) of ``features`` (M, F) and the others. Only the kernel's chosen
    rows are computed: the pairs of the others are what is left of all ``pairs``, the features' ``mean_of_pairs``."""
    num, others = int(chosen.sum()), int((~chosen).sum())
    own, within, across = features[chosen], 0.0, 0.0
    for start in range(0, num, _ROWS):
        kernel = _kernel(own[start : start + _ROWS], features)
        within, across = within + kernel[:, chosen].sum(), across + kernel[:, ~chosen].sum()
    within -= _diagonal(own).sum()
    left = pairs * len(features) * (len(features) - 1) - 2 * across - within
    return float(within / (num * (num - 1)) + left / (others * (others - 1)) - 2 * across / (num * others))


def mean_of_pairs(features: np.ndarray) -> float:
    """Mean of the kernel over pairs of different images."""
    total = sum(_kernel(features[i : i + _ROWS], features).sum() for i in range(0, len(features), _ROWS))
    return float((total - _diagonal(features).sum()) / (len(features) * (len(features) - 1)))


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    kernel = first @ second.T
    kernel /= first.shape[1]
    kernel += 1
    return kernel * kernel * kernel  # a power of three would go through logarithms


def _diagonal(features: np.ndarray) -> np.ndarray:
    return (np.square(features).sum(axis=1) / features.shape[1] + 1) ** 3
