"""What a seed may be, and seeds for the parts of something that has one."""

import numpy as np

from engine.errors import InputError

_MOST = 10**12  # generators are seeded by products of it with 1,000,003


def check_seed(seed: int) -> None:
    """Raises InputError for one that no generator takes."""
    if not 0 <= seed < _MOST:
        raise InputError(f"seed {seed} is out of range; take a whole number from 0, of at most 12 digits")


def derived_seed(seed: int, part: int) -> int:
    """A seed for part number ``part`` of what ``seed`` begins, 39 bits: neither another part's nor that of a part of
    what another seed begins, so that two runs that differ in their seed alone share no batch (``seed + part`` would
    give the second stage of one the batches of the first stage of the next)."""
    return int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0] >> np.uint64(25))
