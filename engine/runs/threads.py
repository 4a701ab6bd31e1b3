"""How many threads an operation of a preview gets."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.models.model import Model

_SMALL_PARAMETERS = 20_000_000


@contextmanager
def threads_for(model: Model) -> Iterator[None]:
    """One for a small model, as many as there are cores for others; as before on exit.

    The operations of a small model take fractions of a millisecond, after each of which its threads wait for the last.
    Two threads on two free cores answer in 0.6 s where one needs 1.0 s; with a browser and a run on the same cores they
    wait for each other's turn, and the same answer took 15 s instead of 1.3 s.
    """
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.network.parameters()) < _SMALL_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
