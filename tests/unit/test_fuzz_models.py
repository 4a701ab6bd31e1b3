"""Thousands of damaged model files: whatever is in them, one line comes out, quickly, and nothing of them runs.

Cases are seeded. Bytes are changed, cut, doubled and swapped between files; JSON gets values of other kinds in any
place; headers get other sizes.
"""

import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import EngineError
from engine.models.checkpoints import find_model, load_model, save_model
from engine.models.hints import MANIFEST
from engine.models.references import locate
from engine.models.tensor_files import read_tensors
from tests.conftest import make_network
from tests.unit.model_files import Canary, pickle_of_canary, save_diffusers, save_official, with_pickle

_SMALL = dict(hidden_size=16, depth=1, num_heads=2, num_classes=3, input_size=4)
_ALLOWANCE = 1.5 * 2**30  # of address space that a reader may take beyond what the tests have already
_STRANGE = [
    None, True, False, 0, -1, 1, 2, 3.5, 1e308, -0.0, 10**9, 2**63, 10**30, "", "x", "diffusion", "./..", "../../etc",
    "\x00", "é" * 300, "a/b", [], [[]], [None], [1, 2, 3], ["a"] * 3, {}, {"x": {}}, {"ref": 3}, [0] * 1000,
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def little_memory():
    """A claim of many gigabytes must fail to be allocated, if a reader should try."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(now + _ALLOWANCE), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr("engine.models.hub.find_snapshot", lambda *args, **kwargs: None)
    monkeypatch.setattr("engine.models.hub.download", _refuse)


def _refuse(ref: str, **kwargs):
    raise EngineError(f"{ref} isn't here")


@pytest.fixture(scope="module")
def network():
    return make_network(**_SMALL)


def attempt(call: Callable, *args) -> bool:
    """Whether it went well; an EngineError of one line is as good. Anything else fails the test."""
    try:
        call(*args)
    except EngineError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, str(error)[:3000]
        return False
    return True


def mutated(content: bytes, rng: random.Random, *, other: bytes = b"") -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randrange(1, 64)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 32))
            case 5:
                data[at:at] = data[at : at + rng.randrange(1, 128)]
            case 6:
                source = other or content
                start = rng.randrange(len(source))
                data[at : at + 16] = source[start : start + 16]
    return bytes(data)


def disturbed(value, rng: random.Random):
    """The same JSON with one value, or one key, of another kind somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        copy = dict(value)
        match rng.randrange(6):
            case 0:
                del copy[key]
            case 1:
                copy[rng.choice(["", "x" * 50, "é", "num_heads", "process", "model", "path_type"])] = rng.choice(
                    _STRANGE
                )
            case 2:
                copy[key] = rng.choice(_STRANGE)
            case _:
                copy[key] = disturbed(copy[key], rng)
        return copy
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        return value[:index] + [disturbed(value[index], rng)] + value[index + rng.randrange(2) :]
    if isinstance(value, int) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, value * 2, value * 10**9, float(value), str(value)))
    return rng.choice(_STRANGE)


def test_bytes_of_checkpoints(tmp_path, network):
    """1,700 cases: the middle of the file where the pickle is, and anywhere."""
    whole = save_official(network, tmp_path / "whole.pt")
    content = whole.read_bytes()
    start = content.index(b"data.pkl")
    pickled = content[start : content.index(b"PK\x03\x04", start)]
    good = 0
    for seed in range(1700):
        rng = random.Random(seed)
        inside = seed % 2
        damaged = content.replace(pickled, mutated(pickled, rng, other=content)) if inside else mutated(content, rng)
        file = tmp_path / "damaged.pt"
        file.write_bytes(damaged)
        good += attempt(read_tensors, file)
    assert good < 1300  # some flips change a weight only; most must be noticed


def test_pickles_inside_a_sound_archive(tmp_path, network):
    """600 cases that the archive's checksums can't catch; one in three names something that would run code."""
    whole = save_official(network, tmp_path / "whole.pt")
    content = whole.read_bytes()
    start = content.index(b"\x80\x02}", content.index(b"data.pkl"))
    pickled = (
        content[start : content.index(b"s.PK", start) + 2] if b"s.PK" in content else content[start : start + 4000]
    )
    canary = tmp_path / "canary"
    armed = pickle_of_canary(canary)
    for seed in range(600):
        rng = random.Random(seed)
        base, other = (pickled, armed) if seed % 3 else (armed, pickled)
        file = with_pickle(whole, tmp_path / "damaged.pt", mutated(base, rng, other=other))
        attempt(read_tensors, file)
    assert not canary.exists()
    assert Canary(canary).__reduce__()[0] is Path.touch


