"""Arrays in one .npz or .npy file, and the dataset they make: ADM's arr_0 with optional labels, or encoded latents.

Arrays that were saved without compression stay on the disk and are mapped into memory, so a file may be larger than
the memory. Compressed ones are unpacked, up to a limit. Free of torch.
"""

import ast
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import Data, Findings, hash_of, unnamed_classes
from engine.errors import AssetError

MAX_UNPACKED_BYTES = 4 * 2**30
MAX_CLASSES = 100_000
_MAX_HEADER = 10_000  # bytes of a .npy header, NumPy's own limit
_ARRAY_ERRORS = (OSError, ValueError, KeyError, EOFError, struct.error, zlib.error, zipfile.BadZipFile, MemoryError)
_ARRAY_ERRORS += (RuntimeError, OverflowError, SyntaxError, TypeError)


@dataclass(frozen=True, kw_only=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int  # bytes before the array itself

    @property
    def num_bytes(self) -> int:
        total = self.dtype.itemsize
        for length in self.shape:
            total *= length
        return total


@contextmanager
def reading_arrays(name: str) -> Iterator[None]:
    """Turns what a damaged file raises into the one line of an AssetError."""
    try:
        yield
    except _ARRAY_ERRORS as error:
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise AssetError(f"{name} can't be read as arrays ({reason}); save it again, or get it again") from error


def read_array(path: Path) -> np.ndarray:
    """The one array of an .npy, mapped into memory. Raises ValueError for a damaged file."""
    with open(path, "rb") as file:
        return _mapped(path, 0, _read_header(file), os.fstat(file.fileno()).st_size)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name; that of an .npy is called arr_0 if it holds pictures, latents if it holds numbers."""
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            array = read_array(path)
            return {"arr_0" if array.dtype == np.uint8 else "latents": array}
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            return {
                member.removesuffix(".npy"): _read_member(path, file, archive, info)
                for member, info in members.items()
                if member.endswith(".npy")
            }


def _read_member(path: Path, file: io.BufferedReader, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        header = _read_header(member)
    if header.num_bytes + header.length > info.file_size:
        raise ValueError(f"{info.filename} claims {header.num_bytes:,} bytes and holds {info.file_size:,}")
    if info.compress_type == zipfile.ZIP_STORED:
        file.seek(info.header_offset)
        local = file.read(30)
        name_length, extra_length = struct.unpack("<HH", local[26:30])
        start = info.header_offset + 30 + name_length + extra_length
        return _mapped(path, start, header, path.stat().st_size)
    if header.num_bytes > MAX_UNPACKED_BYTES:
        raise ValueError(
            f"{info.filename} takes {header.num_bytes / 2**30:.1f} GiB unpacked; save it with np.savez instead of "
            "np.savez_compressed, and it is read without loading it whole"
        )
    with archive.open(info) as member:
        member.read(header.length)
        content = member.read(header.num_bytes)
    if len(content) != header.num_bytes:
        raise ValueError(f"{info.filename} ends early")
    return np.frombuffer(bytearray(content), header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def _read_header(file: io.BufferedIOBase) -> _Header:
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or len(start) < 8 or start[6] not in (1, 2, 3):
        raise ValueError("it isn't a NumPy array")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"its header claims {length:,} bytes")
    about = ast.literal_eval(file.read(length).decode("latin-1"))
    dtype = np.lib.format.descr_to_dtype(about["descr"])
    shape = about["shape"]
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code; save plain numbers")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    return _Header(shape=shape, fortran=bool(about["fortran_order"]), dtype=dtype, length=8 + width + length)


def _mapped(path: Path, start: int, header: _Header, file_bytes: int) -> np.ndarray:
    offset = start + header.length
    if offset + header.num_bytes > file_bytes:
        raise ValueError(f"it claims {header.num_bytes:,} bytes beyond the end of the file")
    order = "F" if header.fortran else "C"
    if header.num_bytes == 0:
        return np.empty(header.shape, header.dtype)
    # "c": private to this process, so that torch may have it without a warning about memory that can't be written
    return np.memmap(path, header.dtype, "c", offset, header.shape, order)


def data_of_arrays(arrays: dict[str, np.ndarray], *, name: str, stamp: str) -> Data:
    """Data of ``latents`` or ``arr_0`` (or ``images``), with ``labels`` (or ``arr_1``) and ``class_names`` if there."""
    key = next((key for key in ("latents", "arr_0", "images") if key in arrays), None)
    if key is None:
        found = ", ".join(sorted(arrays)[:5]) or "nothing"
        raise AssetError(f"{name} holds {found}; expected arr_0 with pictures (N, H, W, 3), or latents (N, C, h, w)")
    values = arrays[key]
    latents = key == "latents"
    (_check_latents if latents else _check_pictures)(values, name, key)
    labels, notes = _labels(arrays, len(values), name)
    class_names, more = _class_names(arrays, labels, name)
    num, what = len(values), "encoded pictures" if latents else "pictures"
    return Data(
        name,
        None if latents else values,
        labels,
        class_names,
        hash_of(stamp, *class_names),
        f"{num:,} {what} in {len(class_names):,} {'class' if len(class_names) == 1 else 'classes'}",
        latents=values if latents else None,
        flip=not latents,
        pictures_hash=stamp,
        findings=Findings(
            kind=f"array of {what}",
            sizes=None if latents else np.full((num, 2), (values.shape[2], values.shape[1])),
            modes={} if latents else {"RGB": num},
            notes=tuple(notes + more),
        ),
    )


def _check_pictures(values: np.ndarray, name: str, key: str) -> None:
    found = f"{name}: {key} is {values.dtype} {values.shape}"
    if values.dtype != np.uint8:
        raise AssetError(f"{found}; expected uint8 (N, H, W, 3) with values 0 … 255")
    if values.ndim == 4 and values.shape[1] == 3 and values.shape[3] != 3:
        raise AssetError(f"{found}, channels first; expected (N, H, W, 3): save {key}.transpose(0, 2, 3, 1)")
    if values.ndim != 4 or values.shape[3] != 3 or min(values.shape) < 1:
        raise AssetError(f"{found}; expected uint8 (N, H, W, 3) with at least one picture")


def _check_latents(values: np.ndarray, name: str, key: str) -> None:
    if values.ndim != 4 or min(values.shape) < 1 or values.dtype not in (np.float16, np.float32, np.float64):
        raise AssetError(f"{name}: {key} is {values.dtype} {values.shape}; expected floating point (N, C, h, w)")


def _labels(arrays: dict[str, np.ndarray], num: int, name: str) -> tuple[np.ndarray, list[str]]:
    key = next((key for key in ("labels", "arr_1") if key in arrays), None)
    if key is None:
        return np.zeros(num, np.int64), ["the file has no labels, so the pictures are one class"]
    return checked_labels(arrays[key], num, name), []


def checked_labels(labels: np.ndarray, num: int, name: str) -> np.ndarray:
    """int64 (N,). Raises AssetError for labels of another kind, number or range."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (num,) or labels.dtype.kind not in "iu":
        raise AssetError(
            f"{name}: the labels are {labels.dtype} {labels.shape}; expected one whole number for each of {num:,}"
        )
    labels = np.array(labels)
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise AssetError(f"{name}: labels go from {labels.min()} to {labels.max()}; expected 0 … {MAX_CLASSES - 1:,}")
    return labels.astype(np.int64)


def _class_names(arrays: dict[str, np.ndarray], labels: np.ndarray, name: str) -> tuple[tuple[str, ...], list[str]]:
    needed = int(labels.max()) + 1
    if "class_names" not in arrays:
        one = needed == 1
        return ("images",) if one else unnamed_classes(needed), [] if one else ["the classes have no names in the file"]
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < needed:
        raise AssetError(f"{name}: class_names is {names.dtype} {names.shape}; expected {needed} words")
    return tuple(str(known) for known in names), []
