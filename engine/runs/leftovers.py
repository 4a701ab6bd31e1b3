"""What killed processes leave under names that begin with a dot: it takes space, a checkpoint's gigabytes, and no more.

Free of torch.
"""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from engine.runs.store import Run
from engine.runs.workspace import Workspace

_RUN_SECONDS = 60.0  # a page may be writing a word to the run this moment
_WORKSPACE_SECONDS = 86_400.0  # a large dataset may take hours to be unpacked or encoded


def sweep_run(run: Run) -> None:
    """To be called by the run's own process, before it writes."""
    places = (run.path, run.progress_folder)
    _sweep((path for place in places for path in place.glob(".*.tmp")), older_than=_RUN_SECONDS)
    _sweep((run.path / "stages").glob(".new-*"), older_than=0.0)


def sweep_workspace(workspace: Workspace) -> None:
    _sweep(workspace.runs.glob(".new-*"), older_than=_WORKSPACE_SECONDS)
    for place in (workspace.root, workspace.cache, workspace.cache / "archives"):
        _sweep([*place.glob(".*.tmp"), *place.glob(".probe-*")], older_than=_WORKSPACE_SECONDS)


def _sweep(paths: Iterable[Path], *, older_than: float) -> None:
    """What can't be deleted stays: nothing rests on its being gone."""
    for path in paths:
        try:
            if time.time() - path.lstat().st_mtime < older_than:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            continue
