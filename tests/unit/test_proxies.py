import math

import pytest
import torch
from torch import Tensor

from engine.evaluation.efficiency import count_macs
from engine.importance.streams import parts_of
from engine.importance.taylor import loss_slopes
from engine.models.dit import DiT
from engine.process import make_process
from engine.pruning import proxies
from engine.pruning.decision import macs_by_depth
from engine.pruning.proxies import (
    NoisedBatch,
    condition_number,
    ntk_condition_number,
    score_candidates,
    weight_layers,
    zico,
)
from tests.conftest import make_network

KEPT = [[0, 1, 2, 3], [0, 1, 3], [1, 3], [3]]  # each leaves out one block more, the last also the first block


def batch(num: int, *, seed: int = 0, dtype=torch.float64) -> NoisedBatch:
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": dtype}
    return NoisedBatch(
        x0=torch.randn(num, 4, 8, 8, **draw),
        t=torch.rand(num, **draw),
        eps=torch.randn(num, 4, 8, 8, **draw),
        y=torch.randint(0, 10, (num,), generator=generator),
    )


def kernel_by_definition(network: DiT, process, b: NoisedBatch) -> Tensor:
    """One forward and one backward a sample, weights only."""
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    rows = []
    for k in range(len(b.x0)):
        one = slice(k, k + 1)
        out = network(process.noise(b.x0[one], b.t[one], b.eps[one]), b.t[one], b.y[one])[:, :4]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(out.sum(), weights)]))
    network.requires_grad_(False)
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T


@pytest.mark.parametrize(
    "changes",
    [
        {},  # 16 tokens: per-sample gradients
        {"patch_size": 4},  # 4 tokens: pairs of tokens
        {"patch_size": 8},  # one token
        {"hidden_size": 64, "mlp_ratio": 2.5, "learn_sigma": False},
    ],
)
def test_ntk_from_one_backward_equals_one_backward_per_sample(changes):
    network = make_network(depth=2, gate_std=0.1, **changes).double()
    process, b = make_process("flow"), batch(6)
    expected = condition_number(kernel_by_definition(network, process, b))
    assert expected > 2
    assert ntk_condition_number(network, process, b) == pytest.approx(expected, rel=1e-8)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_ntk_is_the_same_in_small_portions(monkeypatch):
    network, process, b = make_network(depth=2, gate_std=0.1).double(), make_process("flow"), batch(6)
    whole = ntk_condition_number(network, process, b)
    monkeypatch.setattr(proxies, "_SCRATCH_ELEMENTS", {"cpu": 1})
    monkeypatch.setattr(proxies, "_FEWEST_ROWS", 5)
    assert ntk_condition_number(network, process, b) == pytest.approx(whole, rel=1e-9)


def test_ntk_leaves_a_network_in_training_as_it_was():
    network, process, b = make_network(depth=2, gate_std=0.1).double(), make_process("flow"), batch(4)
    frozen = ntk_condition_number(network, process, b)
    network.requires_grad_(True)
    assert ntk_condition_number(network, process, b) == pytest.approx(frozen, rel=1e-9)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(layer._forward_hooks for layer in weight_layers(network))


def test_condition_number_is_analytic_and_guarded():
    assert condition_number(torch.diag(torch.tensor([2.0, 8.0, 4.0]))) == pytest.approx(4)
    assert condition_number(torch.ones(3, 3)) == condition_number(torch.zeros(3, 3)) == math.inf  # singular
    assert condition_number(torch.full((3, 3), math.nan)) == math.inf


def test_a_condition_number_made_of_rounding_errors_is_none():
    """In float32, λmin counts from about B·1.2e-7 of λmax on; the same kernel worked out in float64 is fine."""
    kernel = torch.diag(torch.tensor([1.0, 1.0, 2e-7], dtype=torch.float64))
    assert condition_number(kernel) == pytest.approx(5e6)
    assert condition_number(kernel, rounding=torch.finfo(torch.float32).eps) == math.inf
    assert condition_number(kernel.float()) == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kernel_of_images_that_repeat_has_no_condition_number(dtype):
    network, process, b = make_network(depth=2, gate_std=0.1).to(dtype), make_process("flow"), batch(4, dtype=dtype)
    again = torch.tensor([0, 1, 2, 0])
    repeated = NoisedBatch(x0=b.x0[again], t=b.t[again], eps=b.eps[again], y=b.y[again])
    assert math.isfinite(ntk_condition_number(network, process, b))
    assert ntk_condition_number(network, process, repeated) == math.inf


def zico_by_definition(network: DiT, process, batches: list[NoisedBatch]) -> float:
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    stored = []
    for b in batches:
        loss = process.loss(network(process.noise(b.x0, b.t, b.eps), b.t, b.y), b.x0, b.t, b.eps).mean()
        stored.append([g.double() for g in torch.autograd.grad(loss, weights)])
    network.requires_grad_(False)
    score = 0.0
    for layer in zip(*stored, strict=True):
        gradients = torch.stack(layer)
        deviation = gradients.std(0, unbiased=False)
        usable = deviation > 0
        score += (gradients.abs().mean(0)[usable] / deviation[usable]).sum().log().item()
    return score


