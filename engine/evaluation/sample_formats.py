"""Finished sets of images: an .npz in ADM's layout, or a folder of PNG files named by their seeds.

Each says what it was asked for, so that it isn't taken for another: a folder in ``samples.json``, an archive in its
comment. Both are written under a partial folder and appear in one rename.
"""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import AssetError
from engine.evaluation.class_order import class_labels
from engine.evaluation.kept_samples import read_kept
from engine.evaluation.sampling import SampleSet
from engine.models.model import Model
from engine.runs.workspace import encode_json, sync_folder, write_json, writing

_ABOUT = "samples.json"
_OLDEST = (1980, 1, 1, 0, 0, 0)  # date of a file in an archive: the same content is the same file, whenever written
_IMAGES_AT_A_TIME = 256


def write_result(out: Path, partial: Path, *, model: Model, num_images: int, request: dict[str, Any]) -> None:
    """From the images kept in ``partial``; an ``out`` of fewer images is replaced."""
    about = {"num_images": num_images, "request": request}
    with writing(out):
        if out.suffix == ".npz":
            _write_npz(out, partial, about)
        else:
            _write_folder(out, partial, about, names=_folder_names(model))
        sync_folder(out.absolute().parent)


def about_result(out: Path) -> dict[str, Any] | None:
    """What a finished result says of itself: a folder in a file, an archive in its comment."""
    try:
        if out.is_dir():
            about = json.loads((out / _ABOUT).read_bytes())
        else:
            with zipfile.ZipFile(out) as archive:
                about = json.loads(archive.comment)
        return {"num_images": int(about["num_images"]), "request": about["request"]}
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile):
        return None


def read_result(out: Path, *, model: Model, classes: list[int]) -> Iterator[tuple[int, SampleSet]]:
    """(first image, images), a few at a time. Raises AssetError for a file that is gone or damaged."""
    about = about_result(out)
    assert about is not None, out
    index = np.arange(about["num_images"])
    labels, seeds = class_labels(index, classes), about["request"]["seed"] + index
    if out.is_dir():
        names, flat = _folder_names(model), about["request"]["flat"]
        images = (_read_picture(_picture(out, names, *pair, flat=flat)) for pair in zip(labels, seeds, strict=True))
    else:
        images = _read_npz(out)
    try:
        for start in range(0, len(index), _IMAGES_AT_A_TIME):
            part = slice(start, start + _IMAGES_AT_A_TIME)
            yield start, SampleSet(np.stack(list(islice(images, len(index[part])))), labels[part], seeds[part])
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise AssetError(f"{out} is damaged ({error}); delete it or choose another --out") from error


def _read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def _read_npz(out: Path) -> Iterator[np.ndarray]:
    with zipfile.ZipFile(out) as archive, archive.open("arr_0.npy") as file:
        np.lib.format.read_magic(file)
        (num, *shape), _, dtype = np.lib.format.read_array_header_1_0(file)
        for _ in range(num):
            yield np.frombuffer(file.read(int(np.prod(shape))), dtype=dtype).reshape(shape)


def _write_npz(out: Path, partial: Path, about: dict[str, Any]) -> None:
    """Written image by image: 50,000 of 256² are 9.8 GB."""
    num, temporary = about["num_images"], partial / "whole.npz"
    columns: dict[str, list[np.ndarray]] = {"labels": [], "seeds": []}
    with zipfile.ZipFile(temporary, "w") as archive:
        with _member(archive, "arr_0") as file:
            for k, one in enumerate(read_kept(partial, num)):
                if k == 0:
                    _write_header(file, one.images.dtype, (num, *one.images.shape[1:]))
                file.write(one.images.tobytes())
                columns["labels"].append(one.labels)
                columns["seeds"].append(one.seeds)
        for name, values in columns.items():
            with _member(archive, name) as file:
                np.lib.format.write_array(file, np.concatenate(values).astype(np.int64), allow_pickle=False)
        archive.comment = encode_json(about).encode()
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, out)


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=_OLDEST)
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)


def _write_header(file: Any, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)


def _write_folder(out: Path, partial: Path, about: dict[str, Any], *, names: list[str]) -> None:
    whole = partial / "pictures"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for one in read_kept(partial, about["num_images"]):
        path = _picture(whole, names, one.labels[0], one.seeds[0], flat=about["request"]["flat"])
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(one.images[0]).save(path)
    write_json(whole / _ABOUT, about)
    if out.exists():  # with fewer images, all of which are here
        os.replace(out, partial / "before")
    os.replace(whole, out)


def _picture(folder: Path, names: list[str], label: int, seed: int, *, flat: bool) -> Path:
    return (folder if flat else folder / names[label]) / f"{seed}.png"


def _folder_names(model: Model) -> list[str]:
    """Of the classes: their names where these are all different and can be a folder's, else their numbers."""
    names = list(model.class_names)
    usable = all(
        name.strip(" .") == name != "" and name.isprintable() and not set(name) & set('/\\:*?"<>|') for name in names
    )
    if usable and len({name.casefold() for name in names}) == len(names) == model.config.num_classes:
        return names
    return [f"{label:04d}" for label in range(model.config.num_classes)]
