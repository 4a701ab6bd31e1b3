import hashlib
import json
import math

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.importance.ced import CedResult, cache_key, ced_columns, compute_ced, joint_effect
from engine.importance.columns import draw_probe
from engine.importance.config import ESTIMATORS, VARIABLES, CedConfig
from engine.importance.streams import outputs_without, outputs_without_each, outputs_without_each_naively, parts_of
from tests.conftest import make_network

SMALL = dict(samples=24, timesteps=3, num_bootstrap=30)


@pytest.mark.parametrize("num", [2, 300])  # many streams in one call, and one stream a call
def test_prefix_sharing_gives_the_naive_loops_numbers(num):
    network = make_network(depth=6)
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(num, 4, 8, 8, generator=generator), torch.rand(num, generator=generator) * 999
    y = torch.randint(0, 10, (num,), generator=generator)
    shared, naive = outputs_without_each(network, x, t, y), outputs_without_each_naively(network, x, t, y)
    assert shared.shape == (7, num, 8, 8, 8)
    assert torch.allclose(shared, naive, atol=1e-5)
    assert (naive[1:] - naive[:1]).abs().amax((1, 2, 3, 4)).min() > 0.01  # every block matters
    pair = outputs_without(network, x, t, y, [1, 4])
    assert torch.allclose(pair[0], naive[0], atol=1e-5)
    assert torch.allclose(pair[1], network(x, t, y, skip=[1, 4]), atol=1e-5)


@pytest.mark.parametrize("process", ["diffusion", "flow"])
def test_target_ced_equals_the_formula_computed_by_hand(make_model, digits, process):
    model = make_model(process)
    config = CedConfig(variable="target", **SMALL)
    result = compute_ced(model, digits, config)
    probe = draw_probe(model, digits, config)
    for column, t in enumerate(model.process.timestep_grid(3).tolist()):
        eps = torch.randn(probe.latents.shape, generator=torch.Generator().manual_seed(column))
        times = torch.full((24,), t)
        x_t, target = model.process.noise(probe.latents, times, eps), model.process.target(probe.latents, times, eps)

        def mse(skip, x_t=x_t, target=target, times=times):
            return (model.network(x_t, times, probe.y, skip=skip)[:, :4] - target).double().square().mean().item()

        for block in range(4):
            by_hand = 0.5 * math.log(mse([block]) / mse([]))
            assert result.delta[block][column] == pytest.approx(by_hand, abs=1e-5)
    assert result.ced == pytest.approx(np.abs(result.delta).mean(1))
    assert result.order == np.argsort(result.ced, kind="stable").tolist()


def test_prediction_ced_equals_the_entropy_of_the_outputs(make_model, digits):
    model = make_model("diffusion")
    config = CedConfig(variable="prediction", **SMALL)
    result = compute_ced(model, digits, config)
    probe = draw_probe(model, digits, config)
    t = torch.full((24,), model.process.timestep_grid(3)[1].item())
    eps = torch.randn(probe.latents.shape, generator=torch.Generator().manual_seed(1))
    x_t = model.process.noise(probe.latents, t, eps)
    entropies = []
    for skip in ([], [2]):
        out = model.network(x_t, t, probe.y, skip=skip)[:, :4].flatten(1).double()
        entropies.append((0.5 * torch.log(2 * math.pi * math.e * out.var(0))).mean().item())
    assert result.entropy[1] == pytest.approx(entropies[0], abs=1e-5)
    assert result.delta[2][1] == pytest.approx(entropies[1] - entropies[0], abs=1e-5)


@pytest.mark.parametrize("process", ["diffusion", "flow"])
def test_samples_ced_equals_sampling_once_for_each_skipped_block(make_model, digits, process):
    model = make_model(process)
    config = CedConfig(variable="samples", samples=16, timesteps=4, num_bootstrap=20)
    result = compute_ced(model, digits, config)
    noise = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    y = draw_probe(model, digits, config).y

    def entropies(skip):
        def network(x, t, y):
            return model.network(x, t, y, skip=skip)

        states = model.process.sample(network, noise, y, num_steps=4)
        return [(0.5 * torch.log(2 * math.pi * math.e * x.flatten(1).double().var(0))).mean().item() for _, x in states]

    intact = entropies([])
    assert result.entropy == pytest.approx(intact, abs=1e-4)
    for block in (0, 3):
        by_hand = np.array(entropies([block])) - np.array(intact)
        assert result.delta[block] == pytest.approx(by_hand, abs=1e-4)
        assert result.ced[block] == pytest.approx(abs(by_hand[-1]), abs=1e-4)  # the end decides


