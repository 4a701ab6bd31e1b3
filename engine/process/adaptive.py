"""The adaptive fifth-order solver of SiT's ODE (Dormand & Prince 1980), each image with steps of its own.

x: (B, C, H, W). t, h, ratio: (B,) in float64. A solver that shares its steps over the batch, as torchdiffeq's does,
gives an image other numbers in other company. Here every image has its own time and step, so it comes out as it does
alone, and the network still sees whole batches; the price is that images which are there early wait for the last one.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from engine.errors import InputError, TrainingDiverged

#: (x (B, C, H, W), t (B,)) -> dx/dt (B, C, H, W)
Velocity = Callable[[Tensor, Tensor], Tensor]

#: Tolerances of the official SiT
ATOL, RTOL = 1e-6, 1e-3

_SAFETY, _LEAST_FACTOR, _MOST_FACTOR = 0.9, 0.2, 10.0
_LEAST_STEP = 1e-7
#: Where and with which weights of the slopes before it each slope is taken; the last row is the solution itself
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_ROWS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
#: Solution of order five less that of order four
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def dormand_prince(
    velocity: Velocity, x: Tensor, *, atol: float = ATOL, rtol: float = RTOL
) -> Iterator[tuple[float, Tensor]]:
    """From t = 0 to 1. Yields (time that all have reached, x) after each round of six network calls.

    Raises TrainingDiverged for a velocity that isn't finite, InputError for one that needs endlessly small steps.
    """
    t = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    slope = velocity(x, t)
    h = _first_step(velocity, x, slope, atol=atol, rtol=rtol)
    while (t < 1).any():
        left = 1 - t  # 0 for an image that is there: it stays where it is
        h = torch.minimum(h, left)
        slopes = [slope]
        for node, row in zip(_NODES, _ROWS, strict=True):
            x_new = x + _times(h, _combined(row, slopes))
            slopes.append(velocity(x_new, torch.where(h < left, t + node * h, t + node * left)))
        scale = atol + rtol * torch.maximum(x.abs(), x_new.abs())
        ratio = _rms(_times(h, _combined(_ERROR, slopes)) / scale)
        if not ratio.isfinite().all():
            raise TrainingDiverged(
                "the model's velocity isn't finite, so nothing can be drawn from it; take other weights"
            )
        accepted = ratio <= 1
        x = torch.where(_wide(accepted), x_new, x)
        slope = torch.where(_wide(accepted), slopes[-1], slope)
        t = torch.where(accepted, torch.where(h < left, t + h, 1.0), t)
        h = h * (_SAFETY * ratio.clamp(min=1e-12) ** -0.2).clamp(_LEAST_FACTOR, _MOST_FACTOR)
        if ((h < _LEAST_STEP) & (t < 1)).any():
            raise InputError(
                "the model's velocity changes too fast for dopri5; choose euler, heun or more steps of sde"
            )
        yield t.min().item(), x


def _first_step(velocity: Velocity, x: Tensor, slope: Tensor, *, atol: float, rtol: float) -> Tensor:
    """(B,) a step whose error should be small, from slope and curvature (Hairer, Nørsett & Wanner, II.4)."""
    scale = atol + rtol * x.abs()
    size, speed = _rms(x / scale), _rms(slope / scale)
    trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed)
    bend = _rms((velocity(x + _times(trial, slope), trial) - slope) / scale) / trial
    fastest = torch.maximum(speed, bend)
    guess = torch.where(fastest <= 1e-15, (1e-3 * trial).clamp(min=1e-6), (0.01 / fastest) ** 0.2)
    return torch.minimum(100 * trial, guess)


def _combined(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum(weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight)


def _rms(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1).sqrt().double()


def _wide(per_image: Tensor) -> Tensor:
    return per_image[:, None, None, None]


def _times(h: Tensor, x: Tensor) -> Tensor:
    return _wide(h).to(x.dtype) * x
