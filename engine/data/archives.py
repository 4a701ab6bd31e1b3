"""A .zip or .tar of class folders, unpacked once into the cache under names that we make ourselves. Free of torch.

Nothing in an archive is trusted: sizes are counted while unpacking, links and devices are refused, and what a member is
called only ever becomes a word in an index, never a path.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import secrets
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from engine.data.dataset import hash_of
from engine.data.folders import opening_pictures
from engine.data.picture import MAX_FILE_BYTES, PICTURE_SUFFIXES, is_picture
from engine.data.scan import Entry, OpenProgress, printable
from engine.errors import AssetError, DiskFull, InputError, WorkspaceError
from engine.runs.workspace import encode_json, write_bytes_atomically, writing

MAX_MEMBERS = 2_000_000
MAX_RATIO = 100  # unpacked bytes for a byte of the archive; pictures are compressed already, so theirs is about 1
_RATIO_FROM = 64 * 2**20  # bytes up to which any ratio is fine: small files compress well
_SPARE = 512 * 2**20  # bytes that stay free on the disk
_CHUNK = 2**20
_MAX_READ = 16 * 2**20  # bytes at once; more is asked for only by a header that lies
_PER_FOLDER = 1000
_PROGRESS_EVERY = 200  # members
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    struct.error,
    ValueError,
    OverflowError,
    RuntimeError,  # NotImplementedError too: a compression that zipfile doesn't know
    KeyError,
    IndexError,
    OSError,
)


class _Member(NamedTuple):
    name: str
    content: IO[bytes]


@dataclass
class _Budget:
    """Counts what is unpacked, and raises AssetError when it is more than an archive of pictures can hold."""

    archive: str
    most_bytes: int
    done: int = 0
    members: int = 0

    def add(self, num_bytes: int) -> None:
        self.done += num_bytes
        if self.done > self.most_bytes:
            raise AssetError(
                f"{self.archive} unpacks to more than {MAX_RATIO} times its size, which pictures never do; unpack it "
                "yourself if you trust it, and open the folder"
            )

    def add_member(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise AssetError(
                f"{self.archive} has more than {MAX_MEMBERS:,} members; unpack it yourself and open the folder"
            )


class _Metered(io.RawIOBase):
    """A decompressed stream that charges the budget for every byte, and never reads much at once."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream, self._budget, self.last = stream, budget, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise ValueError(f"a header claims {size:,} bytes")
        self.last = self._stream.read(size)
        self._budget.add(len(self.last))
        return self.last

    def seek(self, place: int, whence: int = 0) -> int:
        ahead = place - self._stream.tell()
        if whence or ahead < 0:
            return self._stream.seek(place, whence)
        while ahead > 0:  # skipping a compressed member unpacks it all the same
            ahead -= len(self.read(min(ahead, _CHUNK))) or ahead
        return self._stream.tell()

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def is_archive(head: bytes) -> bool:
    """Whether a file that starts with these 512 bytes is a .zip or a .tar, compressed or not."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06", *_COMPRESSED)) or head[257:262] == b"ustar"


def opening_archive(path: Path, *, name: str, cache: Path) -> Iterator[OpenProgress]:
    """Yields progress, returns Data. Raises AssetError for an archive that is damaged, locked or not to be trusted."""
    try:
        about = path.stat()
    except OSError as error:
        raise AssetError(f"{name} can't be read ({error.strerror}); check the path") from error
    key = hash_of(path.resolve(), about.st_size, about.st_mtime_ns)
    folder = cache / "archives" / key
    if _index_of(folder) is None:
        yield from _unpack(path, about.st_size, folder, name)
    index = _index_of(folder)
    if index is None:
        raise WorkspaceError(f"{folder} was written and can't be read back; check the disk and open the archive again")
    entries = [
        Entry(member, str(folder / _place(number)), size, digest) for number, (member, size, digest) in enumerate(index)
    ]
    data = yield from opening_pictures(entries, name=name, kind="archive", title=f"archive {key}", cache=cache)
    return data


def _place(number: int) -> str:
    return f"{number // _PER_FOLDER:04d}/{number % _PER_FOLDER:03d}"


def _index_of(folder: Path) -> list[tuple[str, int, str]] | None:
    """(member, bytes, digest) of each unpacked file; None where the folder isn't whole."""
    try:
        found = json.loads((folder / "index.json").read_bytes())["members"]
        index = [(str(member), int(size), str(digest)) for member, size, digest in found]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = all((folder / _place(number)).is_file() for number in range(0, len(index), _PER_FOLDER))
    return index if whole else None


