"""Folders and files of encoded pictures: what fast-DiT's extraction writes, and latents in one file. Free of torch.

fast-DiT (extract_features.py) writes one .npy for each picture, (1, C, h, w) and already scaled, into
``imagenet256_features/``, and its label (1,) under the same name into ``imagenet256_labels/``.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.arrays import checked_labels, data_of_arrays, read_array, read_arrays, reading_arrays
from engine.data.dataset import Data, Findings, hash_of, unnamed_classes
from engine.data.scan import Entry, OpenProgress, printable
from engine.errors import AssetError
from engine.runs.workspace import write_bytes_atomically

_THREADS = min(8, os.cpu_count() or 1)
_LABELS_READ = 1000  # at a time
_MAX_HEADER = 100 * 2**20  # bytes, the format's own limit
_SMALL = 16 * 2**20  # bytes up to which an array is known by all of them
_PIECES, _PIECE = 64, 2**16  # of a larger one: how many, evenly spaced from its beginning to its end, and their bytes
_LABELS = ("labels", "arr_1")
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_ONE_FILE = ("latents.npy", "latents.npz", "latents.safetensors")


@dataclass(frozen=True)
class FeatureFiles:
    """Latents that lie in one .npy each."""

    paths: tuple[str, ...]
    latent_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), *self.latent_shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        chosen = [self.paths[i] for i in np.arange(len(self.paths))[index]]
        if not chosen:
            return np.empty((0, *self.latent_shape), np.float32)
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.stack(list(pool.map(self._read, chosen)))

    def _read(self, path: str) -> np.ndarray:
        with reading_arrays(printable(path)):
            array = read_array(Path(path))
        if array.size != np.prod(self.latent_shape) or array.shape[-3:] != self.latent_shape:
            raise AssetError(f"{printable(path)} holds {array.shape}; expected {self.latent_shape} like the first file")
        return np.asarray(array, dtype=np.float32).reshape(self.latent_shape)


def feature_pairs(entries: list[Entry]) -> list[tuple[Entry, Entry]]:
    """(features, label) files of the same name in ``…features/`` and ``…labels/``; empty where there are no such."""
    labels = {entry.name: entry for entry in entries if entry.name.endswith(".npy")}
    pairs = []
    for entry in entries:
        folder, _, file = entry.name.rpartition("/")
        if folder.endswith("features") and file.endswith(".npy"):
            label = labels.get(f"{folder.removesuffix('features')}labels/{file}")
            if label is not None:
                pairs.append((entry, label))
    return sorted(pairs, key=lambda pair: _natural(pair[0].name))


def _natural(name: str) -> tuple[str, int, str]:
    """2.npy before 10.npy, as they were written."""
    folder, _, file = name.rpartition("/")
    stem = file.removesuffix(".npy")
    return folder, int(stem) if stem.isascii() and stem.isdigit() else -1, stem


def opening_features(pairs: list[tuple[Entry, Entry]], *, name: str, cache: Path | None) -> Iterator[OpenProgress]:
    """Yields progress, returns Data. Raises AssetError for files that hold something else."""
    first = pairs[0][0]
    with reading_arrays(first.name):
        shape = read_array(Path(first.path)).shape
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1) or min(shape) < 1:
        raise AssetError(f"{name}: {printable(first.name)} is {shape}; expected one picture's latents, (1, C, h, w)")
    latents = FeatureFiles(tuple(entry.path for entry, _ in pairs), tuple(shape[-3:]))
    for some in (0, len(pairs) // 2, len(pairs) - 1):  # before anything runs; the others when they are read
        latents[[some]]
    stamp = _stamp_of_pairs(pairs)
    labels = yield from _labels(pairs, cache / f"labels-{stamp}.npy" if cache else None)
    labels = checked_labels(labels, len(pairs), name)
    class_names = unnamed_classes(int(labels.max()) + 1)
    return Data(
        name,
        None,
        labels,
        class_names,
        hash_of(stamp, *class_names),
        f"{len(pairs):,} encoded pictures in {len(class_names):,} classes",
        latents=latents,
        pictures_hash=stamp,
        findings=Findings(
            kind="folder of encoded pictures",
            notes=(
                "the classes have no names in the files",
                "the latents are taken as scaled already, as fast-DiT writes them",
            ),
        ),
    )


def _stamp_of_pairs(pairs: list[tuple[Entry, Entry]]) -> str:
    """Sizes are all alike, and an archive or an image may give every file one time: where they lie and the bytes of
    some tell two folders apart."""
    spread = sorted({k * (len(pairs) - 1) // (_PIECES - 1) for k in range(_PIECES)})
    some = [Path(entry.path) for k in spread for entry in pairs[k]]
    return hash_of(
        *(f"{entry.name} {entry.size} {entry.stamp}" for pair in pairs for entry in pair),
        *(path.parent.resolve() for path in some[:2]),
        *(_beginning(path) for path in some),
    )


def _beginning(path: Path) -> str:
    with reading_arrays(printable(str(path))), open(path, "rb") as file:
        return hashlib.sha256(file.read(_PIECE)).hexdigest()


def _labels(pairs: list[tuple[Entry, Entry]], file: Path | None) -> Iterator[OpenProgress]:
    """Returns (N,), from ``file`` where they were read before: a million small files take minutes."""
    if file and file.exists():
        try:
            known = np.load(file, allow_pickle=False)
            if known.shape == (len(pairs),):
                return known
        except (OSError, ValueError, EOFError):  # damaged: read again
            pass
    labels: list[int] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(pairs), _LABELS_READ):
            labels += pool.map(_label, (label for _, label in pairs[start : start + _LABELS_READ]))
            yield OpenProgress(message="reading the labels", done=len(labels), total=len(pairs))
    found = np.array(labels, dtype=np.int64)
    if file:
        content = io.BytesIO()
        np.save(content, found)
        write_bytes_atomically(file, content.getvalue())
    return found


def _label(entry: Entry) -> int:
    with reading_arrays(printable(entry.name)):
        label = read_array(Path(entry.path))
    if label.size != 1 or label.dtype.kind not in "iu":
        raise AssetError(f"{printable(entry.name)} is {label.dtype} {label.shape}; expected one whole number")
    return int(label.reshape(()))


def latents_file(entries: list[Entry]) -> Entry | None:
    """A folder's one file of all latents, perhaps with labels.npy beside it."""
    return next((entry for wanted in _ONE_FILE for entry in entries if entry.name == wanted), None)


