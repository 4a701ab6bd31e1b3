import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.importance import racing
from engine.importance.ced import ced_columns, compute_ced
from engine.importance.config import CedConfig
from engine.importance.streams import outputs_without_each, part_evaluations
from tests.conftest import make_network

SMALL = dict(samples=64, timesteps=2, num_bootstrap=60)


@pytest.fixture
def model(make_model):
    """Six blocks of which 1 and 4 do hardly anything: nobody needs many samples to see it."""
    model = make_model(depth=6)
    for block in (1, 4):
        for parameter in model.network.blocks[block].adaLN_modulation.parameters():
            parameter.mul_(0.02)
    return model


@pytest.mark.parametrize("variable", ["target", "prediction", "samples"])
def test_the_least_blocks_are_those_of_the_exact_way_for_fewer_evaluations(model, digits, variable):
    exact = compute_ced(model, digits, CedConfig(variable=variable, **SMALL))
    raced = compute_ced(model, digits, CedConfig(variable=variable, method="racing", num_candidates=2, **SMALL))
    assert set(raced.order[:2]) == set(exact.order[:2])
    assert raced.racing["least"] == sorted(exact.order[:2])
    assert raced.racing["share"] < 0.7
    assert min(raced.racing["samples"]) < 64


def test_work_is_counted_as_it_is_done(model, digits, monkeypatch):
    done = 0
    original = type(model.network.blocks[0]).modulated

    def counted(block, x, modulation):
        nonlocal done
        done += len(x)
        return original(block, x, modulation)

    monkeypatch.setattr(type(model.network.blocks[0]), "modulated", counted)
    for variable in ("target", "samples"):
        done = 0
        raced = compute_ced(model, digits, CedConfig(variable=variable, method="racing", num_candidates=2, **SMALL))
        assert raced.racing["evaluations"] == done
        done = 0
        compute_ced(model, digits, CedConfig(variable=variable, **SMALL))
        assert raced.racing["share"] == pytest.approx(raced.racing["evaluations"] / done)


def test_rows_that_stay_open_end_with_the_exact_numbers(model, digits, monkeypatch):
    monkeypatch.setattr(racing, "_CLEAR", 1e9)  # nothing is ever clear before the last sample
    exact = compute_ced(model, digits, CedConfig(**SMALL))
    raced = compute_ced(model, digits, CedConfig(method="racing", **SMALL))
    assert raced.racing["samples"] == [64] * 6
    assert raced.racing["share"] == 1
    assert raced.order[:3] == exact.order[:3]
    assert raced.ced == pytest.approx(exact.ced, abs=1e-6)
    assert raced.ci_high == pytest.approx(exact.ci_high, abs=1e-6)
    assert raced.output_mse[2] == pytest.approx(exact.output_mse[2], rel=1e-5)


def test_rounds_arrive_one_by_one_and_the_order_starts_with_the_least(model, digits):
    seen = list(ced_columns(model, digits, CedConfig(method="racing", num_candidates=4, **SMALL)))
    assert [item.column for item in seen] == list(range(1, len(seen) + 1))
    last = seen[-1].result
    assert sorted(last.order) == list(range(6))
    assert last.racing["least"] == sorted(last.order[:4])
    inside, outside = last.order[:4], last.order[4:]
    assert np.array(last.ced)[inside].tolist() == sorted(np.array(last.ced)[inside])
    assert np.array(last.ced)[outside].tolist() == sorted(np.array(last.ced)[outside])


def test_branches_and_classes_race_too(model, digits):
    config = CedConfig(granularity="branch", condition="class", method="racing", num_candidates=4, **SMALL)
    raced = compute_ced(model, digits, config)
    assert {raced.labels[row] for row in raced.order[:4]} == {"1 attn", "1 mlp", "4 attn", "4 mlp"}


def test_equal_rows_across_the_boundary_end_the_race_all_the_same(make_model, digits):
    model = make_model()
    for block in (0, 1, 2):
        for parameter in model.network.blocks[block].adaLN_modulation.parameters():
            parameter.zero_()
    raced = compute_ced(model, digits, CedConfig(method="racing", num_candidates=2, **SMALL))
    assert raced.order[-1] == 3
    assert raced.racing["least"] == [0, 1]
    assert raced.racing["samples"][:3] == [64] * 3


def test_a_choice_that_leaves_no_question_is_refused(model, digits):
    with pytest.raises(InputError, match=r"1 … 5"):
        compute_ced(model, digits, CedConfig(method="racing", num_candidates=6, **SMALL))


def test_a_subset_of_rows_runs_only_those():
    network = make_network(depth=5)
    x, t = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((3,), 500.0)
    y = torch.arange(3)
    everything = outputs_without_each(network, x, t, y)
    some = outputs_without_each(network, x, t, y, rows=[1, 4])
    assert torch.allclose(some, everything[[0, 2, 5]], atol=1e-5)
    assert part_evaluations(5, range(5)) == 5 + 10
    assert part_evaluations(5, [1, 4]) == 5 + 3
