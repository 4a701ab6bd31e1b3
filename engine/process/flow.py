"""Flow matching as SiT uses it (arXiv 2401.08740): the linear path x_t = t·x0 + (1 − t)·ε, from noise (t = 0) to data.

x0, eps, x_t: (B, C, H, W), x0 the clean latent (the SiT code calls it x1). t: (B,) in [0, 1].
"""

from collections.abc import Callable, Iterator

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from torch import Tensor

from engine.process.adaptive import dormand_prince
from engine.process.guidance import Network
from engine.process.stochastic import DIFFUSIONS, euler_maruyama

_SCHEDULERS = {"euler": FlowMatchEulerDiscreteScheduler, "heun": FlowMatchHeunDiscreteScheduler}
#: "sde" has the official default, "sigma"
_SDES = {"sde": "sigma"} | {f"sde-{name}": name for name in DIFFUSIONS if name != "sigma"}


class Flow:
    name = "flow"
    prediction = "velocity"
    samplers = (*_SCHEDULERS, "dopri5", *_SDES)
    default_sampler = "euler"
    noise_time, clean_time = 0.0, 1.0  # ends of the way

    def __init__(self, *, learn_sigma: bool = True) -> None:
        self.learn_sigma = learn_sigma  # SiT carries the variance half without using it

    def timestep_grid(self, num: int) -> Tensor:
        """(num,) times in the middles of equal parts of [0, 1], descending (towards noise, like DDPM's grid)."""
        return 1 - (torch.arange(num) + 0.5) / num

    def progress(self, t: float) -> float:
        """Share of the way from noise to data."""
        return t

    def draw_timesteps(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.rand(num, generator=generator)

    def noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return torch.lerp(eps, x0, t.to(x0)[:, None, None, None])

    def target(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Velocity dx_t/dt"""
        return x0 - eps

    def estimate_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latent that an output at x_t speaks for: straight on along the velocity, x_t + (1 − t)·v"""
        return x_t + (1 - t.to(x_t)[:, None, None, None]) * output[:, : x_t.shape[1]]

    def loss(self, output: Tensor, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """(B,) mean squared error of the velocity; a variance half of the output is left out, as in the SiT code."""
        return (output[:, : x0.shape[1]] - self.target(x0, t, eps)).square().flatten(1).mean(1)

    def sample(
        self,
        network: Network,
        noise: Tensor,
        y: Tensor,
        *,
        num_steps: int,
        sampler: str = default_sampler,
        generators: list[torch.Generator] | None = None,
    ) -> Iterator[tuple[float, Tensor]]:
        """Yields (time reached, state x (B, C, H, W)) after each step; the last state is the sample.

        "heun" calls the network twice a step, once in the last, and yields after each call. "dopri5" chooses its steps
        itself, whatever ``num_steps``. ``generators``: one a sample, for the noise that the SDEs add at each step.
        """

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return network(x, t.to(x.dtype), y)[:, : x.shape[1]]

        if sampler == "dopri5":
            yield from dormand_prince(velocity, noise)
        elif sampler in _SDES:
            assert generators is not None, "noise comes from somewhere"
            yield from euler_maruyama(
                velocity, noise, num_steps=num_steps, diffusion=_SDES[sampler], generators=generators
            )
        else:
            yield from _scheduled(velocity, noise, num_steps=num_steps, sampler=sampler)


def _scheduled(
    velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, *, num_steps: int, sampler: str
) -> Iterator[tuple[float, Tensor]]:
    """By diffusers' schedulers, which count σ = 1 − t from 1 down to 0, hence the velocity's sign."""
    scheduler = _SCHEDULERS[sampler](num_train_timesteps=1000)
    if sampler == "euler":
        scheduler.set_timesteps(sigmas=[1 - step / num_steps for step in range(num_steps)])
    else:
        scheduler.set_timesteps(num_steps)
    for timestep in scheduler.timesteps:
        t = 1 - timestep.item() / 1000
        slope = velocity(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype))
        x = scheduler.step(-slope, timestep, x).prev_sample
        yield 1 - scheduler.sigmas[scheduler.step_index].item(), x
