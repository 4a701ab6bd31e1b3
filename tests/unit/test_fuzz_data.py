"""Thousands of damaged files: whatever is inside, the answer is a dataset or one line, never another error."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save

from engine.data import load_data
from engine.data.look import look_at
from engine.data.picture import see_content
from engine.errors import EngineError
from tests.unit.made_pictures import encoded, noise

CASES = int(os.environ.get("ENTPRUNER_FUZZ_CASES", "300"))  # of each kind


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Bits, bytes, runs and lengths changed; pieces cut, doubled, moved; the end lost."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not found:
            break
        place = int(rng.integers(len(found))) if rng.random() < 0.6 else int(rng.integers(min(len(found), 200)))
        run = int(rng.integers(1, 40))
        match rng.integers(8):
            case 0:
                found[place] ^= 1 << int(rng.integers(8))
            case 1:
                found[place] = int(rng.integers(256))
            case 2:
                found[place : place + 4] = bytes([255] * 4)
            case 3:
                found[place : place + run] = bytes(run)
            case 4:
                del found[place : place + run]
            case 5:
                found[place:place] = found[place : place + run]
            case 6:
                found[place : place + run] = rng.bytes(run)
            case 7:
                del found[int(rng.integers(len(found))) :]
    return bytes(found)


def _zip(compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for index in range(4):
            archive.writestr(f"{'ab'[index % 2]}/{index}.png", encoded(noise(index, 12, 10)))
    return content.getvalue()


def _tar(mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for index in range(4):
            picture = encoded(noise(index, 12, 10))
            info = tarfile.TarInfo(f"{'ab'[index % 2]}/{'ü' * 60}{index}.png")
            info.size = len(picture)
            archive.addfile(info, io.BytesIO(picture))
    return content.getvalue()


def _npz(save_arrays: Callable) -> bytes:
    content = io.BytesIO()
    rng = np.random.default_rng(0)
    names = np.array(["one", "two"])
    save_arrays(content, arr_0=rng.integers(0, 256, (6, 5, 5, 3), np.uint8), labels=np.arange(6) % 2, class_names=names)
    return content.getvalue()


def _npy() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros((3, 4, 4, 4), np.float32))
    return content.getvalue()


def _parquet() -> bytes:
    content = io.BytesIO()
    pictures = [{"bytes": encoded(noise(index, 12, 10)), "path": None} for index in range(6)]
    pq.write_table(pa.table({"image": pictures, "label": [0, 1] * 3}), content, row_group_size=3)
    return content.getvalue()


FILES = {
    "zip": lambda: _zip(zipfile.ZIP_STORED),
    "zip-deflated": lambda: _zip(zipfile.ZIP_DEFLATED),
    "tar": lambda: _tar("w"),
    "tar.gz": lambda: _tar("w:gz"),
    "npz": lambda: _npz(np.savez),
    "npz-compressed": lambda: _npz(np.savez_compressed),
    "npy": _npy,
    "safetensors": lambda: save({"latents": np.zeros((3, 4, 4, 4), np.float32), "labels": np.arange(3)}),
    "parquet": _parquet,
}


@pytest.mark.filterwarnings("ignore")  # Python warns of strange literals in a header
@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_give_data_or_one_line(kind, tmp_path):
    original, rng = FILES[kind](), np.random.default_rng(sum(kind.encode()))
    path, workspace = tmp_path / "data", tmp_path / "ws" if kind.startswith(("zip", "tar")) else None
    path.write_bytes(original)
    assert len(load_data(path, workspace=workspace)) > 0  # what is damaged below is whole at first
    refused = 0
    for case in range(CASES):
        path.write_bytes(mutate(original, rng))
        os.utime(path, ns=(case, case))
        try:
            data = load_data(path, workspace=workspace)
            look_at(data)
            if data.images is not None:
                data.at(8).images[:2]
            else:
                data.latents[:2]
        except EngineError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000, error
    assert refused > CASES / 20


STRANGE = (
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**63,
    10**30,
    1.5,
    float("nan"),
    "",
    "|u1",
    "O",
    "ü" * 50,
    [],
    [1],
    {},
    {"a": 1},
    (3,),
)


def distort(value, rng: np.random.Generator):
    """The same structure with a part of it replaced, dropped or nested."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = list(value)[int(rng.integers(len(value)))]
        return (
            {**value, key: distort(value[key], rng)}
            if rng.random() < 0.8
            else {k: v for k, v in value.items() if k != key}
        )
    if isinstance(value, list | tuple) and value and rng.random() < 0.8:
        place = int(rng.integers(len(value)))
        return type(value)([*value[:place], distort(value[place], rng), *value[place + 1 :]])
    return STRANGE[int(rng.integers(len(STRANGE)))]


