"""A little space put by for a run's last words: on a full disk they couldn't be written otherwise. Free of torch."""

import math
import os
import shutil
from pathlib import Path

from engine.errors import DiskFull
from engine.runs.stage import stage_folders
from engine.runs.store import Run, folder_bytes
from engine.runs.workspace import writing

_NAME = ".spare"
_BYTES = 64 * 2**10  # a status and an event, with the folders that name them
_ROOM = 2**20  # for all the small files beside the one that didn't fit


def keep_spare(run: Run) -> None:
    """Raises DiskFull where there is none any more."""
    file = run.path / _NAME
    with writing(file, num_bytes=_BYTES), open(file, "wb") as spare:
        spare.write(os.urandom(_BYTES))  # zeros may take no space
        spare.flush()
        os.fsync(spare.fileno())


def free_spare(run: Run) -> None:
    (run.path / _NAME).unlink(missing_ok=True)


def words_about(full: DiskFull, run: Run) -> str:
    """One line: what couldn't be written, and how much to free. At least that of the file itself and, as the next
    stage takes about as much as the largest so far, that of a stage."""
    stages = max((folder_bytes(folder) for folder in stage_folders(run.path).values()), default=0)
    needed = max(full.num_bytes, stages) + _ROOM
    missing = max(needed - _free_bytes(full.path), _ROOM)
    return f"disk full while writing {full.path}; free at least {math.ceil(missing / 1e6)} MB and resume"


def _free_bytes(path: Path) -> int:
    """Of the disk that ``path`` is on, which may be another than the run's."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
