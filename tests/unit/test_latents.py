import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.data import latents, load_data
from engine.data.latents import encoded, encoding, with_pictures
from engine.errors import AssetError, InputError, WorkspaceError
from engine.evaluation.fidelity import evaluate_fidelity
from tests.unit.made_pictures import class_folders


@pytest.fixture
def few(digits):
    return replace(digits, images=digits.images[:600], labels=digits.labels[:600], content_hash="few")


@pytest.fixture
def model(make_model):
    return make_model()


def files(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_they_are_the_autoencoders_with_and_without_a_cache(model, few, tmp_path):
    expected = model.autoencoder.encode(few.images)
    assert torch.equal(encoded(model, few), expected)
    assert torch.equal(encoded(model, few, cache=tmp_path), expected)
    assert torch.equal(encoded(model, few, cache=tmp_path), expected)
    assert len(files(tmp_path)) == 1


def test_the_second_time_nothing_is_encoded(model, few, tmp_path, monkeypatch):
    first = encoded(model, few, cache=tmp_path)
    monkeypatch.setattr(type(model), "latents_of", lambda *args, **options: pytest.fail("encoded again"))
    assert torch.equal(encoded(model, few, cache=tmp_path), first)
    renamed = few.with_names(tuple(f"other {name}" for name in few.class_names))
    assert renamed.content_hash != few.content_hash
    assert torch.equal(encoded(model, renamed, cache=tmp_path), first)


def test_mirrored_ones_are_those_of_the_mirrored_pictures_in_a_file_of_their_own(model, few, tmp_path):
    plain = encoded(model, few, cache=tmp_path)
    mirrored = encoded(model, few, cache=tmp_path, mirrored=True)
    assert torch.equal(mirrored, model.autoencoder.encode(few.images[:, :, ::-1]))
    assert not torch.equal(mirrored, plain) and len(files(tmp_path)) == 2
    assert torch.equal(encoded(model, few, cache=tmp_path), plain)


def test_another_size_of_the_same_pictures_is_another_file(make_model, few, tmp_path):
    small = encoded(make_model(input_size=4), few, cache=tmp_path)
    large = encoded(make_model(input_size=8), few, cache=tmp_path)
    assert small.shape[1:] == (4, 4, 4) and large.shape[1:] == (4, 8, 8) and len(files(tmp_path)) == 2


def test_progress_is_told_and_stopping_leaves_nothing(model, few, tmp_path):
    steps = encoding(model, few, cache=tmp_path)
    assert (next(steps).done, next(steps).done) == (256, 512)
    assert len(files(tmp_path)) == 1 and files(tmp_path)[0].endswith(".tmp")
    steps.close()
    assert files(tmp_path) == []
    assert [step.done for step in encoding(model, few)] == [256, 512, 600]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" + content[1:]]
)
def test_a_damaged_file_is_made_again(model, few, tmp_path, damage):
    first = encoded(model, few, cache=tmp_path).clone()
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(encoded(model, few, cache=tmp_path), first)
    assert files(tmp_path) == [file.name]


def test_large_ones_are_mapped_and_the_same(model, few, tmp_path, monkeypatch):
    first = encoded(model, few, cache=tmp_path)
    monkeypatch.setattr(latents, "_SMALL", 0)
    assert torch.equal(encoded(model, few, cache=tmp_path), first)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_is_said_and_nothing_is_left(model, few, tmp_path, monkeypatch, after):
    real = open

    class FullDisk:
        def __init__(self, *args, **options):
            self.file, self.writes = real(*args, **options), 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            self.writes += 1
            if self.writes > after:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content)

    monkeypatch.setattr(latents, "open", FullDisk, raising=False)
    with pytest.raises(WorkspaceError, match="no space left"):
        encoded(model, few, cache=tmp_path)
    assert files(tmp_path) == []


def test_a_picture_that_vanishes_stops_it_and_nothing_is_left(model, tmp_path):
    data = load_data(class_folders(tmp_path / "set", {"a": 5, "b": 5}))
    (tmp_path / "set" / "b" / "003.png").unlink()
    with pytest.raises(AssetError, match=r"b/003\.png"):
        encoded(model, data, cache=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_encoded_data_is_used_as_it_lies_and_numbers_that_are_not_finite_are_refused(model, tmp_path):
    values = np.random.default_rng(0).standard_normal((300, 4, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "a.npz", latents=values)
    data = load_data(tmp_path / "a.npz")
    assert torch.equal(encoded(model, data, cache=tmp_path / "cache"), torch.from_numpy(values))
    assert not (tmp_path / "cache").exists()
    np.savez(tmp_path / "half.npz", latents=values.astype(np.float16))
    half = encoded(model, load_data(tmp_path / "half.npz"), cache=tmp_path / "cache")
    assert half.dtype == torch.float32 and len(files(tmp_path / "cache")) == 1
    with pytest.raises(InputError, match="can't be mirrored"):
        encoded(model, data, cache=tmp_path / "cache", mirrored=True)
    values[290, 0, 0, 0] = np.nan
    np.savez(tmp_path / "b.npz", latents=values)
    with pytest.raises(AssetError, match="pictures 256 … 299 aren't all finite"):
        encoded(model, load_data(tmp_path / "b.npz"), cache=tmp_path / "cache")


def test_fidelity_reads_folders_in_parts_and_needs_pictures(model, digits, tmp_path, monkeypatch):
    """Against the same pictures as an array: files and array give the same numbers, whatever is read at once."""
    root = class_folders(tmp_path / "set", {"a": 20, "b": 20}, width=32, height=32)
    lazy = load_data(root)
    array = replace(lazy, images=lazy.images[:])
    generated, labels = digits.images[:40], np.arange(40) % 2
    measure = {"seed": 0, "num_bootstrap": 2}
    expected = evaluate_fidelity(generated, labels, array, **measure)
    monkeypatch.setattr("engine.evaluation.reference._PICTURES_READ", 16)
    for _ in range(2):  # measured, and from the cache
        found = evaluate_fidelity(generated, labels, lazy, cache=tmp_path / "cache", **measure)
        assert found.fid.value == pytest.approx(expected.fid.value, rel=1e-6)
    encoded_only = replace(lazy, images=None, latents=encoded(model, lazy).numpy())
    with pytest.raises(InputError, match="encoded pictures only"):
        evaluate_fidelity(generated, labels, encoded_only, **measure)


def test_encoded_data_gets_the_pictures_that_the_autoencoder_makes_of_it(model, digits):
    latent = encoded(model, digits)[:10]
    data = replace(digits, images=None, latents=latent.numpy(), labels=digits.labels[:10])
    seen = with_pictures(model, data)
    assert np.array_equal(seen.images[2:4], model.autoencoder.decode(latent[2:4]))
    assert seen.images.shape == (10, 32, 32, 3) and seen.at(16).images[:1].shape == (1, 16, 16, 3)
    assert np.abs(seen.images[:].astype(int) - digits.images[:10]).mean() < 40
    assert with_pictures(model, digits) is digits
