"""SiT's reverse SDE by Euler–Maruyama (arXiv 2401.08740, section 2): velocity and score, and noise added on the way.

x: (B, C, H, W). For every diffusion w(t) ≥ 0 the SDE dx = (v + w·s) dt + √(2w) dW has the marginals of the ODE
dx = v dt. The score follows from the velocity: on the path x_t = t·x0 + (1 − t)·ε it is s = (t·v − x) / (1 − t).
"""

import math
from collections.abc import Callable, Iterator

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from engine.errors import InputError

#: w(t) by the official names; "linear" is there too and the same as "sigma" on this path
DIFFUSIONS: dict[str, Callable[[float], float]] = {
    "sigma": lambda t: 1 - t,
    "constant": lambda t: 1.0,
    "sbdm": lambda t: (1 - t) / t,
    "decreasing": lambda t: 0.25 * (math.cos(math.pi * t) + 1) ** 2,
    "increasing-decreasing": lambda t: math.sin(math.pi * t) ** 2,
}
#: The score has no limit at t = 1: the last step starts so far before it and follows the drift alone ("Mean")
LAST_STEP = 0.04
_SBDM_START = 1e-3  # (1 − t) / t has no value at 0


def euler_maruyama(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    num_steps: int,
    diffusion: str,
    generators: list[torch.Generator],
) -> Iterator[tuple[float, Tensor]]:
    """Yields (time reached, x) after each of ``num_steps`` network calls. Raises InputError for fewer than two."""
    if num_steps < 2:
        raise InputError("an SDE takes at least 2 steps (250 in the paper); choose more, or euler")
    w = DIFFUSIONS[diffusion]
    start, stop = _SBDM_START if diffusion == "sbdm" else 0.0, 1 - LAST_STEP
    step = (stop - start) / (num_steps - 1)

    def drift(x: Tensor, t: float) -> Tensor:
        v = velocity(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype))
        return v + w(t) / (1 - t) * (t * v - x)

    for index in range(num_steps - 1):
        t = start + index * step
        noise = randn_tensor(x.shape, generator=generators, device=x.device, dtype=x.dtype)
        x = x + drift(x, t) * step + math.sqrt(2 * w(t) * step) * noise
        yield t + step, x
    yield 1.0, x + drift(x, stop) * LAST_STEP
