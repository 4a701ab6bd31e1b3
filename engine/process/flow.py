"""Flow matching as SiT uses it (arXiv 2401.08740): the linear path x_t = t·x0 + (1 − t)·ε, from noise (t = 0) to data.

x0, eps, x_t: (B, C, H, W), x0 the clean latent (the SiT code calls it x1). t: (B,) in [0, 1].
"""

from collections.abc import Iterator

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from torch import Tensor

from engine.process.guidance import Network

_SCHEDULERS = {"euler": FlowMatchEulerDiscreteScheduler, "heun": FlowMatchHeunDiscreteScheduler}


class Flow:
    name = "flow"
    prediction = "velocity"
    samplers = tuple(_SCHEDULERS)
    default_sampler = "euler"

    def __init__(self, *, learn_sigma: bool = True) -> None:
        self.learn_sigma = learn_sigma  # SiT carries the variance half without using it

    def timestep_grid(self, num: int) -> Tensor:
        """(num,) times in the middles of equal parts of [0, 1], descending (towards noise, like DDPM's grid)."""
        return 1 - (torch.arange(num) + 0.5) / num

    def draw_timesteps(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.rand(num, generator=generator)

    def noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return torch.lerp(eps, x0, t.to(x0)[:, None, None, None])

    def target(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Velocity dx_t/dt"""
        return x0 - eps

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
        """Yields (time reached, state x (B, C, H, W)) after each network call; the last state is the sample.

        diffusers counts σ = 1 − t from 1 down to 0, hence the velocity's sign. "heun" calls the network twice a step,
        once in the last. ``generators`` is for stochastic samplers and unused here.
        """
        scheduler = _SCHEDULERS[sampler](num_train_timesteps=1000)
        if sampler == "euler":
            scheduler.set_timesteps(sigmas=[1 - step / num_steps for step in range(num_steps)])
        else:
            scheduler.set_timesteps(num_steps)
        x = noise
        for timestep in scheduler.timesteps:
            t = 1 - timestep.item() / 1000
            velocity = network(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype), y)[:, : x.shape[1]]
            x = scheduler.step(-velocity, timestep, x).prev_sample
            yield 1 - scheduler.sigmas[scheduler.step_index].item(), x
