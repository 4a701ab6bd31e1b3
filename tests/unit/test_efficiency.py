import dataclasses
import statistics
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.evaluation import efficiency
from engine.evaluation.efficiency import (
    compare_efficiency,
    compare_sampling,
    count_macs,
    count_parameters,
    measure_efficiency,
    measure_latency,
)
from engine.evaluation.peak_memory import peak_memory
from engine.evaluation.protocol import Protocol
from engine.evaluation.timing import Timing
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model
from engine.models.tensor_writing import write_tensors
from engine.process import make_process

SMALL = DiTConfig(input_size=8, hidden_size=64, depth=4, num_heads=4, num_classes=10)


def _network(config: DiTConfig = SMALL) -> DiT:
    return DiT(config).initialize(torch.Generator().manual_seed(0), gate_std=0.2).eval()


def _model(network: DiT) -> Model:
    return Model(
        ref="test",
        network=network,
        process=make_process("flow"),
        autoencoder=None,
        class_names=tuple("0123456789"),
        content_hash="0",
        trained_on="digits",
        kept_blocks=tuple(range(len(network.blocks))),
    )


def _macs_by_hand(config: DiTConfig) -> int:
    T, D, P = config.num_tokens, config.hidden_size, config.patch_size
    hidden = int(D * config.mlp_ratio)
    patches = T * D * P * P * config.in_channels
    timestep = 256 * D + D * D
    block = 6 * D * D + 3 * T * D * D + 2 * T * T * D + T * D * D + 2 * T * D * hidden
    final = 2 * D * D + T * D * P * P * config.out_channels
    return patches + timestep + config.depth * block + final


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, patch_size=1, mlp_ratio=2.0, depth=2),
        dataclasses.replace(SMALL, learn_sigma=False),
    ],
    ids=["small", "patch 1, narrow mlp", "no sigma"],
)
def test_macs_equal_the_hand_formula(config):
    assert count_macs(_network(config)) == _macs_by_hand(config)


def test_macs_are_per_image():
    assert count_macs(_network(), batch_size=5) == count_macs(_network())


def test_macs_of_the_official_xl_on_the_meta_device():
    with torch.device("meta"):
        network = DiT(DiTConfig()).eval()
    assert count_macs(network) == _macs_by_hand(DiTConfig())
    assert count_macs(network) / 1e9 == pytest.approx(118.6, rel=0.01)  # the DiT paper's Table 4: 118.64 Gflops


def test_parameters_of_a_block_go_with_it():
    network = _network()
    D = SMALL.hidden_size
    block = (6 * D * D + 6 * D) + (3 * D * D + 3 * D) + (D * D + D) + (8 * D * D + 5 * D)
    assert count_parameters(network) - count_parameters(network.with_blocks([0, 1, 3])) == block
    assert count_parameters(network) == sum(p.numel() for name, p in network.named_parameters() if name != "pos_embed")


def test_latency_is_of_the_whole_forward(monkeypatch):
    network = _network()
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *inputs: (time.sleep(0.02), forward(*inputs))[1])
    latency = measure_latency(network, batch_size=2, device="cpu", repeats=5, warmup=1)
    assert 20 <= latency.low <= latency.median <= latency.high


def test_comparison_takes_turns_and_restores_the_mode(monkeypatch):
    calls = []
    networks = [_network(), _network()]
    for name, network in zip("ab", networks, strict=True):
        network.train(name == "a")
        forward = network.forward
        monkeypatch.setattr(network, "forward", lambda *i, n=name, f=forward: (calls.append(n), f(*i))[1])
    compare_efficiency([_model(network) for network in networks], Timing(batch_size=1), repeats=4)
    timed = calls[: 2 * (4 + 3)]
    assert timed == ["a", "b"] * 7
    assert networks[0].training and not networks[1].training


def test_efficiency_as_metrics_json():
    found = measure_efficiency(_model(_network()), Timing(batch_size=4), repeats=3).as_dict()
    assert found["parameters"] == count_parameters(_network())
    assert found["macs"] == _macs_by_hand(SMALL)
    assert found["latency_ms"].keys() == {"median", "low", "high"}
    assert found["images_per_second"] == pytest.approx(4000 / found["latency_ms"]["median"])
    assert (found["device"], found["precision"], found["batch_size"]) == ("cpu", "fp32", 4)
    assert (found["sampling"], found["notes"]) == (None, [])


