"""The workspace folder: where everything a user could lose is kept, and the only way files get into it.

A file appears complete or not at all: it is written under a temporary name beside its place, flushed to the disk and
renamed. Free of torch.
"""

import errno
import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import AssetError, DiskFull, WorkspaceError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_A_FOLDER = (errno.ENOTDIR, errno.EEXIST)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Workspace:
    root: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def previews(self) -> Path:
        return self.root / "previews"

    @property
    def bin(self) -> Path:
        """Where deleted runs go; made when the first one does."""
        return self.root / "bin"

    @property
    def queue_file(self) -> Path:
        return self.root / "queue.sqlite"


def open_workspace(path: Path | str | None = None) -> Workspace:
    """Makes the folders and proves that they can be written. Raises WorkspaceError.

    Without ``path``: ``$ENTPRUNER_WORKSPACE``, else ``workspace/`` in the current folder.
    """
    root = Path(path or os.environ.get("ENTPRUNER_WORKSPACE") or "workspace").expanduser().absolute()
    workspace = Workspace(root)
    with writing(root):
        for folder in (root, workspace.runs, workspace.cache, workspace.previews):
            folder.mkdir(parents=True, exist_ok=True)
        # Permission bits say nothing about a full disk or a read-only one, and nothing at all to root: so write.
        probe = root / f".probe-{secrets.token_hex(4)}"
        write_bytes_atomically(probe, b"can this folder be written?\n")
        probe.unlink()
    return workspace


@contextmanager
def writing(path: Path, *, num_bytes: int = 0) -> Iterator[None]:
    """Turns an OSError of the body into the one line of a WorkspaceError about ``path``; ``num_bytes``: of what is
    written, where that is known."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path, num_bytes) from error


def _explain(error: OSError, path: Path, num_bytes: int) -> WorkspaceError:
    if error.errno in _DISK_FULL:
        return DiskFull(path, num_bytes=num_bytes)
    if error.errno in _NOT_A_FOLDER:
        return WorkspaceError(f"{path} can't be made: a file is where a folder should be; choose another folder")
    if error.errno in _NOT_ALLOWED:
        reason = "the disk is read-only" if error.errno == errno.EROFS else "not permitted"
        return WorkspaceError(f"{path} can't be written ({reason}); allow it, or choose another workspace folder")
    return WorkspaceError(f"{path} can't be written ({error.strerror or error}); check that the disk is still there")


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Raises WorkspaceError; then ``path`` is as it was and nothing is left beside it."""
    with replacing(path, num_bytes=len(content)) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path, *, num_bytes: int = 0) -> Iterator[Path]:
    """A temporary name to write to; on success the file is flushed to the disk and becomes ``path``.

    For what is too big to be made in memory first. Raises WorkspaceError as ``write_bytes_atomically`` does.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path, num_bytes=num_bytes):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, obj: Any) -> None:
    """Raises WorkspaceError. A number that isn't finite is written as null: JSON has no word for it."""
    write_bytes_atomically(path, (encode_json(obj, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises AssetError for a file that is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise AssetError(f"{path} is missing; it may have been deleted or moved") from error
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} is damaged ({error}); restore it or delete its folder") from error


def encode_json(obj: Any, *, indent: int | None = None) -> str:
    try:
        return json.dumps(obj, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_finite(obj), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(obj: Any) -> Any:
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, dict):
        return {key: _finite(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_finite(value) for value in obj]
    return obj


def sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """The same for everything below ``folder``."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync_folder(path)  # a file's content or a sub-folder's names: the same call
    sync_folder(folder)
