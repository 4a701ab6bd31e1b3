"""Uploaded files: written into the workspace under their content's hash, with names that can't leave the folder."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from engine.errors import InputError, WorkspaceError
from engine.runs.workspace import Workspace, write_bytes_atomically, writing

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

    Raises InputError for two files of one name, WorkspaceError where the disk has no room.
    """
    assert files
    names = [safe_name(file.name) for file in files]
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
    if needed and needed + _ROOM_LEFT > free:
        raise WorkspaceError(
            f"the upload needs {needed / 1e9:.2f} GB and {folder.parent} has {free / 1e9:.2f} GB left; free some, or "
            "give the path of a file that is on this machine already"
        )
    for file, name in missing:
        write_bytes_atomically(folder / name, file.getbuffer())
    return folder / names[0] if len(names) == 1 else folder


def _is_there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size
