import hashlib
import json
import shutil

import pytest

from engine import assets
from engine.data import bundled
from engine.errors import AssetError, InputError
from engine.models.bundled import bundled_models


def test_every_bundled_dataset_opens_and_names_its_classes():
    assert bundled.bundled_data_names()[0] == "shapes"
    assert set(bundled.bundled_data_names()) >= {"shapes", "digits", "glyphs", "textures"}
    for name in bundled.bundled_data_names():
        data = bundled.bundled_data(name)
        assert data.images.dtype == "uint8"
        assert data.images.shape[1:] == (32, 32, 3)
        assert len(data) == len(data.labels) == sum(data.class_counts().values())
        assert min(data.class_counts().values()) > 0
    assert len(bundled.bundled_data("shapes").class_names) >= 10


def test_the_manifest_holds_the_hash_of_every_weight_dataset_and_recording():
    files = json.loads((assets.ASSETS / "manifest.json").read_text())
    shipped = {
        p.relative_to(assets.ASSETS).as_posix()
        for pattern in ("*.npz", "*.safetensors", "arena/*.json", "replays/*.json")
        for p in assets.ASSETS.rglob(pattern)
    }
    assert files.keys() == shipped
    for name, expected in files.items():
        assert hashlib.sha256((assets.ASSETS / name).read_bytes()).hexdigest() == expected


def test_all_assets_together_stay_small():
    assert sum(path.stat().st_size for path in assets.ASSETS.rglob("*") if path.is_file()) < 60e6


@pytest.fixture
def damaged_assets(tmp_path, monkeypatch):
    copy = tmp_path / "assets"
    shutil.copytree(assets.ASSETS / "data", copy / "data")
    shutil.copy(assets.ASSETS / "manifest.json", copy)
    monkeypatch.setattr(assets, "ASSETS", copy)
    monkeypatch.setattr(assets, "_MANIFEST", copy / "manifest.json")
    monkeypatch.setattr(bundled, "_FOLDER", copy / "data")
    bundled.bundled_data.cache_clear()
    yield copy
    bundled.bundled_data.cache_clear()


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_file_is_one_clear_line(damaged_assets, harm):
    file = damaged_assets / "data" / "digits.npz"
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: 1000 if harm == "cut" else None])
    with pytest.raises(InputError if harm == "gone" else AssetError) as caught:
        bundled.bundled_data("digits")
    assert "\n" not in str(caught.value)
    assert "digits" in str(caught.value)


def test_bundled_models_say_what_they_are():
    for info in bundled_models():
        assert info.depth >= 12
        assert info.process in ("diffusion", "flow")
        assert len(info.class_names) == info.network["num_classes"]
