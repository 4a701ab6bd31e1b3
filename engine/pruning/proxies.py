"""Two zero-shot scores of a candidate, computed without training it.

NTK condition number (TE-NAS, arXiv 2102.11535): κ = λmax/λmin of Θ = J·Jᵀ, J the gradient of each sample's summed
output with respect to the weight matrices; smaller is better.
ZiCo (arXiv 2301.11300, eq. 7): Σ_layers log Σ_params mean|g| / std g over batches of loss gradients; larger is better.
Both count the weight matrices of linear layers and the patch projection, not biases and not the label table (our
reading).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.models.dit import DiT
from engine.process import Process

_LARGEST_CONDITION = 1e12  # reported where λmin vanishes in float64: the Gram matrix is singular to rounding


@dataclass(frozen=True, kw_only=True)
class NoisedBatch:
    """Latents x0 (B, C, H, W) with their timesteps t (B,), noise eps and classes y (B,)."""

    x0: Tensor
    t: Tensor
    eps: Tensor
    y: Tensor


def ntk_condition_number(network: DiT, process: Process, batch: NoisedBatch) -> float:
    """κ of the B×B kernel from one backward pass.

    Samples don't mix in the network, so the gradient of the whole batch's summed output holds every sample's own
    gradient at each layer's output. A layer's share of Θ follows from these and its inputs; never more than one
    layer's per-sample gradients exist at a time.
    """
    x_t = process.noise(batch.x0, batch.t, batch.eps)
    inputs, outputs = [], []

    def record(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs.append(_as_vectors(layer, args[0].detach()))
        if not output.requires_grad:  # first layers: nothing before them asks for a gradient
            output = output.detach().requires_grad_()
        outputs.append(output)
        return output

    layers = list(weight_layers(network))
    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        with torch.enable_grad():
            predicted = network(x_t, batch.t, batch.y)[:, : x_t.shape[1]]
            gradients = torch.autograd.grad(predicted.sum(), outputs)
    finally:
        for handle in handles:
            handle.remove()
    kernel = torch.zeros(len(x_t), len(x_t), dtype=torch.float64)
    for a, g in zip(inputs, gradients, strict=True):
        kernel += _gram(a, _channels_last(g)).double().cpu()
    return condition_number(kernel)


def condition_number(kernel: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(kernel.double())
    smallest, largest = eigenvalues[0].item(), eigenvalues[-1].item()
    return min(largest / smallest, _LARGEST_CONDITION) if smallest > 0 else _LARGEST_CONDITION


def zico(network: DiT, process: Process, batches: Iterable[NoisedBatch]) -> float:
    """Needs at least two batches; statistics are streamed, so that memory holds two numbers a weight."""
    weights = [layer.weight for layer in weight_layers(network)]
    sums = [torch.zeros_like(w) for w in weights]
    absolute = [torch.zeros_like(w) for w in weights]
    squares = [torch.zeros_like(w) for w in weights]
    count = 0
    with _requiring_grad(weights):
        for batch in batches:
            with torch.enable_grad():
                output = network(process.noise(batch.x0, batch.t, batch.eps), batch.t, batch.y)
                loss = process.loss(output, batch.x0, batch.t, batch.eps).mean()
                gradients = torch.autograd.grad(loss, weights)
            for gradient, total, magnitude, square in zip(gradients, sums, absolute, squares, strict=True):
                total += gradient
                magnitude += gradient.abs()
                square.addcmul_(gradient, gradient)
            count += 1
    assert count >= 2, "ZiCo needs the spread over at least two batches"
    score = 0.0
    for total, magnitude, square in zip(sums, absolute, squares, strict=True):
        variance = (square.double() / count - (total.double() / count).square()).clamp(min=0)
        usable = variance > 0  # as in the published code: weights whose gradient never varies are left out
        layer = (magnitude.double()[usable] / count / variance[usable].sqrt()).sum()
        if layer > 0:
            score += layer.log().item()
    return score


def weight_layers(network: DiT) -> Iterator[nn.Linear | nn.Conv2d]:
    return (module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))


def _gram(a: Tensor, g: Tensor) -> Tensor:
    """Σ over weights of per-sample gradient products: a (B, T, in), g (B, T, out) -> (B, B)."""
    if a.shape[1] == 1:
        a, g = a[:, 0], g[:, 0]
        return (a @ a.T) * (g @ g.T)
    per_sample = torch.einsum("bto,bti->boi", g, a).flatten(1)
    return per_sample @ per_sample.T


def _as_vectors(layer: nn.Module, a: Tensor) -> Tensor:
    """A layer's input as (B, T, in): patches for the patch projection, one vector for what conditions a sample."""
    if isinstance(layer, nn.Conv2d):
        return nn.functional.unfold(a, layer.kernel_size, stride=layer.stride).transpose(1, 2)
    return a if a.ndim == 3 else a.unsqueeze(1)


def _channels_last(g: Tensor) -> Tensor:
    """A gradient as (B, T, out)."""
    if g.ndim == 4:
        return g.flatten(2).transpose(1, 2)
    return g if g.ndim == 3 else g.unsqueeze(1)


@contextmanager
def _requiring_grad(weights: list[Tensor]) -> Iterator[None]:
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, flag in zip(weights, before, strict=True):
            weight.requires_grad_(flag)
