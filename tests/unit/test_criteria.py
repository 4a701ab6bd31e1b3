import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr
from torch.nn import functional as F

from engine.errors import InputError
from engine.importance.ced import compute_ced
from engine.importance.columns import draw_probe
from engine.importance.config import CRITERIA, CedConfig, CriteriaConfig
from engine.importance.criteria import compute_criteria, criteria_columns
from engine.importance.criteria_result import rank_correlations
from engine.importance.streams import forward_through, parts_of
from engine.importance.taylor import loss_slopes
from tests.conftest import make_network

SMALL = dict(samples=16, timesteps=2, num_bootstrap=30)


@pytest.fixture(scope="module", params=["diffusion", "flow"])
def case(request, make_model, digits):
    """A model, what the criteria say of it, and the noised inputs that they said it on."""
    model = make_model(request.param)
    probe = draw_probe(model, digits, CedConfig(**SMALL))
    inputs = []
    for column, t in enumerate(model.process.timestep_grid(2).tolist()):
        eps = torch.randn(probe.latents.shape, generator=torch.Generator().manual_seed(column))
        times = torch.full((16,), t)
        inputs.append((model.process.noise(probe.latents, times, eps), times, eps))
    return model, compute_criteria(model, digits, CriteriaConfig(**SMALL)), probe, inputs


def test_block_influence_is_one_minus_the_cosine_of_input_and_output(case):
    model, result, probe, inputs = case
    by_hand = np.zeros(4)
    for x, t, _ in inputs:
        h, c = model.network.embed(x, t, probe.y)
        for index, block in enumerate(model.network.blocks):
            after = block(h, c)
            by_hand[index] += (1 - F.cosine_similarity(h, after, dim=-1)).mean().item() / 2
            h = after
    assert result.criteria["bi"].scores == pytest.approx(by_hand, rel=1e-4)


def test_output_and_loss_are_those_of_whole_forwards_without_the_block(case):
    model, result, probe, inputs = case
    mse, rise = np.zeros(4), np.zeros(4)
    for x, t, eps in inputs:
        intact = model.network(x, t, probe.y)
        for block in range(4):
            out = model.network(x, t, probe.y, skip=[block])
            mse[block] += (out - intact)[:, :4].square().mean().item() / 2
            losses = [model.process.loss(o, probe.latents, t, eps).mean().item() for o in (out, intact)]
            rise[block] += (losses[0] - losses[1]) / 2
    assert result.criteria["output-mse"].scores == pytest.approx(mse, rel=1e-4)
    assert result.criteria["loss"].scores == pytest.approx(rise, rel=1e-3, abs=1e-5)


def test_taylor_is_the_sum_of_gradient_times_weight(case):
    model, result, probe, inputs = case
    loss = 0
    model.network.requires_grad_(True)
    try:
        for x, t, eps in inputs:
            loss = loss + model.process.loss(model.network(x, t, probe.y), probe.latents, t, eps).mean() / 2
        loss.backward()
        by_hand = [
            abs(sum((p.grad.double() * p.double()).sum().item() for p in block.parameters()))
            for block in model.network.blocks
        ]
    finally:
        model.network.zero_grad(set_to_none=True)
        model.network.requires_grad_(False)
    assert result.criteria["taylor"].scores == pytest.approx(by_hand, rel=1e-3, abs=1e-6)
    assert min(by_hand) > 1e-5


def test_ced_beside_them_is_the_very_same_as_alone(case, digits):
    model, result, _, _ = case
    for variable in ("target", "prediction"):
        alone = compute_ced(model, digits, CedConfig(variable=variable, **SMALL))
        beside = result.criteria[f"ced-{variable}"]
        assert (beside.scores, beside.ci_low, beside.ci_high, beside.order) == (
            alone.ced,
            alone.ci_low,
            alone.ci_high,
            alone.order,
        )


def test_every_criterion_orders_all_blocks_and_only_samples_give_intervals(case):
    _, result, _, _ = case
    assert set(result.criteria) == {*CRITERIA, "ced-target", "ced-prediction"}
    for name, found in result.criteria.items():
        assert found.order == np.argsort(found.scores, kind="stable").tolist()
        assert found.meaning and found.origin
        if name in ("magnitude", "random", "first", "last", "every-other"):
            assert found.ci_low is None and found.ci_high is None
        else:
            ends = zip(found.ci_low, found.scores, found.ci_high, strict=True)
            assert all(low <= score <= high and low < high for low, score, high in ends)
    assert json.loads(json.dumps(result.as_dict()))["criteria"]["bi"]["order"] == result.criteria["bi"].order


def test_correlations_are_those_of_the_scores(case):
    _, result, _, _ = case
    assert result.names == list(result.criteria)
    a, b = result.names.index("bi"), result.names.index("ced-target")
    scores = [result.criteria[name].scores for name in ("bi", "ced-target")]
    assert result.spearman[a][b] == pytest.approx(spearmanr(*scores).statistic)
    assert result.kendall[a][b] == pytest.approx(kendalltau(*scores).statistic)
    first, last = result.names.index("first"), result.names.index("last")
    assert result.spearman[first][last] == result.kendall[last][first] == pytest.approx(-1)


