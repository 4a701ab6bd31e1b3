"""Pictures in class folders, each read when it is asked for. Free of torch.

The first level of folders below the root are the classes, in the order of their names (as torchvision's ImageFolder
has them); what lies deeper belongs to the class above it. Pictures without folders are one class.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.data.crop import centre_crop
from engine.data.dataset import Data, Findings, hash_of
from engine.data.picture import DECODE_ERRORS, Seen, read_rgb
from engine.data.scan import Entry, OpenProgress, Scan, count_duplicates, printable, scanning
from engine.errors import AssetError

FLAT_CLASS = "images"
_NATURAL_SIDE = 256  # of pictures of many sizes, until a model says which it wants
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "eval"}
THREADS = min(4, os.cpu_count() or 1)  # Pillow decodes without holding Python's lock


@dataclass(frozen=True)
class PictureFiles:
    paths: tuple[str, ...]
    side: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), self.side, self.side, 3

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        chosen = [self.paths[i] for i in np.arange(len(self.paths))[index]]
        if not chosen:
            return np.empty((0, *self.shape[1:]), np.uint8)
        with ThreadPoolExecutor(THREADS) as pool:
            return np.stack(list(pool.map(self._read, chosen)))

    def _read(self, path: str) -> np.ndarray:
        try:
            return centre_crop(read_rgb(path), self.side)
        except DECODE_ERRORS as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise AssetError(
                f"{printable(path)} can't be read any more ({reason}); the data changed since it was opened: open it "
                "again"
            ) from error

    def at(self, side: int) -> "PictureFiles":
        return replace(self, side=side)


def opening_pictures(
    entries: list[Entry], *, name: str, kind: str, title: str, cache: Path | None
) -> Iterator[OpenProgress]:
    """Yields progress, returns Data of files named like ``class/…/picture``.

    ``title`` tells one list of files from another in the cache. Raises AssetError where no picture can be read.
    """
    entries = sorted(entries)
    scan = yield from scanning(entries, cache=cache, title=title)
    if not scan.good:
        raise AssetError(_nothing_found(name, len(entries), scan))
    wrapper = _wrapper([entry.name for entry, _ in scan.good])
    names = [entry.name[len(wrapper) :] for entry, _ in scan.good]
    notes = [f"the classes are the folders inside {printable(wrapper.rstrip('/'))}"] if wrapper else []
    good, classes, more = _classes(scan.good, names)
    scan = replace(scan, good=good)
    class_names = tuple(sorted(set(classes)))
    number = {known: index for index, known in enumerate(class_names)}
    labels = np.array([number[known] for known in classes], dtype=np.int64)
    pictures_hash = hash_of(*(f"{entry.name}\0{entry.size}\0{entry.stamp}" for entry, _ in good), *labels.tolist())
    sizes = np.array([(found.width, found.height) for _, found in good], dtype=np.int64)
    class_names = tuple(map(printable, class_names))
    return Data(
        name,
        PictureFiles(tuple(entry.path for entry, _ in good), natural_side(sizes)),
        labels,
        class_names,
        hash_of(pictures_hash, *class_names),
        f"{len(good):,} pictures in {_count(len(class_names), 'class', 'classes')}",
        flip=True,
        pictures_hash=pictures_hash,
        findings=Findings(
            kind=f"{kind} of class folders" if len(class_names) > 1 else f"{kind} of pictures",
            sizes=sizes,
            modes=dict(Counter(found.mode for _, found in good)),
            unreadable=scan.unreadable,
            duplicates=count_duplicates(scan, labels),
            notes=tuple(notes + more + picture_notes([found for _, found in good], scan)),
        ),
    )


def _wrapper(names: list[str]) -> str:
    """The folders that hold everything while their own folders hold the classes, as archives often have them."""
    parts = [name.split("/") for name in names]
    depth = 0
    while all(len(part) > depth + 2 for part in parts) and len({part[depth] for part in parts}) == 1:
        depth += 1
    return "".join(f"{part}/" for part in parts[0][:depth])


def _classes(
    good: tuple[tuple[Entry, Seen], ...], names: list[str]
) -> tuple[tuple[tuple[Entry, Seen], ...], list[str], list[str]]:
    """The pictures that have a class, the class of each, and notes."""
    inside = [index for index, name in enumerate(names) if "/" in name]
    if not inside:
        return good, [FLAT_CLASS] * len(good), ["the pictures lie in no class folders, so they are one class"]
    classes = [names[index].split("/")[0] for index in inside]
    notes = []
    if len(inside) < len(good):
        notes.append(
            f"{len(good) - len(inside):,} pictures beside the class folders belong to no class and are left out"
        )
    if set(map(str.lower, classes)) <= _SPLITS and len(set(classes)) > 1:
        found = ", ".join(sorted(set(classes)))
        notes.append(
            f"the classes are called {found}, like parts of a dataset: perhaps open one of these folders instead"
        )
    return tuple(good[index] for index in inside), classes, notes


def picture_notes(found: list[Seen], scan: Scan) -> list[str]:
    """What a person should know of how these pictures are read."""
    notes = []
    if animated := sum(each.animated for each in found):
        notes.append(f"{_count(animated, 'picture is', 'pictures are')} animated: the first frame is taken")
    if deep := sum(each.mode == "I" or each.mode.startswith("I;16") for each in found):
        notes.append(f"{_count(deep, 'picture has', 'pictures have')} 16 bits a pixel, scaled to 8")
    if clear := sum(each.mode in ("RGBA", "LA", "PA", "La", "RGBa") for each in found):
        notes.append(f"{_count(clear, 'picture is', 'pictures are')} transparent in places, laid on white")
    if not scan.all_decoded:
        notes.append("with so many files, a part was decoded to the last pixel and the others by their headers only")
    if scan.num_skipped:
        notes.append(f"{_count(scan.num_skipped, 'file is', 'files are')} no picture and skipped")
    return notes


def natural_side(sizes: np.ndarray) -> int:
    """Side in pixels at which pictures of these (width, height) are shown and measured until a model says otherwise."""
    shortest = sizes.min(axis=1)
    return int(shortest[0]) if (sizes == sizes[0, 0]).all() else max(1, min(_NATURAL_SIDE, int(np.median(shortest))))


def _nothing_found(name: str, num_files: int, scan: Scan) -> str:
    wanted = "expected class folders with PNG, JPEG or WebP files"
    if scan.unreadable:
        file, reason = scan.unreadable[0]
        return (
            f"{name} holds no picture that can be read: of {num_files:,} files, the first, {file}, {reason}; {wanted}"
        )
    if num_files:
        return f"{name} holds no pictures: found {_count(num_files, 'file', 'files')} of other kinds; {wanted}"
    return f"{name} is empty; {wanted}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
