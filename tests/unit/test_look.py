import json

import numpy as np
import pytest
from PIL import Image

from engine.data import load_data
from engine.data.bundled import bundled_data
from engine.data.look import look_at
from engine.errors import WorkspaceError
from tests.unit.made_pictures import class_folders, encoded, noise, put


@pytest.fixture
def pets(tmp_path):
    root = class_folders(tmp_path / "pets", {"cat": 5, "dog": 2}, width=60, height=40)
    put(root / "cat" / "small.png", encoded(noise(1, 20, 30)))
    put(root / "cat" / "large.jpg", encoded(noise(2, 200, 100).convert("L"), "JPEG"))
    put(root / "dog" / "same.png", (root / "cat" / "000.png").read_bytes())
    put(root / "dog" / "bad.png", b"words")
    return root


def test_the_facts_are_those_of_the_files(pets):
    look = look_at(load_data(pets), side=25)
    facts = look.facts()
    assert facts["ref"] == str(pets) and facts["kind"] == "folder of class folders"
    assert facts["counts"] == {"cat": 7, "dog": 3} and facts["num_images"] == 10
    assert facts["class_names"] == ["cat", "dog"]
    assert facts["sizes"] == {"min": [20, 30], "median": [60, 40], "max": [200, 100]}
    assert facts["aspects"] == {"min": 0.667, "median": 1.5, "max": 2.0}
    assert facts["modes"] == {"RGB": 9, "L": 1}
    assert facts["num_unreadable"] == 1 and facts["unreadable"][0]["file"] == "dog/bad.png"
    assert facts["duplicates"] == 2 and facts["flip"] and not facts["has_latents"]
    assert json.loads(json.dumps(facts)) == facts
    warnings = " | ".join(facts["warnings"])
    for part in ("1 file is left out", "fewer than 50 pictures (cat, dog)", "2 pictures lie in more than one class"):
        assert part in warnings
    assert "1 of 10 pictures are smaller than the model's 25 × 25" in warnings


def test_one_class_is_allowed_with_a_warning(tmp_path):
    look = look_at(load_data(class_folders(tmp_path / "set", {"only": 3})))
    assert look.counts == {"only": 3}
    assert any("one class only" in warning for warning in look.warnings)


def test_a_sound_dataset_has_no_warnings():
    look = look_at(bundled_data("digits"), side=32)
    assert look.warnings == () and look.sizes["median"] == [32, 32]


def test_thumbnails_are_pictures_of_their_class(pets, tmp_path):
    data = load_data(pets)
    folder = tmp_path / "new" / "thumbnails"
    look = look_at(data, pictures=folder)
    assert {name: len(files) for name, files in look.thumbnails.items()} == {"cat": 4, "dog": 3}
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        name for names in look.thumbnails.values() for name in names
    )
    first = np.asarray(Image.open(folder / look.thumbnails["dog"][0]))
    assert np.array_equal(first, data.images[7:8][0])


def test_thumbnails_of_many_classes_are_the_first_twelve(tmp_path):
    data = load_data(class_folders(tmp_path / "set", {f"{index:02d}": 1 for index in range(15)}))
    assert list(look_at(data, pictures=tmp_path / "new").thumbnails) == [f"{index:02d}" for index in range(12)]


def test_only_the_first_unreadable_files_are_named(tmp_path):
    root = class_folders(tmp_path, {"a": 2, "b": 2})
    for index in range(30):
        put(root / "a" / f"bad{index}.png", b"")
    facts = look_at(load_data(root)).facts()
    assert len(facts["unreadable"]) == 20 and facts["num_unreadable"] == 30


def test_encoded_data_has_a_shape_and_no_thumbnails(tmp_path):
    np.savez(tmp_path / "a.npz", latents=np.zeros((60, 4, 8, 8), np.float32))
    look = look_at(load_data(tmp_path / "a.npz"), pictures=tmp_path / "new")
    assert look.has_latents and look.latent_shape == (4, 8, 8) and look.thumbnails == {} and look.sizes == {}


def test_thumbnails_that_cannot_be_written_are_an_error_of_the_workspace(pets, tmp_path):
    put(tmp_path / "file", b"")
    with pytest.raises(WorkspaceError):
        look_at(load_data(pets), pictures=tmp_path / "file" / "thumbnails")
