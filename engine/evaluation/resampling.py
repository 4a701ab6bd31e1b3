"""Which images stand for a set when it is drawn anew: resamples with repeats, and halves without. N images."""

import numpy as np

MIN_PER_CLASS = 10  # images of a class that are resampled among themselves, and that a class's own numbers need
_MOST_HALVES = 20  # enough for a deviation


def _strata(labels: np.ndarray) -> list[np.ndarray]:
    """Indices of each class: images are drawn for all classes alike and not at random, so they are resampled within
    them too (measured on real shapes, a resample that ignores this gives intervals four times too wide)."""
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if min(map(len, members)) < MIN_PER_CLASS:  # too few in a class to stand for it
        return [np.arange(len(labels))]
    return members


def resample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices (N,) with repeats."""
    return np.concatenate([own[rng.integers(len(own), size=len(own))] for own in _strata(labels)])


def halves(labels: np.ndarray, num: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks (N,) of random halves, without repeats."""
    masks = np.zeros((min(num, _MOST_HALVES), len(labels)), dtype=bool)
    for mask in masks:
        for own in _strata(labels):
            mask[rng.permutation(own)[: len(own) // 2]] = True
    return list(masks)