def test_equal_scores_have_no_correlation():
    spearman, kendall = rank_correlations([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    assert spearman == kendall == [[pytest.approx(1), None], [None, None]]


def test_slopes_of_single_samples_and_branches_add_up(make_model, digits):
    model = make_model("diffusion")
    probe = draw_probe(model, digits, CedConfig(samples=8))
    eps, t = torch.randn(probe.latents.shape, generator=torch.Generator().manual_seed(3)), torch.full((8,), 300)
    given = (probe.latents, t, eps, probe.y)
    blocks = loss_slopes(model.network, model.process, *given, parts=parts_of(model.network, "block"))
    branches = loss_slopes(model.network, model.process, *given, parts=parts_of(model.network, "branch"))
    assert torch.allclose(branches.view(4, 2, 8).sum(1), blocks, rtol=1e-4, atol=1e-6)
    block = model.network.blocks[1].requires_grad_(True)
    try:
        x_t = model.process.noise(probe.latents, t, eps)
        model.process.loss(model.network(x_t, t, probe.y), probe.latents, t, eps).sum().backward()
        conditioning = block.adaLN_modulation[1]
        products = [(p.grad * p).sum() for p in block.attn.parameters()]
        products += [(p.grad * p)[: 3 * 32].sum() for p in conditioning.parameters()]  # attention's half
    finally:
        block.zero_grad(set_to_none=True)
        block.requires_grad_(False)
    assert branches[2].sum().item() == pytest.approx(sum(products).item(), rel=1e-3)
    one = loss_slopes(model.network, model.process, *(v[5:6] for v in given), parts=parts_of(model.network, "block"))
    assert torch.allclose(one[:, 0], blocks[:, 5], rtol=1e-4, atol=1e-6)
    assert not any(layer._forward_hooks for layer in model.network.modules())


def test_the_criteria_without_samples(make_model, digits):
    config = CriteriaConfig(criteria=("magnitude", "random", "first", "last", "every-other"), variables=(), **SMALL)
    model = make_model(depth=12)
    found = compute_criteria(model, digits, config).criteria
    weights = torch.cat([p.flatten() for p in model.network.blocks[7].parameters()])
    assert found["magnitude"].scores[7] == pytest.approx(weights.square().mean().sqrt().item(), rel=1e-5)
    assert found["first"].order == list(range(12))
    assert found["last"].order == list(range(12))[::-1]
    assert sorted(found["every-other"].order[:6]) == [1, 3, 5, 7, 9, 11]
    assert found["every-other"].order[-1] == 0
    assert np.diff(sorted(found["every-other"].order[:3])).min() >= 4  # spread, not bunched
    again = compute_criteria(model, digits, CriteriaConfig(**{**vars(config), "seed": 1})).criteria
    assert sorted(again["random"].order) == list(range(12))
    assert again["random"].order != found["random"].order
    assert again["magnitude"].scores == found["magnitude"].scores


def test_branches_have_scores_of_their_own(make_model, digits):
    model = make_model()
    result = compute_criteria(model, digits, CriteriaConfig(granularity="branch", **SMALL))
    assert result.labels == [f"{block} {branch}" for block in range(4) for branch in ("attn", "mlp")]
    assert all(len(found.scores) == 8 for found in result.criteria.values())
    attention = model.network.blocks[1].attn
    conditioning = model.network.blocks[1].adaLN_modulation[1]
    half = [conditioning.weight[: 3 * 32], conditioning.bias[: 3 * 32]]
    weights = torch.cat([p.flatten() for p in [*attention.parameters(), *half]])
    assert result.criteria["magnitude"].scores[2] == pytest.approx(weights.square().mean().sqrt().item(), rel=1e-5)


def test_samples_can_be_asked_for_beside_them(make_model, digits):
    model, config = make_model(), CriteriaConfig(criteria=("bi",), variables=("samples",), **SMALL)
    seen = list(criteria_columns(model, digits, config))
    assert [item.column for item in seen] == [1, 2, 3, 4, 5]
    alone = compute_ced(model, digits, CedConfig(variable="samples", **SMALL))
    assert seen[-1].result.criteria["ced-samples"].scores == alone.ced
    assert seen[-1].result.names == ["bi", "ced-samples"]


def test_a_block_with_closed_gates_matters_least_by_every_criterion_of_samples(make_model, digits):
    model = make_model()
    with torch.no_grad():
        for parameter in model.network.blocks[2].adaLN_modulation.parameters():
            parameter.zero_()
    found = compute_criteria(model, digits, CriteriaConfig(**SMALL)).criteria
    for name in ("bi", "output-mse", "loss", "taylor", "ced-target"):
        assert found[name].scores[2] == pytest.approx(0, abs=1e-6)
        assert math.isfinite(sum(found[name].scores))
    for name in ("bi", "output-mse"):
        assert found[name].order[0] == 2


def test_skipping_a_branch_leaves_the_other_at_work():
    network = make_network(depth=2)
    x, t, y = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(3), torch.arange(3)
    parts = parts_of(network, "branch")
    both = forward_through(network, x, t, y, parts=parts)
    assert torch.allclose(both, network(x, t, y), atol=1e-6)
    none = forward_through(network, x, t, y, parts=[part for part in parts if part.block == 0])
    assert torch.allclose(none, network(x, t, y, skip=[1]), atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"criteria": ("magic",)}, {"variables": ("x",)}, {"criteria": (), "variables": ()}, {"samples": 2}]
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(InputError):
        CriteriaConfig(**changes)