@pytest.mark.parametrize("variable", VARIABLES)
def test_joint_effect_of_one_block_is_its_row_of_the_heatmap(make_model, digits, variable):
    model = make_model()
    config = CedConfig(variable=variable, **SMALL)
    result, effect = compute_ced(model, digits, config), joint_effect(model, digits, [2], config)
    assert effect.delta == pytest.approx(result.delta[2], abs=1e-5)
    assert effect.output_mse == pytest.approx(result.output_mse[2], rel=1e-4)
    assert effect.ced == pytest.approx(result.ced[2], abs=1e-5)
    assert joint_effect(model, digits, [1, 2], config).delta != pytest.approx(effect.delta, rel=0.01)


def test_a_block_with_closed_gates_has_no_deviation(make_model, digits):
    model = make_model()
    with torch.no_grad():
        for parameter in model.network.blocks[1].adaLN_modulation.parameters():
            parameter.zero_()
    result = compute_ced(model, digits, CedConfig(**SMALL))
    assert result.ced[1] == 0
    assert result.order[0] == 1
    assert (result.rank_low[1], result.rank_high[1]) == (1, 1)
    assert min(result.ced[block] for block in (0, 2, 3)) > 0.001


def test_intervals_hold_the_estimate_and_shrink_with_more_samples(make_model, digits):
    few = compute_ced(make_model(), digits, CedConfig(samples=16, timesteps=2, num_bootstrap=100))
    many = compute_ced(make_model(), digits, CedConfig(samples=512, timesteps=2, num_bootstrap=100))
    for result in (few, many):
        assert all(a <= b <= c for a, b, c in zip(result.ci_low, result.ced, result.ci_high, strict=True))
    assert np.subtract(many.ci_high, many.ci_low).mean() < 0.5 * np.subtract(few.ci_high, few.ci_low).mean()
    assert any("16 samples" in warning for warning in few.warnings)
    assert many.warnings == []


def test_other_classes_are_scored_with_the_null_class_and_it_is_said(make_model):
    from engine.data.bundled import bundled_data

    result = compute_ced(make_model(), bundled_data("glyphs"), CedConfig(**SMALL))
    assert "null class 10" in result.note
    assert result.protocol["given_class"] == "null"


def test_columns_arrive_one_by_one_and_the_answer_is_kept(make_model, digits, tmp_path):
    model, config = make_model(), CedConfig(**SMALL)
    seen = list(ced_columns(model, digits, config, cache=tmp_path))
    assert [item.column for item in seen] == [1, 2, 3]
    assert seen[0].result.delta[0][1:] == [None, None]
    again = list(ced_columns(model, digits, config, cache=tmp_path))
    assert len(again) == 1
    assert again[0].result == seen[-1].result
    other = list(ced_columns(model, digits, CedConfig(**{**SMALL, "seed": 1}), cache=tmp_path))
    assert other[-1].result.ced != seen[-1].result.ced
    assert CedResult(**json.loads(json.dumps(seen[-1].result.as_dict()))) == seen[-1].result


@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_and_condition_gives_a_finite_answer(make_model, digits, estimator, condition):
    config = CedConfig(variable="prediction", estimator=estimator, condition=condition, samples=64, timesteps=2)
    result = compute_ced(make_model(), digits, config)
    assert np.isfinite(result.ced).all()
    assert min(result.ced) > 0
    assert 0 < result.entropy_error < 0.5


