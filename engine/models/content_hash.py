"""What a file or a set of tensors contains, as a hash. A large file is read once: its hash is remembered until the file
changes."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import AssetError
from engine.runs.workspace import write_bytes_atomically

_WORTH_REMEMBERING = 64 * 2**20  # bytes; what is smaller takes no time to read again


def hash_file(path: Path, *, cache: Path | None = None) -> str:
    """16 hexadecimal digits of the content's SHA-256. ``cache``: a folder to remember it in. Raises AssetError."""
    try:
        about = path.stat()
        if cache is None or about.st_size < _WORTH_REMEMBERING:
            return _digest(path)
        # the time of the last change of any kind can't be set back, unlike that of the content's
        identity = f"{os.path.realpath(path)} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"
        note = cache / f"hash-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.txt"
        known = note.read_text().strip() if note.exists() else ""
        if len(known) == 16:
            return known
        digest = _digest(path)
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} can't be read ({error}); check that it is still there") from error
    write_bytes_atomically(note, f"{digest}\n".encode())
    return digest


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of the SHA-256 of names, kinds, shapes and values, one tensor in memory at a time."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def hash_words(*words: object) -> str:
    """One hash out of others and of anything whose repr says all about it."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