def open_array_file(path: Path, *, name: str, labels: Path | None = None) -> Data:
    """One .npz, .npy or .safetensors with ``latents`` (or pictures) and perhaps ``labels``, or these in an .npy of
    their own. Raises AssetError for a damaged file or arrays of other kinds and shapes."""
    with reading_arrays(name):
        with open(path, "rb") as file:
            head = file.read(16)
        arrays = read_safetensors(path) if is_safetensors(head) else read_arrays(path)
        if labels is not None and "labels" not in arrays:
            arrays["labels"] = read_array(labels)
        about = path.stat()
    return data_of_arrays(arrays, name=name, stamp=_stamp_of_arrays(arrays, path, about))


def _stamp_of_arrays(arrays: dict[str, np.ndarray], path: Path, about: os.stat_result) -> str:
    """Of all bytes where they are few; else labels whole, a sample of what is large, and where and when it was written:
    files of one size and time (an archive's, a container's) are told apart by either."""
    parts = [
        f"{key} {array.dtype.str} {array.shape} {_fingerprint(array, whole=key in _LABELS)}"
        for key, array in arrays.items()
    ]
    if any(array.nbytes > _SMALL for key, array in arrays.items() if key not in _LABELS):
        parts.append(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}")
    return hash_of(*parts)


def _fingerprint(array: np.ndarray, *, whole: bool = False) -> str:
    """Of all its bytes, or of a sample where it is large and needn't be ``whole``."""
    digest = hashlib.sha256()
    if array.nbytes:
        flat = array.ravel(order="K").view(np.uint8)
        last = len(flat) - _PIECE
        if whole or len(flat) <= _SMALL:
            digest.update(flat)
        else:
            for k in range(_PIECES):
                start = k * last // (_PIECES - 1)
                digest.update(flat[start : start + _PIECE])
    return digest.hexdigest()


def is_safetensors(head: bytes) -> bool:
    """Whether a file that starts so claims to be one of safetensors."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors, mapped into memory. Raises ValueError for a damaged file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"its header claims {length:,} bytes, and the file has {size:,}")
        header = json.loads(file.read(length))
    arrays = {}
    for key, about in header.items():
        if key == "__metadata__":
            continue
        if about["dtype"] not in _DTYPES:
            raise ValueError(f"{key} is {about['dtype']}; save it as F32 or F16")
        dtype, shape, (start, stop) = np.dtype(_DTYPES[about["dtype"]]), tuple(about["shape"]), about["data_offsets"]
        wanted = dtype.itemsize
        for side in shape:
            if type(side) is not int or side < 1:
                raise ValueError(f"{key} has the shape {shape}")
            wanted *= side
        if type(start) is not int or start < 0 or stop - start != wanted or 8 + length + stop > size:
            raise ValueError(f"{key} claims bytes {start} … {stop} of {size - 8 - length:,}, and needs {wanted:,}")
        arrays[key] = np.memmap(path, dtype, "c", 8 + length + start, shape)
    return arrays
