import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from engine.data import load_data, opening_data, scan
from engine.data.crop import centre_crop
from engine.errors import AssetError, InputError
from engine.runs.library import add_entry
from tests.unit.made_pictures import class_folders, encoded, noise, put


def one_line(error) -> bool:
    return "\n" not in str(error.value)


def test_class_folders_give_pictures_labels_and_names_in_the_order_of_the_names(tmp_path):
    root = class_folders(tmp_path / "set", {"zebra": 3, "ant": 2})
    data = load_data(root)
    assert data.class_names == ("ant", "zebra")
    assert data.class_counts() == {"ant": 2, "zebra": 3}
    assert data.images.shape == (5, 32, 32, 3)
    assert data.flip and data.name == str(root)
    expected = centre_crop(noise(2), 32)  # zebra came first, so its third picture is noise(2)
    assert np.array_equal(data.images[4:5][0], expected)
    assert np.array_equal(data.images[np.array([4, 0])], np.stack([expected, centre_crop(noise(1000), 32)]))
    assert data.images[[]].shape == (0, 32, 32, 3)
    assert data.at(16).images[:2].shape == (2, 16, 16, 3)


def test_deeper_folders_belong_to_the_class_above_them_and_wrapping_folders_are_looked_through(tmp_path):
    for path in ("a/x/1.png", "a/y/z/2.png", "b/3.png"):
        put(tmp_path / "outer" / "inner" / path, encoded(noise(1)))
    data = load_data(tmp_path)
    assert data.class_counts() == {"a": 2, "b": 1}
    assert any("inside outer/inner" in note for note in data.findings.notes)


def test_pictures_without_folders_are_one_class_and_that_is_said(tmp_path):
    put(tmp_path / "1.png", encoded(noise(1)))
    data = load_data(tmp_path)
    assert data.class_names == ("images",)
    assert any("one class" in note for note in data.findings.notes)


def test_pictures_beside_class_folders_are_left_out_and_that_is_said(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 1})
    put(tmp_path / "stray.png", encoded(noise(1)))
    data = load_data(tmp_path)
    assert len(data) == 3
    assert any("beside the class folders" in note for note in data.findings.notes)


def test_parts_of_a_dataset_are_not_taken_for_classes_silently(tmp_path):
    for path in ("train/a/1.png", "train/b/2.png", "val/a/3.png"):
        put(tmp_path / path, encoded(noise(1)))
    assert any("train, val" in note for note in load_data(tmp_path).findings.notes)


def _colour(width: int, height: int, colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), colour)


@pytest.mark.parametrize(
    ("content", "colour"),
    [
        (encoded(Image.new("L", (20, 20), 77)), (77, 77, 77)),
        (encoded(Image.new("1", (20, 20), 1)), (255, 255, 255)),
        (encoded(_colour(20, 20, (0, 200, 0)).quantize(4)), (0, 200, 0)),
        (encoded(Image.new("RGBA", (20, 20), (200, 0, 0, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (20, 20), (200, 0, 0, 51))), (244, 204, 204)),
        (encoded(Image.new("LA", (20, 20), (10, 255))), (10, 10, 10)),
        (encoded(Image.fromarray(np.full((20, 20), 257 * 100, np.uint16))), (100, 100, 100)),
        (encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95), (255, 0, 0)),
        (encoded(_colour(20, 20, (9, 8, 200)), "WEBP", lossless=True), (9, 8, 200)),
        (encoded(_colour(20, 20, (9, 8, 200)), "BMP"), (9, 8, 200)),
        (
            encoded(_colour(20, 20, (255, 0, 0)), "GIF", save_all=True, append_images=[_colour(20, 20, (0, 0, 255))]),
            (255, 0, 0),
        ),
        (
            encoded(_colour(20, 20, (255, 0, 0)), "PNG", save_all=True, append_images=[_colour(20, 20, (0, 0, 255))]),
            (255, 0, 0),
        ),
    ],
    ids=["grey", "1", "palette", "clear", "half", "grey-alpha", "16-bit", "cmyk", "webp", "bmp", "gif", "apng"],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, content, colour):
    put(tmp_path / "a" / "picture", content)
    data = load_data(tmp_path)
    assert np.abs(data.images[:1][0].astype(int) - colour).max() <= 2
    kinds = " ".join(data.findings.notes)
    assert ("animated" in kinds) == (content[:3] == b"GIF" or b"acTL" in content)


