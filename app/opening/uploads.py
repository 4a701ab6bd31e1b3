"""Uploaded files: written into the workspace under their content's hash, with names that can't leave the folder."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from engine.errors import InputError, WorkspaceError
from engine.runs.store import folder_bytes
from engine.runs.workspace import Workspace, write_bytes_atomically, writing

MOST_FILES = 8  # of one upload
MOST_UPLOADS = 50  # of one session
MOST_BYTES = 64 * 2**30  # of all uploads in a workspace
_ROOM_LEFT = 256 * 2**20  # bytes of the disk that an upload may not take


class Upload(Protocol):
    name: str
    size: int

    def getbuffer(self) -> memoryview: ...


def safe_name(name: str) -> str:
    """A plain file name: no folders, no leading dot, only letters, digits, - _ and dots; the ending stays."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(name.replace("\\", "/")).name).lstrip("._")
    stem, dot, ending = plain.rpartition(".")
    return f"{stem[:80]}{dot}{ending[:16]}" if stem else (plain[:80] or "upload")


def store(workspace: Workspace, files: Sequence[Upload]) -> Path:
    """Writes the files into one folder and returns it, or the file itself where there is only one.

    Raises InputError for two files of one name or too many, WorkspaceError where the disk has no room or uploads have
    taken their share of it.
    """
    assert files
    names = [safe_name(file.name) for file in files]
    if len(names) > MOST_FILES:
        raise InputError(f"{len(names)} files in one upload; at most {MOST_FILES} are taken, put more into an archive")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two of the uploaded files are named {twice}; upload each of them once")
    hashed = hashlib.sha256()
    for file, name in sorted(zip(files, names, strict=True), key=lambda pair: pair[1]):
        hashed.update(f"{name} {file.size} ".encode())
        hashed.update(file.getbuffer())
    folder = workspace.root / "uploads" / hashed.hexdigest()[:16]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    missing = [(file, name) for file, name in zip(files, names, strict=True) if not _is_there(folder / name, file.size)]
    needed = sum(file.size for file, _ in missing)
    taken = folder_bytes(folder.parent)
    if needed and taken + needed > MOST_BYTES:
        raise WorkspaceError(
            f"uploads take {taken / 1e9:.1f} GB in {folder.parent}, and with this one more than the "
            f"{MOST_BYTES / 1e9:.0f} GB they may take; delete some, or give the path of a file on this machine"
        )
    if needed and needed + _ROOM_LEFT > free:
        raise WorkspaceError(
            f"the upload needs {needed / 1e9:.2f} GB and {folder.parent} has {free / 1e9:.2f} GB left; free some, or "
            "give the path of a file that is on this machine already"
        )
    for file, name in missing:
        write_bytes_atomically(folder / name, file.getbuffer())
    return folder / names[0] if len(names) == 1 else folder


def check_kind(files: Sequence[Upload], endings: Sequence[str]) -> None:
    """Raises InputError for a file of another kind or of no content.

    ``endings`` without dots. The browser asks for these only; a hand-made request needn't.
    """
    names = [safe_name(file.name) for file in files]
    other = next((name for name in names if name.rpartition(".")[2].lower() not in endings), None)
    if other:
        raise InputError(f"{other} isn't of a kind that is taken here: {', '.join('.' + one for one in endings)}")
    empty = next((name for file, name in zip(files, names, strict=True) if not file.size), None)
    if empty:
        raise InputError(f"{empty} is empty: it has 0 bytes. Was it still being written? Upload it once more")


def _is_there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size