@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_zico_equals_its_definition_on_stored_gradients(name):
    network = make_network(depth=2).double()
    process = make_process(name)
    batches = [batch(4, seed=seed) for seed in range(3)]
    if name == "diffusion":
        batches = [NoisedBatch(x0=b.x0, t=(b.t * 999).long(), eps=b.eps, y=b.y) for b in batches]
    score = zico(network, process, iter(batches))
    assert score == pytest.approx(zico_by_definition(network, process, batches), rel=1e-9)


def test_zico_streamed_in_float32_keeps_its_digits_where_gradients_vary_little():
    network, process = make_network(depth=2), make_process("flow")
    b = batch(4, dtype=torch.float32)
    close = [NoisedBatch(x0=b.x0 * (1 + 0.1 * k), t=b.t, eps=b.eps, y=b.y) for k in range(3)]
    assert zico(network, process, close) == pytest.approx(zico_by_definition(network, process, close), rel=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_are_found_on_frozen_weights_and_where_nobody_asks_for_them(frozen):
    """NTK, ZiCo and Taylor need gradients; a model ready to use has frozen weights, and may be asked under no_grad."""
    network, process = make_network(gate_std=0.1).double(), make_process("flow")
    batches = [batch(4, seed=seed) for seed in range(2)]
    parts = parts_of(network, "block")

    def found() -> list[float]:
        b = batches[0]
        candidates = [(s.ntk, s.zico) for s in score_candidates(network, process, batches, KEPT)]
        slopes = loss_slopes(network, process, b.x0, b.t, b.eps, b.y, parts=parts)
        alone = [ntk_condition_number(network, process, b), zico(network, process, batches)]
        return [*alone, *(value for pair in candidates for value in pair), *slopes.flatten().tolist()]

    network.requires_grad_(True)
    expected = found()
    network.requires_grad_(not frozen)
    before = [parameter.requires_grad for parameter in network.parameters()]
    with torch.no_grad():
        hidden = found()
        assert not torch.is_grad_enabled()
    assert hidden == pytest.approx(expected, rel=1e-9) == found()
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_zico_leaves_the_network_as_it_was():
    network = make_network(depth=2).double()
    zico(network, make_process("flow"), [batch(2, seed=0), batch(2, seed=1)])
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_scores_that_cannot_be_worked_out_are_not_finite():
    network, process = make_network(depth=2).double(), make_process("flow")
    network.blocks[1].mlp.fc1.weight.data[0, 0] = math.nan
    assert ntk_condition_number(network, process, batch(3)) == math.inf
    assert math.isnan(zico(network, process, [batch(2, seed=0), batch(2, seed=1)]))


@pytest.mark.parametrize("shared_bytes", [0, 1, 2**30])
def test_candidates_that_share_work_score_as_each_alone(monkeypatch, shared_bytes):
    network, process = make_network(gate_std=0.1).double(), make_process("flow")
    batches = [batch(3, seed=seed) for seed in range(2)]
    one_graph = proxies._graph_bytes(network, 3)
    monkeypatch.setattr(proxies, "_SHARED_BYTES", shared_bytes if shared_bytes != 1 else one_graph)  # room for one
    scores = list(score_candidates(network, process, batches, KEPT))
    for kept, score in zip(KEPT, scores, strict=True):
        alone = network.with_blocks(kept)
        expected = condition_number(kernel_by_definition(alone, process, batches[0]))
        assert score.ntk == pytest.approx(expected, rel=1e-8)
        assert score.zico == pytest.approx(zico(alone, process, batches), rel=1e-9)
    assert len({score.ntk for score in scores}) == len({score.zico for score in scores}) == len(KEPT)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_candidates_pass_shared_blocks_once(monkeypatch):
    network, process, calls = make_network().double(), make_process("flow"), []
    for index, block in enumerate(network.blocks):
        block.register_forward_hook(lambda *_, index=index: calls.append(index))
    list(score_candidates(network, process, [batch(2, seed=0), batch(2, seed=1)], [[0, 1, 2, 3], [0, 1, 3]]))
    for_one_batch = [0, 1, 2, 3, 3]
    assert sorted(calls) == sorted(for_one_batch * 2)


def test_a_stopped_scoring_leaves_the_network_as_it_was():
    network = make_network().double()
    scores = score_candidates(network, make_process("flow"), [batch(2, seed=0), batch(2, seed=1)], KEPT)
    next(scores)
    scores.close()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(layer._forward_hooks for layer in weight_layers(network))


def test_macs_by_depth_are_those_counted_on_each_network():
    network = make_network(depth=4)
    counted = {depth: count_macs(network.with_blocks(list(range(depth)))) for depth in range(1, 5)}
    assert macs_by_depth(network) == counted
    assert counted[4] > counted[1] > 0
