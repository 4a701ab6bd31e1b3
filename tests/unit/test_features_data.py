import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from engine.data import features, load_data
from engine.errors import AssetError, InputError

LATENTS = np.random.default_rng(0).standard_normal((12, 4, 8, 8)).astype(np.float32)
LABELS = np.arange(12) % 3


@pytest.fixture
def fast_dit(tmp_path):
    """As fast-DiT's extract_features.py writes them."""
    for index in range(12):
        for folder, value in (("features", LATENTS[index : index + 1]), ("labels", LABELS[index : index + 1])):
            file = tmp_path / "out" / f"imagenet256_{folder}" / f"{index}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, value)
    return tmp_path / "out"


def test_a_folder_of_features_gives_latents_and_labels_in_their_order(fast_dit):
    data = load_data(fast_dit)
    assert data.images is None and not data.flip
    assert data.latents.shape == (12, 4, 8, 8)
    assert np.array_equal(data.latents[:], LATENTS)  # 10.npy after 9.npy
    assert np.array_equal(data.latents[np.array([10, 2])], LATENTS[[10, 2]])
    assert np.array_equal(data.labels, LABELS)
    assert any("scaled already" in note for note in data.findings.notes)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "folder"])
def test_latents_in_one_file(tmp_path, kind):
    path = tmp_path / f"latents.{kind}"
    if kind == "npz":
        np.savez(path, latents=LATENTS, labels=LABELS)
    elif kind == "safetensors":
        save_file({"latents": LATENTS, "labels": LABELS}, path, metadata={"a": "b"})
    else:
        path.mkdir()
        np.save(path / "latents.npy", LATENTS)
        np.save(path / "labels.npy", LABELS)
    data = load_data(path)
    assert np.array_equal(data.latents[:], LATENTS) and np.array_equal(data.labels, LABELS)


def test_a_model_takes_them_as_they_are_and_refuses_others(fast_dit, make_model, tmp_path):
    data = load_data(fast_dit)
    model = make_model()
    assert torch.equal(model.latents_of(data, np.array([3, 1])), torch.from_numpy(LATENTS[[3, 1]]))
    with pytest.raises(InputError, match="can't be mirrored"):
        model.latents_of(data, mirrored=True)
    np.savez(tmp_path / "other.npz", latents=LATENTS[:, :, :4, :4])
    with pytest.raises(InputError, match="gives latents"):
        model.latents_of(load_data(tmp_path / "other.npz"))


def test_bad_feature_files_are_named(fast_dit):
    latents, labels = fast_dit / "imagenet256_features", fast_dit / "imagenet256_labels"
    data = load_data(fast_dit)
    (latents / "4.npy").write_bytes(b"words")
    with pytest.raises(AssetError, match=r"4\.npy can't be read"):
        data.latents[:]
    np.save(latents / "4.npy", LATENTS[0, :2])
    with pytest.raises(AssetError, match=r"4\.npy holds \(2, 8, 8\)"):
        data.latents[:]
    (latents / "4.npy").unlink()
    with pytest.raises(AssetError, match=r"4\.npy can't be read"):
        data.latents[:]
    assert len(load_data(fast_dit)) == 11
    np.save(labels / "5.npy", np.array([0.5]))
    with pytest.raises(AssetError, match=r"5\.npy is float64"):
        load_data(fast_dit)
    np.save(latents / "0.npy", LATENTS)
    with pytest.raises(AssetError, match=r"expected one picture's latents"):
        load_data(fast_dit)


def write_safetensors(path, header: dict | bytes, body: bytes = bytes(64), *, length: int | None = None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + body)
    return path


