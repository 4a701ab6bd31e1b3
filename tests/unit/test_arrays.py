import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from engine.data import arrays, load_data
from engine.errors import AssetError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def saved(path, *, compressed: bool = False, **values):
    (np.savez_compressed if compressed else np.savez)(path, **values)
    return path


def refused(path, match: str) -> None:
    with pytest.raises(AssetError, match=match) as error:
        load_data(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("label_name", ["labels", "arr_1"])
def test_pictures_and_labels_come_back_as_saved(tmp_path, compressed, label_name):
    path = saved(tmp_path / "a.npz", compressed=compressed, arr_0=PICTURES, **{label_name: LABELS})
    data = load_data(path)
    assert np.array_equal(data.images[:], PICTURES) and np.array_equal(data.labels, LABELS)
    assert data.labels.dtype == np.int64 and data.class_names == ("class 0", "class 1", "class 2")
    assert data.flip and data.at(4).images[:2].shape == (2, 4, 4, 3)
    assert isinstance(data.images, np.memmap) != compressed


def test_class_names_are_taken_and_labels_are_optional(tmp_path):
    named = load_data(saved(tmp_path / "a.npz", arr_0=PICTURES, labels=LABELS, class_names=np.array(["a", "ß", "c"])))
    assert named.class_names == ("a", "ß", "c")
    alone = load_data(saved(tmp_path / "b.npz", arr_0=PICTURES))
    assert alone.class_names == ("images",) and any("no labels" in note for note in alone.findings.notes)


def test_a_file_larger_than_what_is_read_of_it_is_mapped(tmp_path):
    many = np.zeros((200, 256, 256, 3), np.uint8)  # 39 MB
    many[150] = 7
    path = saved(tmp_path / "a.npz", arr_0=many)
    del many
    tracemalloc.start()
    data = load_data(path)
    assert (data.images[150:151] == 7).all()
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_an_npy_holds_pictures_or_latents_by_its_kind(tmp_path):
    np.save(tmp_path / "p.npy", PICTURES)
    np.save(tmp_path / "l.npy", RNG.standard_normal((5, 4, 8, 8)).astype(np.float16))
    assert np.array_equal(load_data(tmp_path / "p.npy").images[:], PICTURES)
    latents = load_data(tmp_path / "l.npy")
    assert latents.images is None and latents.latents.shape == (5, 4, 8, 8) and not latents.flip


def test_fortran_order_is_kept(tmp_path):
    path = saved(tmp_path / "a.npz", arr_0=np.asfortranarray(PICTURES))
    assert np.array_equal(load_data(path).images[:], PICTURES)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"arr_0": PICTURES.transpose(0, 3, 1, 2)}, "channels first"),
        ({"arr_0": PICTURES.astype(np.float32)}, "expected uint8"),
        ({"arr_0": PICTURES[0]}, "expected uint8"),
        ({"arr_0": PICTURES[:0]}, "at least one"),
        ({"stuff": PICTURES}, "holds stuff; expected arr_0"),
        ({"arr_0": PICTURES, "labels": LABELS[:5]}, "one whole number for each"),
        ({"arr_0": PICTURES, "labels": LABELS.astype(float)}, "one whole number for each"),
        ({"arr_0": PICTURES, "labels": LABELS - 1}, "labels go from -1"),
        ({"arr_0": PICTURES, "labels": LABELS + 10**9}, "labels go from"),
        ({"arr_0": PICTURES, "labels": LABELS, "class_names": np.array(["a"])}, "class_names"),
        ({"arr_0": np.array([{"a": 1}], dtype=object)}, "Python objects"),
        ({"latents": np.zeros((3, 4, 8, 8), np.int32)}, "floating point"),
    ],
)
def test_arrays_of_another_shape_or_kind_are_refused_with_what_is_expected(tmp_path, values, match):
    refused(saved(tmp_path / "a.npz", **values), match)


def test_a_file_cut_short_is_refused(tmp_path):
    path = saved(tmp_path / "a.npz", arr_0=PICTURES)
    path.write_bytes(path.read_bytes()[:-400])
    refused(path, "can't be read")
    np.save(tmp_path / "b.npy", PICTURES)
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-1])
    refused(tmp_path / "b.npy", "beyond the end")


def test_a_header_that_claims_more_than_there_is_takes_no_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**7, 1024, 1024, 3)}
    )
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
            archive.writestr("arr_0.npy", header.getvalue() + bytes(1000))
        refused(tmp_path / "a.npz", "claims")


def test_a_compressed_array_over_the_limit_says_how_to_save_it(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_UNPACKED_BYTES", 1000)
    refused(saved(tmp_path / "a.npz", compressed=True, arr_0=PICTURES), r"np\.savez instead")
    assert len(load_data(saved(tmp_path / "b.npz", arr_0=PICTURES))) == 12


def test_the_hash_changes_with_the_file(tmp_path):
    first = load_data(saved(tmp_path / "a.npz", arr_0=PICTURES))
    assert load_data(tmp_path / "a.npz").content_hash == first.content_hash
    assert load_data(saved(tmp_path / "a.npz", arr_0=PICTURES[:11])).content_hash != first.content_hash