def test_exif_orientation_is_ignored_as_in_the_official_training_code(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture = Image.fromarray(np.concatenate([np.zeros((20, 10, 3)), np.full((20, 10, 3), 255)], 1).astype(np.uint8))
    put(tmp_path / "a" / "1.png", encoded(picture, exif=exif))
    image = load_data(tmp_path).images[:1][0]
    assert image[0, 0, 0] < 50 and image[0, -1, 0] > 200


def test_the_crop_is_that_of_adm(tmp_path):
    """A second implementation, written from ADM's description: halve by box, resize bicubically, cut."""
    picture = noise(5, 333, 170)
    halves = picture.resize((166, 85), Image.Resampling.BOX)
    small = halves.resize((round(166 * 64 / 85), 64), Image.Resampling.BICUBIC)
    left = (small.width - 64) // 2
    put(tmp_path / "a" / "1.png", encoded(picture))
    assert np.array_equal(load_data(tmp_path).at(64).images[:1][0], np.asarray(small)[:, left : left + 64])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"just some words", "is not a PNG"),
        (b"", "is empty"),
        (encoded(noise(3))[:300], "is damaged"),
        (encoded(noise(3), "JPEG")[:200], "is damaged"),
        (encoded(Image.new("1", (1, 400))), "times as long as wide"),
        (encoded(Image.new("1", (20_000, 10_000))), "million"),
        (encoded(Image.new("1", (10_000, 10_000))), "million"),
    ],
    ids=["text", "empty", "png", "jpeg", "strip", "bomb", "large"],
)
def test_files_that_cannot_be_used_are_listed_with_the_reason_and_left_out(tmp_path, content, reason):
    class_folders(tmp_path, {"a": 2, "b": 2})
    put(tmp_path / "b" / "bad.png", content)
    data = load_data(tmp_path)
    assert len(data) == 4
    ((file, why),) = data.findings.unreadable
    assert file == "b/bad.png" and reason in why


def test_a_class_without_a_readable_picture_is_no_class(tmp_path):
    class_folders(tmp_path, {"a": 2, "c": 2})
    put(tmp_path / "b" / "bad.png", b"")
    assert load_data(tmp_path).class_names == ("a", "c")


def test_other_files_are_skipped_and_counted_and_hidden_ones_ignored(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 2})
    put(tmp_path / "a" / "notes.txt", b"words")
    put(tmp_path / "a" / ".DS_Store", b"words")
    put(tmp_path / "__MACOSX" / "a" / "1.png", b"words")
    data = load_data(tmp_path)
    assert any(note.startswith("1 file is no picture") for note in data.findings.notes)
    assert not data.findings.unreadable


@pytest.mark.parametrize("files", [{}, {"a/notes.txt": b"words"}, {"a/1.png": b""}], ids=["none", "text", "empty"])
def test_a_folder_without_pictures_is_refused_in_one_line(tmp_path, files):
    (tmp_path / "set").mkdir()
    for name, content in files.items():
        put(tmp_path / "set" / name, content)
    with pytest.raises(AssetError, match="expected class folders") as error:
        load_data(tmp_path / "set")
    assert one_line(error)


def test_fifty_thousand_empty_files_give_the_line_within_seconds(tmp_path):
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    for index in range(50_000):
        os.close(os.open(folder / f"{index}.png", os.O_CREAT | os.O_WRONLY))
    started = time.perf_counter()
    with pytest.raises(AssetError, match=r"of 50,000 files.*is empty"):
        load_data(tmp_path / "set")
    assert time.perf_counter() - started < 60


def test_a_file_that_vanishes_or_changes_while_it_is_read_is_named(tmp_path):
    data = load_data(class_folders(tmp_path, {"a": 3, "b": 1}))
    (tmp_path / "a" / "001.png").unlink()
    with pytest.raises(AssetError, match=r"a/001\.png can't be read any more.*open it again") as error:
        data.images[:]
    assert one_line(error)
    assert data.images[[0, 2]].shape[0] == 2
    (tmp_path / "a" / "002.png").write_bytes(b"words")
    with pytest.raises(AssetError, match=r"a/002\.png"):
        data.images[[2]]


def test_a_folder_that_vanishes_while_it_is_looked_at_gives_one_line(tmp_path):
    root = class_folders(tmp_path / "set", {"a": 300, "b": 300}, width=8, height=8)
    steps = opening_data(root)
    next(steps), next(steps)  # listed, and the first files looked at
    root.rename(tmp_path / "gone")
    with pytest.raises(StopIteration) as stop:
        while True:
            next(steps)
    data = stop.value.value
    assert 0 < len(data) < 600
    assert len(data.findings.unreadable) == 600 - len(data)
    with pytest.raises(AssetError, match="can't be read any more"):
        data.images[:1]


