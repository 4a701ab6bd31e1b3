"""Tensors out of files of others: what is taken, and what each damage is called. No code in them runs."""

import json
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import AssetError
from engine.models.tensor_files import not_finite, read_tensors
from tests.conftest import make_network
from tests.unit.model_files import claiming, pickle_of_canary, save_training, with_pickle


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(3, 5, generator=generator), "b": torch.randn(7, generator=generator)}


@pytest.fixture
def checkpoint(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "no-ending-at-all"])
def test_what_a_file_is_shows_in_its_bytes(tmp_path, state, name):
    torch.save(OrderedDict(state), tmp_path / name)
    assert_same(read_tensors(tmp_path / name).state, state)
    save_file(state, tmp_path / name, metadata={"model": "DiT-S/2"})
    found = read_tensors(tmp_path / name)
    assert_same(found.state, state)
    assert found.taken == "bare" and found.about == {"model": "DiT-S/2"} and found.notes == ()


def test_the_average_is_taken_and_said(tmp_path):
    network, average = make_network(seed=1), make_network(seed=2)
    file = save_training(network, tmp_path / "0050000.pt", ema=average, model="DiT-S/2", image_size=256, ckpt=None)
    found = read_tensors(file)
    assert_same(found.state, average.state_dict())
    assert found.taken == "ema" and "averaged weights (EMA) are taken" in found.notes[0]
    assert found.about == {"model": "DiT-S/2", "image_size": 256}


def test_a_checkpoint_without_average_gives_its_weights_and_says_so(tmp_path):
    network = make_network(seed=1)
    found = read_tensors(save_training(network, tmp_path / "a.pt"))
    assert_same(found.state, network.state_dict())
    assert found.taken == "model" and "no averaged weights" in found.notes[1]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_go_and_are_mentioned(tmp_path, state, prefix):
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "a.pt")
    found = read_tensors(tmp_path / "a.pt")
    assert_same(found.state, state)
    assert len(found.notes) == prefix.count(".") and "is left out" in found.notes[0]


def test_shards_are_put_together(tmp_path, state):
    names = {"a.weight": "w-00001-of-00002.safetensors", "b": "w-00002-of-00002.safetensors"}
    for key, name in names.items():
        save_file({key: state[key]}, tmp_path / name)
    index = tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert_same(read_tensors(index).state, state)
    assert len(read_tensors(index).files) == 3
    index.write_text(json.dumps({"weight_map": {"a.weight": "../outside.safetensors"}}))
    with pytest.raises(AssetError, match="isn't an index of safetensors files"):
        read_tensors(index)
    index.write_text(json.dumps({"weight_map": {"c": names["b"]}}))
    with pytest.raises(AssetError, match="lacks 'c'"):
        read_tensors(index)


def test_a_pickle_that_would_run_code_runs_nothing(tmp_path, checkpoint):
    canary = tmp_path / "canary"
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle_of_canary(canary))
    hidden = with_pickle(checkpoint, tmp_path / "hidden.pt", pickle_of_canary(canary))
    for file in (bare, hidden):
        with pytest.raises(AssetError, match="could run code"):
            read_tensors(file)
    assert not canary.exists()
    pickle.loads(pickle_of_canary(canary))  # noqa: S301 - proves that the canary sings when it is unpickled
    assert canary.exists()


@pytest.mark.parametrize("named", ["os system", "builtins eval", "builtins bytearray", "torch._utils _rebuild_qtensor"])
def test_what_a_pickle_may_name_is_a_short_list(tmp_path, checkpoint, named):
    pickled = f"\x80\x02c{named.replace(' ', chr(10))}\nK\x05\x85R.".encode("latin-1")
    with pytest.raises(AssetError, match="could run code, so nothing of it was loaded"):
        read_tensors(with_pickle(checkpoint, tmp_path / "b.pt", pickled))


def test_a_claim_of_40_gigabytes_is_not_believed(tmp_path, state, checkpoint):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(AssetError, match="damaged or cut short"):
        read_tensors(claiming(tmp_path / "a.safetensors", tmp_path / "b.safetensors", num_bytes=40 * 10**9))
    (tmp_path / "c.safetensors").write_bytes((40 * 10**9).to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(AssetError, match="its header has 40000000000 bytes, but has only 16"):
        read_tensors(tmp_path / "c.safetensors")
    with zipfile.ZipFile(checkpoint) as archive:
        pickled = archive.read("model/data.pkl")
    assert pickled.count(b"K\x0f") == 1  # the number of values in the first storage: 15
    huge = pickled.replace(b"K\x0f", b"\x8a\x05" + (10**10).to_bytes(5, "little"))
    with pytest.raises(AssetError, match=r"claims more bytes than the file's|can't be read"):
        read_tensors(with_pickle(checkpoint, tmp_path / "d.pt", huge))


def test_a_bomb_of_zeros_stays_packed(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(50 * 2**20))
    with pytest.raises(AssetError, match="is a packed archive"):
        read_tensors(tmp_path / "bomb.pt")


@pytest.mark.parametrize("kept", [0, 3, 9, 100, 150, -1, -30])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_truncated_file_is_called_so(tmp_path, state, kept, kind):
    whole = tmp_path / f"whole.{kind}"
    torch.save(state, whole) if kind == "pt" else save_file(state, whole)
    (tmp_path / f"cut.{kind}").write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(AssetError) as caught:
        read_tensors(tmp_path / f"cut.{kind}")
    assert "\n" not in str(caught.value) and f"cut.{kind}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([1, 2], "holds a list; expected a dict of tensors"),
        ({"epoch": 3}, "holds 1 entries that aren't tensors .epoch."),
        ({}, "holds no tensors"),
        ({"ids": torch.arange(3)}, "'ids' is torch.int64; expected floating-point numbers"),
    ],
)
def test_what_is_no_set_of_weights_is_called_by_name(tmp_path, content, line):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(AssetError, match=line):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (lambda path: path.mkdir(), "can't be read"),
        (lambda path: None, "is missing"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "is neither a zip nor safetensors"),
        (lambda path: path.write_text("{}"), "can't be read"),
    ],
)
def test_what_is_no_file_of_tensors_is_called_so(tmp_path, write, line):
    write(tmp_path / "a.pt")
    with pytest.raises(AssetError, match=line):
        read_tensors(tmp_path / "a.pt")


def test_values_that_are_not_finite_are_found_in_pieces():
    state = {"fine": torch.zeros(10), "nan": torch.zeros(10), "inf": torch.zeros(2, 5)}
    state["nan"][7], state["inf"][1, 3] = torch.nan, -torch.inf
    assert list(not_finite(state, piece=3)) == ["nan", "inf"]
