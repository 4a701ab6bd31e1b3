"""Classifier-free guidance (arXiv 2207.12598), shared by both processes."""

from collections.abc import Callable

import torch
from torch import Tensor

#: (x (B, C, H, W), t (B,), y (B,)) -> raw output (B, C_out, H, W)
Network = Callable[[Tensor, Tensor, Tensor], Tensor]


def guided(network: Network, *, null_class: int | None, cfg_scale: float, num_guided_channels: int | None) -> Network:
    """``network`` itself at cfg_scale 1, else both halves in one batch and out = null + cfg_scale·(class − null).

    ``num_guided_channels``: guide only the first so many channels and leave the rest as the class half has them.
    The official DiT and SiT guide three (of four); None guides all C, never the variance half.
    """
    if cfg_scale == 1.0:
        return network
    assert null_class is not None, "a model without a null class can't be guided"

    def with_guidance(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        both = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, null_class)]))
        conditional, unconditional = both.chunk(2)
        channels = min(x.shape[1], num_guided_channels or x.shape[1])
        out = conditional.clone()
        out[:, :channels] = torch.lerp(unconditional[:, :channels], conditional[:, :channels], cfg_scale)
        return out

    return with_guidance