def test_links_are_followed_and_loops_end(tmp_path):
    elsewhere = class_folders(tmp_path / "elsewhere", {"a": 2})
    root = class_folders(tmp_path / "set", {"b": 1})
    (root / "a").symlink_to(elsewhere / "a")
    (root / "b" / "again").symlink_to(root)
    (root / "b" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    assert load_data(root).class_counts() == {"a": 2, "b": 1}


def test_a_pipe_is_not_opened(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert len(load_data(tmp_path)) == 2


def test_names_of_any_bytes_can_be_shown(tmp_path):
    folder = os.fsencode(tmp_path) + b"/cl\xffss"
    os.mkdir(folder)
    with open(folder + b"/1.png", "wb") as file:
        file.write(encoded(noise(1)))
    class_folders(tmp_path, {"b": 1})
    data = load_data(tmp_path, workspace=tmp_path / "ws")
    assert data.class_names == ("b", "cl�ss")
    data.class_names[1].encode("utf-8")
    assert data.images[:].shape[0] == 2


def test_the_hash_changes_with_files_and_not_with_looking(tmp_path):
    root = class_folders(tmp_path, {"a": 2, "b": 2})
    first = load_data(root)
    assert load_data(root).content_hash == first.content_hash
    put(root / "b" / "000.png", encoded(noise(77)))
    second = load_data(root)
    assert second.content_hash != first.content_hash and second.pictures_hash != first.pictures_hash
    (root / "b").rename(root / "c")
    assert load_data(root).content_hash != second.content_hash


def test_what_was_seen_is_remembered_until_a_file_changes(tmp_path, monkeypatch):
    root, workspace = class_folders(tmp_path / "set", {"a": 2, "b": 2}), tmp_path / "ws"
    put(root / "b" / "bad.png", b"words")
    first = load_data(root, workspace=workspace)
    looked = []
    see = scan.see_file
    monkeypatch.setattr(scan, "see_file", lambda path, **options: looked.append(path) or see(path, **options))
    again = load_data(root, workspace=workspace)
    assert looked == [] and again.content_hash == first.content_hash
    assert again.findings.unreadable == first.findings.unreadable
    put(root / "b" / "bad.png", encoded(noise(5)))
    assert len(load_data(root, workspace=workspace)) == 5
    assert looked == [str(root / "b" / "bad.png")]
    (file,) = (workspace / "cache").glob("scan-*.json")
    for damaged in (b"{", b"[]", b'{"version": 1, "files": {"a/000.png": 3}}'):
        file.write_bytes(damaged)
        assert len(load_data(root, workspace=workspace)) == 5


def test_of_very_many_files_a_part_is_decoded_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "MAX_DECODED", 3)
    root = class_folders(tmp_path, {"a": 4, "b": 4})
    for name in ("a/000.png", "a/001.png"):  # the first is decoded, the second known by its header
        (root / name).write_bytes((root / name).read_bytes()[:200])
    data = load_data(root)
    assert [file for file, _ in data.findings.unreadable] == ["a/000.png"]
    assert any("by their headers" in note for note in data.findings.notes)


def test_a_name_in_the_library_opens_its_path_with_the_names_and_flip_kept_there(tmp_path):
    root, workspace = class_folders(tmp_path / "set", {"a": 2, "b": 1}), tmp_path / "ws"
    entry = {"name": "pets", "ref": str(root), "class_names": ["cat", "dog"], "flip": False}
    add_entry(workspace, "data", entry)
    data, plain = load_data("pets", workspace=workspace), load_data(root, workspace=workspace)
    assert data.name == "pets" and data.class_counts() == {"cat": 2, "dog": 1} and not data.flip
    assert data.content_hash != plain.content_hash and data.pictures_hash == plain.pictures_hash
    class_folders(root, {"c": 1})
    with pytest.raises(AssetError, match="has 3 classes, but 2 names"):
        load_data("pets", workspace=workspace)


def test_references_that_name_nothing_are_refused_in_one_line(tmp_path):
    for ref in ("no-such-thing", str(tmp_path / "missing"), "a\0b", "x" * 5000):
        with pytest.raises(InputError) as error:
            load_data(ref, workspace=tmp_path / "ws")
        assert one_line(error) and len(str(error.value)) < 500


def test_files_of_other_kinds_are_refused_by_what_is_inside(tmp_path):
    for content, match in (
        (b"words", "no kind that is known"),
        (b"", "is empty: it has 0 bytes"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07", "RAR"),
        (encoded(noise(1)), "single picture"),
    ):
        with pytest.raises(AssetError, match=match) as error:
            load_data(put(tmp_path / "data.npz.zip", content))
        assert one_line(error)


def test_opening_data_is_free_of_torch():
    code = (
        "import sys, engine.data.opening, engine.data.archives, engine.data.features, engine.data.look, "
        "engine.data.parquet; assert not {'torch', 'streamlit', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