def _unpack(path: Path, size: int, folder: Path, name: str) -> Iterator[OpenProgress]:
    """Into a folder beside it first, then one rename: a half-unpacked archive is never taken for a whole one."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    with writing(temporary):
        temporary.mkdir(parents=True)
        free = shutil.disk_usage(temporary).free
    budget = _Budget(name, max(_RATIO_FROM, MAX_RATIO * size))
    try:
        index = yield from _unpack_into(temporary, path, name, budget, free)
        write_bytes_atomically(temporary / "index.json", encode_json({"members": index}).encode("utf-8", "replace"))
        with writing(folder):
            if folder.exists():  # damaged, or made by another process just now
                shutil.rmtree(folder)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_into(folder: Path, path: Path, name: str, budget: _Budget, free: int) -> Iterator[OpenProgress]:
    index: list[tuple[str, int, str]] = []
    written = 0
    try:
        for member in _members(path, budget):
            head = member.content.read(16)
            suffix = Path(member.name).suffix.lower()
            if is_picture(head) or suffix in PICTURE_SUFFIXES:
                size, digest = _copy(member, head, folder / _place(len(index)), free - written - _SPARE)
                index.append((printable(member.name), size, digest))
                written += size
            if budget.members % _PROGRESS_EVERY == 0:
                yield OpenProgress(message=f"unpacking, {budget.members:,} files", done=0, total=1)
    except DAMAGED as error:
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise AssetError(
            f"{name} is a damaged archive ({reason}); get it again, or open the unpacked folder"
        ) from error
    if not index:
        raise AssetError(
            f"{name} holds no pictures among {budget.members:,} members; expected class folders with PNG, JPEG or WebP "
            "files"
        )
    return index


def _copy(member: _Member, head: bytes, target: Path, room: int) -> tuple[int, str]:
    """Bytes written and their digest. Raises WorkspaceError on a full disk."""
    digest, size = hashlib.sha256(), 0
    with writing(target):
        target.parent.mkdir(exist_ok=True)
        target.touch()
    with open(target, "wb") as file:
        chunk = head
        while chunk:
            digest.update(chunk)
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise AssetError(
                    f"member {printable(member.name)[:120]!r} is larger than {MAX_FILE_BYTES // 2**20} MiB, which no "
                    "picture is; remove it from the archive"
                )
            if size > room:
                raise DiskFull(target.parents[1], num_bytes=size + _SPARE, free=room + _SPARE)
            with writing(target):
                file.write(chunk)
            chunk = member.content.read(_CHUNK)
    return size, digest.hexdigest()[:16]


def _members(path: Path, budget: _Budget) -> Iterator[_Member]:
    with open(path, "rb") as file:
        head = file.read(6)
        file.seek(0)
        if head.startswith(b"PK"):
            yield from _zip_members(file, budget)
            return
        unpack = next((unpack for magic, unpack in _COMPRESSED.items() if head.startswith(magic)), None)
        with unpack(file) if unpack else file as stream:
            yield from _tar_members(stream, budget)


def _zip_members(file: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            budget.add_member()
            kind = stat.S_IFMT(info.external_attr >> 16)
            check_member(info.filename, link=kind not in (0, stat.S_IFREG, stat.S_IFDIR))
            if info.is_dir() or _hidden(info.filename):
                continue
            if info.flag_bits & 0x1:
                raise InputError(f"{budget.archive} is locked with a password; unpack it yourself and open the folder")
            budget.add(info.file_size)  # zipfile itself never gives more than a member claims
            with archive.open(info) as content:
                yield _Member(info.filename, content)


def _tar_members(stream: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    metered = _Metered(stream, budget)
    with tarfile.open(fileobj=metered, mode="r:") as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # tarfile would keep them all
            budget.add_member()
            check_member(info.name, link=not (info.isreg() or info.isdir()) or info.issparse())
            if info.isdir() or _hidden(info.name):
                continue
            content = archive.extractfile(info)
            assert content is not None  # a regular file
            yield _Member(info.name, content)
        if any(metered.last):  # tarfile takes a damaged header for the end
            raise tarfile.ReadError("a member's header is damaged")


def check_member(name: str, *, link: bool) -> None:
    """Raises AssetError for a member that no archive of ours needs and that could reach outside of its folder."""
    shown = printable(name)[:120]
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise AssetError(f"member {shown!r} of the archive points outside of it; nothing was unpacked: don't trust it")
    if link:
        raise AssetError(
            f"member {shown!r} of the archive is a link or a device, not a file; nothing was unpacked: pack the files "
            "themselves"
        )


def _hidden(name: str) -> bool:
    return any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in name.split("/"))
