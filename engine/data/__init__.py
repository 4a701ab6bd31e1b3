"""Datasets by reference. Free of torch."""

from pathlib import Path

from engine.data.bundled import bundled_data
from engine.data.dataset import Data


def load_data(ref: str, *, workspace: Path | None = None) -> Data:
    """Opens a dataset: the name of a bundled one. Raises InputError for anything else."""
    return bundled_data(str(ref))