def test_bytes_of_safetensors(tmp_path, network):
    """1,200 cases, half of them in the header."""
    whole = tmp_path / "whole.safetensors"
    save_file(network.state_dict(), whole)
    content = whole.read_bytes()
    length = int.from_bytes(content[:8], "little")
    for seed in range(1200):
        rng = random.Random(seed)
        if seed % 2:
            header = mutated(content[8 : 8 + length], rng)
            damaged = len(header).to_bytes(8, "little") + header + content[8 + length :]
        else:
            damaged = mutated(content, rng)
        file = tmp_path / "damaged.safetensors"
        file.write_bytes(damaged)
        attempt(read_tensors, file)


def test_headers_of_safetensors(tmp_path, network):
    """500 cases: well-formed JSON that says other shapes, kinds and places."""
    whole = tmp_path / "whole.safetensors"
    save_file(network.state_dict(), whole)
    content = whole.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for seed in range(500):
        text = json.dumps(disturbed(header, random.Random(seed))).encode()
        file = tmp_path / "damaged.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        attempt(load_model, file)


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("ours/config.json", 300),
        ("diffusers/transformer/config.json", 200),
        ("diffusers/model_index.json", 100),
        ("diffusers/scheduler/scheduler_config.json", 70),
        (f"diffusers/{MANIFEST}", 250),
        ("file/whole.json", 180),
    ],
)
def test_descriptions(tmp_path, make_model, network, name, cases):
    """1,100 cases of JSON with something else in it, and of JSON that is none."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "file").mkdir()
    save_model(make_model(**{key: value for key, value in _SMALL.items() if key != "num_classes"}), tmp_path / "ours")
    save_official(network, tmp_path / "file" / "whole.pt", process="flow", class_names=["a", "b", "c"], kept_blocks=[0])
    save_diffusers(network, tmp_path / "diffusers", names=["a", "b", "c"])
    shutil.copy(tmp_path / "file" / "whole.json", tmp_path / "diffusers" / MANIFEST)
    file = tmp_path / name
    folder = tmp_path / name.split("/")[0]
    assert attempt(load_model, folder)
    sound = json.loads(file.read_text())
    for seed in range(cases):
        rng = random.Random(seed)
        text = json.dumps(sound)
        if seed % 5 == 0:
            file.write_bytes(mutated(text.encode(), rng))
        else:
            for _ in range(rng.choice((1, 1, 2, 4))):
                text = json.dumps(disturbed(json.loads(text), rng))
            file.write_text(text)
        attempt(load_model if seed % 2 else find_model, str(folder))


def test_sets_of_tensors(tmp_path, network):
    """300 cases: tensors missing, renamed, of other shapes and kinds."""
    sound = network.state_dict()
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    for seed in range(300):
        rng = random.Random(seed)
        state = dict(sound)
        for _ in range(rng.choice((1, 1, 2, 6))):
            name = rng.choice(list(state))
            match rng.randrange(6):
                case 0:
                    del state[name]
                case 1:
                    state[rng.choice(("x", "blocks.7.attn.qkv.weight", f"{name}.1", "blocks.1e3.x"))] = state[name]
                case 2:
                    shape = [rng.randrange(0, 5) for _ in range(rng.randrange(0, 5))]
                    state[name] = torch.randn(shape, generator=generator)
                case 3:
                    state[name] = state[name].to(
                        rng.choice((torch.float16, torch.bfloat16, torch.int8, torch.complex64))
                    )
                case 4:
                    state[name] = state[name].expand(3, *state[name].shape)
                case 5:
                    state[name] = state[name].flatten()[:0]
        torch.save(state, tmp_path / "a.pt")
        attempt(load_model, tmp_path / "a.pt")
    assert time.perf_counter() - started < 300  # a reader that hangs, not a slow machine


@pytest.mark.parametrize("seed", range(4))
def test_references(tmp_path, monkeypatch, seed):
    """1,000 cases of what a person may type."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(seed)
    alphabet = "aZ09._-/@~: \x00\n\\é%'\"*?[]{}"
    for _ in range(250):
        text = "".join(rng.choice(alphabet) for _ in range(rng.choice((0, 1, 5, 20, 300))))
        attempt(locate, rng.choice(("", "demo-", "../", "run@", "~", "/")) + text, tmp_path)
