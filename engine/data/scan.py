"""Picture files looked at before anything rests on them, and remembered until they change. Free of torch."""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from engine.data.dataset import hash_of
from engine.data.picture import PICTURE_SUFFIXES, Seen, is_picture, see_file
from engine.errors import AssetError
from engine.runs.workspace import encode_json, write_bytes_atomically

MAX_DECODED = 20_000  # of more pictures than this, every n-th is decoded and the others are known by their headers
_CHUNK = 256
_VERSION = 1
T = TypeVar("T")


class Entry(NamedTuple):
    """A file of a dataset: ``name`` is what the user calls it, ``stamp`` changes when its content does."""

    name: str
    path: str
    size: int
    stamp: str


@dataclass(frozen=True, kw_only=True)
class OpenProgress:
    message: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Scan:
    good: tuple[tuple[Entry, Seen], ...]
    unreadable: tuple[tuple[str, str], ...]  # file and reason
    num_skipped: int  # files that don't claim to be pictures
    all_decoded: bool


def list_files(root: Path) -> Iterator[Entry]:
    """Regular files below ``root``, hidden ones left out. Links are followed: datasets are often made of them; a folder
    that is met twice is read once. Raises AssetError where ``root`` itself can't be read."""
    seen: set[tuple[int, int]] = set()
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            about = os.stat(folder)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise AssetError(f"{root} can't be read ({error.strerror or error}); check the path") from error
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                if entry.is_dir():
                    folders.append((Path(entry.path), f"{prefix}{entry.name}/"))
                elif entry.is_file():  # never a device or a pipe: opening one could wait for ever
                    about = entry.stat()
                    yield Entry(prefix + entry.name, entry.path, about.st_size, str(about.st_mtime_ns))
            except OSError:  # gone between the listing and the look
                continue


def scanning(entries: list[Entry], *, cache: Path | None, title: str) -> Iterator[OpenProgress]:
    """Looks at every file, yielding progress; returns a Scan. ``cache`` is a folder for what was seen."""
    file = cache / f"scan-{hash_of(title)}.json" if cache else None
    known = _remembered(file)
    stride = max(1, -(-len(entries) // MAX_DECODED))
    seen: dict[str, Seen | None] = {}
    fresh = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for chunk in _chunks(enumerate(entries), _CHUNK):
            waiting = []
            for index, entry in chunk:
                if entry.name in known and known[entry.name][0] == f"{entry.size} {entry.stamp}":
                    seen[entry.name] = known[entry.name][1]
                else:
                    waiting.append((entry, index % stride == 0))
            fresh += len(waiting)
            run = pool.map if any(entry.size for entry, _ in waiting) else map  # nothing to read: not worth a thread
            looked = run(lambda pair: _look(pair[0], decode=pair[1]), waiting)
            seen.update((entry.name, found) for (entry, _), found in zip(waiting, looked, strict=True))
            yield OpenProgress(message="looking at the files", done=len(seen), total=len(entries))
    if file and fresh:
        _remember(file, entries, seen)
    pairs = [(entry, seen[entry.name]) for entry in entries]
    return Scan(
        good=tuple((entry, found) for entry, found in pairs if found and found.reason is None),
        unreadable=tuple((printable(entry.name), found.reason) for entry, found in pairs if found and found.reason),
        num_skipped=sum(found is None for _, found in pairs),
        all_decoded=stride == 1,
    )


def _look(entry: Entry, *, decode: bool) -> Seen | None:
    """None for a file that neither is a picture nor is named like one."""
    if PurePosixPath(entry.name).suffix.lower() not in PICTURE_SUFFIXES:
        try:
            with open(entry.path, "rb") as file:
                if not is_picture(file.read(16)):
                    return None
        except OSError:
            return None
    return Seen(reason="is empty") if entry.size == 0 else see_file(entry.path, decode=decode)


def _remembered(file: Path | None) -> dict[str, tuple[str, Seen | None]]:
    try:
        about = json.loads(file.read_bytes()) if file else {}
        if about.get("version") != _VERSION:
            return {}
        files = about["files"].items()
        return {name: (stamp, None if found is None else Seen.from_plain(found)) for name, (stamp, found) in files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there yet, or damaged: looked at again
        return {}


def _remember(file: Path, entries: list[Entry], seen: dict[str, Seen | None]) -> None:
    files = {
        entry.name: (f"{entry.size} {entry.stamp}", found and astuple(found))
        for entry in entries
        if (found := seen[entry.name]) is None or not (found.reason or "").startswith("can't be read")
    }
    content = encode_json({"version": _VERSION, "files": files}).encode("utf-8", "surrogatepass")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(file, content)


def count_duplicates(scan: Scan, labels: Iterable[int]) -> int:
    """Pictures whose very bytes also lie in another class; only told where every file was read."""
    if not scan.all_decoded:
        return 0
    classes: dict[str, set[int]] = {}
    digests = [found.digest for _, found in scan.good]
    for digest, label in zip(digests, labels, strict=True):
        classes.setdefault(digest, set()).add(int(label))
    return sum(len(classes[digest]) > 1 for digest in digests)


def printable(name: str) -> str:
    """A file's name that any screen can show, whatever its bytes."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\n", "␤")


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
