import io
import os
import shutil
import tarfile
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from engine.data import archives, load_data
from engine.errors import AssetError, EngineError, InputError, WorkspaceError
from tests.unit.made_pictures import class_folders, encoded, noise, put

PICTURE = encoded(noise(1))


def make_zip(path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, members: dict[str, bytes], mode: str = "w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def members_of(root) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*.png"))}


def refused(path, workspace, match: str, kind: type[EngineError] = AssetError) -> None:
    with pytest.raises(kind, match=match) as error:
        load_data(path, workspace=workspace)
    assert "\n" not in str(error.value)
    left = list((workspace / "cache").rglob("*"))
    assert all(found.name == "archives" for found in left), left


@pytest.mark.parametrize("mode", ["zip", "stored", "w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_gives_the_same_pictures_as_the_folder_it_was_made_of(tmp_path, mode):
    root = class_folders(tmp_path / "set", {"b": 3, "a": 2})
    members = {f"wrapper/{name}": content for name, content in members_of(root).items()}
    members |= {"wrapper/readme.txt": b"words", "__MACOSX/wrapper/a/._000.png": b"x", "wrapper/a/.hidden.png": b"x"}
    path = tmp_path / "no-ending-that-says-anything"
    if mode.startswith("w"):
        make_tar(path, members, mode)
    else:
        make_zip(path, members, zipfile.ZIP_DEFLATED if mode == "zip" else zipfile.ZIP_STORED)
    data, folder = load_data(path, workspace=tmp_path / "ws"), load_data(root)
    assert data.class_counts() == folder.class_counts() == {"a": 2, "b": 3}
    assert np.array_equal(data.images[:], folder.images[:])
    assert data.findings.unreadable == ()


def test_it_is_unpacked_once_under_names_of_our_own_and_again_when_it_was_damaged(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"x/evil name;$(rm).png": PICTURE, "y/2.png": PICTURE})
    first = load_data(path, workspace=tmp_path / "ws")
    (folder,) = (tmp_path / "ws" / "cache" / "archives").iterdir()
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert names == ["0000/000", "0000/001", "index.json"]
    unpack = archives._unpack
    monkeypatch.setattr(archives, "_unpack", lambda *args: pytest.fail("unpacked again"))
    assert load_data(path, workspace=tmp_path / "ws").content_hash == first.content_hash
    monkeypatch.setattr(archives, "_unpack", unpack)
    shutil.rmtree(folder / "0000")
    again = load_data(path, workspace=tmp_path / "ws")
    assert again.content_hash == first.content_hash and len(again.images[:]) == 2
    (folder / "index.json").write_text("{")
    assert load_data(path, workspace=tmp_path / "ws").content_hash == first.content_hash


def test_the_hash_is_of_the_content_and_not_of_the_place(tmp_path):
    members = {"x/1.png": PICTURE, "y/2.png": PICTURE}
    one = load_data(make_zip(tmp_path / "1.zip", members), workspace=tmp_path / "ws")
    other = load_data(make_tar(tmp_path / "2.tar", members), workspace=tmp_path / "ws")
    changed = load_data(
        make_zip(tmp_path / "3.zip", members | {"y/2.png": encoded(noise(2))}), workspace=tmp_path / "ws"
    )
    assert one.content_hash == other.content_hash != changed.content_hash
    assert one.findings.duplicates == 2 and changed.findings.duplicates == 0


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\\\host\\x.png"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_that_point_outside_are_refused_by_name(tmp_path, name, make):
    path = make(tmp_path / "a", {"a/1.png": PICTURE, name: PICTURE})
    refused(path, tmp_path / "ws", "points outside")
    assert not (tmp_path / "x.png").exists() and not (tmp_path.parent / "x.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused_by_name(tmp_path, kind):
    path = make_tar(tmp_path / "a.tar", {"a/1.png": PICTURE})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("a/strange.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    refused(path, tmp_path / "ws", "strange.png.*link or a device")


def test_links_in_a_zip_are_refused_by_name(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a/1.png": PICTURE})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("a/strange.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    refused(path, tmp_path / "ws", "strange.png.*link or a device")


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_bombs_are_stopped(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(archives, "_RATIO_FROM", 2**20)
    members = {"a/1.png": PICTURE, "a/2.png": PICTURE + bytes(40 * 2**20)}
    path = make_zip(tmp_path / "a", members) if mode == "zip" else make_tar(tmp_path / "a", members, mode)
    refused(path, tmp_path / "ws", "more than 100 times its size")


def test_a_bomb_among_members_that_are_skipped_is_stopped_too(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_RATIO_FROM", 2**20)
    path = make_tar(tmp_path / "a", {"a/1.png": PICTURE, "b.bin": bytes(40 * 2**20), "a/2.png": PICTURE}, "w:gz")
    refused(path, tmp_path / "ws", "more than 100 times its size")


def test_a_member_that_is_too_large_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 10_000)
    refused(make_zip(tmp_path / "a.zip", {"a/huge.png": PICTURE + os.urandom(20_000)}), tmp_path / "ws", "huge.png")


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    path = make_zip(tmp_path / "a.zip", {f"a/{index}.png": b"" for index in range(20)})
    refused(path, tmp_path / "ws", "more than 10 members")


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path):
    info = tarfile.TarInfo("a/1.png")
    info.size, info.type = 8 * 2**30 - 1, tarfile.XHDTYPE
    refused(put(tmp_path / "a.tar", info.tobuf() + bytes(1024)), tmp_path / "ws", "a header claims")


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("mode", ["zip", "w", "w:gz"])
def test_an_archive_cut_short_is_damaged(tmp_path, mode, keep):
    members = {f"a/{index}.png": encoded(noise(index, 90, 90)) for index in range(8)}
    path = make_zip(tmp_path / "a", members) if mode == "zip" else make_tar(tmp_path / "a", members, mode)
    content = path.read_bytes().rstrip(b"\0") if mode == "w" else path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refused(path, tmp_path / "ws", "damaged")


def test_a_damaged_header_inside_a_tar_is_not_taken_for_its_end(tmp_path):
    path = make_tar(tmp_path / "a.tar", {f"a/{index}.png": PICTURE for index in range(4)})
    content = bytearray(path.read_bytes())
    place = content.index(b"a/2.png")
    content[place + 150] ^= 0xFF  # in the checksum
    path.write_bytes(content)
    refused(path, tmp_path / "ws", "damaged")


def test_a_byte_changed_in_a_zip_is_noticed(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a/1.png": PICTURE, "b/1.png": PICTURE}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[len(PICTURE) // 2 + 60] ^= 0x10
    path.write_bytes(content)
    refused(path, tmp_path / "ws", "damaged")


def test_an_archive_with_a_password_says_so(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a/1.png": PICTURE})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, tmp_path / "ws", "password", InputError)


@pytest.mark.parametrize("members", [{}, {"a/notes.txt": b"words"}], ids=["empty", "text"])
def test_an_archive_without_pictures_is_refused(tmp_path, members):
    refused(make_zip(tmp_path / "a.zip", members), tmp_path / "ws", "holds no pictures")


def test_no_space_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"a/1.png": PICTURE})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 100))
    refused(path, tmp_path / "ws", "no space left", WorkspaceError)


def test_stopping_half_way_leaves_nothing(tmp_path):
    path = make_zip(tmp_path / "a.zip", {f"a/{index}.png": PICTURE for index in range(500)})
    steps = archives.opening_archive(path, name="a", cache=tmp_path / "cache")
    next(steps)
    assert list((tmp_path / "cache" / "archives").iterdir())
    steps.close()
    assert list((tmp_path / "cache" / "archives").iterdir()) == []
