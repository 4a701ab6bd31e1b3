"""The network's outputs with each part left out in turn, without computing the shared rest twice.

A part is a block, or one of a block's two residual branches. Parts before i don't change when part i is skipped. So
N + 1 streams advance together: the intact one, and one more at each part, which takes the intact state at that part's
input past it. That is N + N(N−1)/2 evaluations of parts where the naive loop does N + N(N−1), for the same numbers.

Shapes: x (B, C, H, W), t (B,), y (B,); hidden states (B, T, D), conditioning vectors (B, D).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.dit import DiT, DiTBlock, modulate

#: tokens that keep the machine busy in one call; smaller streams are joined until they reach it
_TOKENS_PER_CALL = 2048


@dataclass(frozen=True)
class Part:
    """What one row of a result leaves out."""

    block: int
    branch: str = ""  # "attn", "mlp", or "" for the whole block

    @property
    def label(self) -> str:
        return f"{self.block} {self.branch}".strip()


def parts_of(network: DiT, granularity: str) -> list[Part]:
    branches = ("attn", "mlp") if granularity == "branch" else ("",)
    return [Part(block, branch) for block in range(network.config.depth) for branch in branches]


def outputs_without_each(
    network: DiT,
    x: Tensor,
    t: Tensor,
    y: Tensor,
    *,
    parts: Sequence[Part] | None = None,
    rows: Collection[int] | None = None,
    observe: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """(1 + rows, B, C_out, H, W): first all of ``parts`` (usually every block), then without one of them.

    ``rows``: positions in ``parts`` to leave out, ascending; all of them by default. ``observe`` is shown the first
    stream before and after each part.
    """
    parts = parts_of(network, "block") if parts is None else parts
    rows = range(len(parts)) if rows is None else rows
    h, c = network.embed(x, t, y)
    streams = [h]  # each (B, T, D)
    for row, part in enumerate(parts):
        skipping = streams[0]
        streams = _advance(network.blocks[part.block], part, streams, c)
        if observe is not None:
            observe(skipping, streams[0])
        if row in rows:
            streams.append(skipping)
    return torch.stack([network.head(stream, c) for stream in streams])


def outputs_without_each_naively(
    network: DiT, x: Tensor, t: Tensor, y: Tensor, *, parts: Sequence[Part] | None = None
) -> Tensor:
    """The same by N + 1 whole forwards: the reference for tests and the benchmark."""
    parts = parts_of(network, "block") if parts is None else parts
    each = [[part for part in parts if part != left_out] for left_out in parts]
    return torch.stack([forward_through(network, x, t, y, parts=kept) for kept in [parts, *each]])


def forward_through(network: DiT, x: Tensor, t: Tensor, y: Tensor, *, parts: Sequence[Part]) -> Tensor:
    """(B, C_out, H, W): what the network gives when only ``parts`` of it contribute."""
    h, c = network.embed(x, t, y)
    for part in parts:
        block = network.blocks[part.block]
        h = _apply(block, part, h, block.modulation(c))
    return network.head(h, c)


def outputs_without(
    network: DiT, x: Tensor, t: Tensor, y: Tensor, drop: Collection[int], *, parts: Sequence[Part] | None = None
) -> Tensor:
    """(2, B, C_out, H, W): intact, and without all of ``drop`` (positions in ``parts``) at once; what comes before the
    first of them is shared."""
    parts = parts_of(network, "block") if parts is None else parts
    first = min(drop, default=len(parts))
    h, c = network.embed(x, t, y)
    for part in parts[:first]:
        block = network.blocks[part.block]
        h = _apply(block, part, h, block.modulation(c))
    intact = pruned = h
    for row, part in enumerate(parts[first:], start=first):
        block = network.blocks[part.block]
        modulation = block.modulation(c)
        intact = _apply(block, part, intact, modulation)
        if row not in drop:
            pruned = _apply(block, part, pruned, modulation)
    return torch.stack([network.head(intact, c), network.head(pruned, c)])


def part_evaluations(num_parts: int, rows: Collection[int]) -> int:
    """Evaluations of parts that ``outputs_without_each`` makes for each sample."""
    return num_parts + sum(num_parts - 1 - row for row in rows)


def chunk_size(network: DiT, *, num_samples: int, budget_bytes: int, num_parts: int | None = None) -> int:
    """Samples that may go through at a time so that all streams' states fit into the budget."""
    config = network.config
    bytes_per_value = next(network.parameters()).element_size()
    # states of all streams, and the widest temporaries of one of them (qkv and the MLP's hidden layer)
    states = (config.depth if num_parts is None else num_parts) + 1
    per_sample = (states + 2 * config.mlp_ratio + 8) * config.num_tokens * config.hidden_size * bytes_per_value
    return max(1, min(num_samples, int(budget_bytes // per_sample)))


def _advance(block: DiTBlock, part: Part, streams: list[Tensor], c: Tensor) -> list[Tensor]:
    """All streams one part further; conditioning is worked out once for all of them."""
    modulation = block.modulation(c)
    per_call = max(1, _TOKENS_PER_CALL // (streams[0].shape[0] * streams[0].shape[1]))
    if per_call == 1:
        return [_apply(block, part, stream, modulation) for stream in streams]
    advanced = []
    for start in range(0, len(streams), per_call):
        group = streams[start : start + per_call]
        repeated = modulation.repeat(len(group), 1, 1) if len(group) > 1 else modulation
        advanced.extend(_apply(block, part, torch.cat(group), repeated).chunk(len(group)))
    return advanced


def _apply(block: DiTBlock, part: Part, x: Tensor, modulation: Tensor) -> Tensor:
    """Tokens x (B, T, D) past one part; ``modulation`` (B, 6, D) is the block's."""
    if not part.branch:
        return block.modulated(x, modulation)
    norm, branch, of_branch = (
        (block.norm1, block.attn, modulation[:, :3])
        if part.branch == "attn"
        else (block.norm2, block.mlp, modulation[:, 3:])
    )
    shift, scale, gate = of_branch.unbind(1)  # each (B, D)
    return torch.addcmul(x, gate.unsqueeze(1), branch(modulate(norm(x), shift, scale)))
