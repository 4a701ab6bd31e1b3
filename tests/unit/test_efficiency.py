import dataclasses
import statistics
import time
from types import SimpleNamespace

import pytest
import torch

from engine.errors import InputError
from engine.evaluation.efficiency import (
    compare_efficiency,
    compare_sampling,
    count_macs,
    count_parameters,
    measure_efficiency,
    measure_latency,
)
from engine.evaluation.protocol import Protocol
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model
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
    assert 20 <= latency.low <= latency.median <= latency.high < 500


def test_comparison_takes_turns_and_restores_the_mode(monkeypatch):
    calls = []
    networks = [_network(), _network()]
    for name, network in zip("ab", networks, strict=True):
        network.train(name == "a")
        forward = network.forward
        monkeypatch.setattr(network, "forward", lambda *i, n=name, f=forward: (calls.append(n), f(*i))[1])
    compare_efficiency([_model(network) for network in networks], batch_size=1, repeats=4)
    timed = calls[: 2 * (4 + 3)]
    assert timed == ["a", "b"] * 7
    assert networks[0].training and not networks[1].training


def test_efficiency_as_metrics_json():
    found = measure_efficiency(_model(_network()), batch_size=4, repeats=3).as_dict()
    assert found["parameters"] == count_parameters(_network())
    assert found["macs"] == _macs_by_hand(SMALL)
    assert found["latency_ms"].keys() == {"median", "low", "high"}
    assert found["images_per_second"] == pytest.approx(4000 / found["latency_ms"]["median"])
    assert (found["device"], found["precision"], found["batch_size"]) == ("cpu", "fp32", 4)
    assert found["peak_memory_bytes"] is None


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
    from engine.evaluation import efficiency

    times = iter([9, 9, 4, 2, 30, 10, 6, 6])
    monkeypatch.setattr(efficiency, "_seconds_of_drawing", lambda *_: next(times))
    first, second = compare_sampling([_model(_network())] * 2, SAMPLING, batch_size=12, turns=3)
    assert second.speedup == statistics.median([2, 3, 1]) and (second.speedup_low, second.speedup_high) == (1, 3)
    assert first.images_per_second == 12 / 6 and second.images_per_second == 12 / 6


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"turns": 0}])
def test_nonsense_of_sampling_is_refused(wrong):
    with pytest.raises(InputError, match="at least 1"):
        compare_sampling([_model(_network())], SAMPLING, **wrong)
    with pytest.raises(InputError, match="euler"):
        compare_sampling([_model(_network())], Protocol(sampler="ddim"))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"repeats": 0}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(InputError, match="at least 1"):
        measure_efficiency(_model(_network()), **wrong)