def _npy_with(about: object) -> bytes:
    header = repr(about).encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(300)


def _safetensors_with(about: object) -> bytes:
    header = json.dumps(about, default=str).encode()
    return len(header).to_bytes(8, "little") + header + bytes(300)


HEADERS = {
    "npy": (_npy_with, {"descr": "<f4", "fortran_order": False, "shape": (1, 4, 4, 4)}),
    "safetensors": (
        _safetensors_with,
        {
            "latents": {"dtype": "F32", "shape": [1, 4, 4, 4], "data_offsets": [0, 256]},
            "labels": {"dtype": "I64", "shape": [1], "data_offsets": [256, 264]},
        },
    ),
}


@pytest.mark.filterwarnings("ignore")  # Python warns of strange literals in a header
@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_another_structure_give_data_or_one_line(kind, tmp_path):
    (write, about), rng = HEADERS[kind], np.random.default_rng(7)
    path = tmp_path / "data"
    path.write_bytes(write(about))
    assert len(load_data(path)) == 1
    for _ in range(2 * CASES):
        path.write_bytes(write(distort(about, rng)))
        try:
            load_data(path).latents[:1]
        except EngineError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, error


@pytest.mark.parametrize(("name", "kind"), [("zip", "scan-*.json"), ("zip", "index.json"), ("parquet", "rows-*.json")])
def test_what_was_remembered_may_be_damaged_in_any_way(name, kind, tmp_path):
    path, workspace, rng = tmp_path / "data", tmp_path / "ws", np.random.default_rng(3)
    path.write_bytes(FILES[name]())
    expected = load_data(path, workspace=workspace)
    (file,) = (workspace / "cache").rglob(kind)
    about = json.loads(file.read_bytes())
    for _ in range(CASES // 2):
        file.write_text(json.dumps(distort(about, rng), default=str))
        try:
            data = load_data(path, workspace=workspace)
            assert data.images[:].shape[1:] == expected.images.shape[1:]
        except EngineError as error:
            assert "\n" not in str(error), error
        file.write_text(json.dumps(about))


def _pictures() -> dict[str, bytes]:
    frames = [noise(index, 20, 16) for index in range(3)]
    rest = {"save_all": True, "append_images": frames[1:]}
    return {
        "png": encoded(frames[0]),
        "png-palette": encoded(frames[0].quantize(16)),
        "png-16": encoded(Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20) * 200)),
        "apng": encoded(frames[0], "PNG", **rest),
        "jpeg": encoded(frames[0], "JPEG"),
        "jpeg-progressive": encoded(frames[0].convert("CMYK"), "JPEG", progressive=True),
        "webp": encoded(frames[0], "WEBP"),
        "webp-animated": encoded(frames[0], "WEBP", **rest),
        "gif": encoded(frames[0], "GIF", **rest),
        "bmp": encoded(frames[0], "BMP"),
    }


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged parts that it can do without
@pytest.mark.parametrize("kind", _pictures())
def test_damaged_pictures_are_read_or_listed(kind, tmp_path):
    original, rng = _pictures()[kind], np.random.default_rng(sum(kind.encode()))
    assert see_content(original).reason is None
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    num_cases = 2 * CASES
    for case in range(num_cases):
        (folder / f"{case:04d}.png").write_bytes(mutate(original, rng))
    (folder / "whole.png").write_bytes(original)
    data = load_data(tmp_path / "set")
    assert len(data) + len(data.findings.unreadable) == num_cases + 1
    assert all("\n" not in reason for _, reason in data.findings.unreadable)
    assert data.at(8).images[:].shape == (len(data), 8, 8, 3)  # what was taken for good can be read
    assert data.findings.unreadable
