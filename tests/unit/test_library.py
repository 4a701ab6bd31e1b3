"""The workspace's memory of what was opened: names that are safe, entries that are whole, files that stay."""

import errno
import os
from pathlib import Path

import pytest

from engine.errors import AssetError, InputError, WorkspaceError
from engine.runs import library
from engine.runs.workspace import Workspace


def entry(name: str = "cats", **more: object) -> dict:
    return {"name": name, "ref": "/pictures/cats", "class_names": ["tabby", "siamese"], **more}


def test_an_entry_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = library.add_entry(tmp_path, "data", entry(flip=True, facts={"num_images": 12}))
    read = library.read_entry(tmp_path, "data", "cats")
    assert read == written
    assert read["flip"] is True and read["facts"] == {"num_images": 12}
    assert 0 < read["created"] <= read["last_used"]
    assert library.read_entry(Workspace(tmp_path), "data", "cats") == read
    assert library.read_entry(tmp_path, "models", "cats") is None


def test_reading_makes_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTPRUNER_WORKSPACE", str(tmp_path / "none"))
    assert library.read_entry(None, "models", "cats") is None
    assert library.list_entries(None, "models") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../cats", "a/b", "a\\b", "/etc/passwd", "a b", "a@1", ".cats", "é", "a\n", "x" * 65, None, 3],
)
def test_a_name_that_isnt_a_plain_word_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(InputError, match="letters, digits"):
        library.add_entry(tmp_path / "workspace", "data", entry(name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", "owner/name", "run@1", "x" * 300, "a\0b"])
def test_what_isnt_a_name_is_no_entry_and_reads_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "library" / "data").mkdir(parents=True)
    (tmp_path / "library" / "secret.json").write_text('{"name": "secret", "ref": "x", "class_names": []}')
    assert library.read_entry(tmp_path, "data", name) is None
    with pytest.raises(InputError):
        library.forget_entry(tmp_path, "data", name)
    assert (tmp_path / "library" / "secret.json").exists()


@pytest.mark.parametrize(("kind", "name"), [("models", "demo-sit"), ("models", "Demo-SiT"), ("data", "digits")])
def test_bundled_names_cant_be_taken(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(InputError, match="bundled"):
        library.add_entry(tmp_path, kind, entry(name))


def test_an_existing_name_is_replaced_only_when_told(tmp_path: Path) -> None:
    library.add_entry(tmp_path, "data", entry())
    with pytest.raises(InputError, match="already"):
        library.add_entry(tmp_path, "data", entry(ref="/other"))
    with pytest.raises(InputError, match="already"):  # the same file where case doesn't count
        library.add_entry(tmp_path, "data", entry("Cats"), replace=True)
    library.add_entry(tmp_path, "data", entry(ref="/other"), replace=True)
    assert library.read_entry(tmp_path, "data", "cats")["ref"] == "/other"


def test_since_when_a_name_means_what_it_means(tmp_path: Path) -> None:
    first = library.add_entry(tmp_path, "data", entry(facts={"content_hash": "a"}))
    again = library.add_entry(tmp_path, "data", entry(facts={"content_hash": "a"}), replace=True)
    assert again["created"] == first["created"] < again["last_used"]
    for other in (entry(facts={"content_hash": "b"}), entry(ref="/x"), entry(class_names=["one", "two"])):
        changed = library.add_entry(tmp_path, "data", other, replace=True)
        assert changed["created"] > again["created"]
        again = changed


def test_the_most_recently_used_come_first_and_damaged_ones_last(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        library.add_entry(tmp_path, "models", entry(name))
    library.touch_entry(tmp_path, "models", "one")
    folder = tmp_path / "library" / "models"
    (folder / "broken.json").write_bytes(b"{")
    (folder / "array.json").write_text("[]")
    (folder / "names.json").write_text('{"ref": "x", "class_names": [1]}')
    found = library.list_entries(tmp_path, "models")
    assert [item["name"] for item in found] == ["one", "three", "two", "array", "broken", "names"]
    assert [("damaged" in item) for item in found] == [False] * 3 + [True] * 3
    with pytest.raises(AssetError, match=r"broken\.json"):
        library.read_entry(tmp_path, "models", "broken")
    library.forget_entry(tmp_path, "models", "broken")
    assert "broken" not in [item["name"] for item in library.list_entries(tmp_path, "models")]


def test_forgetting_leaves_the_users_files(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"weights")
    library.add_entry(tmp_path, "models", entry("mine", ref=str(file)))
    library.forget_entry(tmp_path, "models", "mine")
    assert file.read_bytes() == b"weights"
    assert library.read_entry(tmp_path, "models", "mine") is None
    with pytest.raises(InputError, match="no model named 'mine'"):
        library.touch_entry(tmp_path, "models", "mine")


def test_classes_are_renamed_one_for_one(tmp_path: Path) -> None:
    library.add_entry(tmp_path, "data", entry())
    before = library.read_entry(tmp_path, "data", "cats")
    assert library.rename_classes(tmp_path, "data", "cats", before["class_names"]) == before
    library.rename_classes(tmp_path, "data", "cats", ["striped", "cream"])
    after = library.read_entry(tmp_path, "data", "cats")
    assert after["class_names"] == ["striped", "cream"] and after["created"] > before["created"]
    for wrong in (["one"], ["same", "same"], ["", "x"], ["x", 3]):
        with pytest.raises(InputError):
            library.rename_classes(tmp_path, "data", "cats", wrong)
    assert library.read_entry(tmp_path, "data", "cats")["class_names"] == ["striped", "cream"]


def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.add_entry(tmp_path, "data", entry())

    def full_disk(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(WorkspaceError, match="no space left"):
        library.add_entry(tmp_path, "data", entry(ref="/other"), replace=True)
    assert library.read_entry(tmp_path, "data", "cats")["ref"] == "/pictures/cats"
    assert [file.name for file in (tmp_path / "library" / "data").iterdir()] == ["cats.json"]
