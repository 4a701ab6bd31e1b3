"""What the network would answer after each of its blocks: one step of one picture, block by block.

Every block adds to the same stream of tokens. The model's own final layer reads the stream as it is after each block,
as if the rest weren't there (a "logit lens"), and the answer is shown as the clean picture that it speaks for. The
last of these readings is the network's true answer; those before were never trained to be read, so they are a way of
looking and not a measurement.

B = 1 picture, N depth, T tokens, D hidden_size, C latent channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import chosen_classes, start_of
from engine.models.model import Model


@dataclass(frozen=True, kw_only=True)
class BlockStates:
    """readings uint8 (N + 1, H, W, 3): what went into the first block, then after each; change (N, T)."""

    step: int  # of the sampler, where the network was asked
    time: float  # as the process tells it
    noise_left: float  # share of the way that lies ahead: 1 is pure noise
    readings: np.ndarray
    change: np.ndarray  # ‖what block i added to a token‖ / ‖the token before‖


@torch.inference_mode()
def block_states(model: Model, *, label: int, seed: int, steps: Sequence[int], protocol: Protocol) -> list[BlockStates]:
    """At each of ``steps`` of the way on which this seed is drawn; the network itself is asked without guidance.

    Raises InputError for a class that the model hasn't, a step that isn't before the last, and for a sampler that
    doesn't fit.
    """
    chosen_classes(model, [label])
    outside = [step for step in steps if not 0 <= step < protocol.num_steps]
    if outside or not steps:
        raise InputError(f"step {outside[:1]} doesn't exist: this way has steps 0 … {protocol.num_steps - 1}")
    start = start_of(model, labels=np.array([label]), seeds=np.array([seed]), protocol=protocol)
    x, calls = start.noise, []

    def watched(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        calls.append((x, t))
        return start.network(x, t, y)

    for _ in model.process.sample(
        watched, x, start.y, num_steps=protocol.num_steps, sampler=start.sampler, generators=start.generators
    ):
        if len(calls) > max(steps):
            break
    return [_at(model, step, *calls[step], start.y) for step in steps]


def _at(model: Model, step: int, x: Tensor, t: Tensor, y: Tensor) -> BlockStates:
    network = model.network
    h, c = network.embed(x, t, y)  # (1, T, D), (1, D)
    stream = [h]
    for block in network.blocks:
        stream.append(block(stream[-1], c))
    read = torch.cat([network.head(h, c) for h in stream])  # (N + 1, C_out, H, W)
    num = len(stream)
    estimates = model.process.estimate_x0(read, x.expand(num, -1, -1, -1), t.expand(num))
    tokens = torch.cat(stream)  # (N + 1, T, D)
    change = (tokens[1:] - tokens[:-1]).norm(dim=-1) / tokens[:-1].norm(dim=-1)
    time = float(t)
    return BlockStates(
        step=step,
        time=time,
        noise_left=1 - model.process.progress(time),
        readings=model.autoencoder.decode(estimates),
        change=change.cpu().numpy(),
    )
