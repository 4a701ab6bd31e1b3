"""Which class the k-th image is of: part of every protocol. Free of torch.

Up to ``MOST_IN_TURN`` classes come in their order. More come in steps of near K/φ, so that any beginning is spread
over all K classes: 500 images in the order of ImageNet's thousand would be animals only. Either way the class of an
image depends on its place alone, and any K images in a row hold every class once.
"""

from collections.abc import Sequence
from functools import cache
from math import gcd, sqrt

import numpy as np

MOST_IN_TURN = 100
_GOLDEN_RATIO = (1 + sqrt(5)) / 2


def class_labels(index: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """``index`` (N,): places of images, from 0; ``classes``: K class ids. Returns (N,) of these."""
    num_classes = len(classes)
    return np.asarray(classes)[index % num_classes * _stride(num_classes) % num_classes]


def in_turn(num_classes: int) -> bool:
    return num_classes <= MOST_IN_TURN


@cache
def _stride(num_classes: int) -> int:
    """Near K/φ and without a divisor in common with K. The nearest may spread badly (21 steps of 619 come to 1 short
    of 13 times 1,000, so images fall into 21 heaps), hence the one whose continued fraction has the smallest terms."""
    if in_turn(num_classes):
        return 1
    near, reach = round(num_classes / _GOLDEN_RATIO), max(10, num_classes // 20)
    coprime = [k for k in range(near - reach, near + reach + 1) if gcd(k, num_classes) == 1]
    return min(coprime, key=lambda k: (_largest_term(k, num_classes), abs(k - near)))


def _largest_term(numerator: int, denominator: int) -> int:
    """Of the continued fraction."""
    largest = 0
    while numerator:
        term, left = divmod(denominator, numerator)
        largest, denominator, numerator = max(largest, term), numerator, left
    return largest