def test_fewer_blocks_are_faster():
    network = _network(dataclasses.replace(SMALL, hidden_size=128, depth=8))
    whole, half = compare_efficiency([_model(network), _model(network.with_blocks([0, 2, 4, 6]))], repeats=15)
    assert half.macs < 0.55 * whole.macs
    assert half.latency_ms.median < whole.latency_ms.median


SAMPLING = Protocol(num_steps=3, cfg_scale=1.0)


def _drawing_model(network: DiT) -> Model:
    decoder = SimpleNamespace(decode=lambda latents: latents.numpy())
    return dataclasses.replace(_model(network), autoencoder=decoder)


def test_sampling_is_compared_in_turns_on_the_same_images(monkeypatch):
    calls, seconds = [], {"a": 0.02, "b": 0.01}
    networks = [_network(), _network()]
    networks[0].train()
    for name, network in zip("ab", networks, strict=True):
        forward = network.forward

        def watched(x, t, y, name=name, forward=forward):
            calls.append((name, float(x[0, 0, 0, 0]), y.tolist()))
            time.sleep(seconds[name])
            return forward(x, t, y)

        monkeypatch.setattr(network, "forward", watched)
    first, second = compare_sampling([_drawing_model(n) for n in networks], SAMPLING, batch_size=16, turns=3)
    assert [name for name, *_ in calls] == (["a"] * 3 + ["b"] * 3) * (1 + 3)  # three steps each, once to warm up
    assert calls[0][1:] == calls[3][1:] == calls[6][1:] and calls[0][2] == [*range(10), *range(6)]
    assert networks[0].training and not networks[1].training
    assert (first.speedup, first.speedup_low, first.speedup_high, first.turns) == (1.0, 1.0, 1.0, 3)
    # how large they are is up to the machine; the next test says what is made of the seconds
    assert 0 < second.speedup_low <= second.speedup <= second.speedup_high
    assert second.seconds >= 3 * 0.01 and second.images_per_second == pytest.approx(16 / second.seconds)


def test_the_speedup_is_the_median_of_the_turns_ratios(monkeypatch):
    times = iter([9, 9, 4, 2, 30, 10, 6, 6])
    monkeypatch.setattr(efficiency, "_seconds_of_drawing", lambda *_: next(times))
    first, second = compare_sampling([_model(_network())] * 2, SAMPLING, batch_size=12, turns=3)
    assert second.speedup == statistics.median([2, 3, 1]) and (second.speedup_low, second.speedup_high) == (1, 3)
    assert first.images_per_second == 12 / 6 and second.images_per_second == 12 / 6


def test_the_speedup_of_a_forward_rests_on_pairs_of_the_same_turn(monkeypatch):
    # a machine that is ten times slower in some turns: each model alone is all over the place, their ratio isn't
    busy = np.where(np.arange(20) % 3 == 0, 10.0, 1.0)
    monkeypatch.setattr(efficiency, "_time_in_turns", lambda *_, **__: np.stack([8 * busy, 4 * busy]))
    intact, pruned = compare_efficiency([_model(_network())] * 2)
    assert intact.speedup is None and intact.as_dict()["speedup"] is None
    assert pruned.as_dict()["speedup"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert (pruned.latency_ms.low, pruned.latency_ms.high) == (4, 40)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"turns": 0}])
def test_nonsense_of_sampling_is_refused(wrong):
    with pytest.raises(InputError, match="at least 1"):
        compare_sampling([_model(_network())], SAMPLING, **wrong)
    with pytest.raises(InputError, match="euler"):
        compare_sampling([_model(_network())], Protocol(sampler="ddim"))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"batch_size": 0}, "a batch of 0 images"),
        ({"batch_size": 10**6}, "at most 4096"),
        ({"precision": "int3"}, "fp32 or bf16"),
    ],
)
def test_nonsense_is_refused(wrong, line):
    with pytest.raises(InputError, match=line):
        Timing(**wrong)
    with pytest.raises(InputError, match="at least 1"):
        measure_efficiency(_model(_network()), repeats=0)


