"""Seeds of the parts of something that has one seed."""

import numpy as np


def derived_seed(seed: int, part: int) -> int:
    """A seed for part number ``part`` of what ``seed`` begins, 40 bits: neither another part's nor that of a part of
    what another seed begins, so that two runs that differ in their seed alone share no batch (``seed + part`` would
    give the second stage of one the batches of the first stage of the next)."""
    return int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0] >> np.uint64(24))
