"""Slope of the training loss along each part's weights, for every sample, from one backward pass.

Σ gradient × weight over a part's weights is the loss's derivative by a factor s in front of all of them, at s = 1. All
of them sit in linear layers, where such a factor multiplies the layer's output. With a factor of its own for each
sample, one backward gives every sample's sum and no gradient of a weight is ever made.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from engine.importance.streams import Part
from engine.models.dit import DiT, DiTBlock
from engine.process import Process


def loss_slopes(
    network: DiT, process: Process, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor, *, parts: Sequence[Part]
) -> Tensor:
    """(P, B): Σ ∂loss/∂w · w over the weights of each of ``parts`` (of the whole network), for each sample."""
    with torch.enable_grad():
        factors = torch.ones(len(parts), len(x0), device=x0.device, requires_grad=True)
        handles = [
            layer.register_forward_hook(_scaled_by(factors, rows))
            for block, of_block in enumerate(network.blocks)
            for layer, rows in _layers(
                of_block, {part.branch: row for row, part in enumerate(parts) if part.block == block}
            )
        ]
        try:
            output = network(process.noise(x0, t, eps), t, y)
            loss = process.loss(output, x0, t, eps).sum()
            return torch.autograd.grad(loss, factors)[0]
        finally:
            for handle in handles:
                handle.remove()


def _layers(block: DiTBlock, rows: dict[str, int]) -> list[tuple[nn.Linear, list[int]]]:
    """Linear layers with the rows of the factors that scale them; two rows share the conditioning's layer."""
    attention, mlp = (rows[""], rows[""]) if "" in rows else (rows["attn"], rows["mlp"])
    conditioning = block.adaLN_modulation[1]
    layers = [(conditioning, [attention] * 3 + [mlp] * 3)]  # shift, scale and gate of each branch
    layers += [(layer, [attention]) for layer in block.attn.modules() if isinstance(layer, nn.Linear)]
    layers += [(layer, [mlp]) for layer in block.mlp.modules() if isinstance(layer, nn.Linear)]
    counted = sum(p.numel() for layer, _ in layers for p in layer.parameters())
    assert counted == sum(p.numel() for p in block.parameters()), "a block has weights outside its linear layers"
    return layers


def _scaled_by(factors: Tensor, rows: list[int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A forward hook; ``factors`` (P, B), the layer's output in as many equal shares as there are ``rows``."""

    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if len(rows) == 1:  # (B, T, D)
            return output * factors[rows[0]][:, None, None]
        return (output.unflatten(1, (len(rows), -1)) * factors[rows].T[:, :, None]).flatten(1)  # (B, 6·D)

    return hook