@pytest.mark.parametrize("num", [2, 300])
def test_branches_share_prefixes_and_give_the_naive_loops_numbers(num):
    network = make_network(depth=3)
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(num, 4, 8, 8, generator=generator), torch.rand(num, generator=generator) * 999
    y, parts = torch.randint(0, 10, (num,), generator=generator), parts_of(network, "branch")
    shared = outputs_without_each(network, x, t, y, parts=parts)
    naive = outputs_without_each_naively(network, x, t, y, parts=parts)
    assert shared.shape[0] == 7
    assert torch.allclose(shared, naive, atol=1e-5)
    assert torch.allclose(shared[0], network(x, t, y), atol=1e-5)
    assert (naive[1:] - naive[:1]).abs().amax((1, 2, 3, 4)).min() > 0.005  # every branch matters
    both = outputs_without(network, x, t, y, [2, 3], parts=parts)[1]
    assert torch.allclose(both, network(x, t, y, skip=[1]), atol=1e-5)


@pytest.mark.parametrize("variable", VARIABLES)
def test_branches_have_rows_and_intervals_of_their_own(make_model, digits, variable):
    model, config = make_model(), CedConfig(variable=variable, granularity="branch", **SMALL)
    result = compute_ced(model, digits, config)
    assert result.labels == [f"{block} {branch}" for block in range(4) for branch in ("attn", "mlp")]
    assert result.blocks == list(range(8))
    assert sorted(result.order) == list(range(8))
    assert all(low <= ced <= high for low, ced, high in zip(result.ci_low, result.ced, result.ci_high, strict=True))
    both = joint_effect(model, digits, [4, 5], config).delta
    block = joint_effect(model, digits, [2], CedConfig(variable=variable, **SMALL)).delta
    assert both == pytest.approx(block, abs=1e-5)
    with torch.no_grad():
        for parameter in model.network.blocks[1].adaLN_modulation.parameters():
            parameter[2 * 32 : 3 * 32] = 0  # attention's gate
    assert compute_ced(model, digits, config).ced[2] == pytest.approx(0, abs=1e-6)


#: CED of a small model under the default settings but for the numbers of samples and columns, from before there were
#: branches, races and greedy orders
BEFORE = {
    "target": [0.009096238, 0.003975563, 0.005299017, 0.010803838],
    "prediction": [0.002488876, 0.003922950, 0.004013060, 0.010344847],
    "samples": [0.000754655, 0.005050670, 0.002289926, 0.005524937],
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_later_settings_left_the_usual_results_as_they_were(make_model, digits, variable):
    result = compute_ced(make_model("diffusion"), digits, CedConfig(variable=variable, **SMALL))
    assert result.ced == pytest.approx(BEFORE[variable], abs=1e-5)


def test_settings_of_their_own_have_keys_of_their_own_and_the_usual_ones_keep_theirs(make_model, digits):
    model = make_model()
    changes = [
        {},
        {"granularity": "branch"},
        {"order": "greedy"},
        {"order": "greedy", "num_candidates": 2},
        {"method": "racing"},
        {"method": "racing", "num_candidates": 2},
        {"estimator": "knn"},
        {"seed": 1},
    ]
    keys = [cache_key(model, digits, CedConfig(**change)) for change in changes]
    assert len(set(keys)) == len(keys)
    # the settings that there were before
    old = ("variable", "estimator", "condition", "samples", "timesteps", "seed", "num_bootstrap", "confidence")
    settings = {name: getattr(CedConfig(), name) for name in old}
    question = [model.content_hash, model.ref, digits.content_hash, settings, "ced-1"]
    assert keys[0] == hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]


def test_results_from_before_branches_open(make_model, digits):
    result = compute_ced(make_model(), digits, CedConfig(**SMALL)).as_dict()
    for name in ("labels", "entropy_error", "greedy", "racing"):
        del result[name]
    assert CedResult(**result).labels == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"timesteps": 0},
        {"variable": "magic"},
        {"estimator": "x"},
        {"condition": "y"},
        {"granularity": "z"},
        {"order": "z"},
        {"method": "z"},
        {"num_candidates": 0},
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(InputError):
        CedConfig(**changes)


def test_more_samples_than_images_are_refused(make_model, digits):
    with pytest.raises(InputError, match="1797"):
        compute_ced(make_model(), digits, CedConfig(samples=5000))
