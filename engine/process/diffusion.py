"""DDPM as DiT uses it (arXiv 2006.11239; learned variance: arXiv 2102.09672): 1000 steps, linear betas, target ε.

x0, eps, x_t: (B, C, H, W). t: (B,) integers 0 … 999, larger is noisier. A network that learns the variance
returns 2C channels: ε and v, the latter interpolating the log variance between its two bounds.
"""

import math
from collections.abc import Iterator

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from engine.process.guidance import Network

NUM_TIMESTEPS = 1000
_SCHEDULE = dict(num_train_timesteps=NUM_TIMESTEPS, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
_HALF_BIN = 1 / 255  # the first timestep's likelihood is that of a value within half a grey level of x0


class Diffusion:
    name = "diffusion"
    prediction = "ε"
    samplers = ("ddim", "ddpm", "dpm++")
    default_sampler = "ddim"
    noise_time, clean_time = float(NUM_TIMESTEPS), 0.0  # ends of the way

    def __init__(self, *, learn_sigma: bool = True) -> None:
        self.learn_sigma = learn_sigma
        # in float64 as the official code keeps it; diffusers' schedulers hold the same numbers in float32
        betas = torch.linspace(_SCHEDULE["beta_start"], _SCHEDULE["beta_end"], NUM_TIMESTEPS, dtype=torch.float64)
        alphas_bar = (1 - betas).cumprod(0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas_bar[:-1]])
        variance = betas * (1 - previous) / (1 - alphas_bar)  # of q(x_{t-1} | x_t, x0)
        self._tables = {
            "signal": alphas_bar.sqrt(),
            "noise": (1 - alphas_bar).sqrt(),
            "mean_x0": betas * previous.sqrt() / (1 - alphas_bar),
            "mean_xt": (1 - previous) * (1 - betas).sqrt() / (1 - alphas_bar),
            # the first variance is 0; the official code uses the second in its place
            "log_variance": torch.cat([variance[1:2], variance[1:]]).log(),
            "log_beta": betas.log(),
        }
        self._tables_on: dict[torch.device, dict[str, Tensor]] = {torch.device("cpu"): self._tables}

    def timestep_grid(self, num: int) -> Tensor:
        """(num,) timesteps in the middles of equal parts of 0 … 999, ascending (towards noise)."""
        return ((torch.arange(num) + 0.5) * NUM_TIMESTEPS / num).floor().long()

    def progress(self, t: float) -> float:
        """Share of the way from noise to data."""
        return 1 - t / NUM_TIMESTEPS

    def draw_timesteps(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randint(NUM_TIMESTEPS, (num,), generator=generator)

    def noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = √ᾱ_t·x0 + √(1 − ᾱ_t)·ε"""
        return self._row("signal", t, x0) * x0 + self._row("noise", t, x0) * eps

    def target(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return eps

    def estimate_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latent that an output at x_t speaks for: (x_t − √(1 − ᾱ_t)·ε) / √ᾱ_t"""
        eps = output[:, : x_t.shape[1]]
        return (x_t - self._row("noise", t, x_t) * eps) / self._row("signal", t, x_t)

    def loss(self, output: Tensor, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """(B,) mean squared error of ε, plus the variational bound in bits per dimension where the variance is
        learned; the bound trains the variance alone (arXiv 2102.09672, L_hybrid with the official DiT's weight 1)."""
        C = x0.shape[1]
        mse = (output[:, :C] - eps).square().flatten(1).mean(1)
        return mse if output.shape[1] == C else mse + self._bound(output, x0, t, self.noise(x0, t, eps))

    def _bound(self, output: Tensor, x0: Tensor, t: Tensor, x_t: Tensor) -> Tensor:
        """(B,) KL(q(x_{t-1}|x_t,x0) ‖ p(x_{t-1}|x_t)), at t = 0 −log p(x0|x_1), in bits per dimension."""
        eps, v = output.chunk(2, dim=1)
        row = {name: self._row(name, t, x0) for name in self._tables}
        predicted_x0 = (x_t - row["noise"] * eps.detach()) / row["signal"]
        mean = row["mean_x0"] * predicted_x0 + row["mean_xt"] * x_t
        log_variance = torch.lerp(row["log_variance"], row["log_beta"], (v + 1) / 2)
        true_mean = row["mean_x0"] * x0 + row["mean_xt"] * x_t
        kl = 0.5 * (
            log_variance
            - row["log_variance"]
            - 1
            + (row["log_variance"] - log_variance).exp()
            + (true_mean - mean).square() * (-log_variance).exp()
        )
        likelihood = _log_probability_of_bin(x0, mean, (0.5 * log_variance).exp())
        per_dimension = torch.where((t == 0)[:, None, None, None], -likelihood, kl)
        return per_dimension.flatten(1).mean(1) / math.log(2)

    def _row(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """A table's values at t, (B, 1, 1, 1)."""
        if like.device not in self._tables_on:  # looked up there: to fetch t from a GPU would wait for all its work
            self._tables_on[like.device] = {each: table.to(like.device) for each, table in self._tables.items()}
        return self._tables_on[like.device][name][t.to(like.device)].to(like)[:, None, None, None]

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
        """Yields (timestep left, state x (B, C, H, W)) after each step; the last state is the sample.

        ``network`` carries its guidance. ``generators``: one a sample, for the noise that "ddpm" adds at each step.
        """
        assert generators is not None or sampler != "ddpm", "noise comes from somewhere"
        C = noise.shape[1]
        scheduler = _scheduler(sampler, num_steps, "learned_range" if self.learn_sigma else "fixed_large")
        x = noise * scheduler.init_noise_sigma
        timesteps = _trailing(num_steps) if sampler == "ddim" else scheduler.timesteps
        for t, own in zip(timesteps.tolist(), scheduler.timesteps.tolist(), strict=True):
            output = network(x, torch.full((len(x),), t, device=x.device), y)
            if sampler == "ddpm":
                x = scheduler.step(output, own, x, generator=generators).prev_sample
            else:
                x = scheduler.step(output[:, :C], own, x).prev_sample
            yield t, x


def _scheduler(
    sampler: str, num_steps: int, variance_type: str
) -> DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler:
    if sampler == "ddpm":  # spaced as the official code does it: both ends of 0 … 999 included
        scheduler = DDPMScheduler(
            **_SCHEDULE, clip_sample=False, timestep_spacing="linspace", variance_type=variance_type
        )
    elif sampler == "ddim":
        # a process of its own with num_steps timesteps, ᾱ of those that are visited, as in the official code's spaced
        # diffusion: diffusers' update goes to t − 1000 // num_steps, which isn't the next one where that doesn't divide
        scheduler = DDIMScheduler(num_train_timesteps=num_steps, clip_sample=False)
        scheduler.alphas_cumprod = DDIMScheduler(**_SCHEDULE).alphas_cumprod[_trailing(num_steps).flip(0)]
    else:
        scheduler = DPMSolverMultistepScheduler(**_SCHEDULE, final_sigmas_type="zero")
        scheduler.set_timesteps(timesteps=_trailing(num_steps).tolist())
        return scheduler
    scheduler.set_timesteps(num_steps)
    return scheduler


def _trailing(num_steps: int) -> Tensor:
    """(num_steps,) timesteps from pure noise, 999, down, in equal strides: diffusers' "trailing", whose own are one too
    many, the last −1, where the stride in floating point doesn't add up to 1000 (61 steps, say)."""
    left = torch.arange(num_steps, 0, -1, dtype=torch.float64)
    return (left * NUM_TIMESTEPS / num_steps).round().long() - 1


def _log_probability_of_bin(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """log of the Gaussian's mass within half a grey level of x, open-ended beyond ±0.999 (arXiv 2006.11239, eq. 13)."""

    def below(value: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf((value - mean) / (deviation * math.sqrt(2))))

    lower, upper = below(x - _HALF_BIN), below(x + _HALF_BIN)
    mass = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return mass.clamp(min=1e-12).log()