@pytest.mark.parametrize("depth", [1, 3, 9])
@pytest.mark.parametrize(("hidden_size", "num_heads"), [(32, 2), (96, 4), (384, 6)])
@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_macs_of_other_depths_widths_and_patches(depth, hidden_size, num_heads, patch_size):
    config = dataclasses.replace(
        SMALL, depth=depth, hidden_size=hidden_size, num_heads=num_heads, patch_size=patch_size
    )
    with torch.device("meta"):
        network = DiT(config).eval()
    assert count_macs(network) == _macs_by_hand(config)


def test_peak_memory_of_known_allocations():
    def work():
        first = torch.empty(1000)
        second = torch.empty(3000)
        del first
        torch.empty(500)
        return second

    before = torch.empty(10**6)  # isn't the work's
    assert peak_memory(work, torch.device("cpu")) == 4 * (1000 + 3000)
    assert peak_memory(lambda: before + before, torch.device("cpu")) == 4 * 10**6
    assert peak_memory(work, torch.device("meta")) is None


def test_peak_memory_holds_the_weights_once_and_grows_with_the_batch():
    """The largest moment by hand: in a block's MLP its input, the normalised input, and the hidden layer twice (before
    and after GELU's first factor)."""
    model, D, T = _model(_network()), SMALL.hidden_size, SMALL.num_tokens
    small, large = (measure_efficiency(model, Timing(batch_size=b), repeats=1).peak_memory_bytes for b in (8, 64))
    weights = sum(tensor.nbytes for tensor in model.network.state_dict().values())
    per_image = (large - small) / (64 - 8)
    assert weights < small < 1.5 * weights + 8 * per_image
    assert 4 * T * (2 * D + 2 * 4 * D) <= per_image <= 4 * T * (4 * D + 2 * 4 * D) + 4 * 6 * D * 2


def test_the_file_is_as_large_as_said(tmp_path):
    network = _network()
    write_tensors(tmp_path / "weights.safetensors", network.state_dict())
    said = measure_efficiency(_model(network), repeats=1).file_bytes
    assert said < (tmp_path / "weights.safetensors").stat().st_size < said + 16_384


def test_bf16_is_measured_on_a_copy_and_halves_the_memory():
    model = _model(_network(dataclasses.replace(SMALL, hidden_size=128)))
    full, half = (measure_efficiency(model, Timing(precision=name), repeats=2) for name in ("fp32", "bf16"))
    assert (full.precision, half.precision) == ("fp32", "bf16")
    assert half.peak_memory_bytes < 0.6 * full.peak_memory_bytes
    assert (half.parameters, half.macs, half.file_bytes) == (full.parameters, full.macs, full.file_bytes)
    assert model.network.pos_embed.dtype == torch.float32


@pytest.mark.parametrize(("here", "said"), [({"avx2": True, "avx512_bf16": True}, False), ({"avx2": True}, True)])
def test_bf16_without_arithmetic_for_it_is_said(monkeypatch, here, said):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: here | {"amx_bf16": False, "cpu_name": "bf16"})
    notes = measure_efficiency(_model(_network()), Timing(precision="bf16"), repeats=1).notes
    assert any("no bf16 arithmetic" in note for note in notes) is said
    assert measure_efficiency(_model(_network()), repeats=1).notes == ()


def test_sampling_is_timed_in_whole_groups_with_the_users_batch():
    models = [_drawing_model(_network()), _drawing_model(_network().with_blocks([0, 1]))]
    before, after = compare_efficiency(models, Timing(batch_size=17), repeats=2, sampling=SAMPLING)
    assert before.sampling.batch_size == after.sampling.batch_size == 32  # groups of 16 without guidance
    assert before.sampling.speedup == 1 and 3 <= after.sampling.turns <= 5
    assert after.as_dict()["sampling"].keys() >= {"images_per_second", "speedup", "speedup_low", "speedup_high"}


def test_sampling_that_would_take_minutes_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(efficiency, "_SAMPLING_SECONDS", 1e-6)
    found = compare_efficiency([_drawing_model(_network())], repeats=2, sampling=SAMPLING)[0]
    assert found.sampling is None
    (note,) = found.notes
    assert note.startswith("sampling wasn't timed: drawing 16 images takes about")
