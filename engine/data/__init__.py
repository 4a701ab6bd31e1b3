"""Datasets by reference. Free of torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.dataset import Data
from engine.steps import result_of

if TYPE_CHECKING:
    from engine.data.scan import OpenProgress


def load_data(ref: str | Path, *, workspace: Path | None = None) -> Data:
    """Opens a dataset: the name of a bundled one or of one in the workspace's library, a path, or a hub id.

    Raises InputError where ``ref`` names nothing, AssetError where what it names can't be read.
    """
    return result_of(opening_data(ref, workspace=workspace))


def opening_data(ref: str | Path, *, workspace: Path | None = None) -> Iterator["OpenProgress"]:
    """The same, yielding progress and returning the Data: a folder of a million files takes minutes to look at."""
    from engine.data.opening import opening

    return opening(ref, workspace=workspace)
