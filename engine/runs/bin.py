"""Deleted runs: kept in the workspace's bin until somebody restores them or empties it. Free of torch."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from engine.errors import AssetError, InputError
from engine.runs.listing import run_folders, summary_of
from engine.runs.store import ACTIVE_STATES, RUN_ID, folder_bytes, open_run
from engine.runs.workspace import Workspace, sync_folder, writing

_GOING = ".going-"  # what is being emptied: never half a run under a run's name


@dataclass(frozen=True, kw_only=True)
class BinnedRun:
    id: str  # the name of its folder in the bin
    kind: str  # empty where it can't be read
    title: str
    created: float  # unix seconds, as is the next
    deleted: float
    num_bytes: int


def delete_run(workspace: Workspace, run_id: str) -> str:
    """Moves the run to the bin and returns its name there. Raises InputError for one that is at work."""
    path = workspace.runs / run_id
    try:
        state = open_run(workspace, run_id).status().state
    except AssetError:
        state = "damaged"
    if state in ACTIVE_STATES:
        raise InputError(f"run {run_id} is {state}; cancel it first, then delete it")
    with writing(workspace.bin):
        workspace.bin.mkdir(exist_ok=True)
    target = _free_place(workspace.bin, run_id)
    _move(path, target)
    return target.name


def list_bin(workspace: Workspace) -> list[BinnedRun]:
    """Those deleted last come first."""
    found = []
    for path in run_folders(workspace.bin):
        summary = summary_of(path)
        if summary is None:  # emptied this moment
            continue
        found.append(
            BinnedRun(
                id=path.name,
                kind=summary.kind,
                title=summary.title,
                created=summary.created,
                deleted=_deleted(path),
                num_bytes=folder_bytes(path),
            )
        )
    return sorted(found, key=lambda run: (run.deleted, run.id), reverse=True)


def restore_run(workspace: Workspace, binned_id: str) -> str:
    """Moves a run out of the bin and returns its id, a new one where another run has its old one by now."""
    path = workspace.bin / binned_id
    if not RUN_ID.fullmatch(binned_id) or not path.is_dir():
        raise InputError(f"no run named {binned_id!r} in the bin; python -m engine runs --bin lists those there are")
    target = _free_place(workspace.runs, binned_id)
    _move(path, target)
    return target.name


def empty_bin(workspace: Workspace) -> int:
    """Deletes for good what is in the bin; returns the bytes that this freed. Raises WorkspaceError."""
    freed = 0
    if not workspace.bin.is_dir():
        return freed
    with writing(workspace.bin):
        for path in run_folders(workspace.bin):
            os.rename(path, workspace.bin / f"{_GOING}{secrets.token_hex(4)}")
        for path in workspace.bin.glob(f"{_GOING}*"):  # those of a process that was killed, too
            freed += folder_bytes(path)
            shutil.rmtree(path)
    return freed


def _move(path: Path, target: Path) -> None:
    with writing(target):
        os.rename(path, target)
        sync_folder(target.parent)
        sync_folder(path.parent)


def _free_place(folder: Path, name: str) -> Path:
    """Somebody may have restored a run by hand, and deletes it again."""
    while (place := folder / name).exists():
        name = f"{name[:90]}-{secrets.token_hex(4)}"
    return place


def _deleted(path: Path) -> float:
    """A rename changes the time of a folder's description, not of its content."""
    try:
        return path.stat().st_ctime
    except OSError:
        return 0.0