@pytest.mark.parametrize(
    "header",
    [
        {"latents": {"dtype": "F32", "shape": [1, 1, 4, 4], "data_offsets": [0, 40 * 2**30]}},
        {"latents": {"dtype": "F32", "shape": [10**9, 1, 4, 4], "data_offsets": [0, 64 * 10**9]}},
        {"latents": {"dtype": "F32", "shape": [1, 1, 4, 4], "data_offsets": [-64, 0]}},
        {"latents": {"dtype": "BF16", "shape": [1, 1, 4, 4], "data_offsets": [0, 32]}},
        {"latents": {"dtype": "F32", "shape": [1, 1, "4", 4], "data_offsets": [0, 64]}},
        {"latents": {"dtype": "F32"}},
        {"latents": 3},
        {"other": {"dtype": "F32", "shape": [1, 1, 4, 4], "data_offsets": [0, 64]}},
        b"{" + b"[" * 100_000,
        b"{nonsense",
    ],
)
def test_damaged_safetensors_are_refused_in_one_line(tmp_path, header):
    with pytest.raises(AssetError) as error:
        load_data(write_safetensors(tmp_path / "a.safetensors", header))
    assert "\n" not in str(error.value)


def test_a_safetensors_header_that_claims_more_than_the_file_is_refused(tmp_path):
    with pytest.raises(AssetError, match="claims"):
        load_data(write_safetensors(tmp_path / "a", {"latents": {}}, length=90 * 2**20))


def test_labels_are_remembered_until_a_file_changes(fast_dit, tmp_path):
    workspace = tmp_path / "ws"
    load_data(fast_dit, workspace=workspace)
    (file,) = (workspace / "cache").glob("labels-*.npy")
    np.save(file, LABELS[::-1])  # to tell where they come from
    assert load_data(fast_dit, workspace=workspace).labels.tolist() == LABELS[::-1].tolist()
    for damaged in (b"", b"words", file.read_bytes()[:-8]):
        file.write_bytes(damaged)
        assert load_data(fast_dit, workspace=workspace).labels.tolist() == LABELS.tolist()
    np.save(fast_dit / "imagenet256_labels" / "0.npy", np.array([2], np.int32))
    assert load_data(fast_dit, workspace=workspace).labels.tolist() == [2, *LABELS[1:].tolist()]


def _hashes(path) -> tuple[str, str]:
    for file in [path, *path.rglob("*")]:
        os.utime(file, ns=(0, 0))  # as an archive with fixed times unpacks them
    data = load_data(path)
    return data.content_hash, data.pictures_hash


@pytest.mark.parametrize("small", [features._SMALL, 1024])
def test_files_of_one_size_and_time_are_told_apart(tmp_path, monkeypatch, small):
    monkeypatch.setattr(features, "_SMALL", small)
    found = set()
    for number in range(3):
        latents = LATENTS.copy()
        latents[-1, -1, -1, -1] += number  # the last bytes
        np.save(tmp_path / "latents.npy", latents)
        np.save(tmp_path / "labels.npy", LABELS)
        found.add(_hashes(tmp_path))
        assert _hashes(tmp_path) in found
    assert len(found) == 3 and len({pictures for _, pictures in found}) == 3


@pytest.mark.parametrize("small", [features._SMALL, 16])
def test_other_labels_beside_the_same_latents_are_other_data(tmp_path, monkeypatch, small):
    monkeypatch.setattr(features, "_SMALL", small)
    np.save(tmp_path / "latents.npy", LATENTS)
    np.save(tmp_path / "labels.npy", LABELS)
    before = _hashes(tmp_path)
    np.save(tmp_path / "labels.npy", np.roll(LABELS, 1))
    assert _hashes(tmp_path)[0] != before[0]


def test_a_large_file_is_another_where_it_lies_elsewhere_and_a_small_one_is_not(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "latents.npy", LATENTS)
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")
    monkeypatch.setattr(features, "_SMALL", 1024)
    assert _hashes(tmp_path / "a") != _hashes(tmp_path / "b")


def test_folders_of_features_of_one_size_and_time_are_told_apart(fast_dit, tmp_path):
    before = _hashes(fast_dit)
    assert _hashes(fast_dit) == before
    assert _hashes(shutil.copytree(fast_dit, tmp_path / "copy"))[1] != before[1]
    np.save(fast_dit / "imagenet256_features" / "3.npy", LATENTS[4:5])
    assert _hashes(fast_dit)[1] != before[1]
