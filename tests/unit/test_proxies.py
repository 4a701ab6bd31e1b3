import math

import pytest
import torch

from engine.process import make_process
from engine.pruning.proxies import NoisedBatch, condition_number, ntk_condition_number, weight_layers, zico
from tests.conftest import make_network


def batch(num: int, *, seed: int = 0, dtype=torch.float64) -> NoisedBatch:
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": dtype}
    return NoisedBatch(
        x0=torch.randn(num, 4, 8, 8, **draw),
        t=torch.rand(num, **draw),
        eps=torch.randn(num, 4, 8, 8, **draw),
        y=torch.randint(0, 10, (num,), generator=generator),
    )


def test_ntk_from_one_backward_equals_one_backward_per_sample():
    network = make_network(depth=2, gate_std=0.1).double()
    process, b = make_process("flow"), batch(6)
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    rows = []
    for k in range(6):
        one = slice(k, k + 1)
        out = network(process.noise(b.x0[one], b.t[one], b.eps[one]), b.t[one], b.y[one])[:, :4]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(out.sum(), weights)]))
    jacobian = torch.stack(rows)
    expected = condition_number(jacobian @ jacobian.T)
    network.requires_grad_(False)
    assert expected > 2
    assert ntk_condition_number(network, process, b) == pytest.approx(expected, rel=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_condition_number_is_analytic_and_guarded():
    assert condition_number(torch.diag(torch.tensor([2.0, 8.0, 4.0]))) == pytest.approx(4)
    assert condition_number(torch.ones(3, 3)) >= 1e6  # singular
    assert math.isfinite(condition_number(torch.zeros(3, 3)))


@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_zico_equals_its_definition_on_stored_gradients(name):
    network = make_network(depth=2).double()
    process = make_process(name)
    batches = [batch(4, seed=seed) for seed in range(3)]
    if name == "diffusion":
        batches = [NoisedBatch(x0=b.x0, t=(b.t * 999).long(), eps=b.eps, y=b.y) for b in batches]
    score = zico(network, process, iter(batches))
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    stored = []
    for b in batches:
        loss = process.loss(network(process.noise(b.x0, b.t, b.eps), b.t, b.y), b.x0, b.t, b.eps).mean()
        stored.append(torch.autograd.grad(loss, weights))
    expected = 0.0
    for layer in zip(*stored, strict=True):
        gradients = torch.stack(layer)
        deviation = gradients.std(0, unbiased=False)
        usable = deviation > 0
        expected += (gradients.abs().mean(0)[usable] / deviation[usable]).sum().log().item()
    assert score == pytest.approx(expected, rel=1e-6)


def test_zico_leaves_the_network_as_it_was():
    network = make_network(depth=2).double()
    zico(network, make_process("flow"), [batch(2, seed=0), batch(2, seed=1)])
    assert not any(parameter.requires_grad for parameter in network.parameters())
