"""The network's outputs with each block left out in turn, without computing the shared part twice.

Blocks before i don't change when block i is skipped. So N + 1 streams advance together: the intact one, and one more
at each block, which takes the intact state at that block's input past it. That is N + N(N−1)/2 block evaluations where
the naive loop does N + N(N−1), for the same numbers.
"""

import torch
from torch import Tensor

from engine.models.dit import DiT

#: tokens that keep the machine busy in one call; smaller streams are joined until they reach it
_TOKENS_PER_CALL = 2048


def outputs_without_each(network: DiT, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """x (B, C, H, W), t (B,), y (B,) -> (N+1, B, C_out, H, W): row 0 intact, row 1+i without block i."""
    h, c = network.embed(x, t, y)
    streams = [h]  # each (B, T, D)
    for block in network.blocks:
        skipping = streams[0]
        streams = _advance(block, streams, c)
        streams.append(skipping)
    return torch.stack([network.head(stream, c) for stream in streams])


def outputs_without_each_naively(network: DiT, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The same by N + 1 whole forwards: the reference for tests and the benchmark."""
    skips = [(), *((block,) for block in range(network.config.depth))]
    return torch.stack([network(x, t, y, skip=skip) for skip in skips])


def outputs_without(network: DiT, x: Tensor, t: Tensor, y: Tensor, drop: list[int]) -> Tensor:
    """(2, B, C_out, H, W): intact, and without all of ``drop`` at once; the blocks before the first are shared."""
    first = min(drop, default=network.config.depth)
    h, c = network.embed(x, t, y)
    for block in network.blocks[:first]:
        h = block(h, c)
    intact = pruned = h
    for index, block in enumerate(network.blocks[first:], start=first):
        intact = block(intact, c)
        if index not in drop:
            pruned = block(pruned, c)
    return torch.stack([network.head(intact, c), network.head(pruned, c)])


def chunk_size(network: DiT, *, num_samples: int, budget_bytes: int) -> int:
    """Samples that may go through at a time so that all streams' states fit into the budget."""
    config = network.config
    bytes_per_value = next(network.parameters()).element_size()
    # states of all streams, and the widest temporaries of one of them (qkv and the MLP's hidden layer)
    per_sample = (
        (config.depth + 1 + 2 * config.mlp_ratio + 8) * config.num_tokens * config.hidden_size * bytes_per_value
    )
    return max(1, min(num_samples, int(budget_bytes // per_sample)))


def _advance(block: torch.nn.Module, streams: list[Tensor], c: Tensor) -> list[Tensor]:
    """All streams one block further; conditioning is worked out once for all of them."""
    modulation = block.modulation(c)
    per_call = max(1, _TOKENS_PER_CALL // (streams[0].shape[0] * streams[0].shape[1]))
    if per_call == 1:
        return [block.modulated(stream, modulation) for stream in streams]
    advanced = []
    for start in range(0, len(streams), per_call):
        group = streams[start : start + per_call]
        repeated = modulation.repeat(len(group), 1, 1) if len(group) > 1 else modulation
        advanced.extend(block.modulated(torch.cat(group), repeated).chunk(len(group)))
    return advanced
