"""Which process a network belongs to, from what it does with noise: files of DiT and SiT look the same inside."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.errors import InputError
from engine.models.dit import DiT
from engine.models.model import Model
from engine.process import PROCESSES, make_process

_CLEAR = 0.5  # correlation beyond which the answer is plain


@dataclass(frozen=True, kw_only=True)
class Proposal:
    process: str | None  # None: undecided
    reason: str  # one sentence, with the measured correlations
    noise_correlation: float  # of the output at t = 999 with its input, pure noise
    velocity_correlation: float  # of the output at t = 0 with its input


@torch.inference_mode()
def propose_process(network: DiT, *, num_samples: int = 1, seed: int = 0) -> Proposal:
    """One forward on pure noise, half of it at t = 999 and half at t = 0. DDPM's network gives the noise back at 999; a
    velocity at 0 is data minus noise, so that it points against the noise."""
    config, device = network.config, network.pos_embed.device
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2 * num_samples, *config.latent_shape, generator=generator).to(device)
    times = torch.tensor([999.0, 0.0], device=device).repeat_interleave(num_samples)
    output = network(noise, times, torch.full((2 * num_samples,), config.null_class or 0, device=device))
    at_end, at_start = map(_correlation, output.split(num_samples), noise.split(num_samples))
    measured = f"on pure noise, the output at t = 999 correlates {at_end:+.2f} with the noise, at t = 0 {at_start:+.2f}"
    if at_end > _CLEAR and at_start > -_CLEAR:
        process, reason = "diffusion", f"Proposed: diffusion (DiT), since it gives noise back: {measured}."
    elif at_start < -_CLEAR and at_end < _CLEAR:
        process, reason = "flow", f"Proposed: flow (SiT), since it points away from noise: {measured}."
    else:
        process, reason = None, f"Not clear whether it is diffusion or flow: {measured}; diffusion (DiT) is assumed."
    return Proposal(process=process, reason=reason, noise_correlation=at_end, velocity_correlation=at_start)


def _correlation(output: Tensor, noise: Tensor) -> float:
    mean = output[:, : noise.shape[1]].flatten()
    value = torch.corrcoef(torch.stack([mean.double(), noise.flatten().double()]))[0, 1].item()
    return value if value == value else 0.0  # a constant output correlates with nothing


@dataclass(frozen=True, kw_only=True)
class ProcessLosses:
    noise_levels: list[float]  # 0 is the clean latent, 1 pure noise
    relative: dict[str, list[float]]  # process -> loss at each level; 1 is no better than always guessing the mean
    verdict: str  # one sentence


@torch.inference_mode()
def process_losses(
    model: Model, data: Data, *, num: int = 16, num_levels: int = 8, seed: int = 0, batch_size: int = 16
) -> ProcessLosses:
    """How well the network does what each process asks of it, on ``num`` images at a grid of noise levels.

    Under the right process it beats a guess at every level but the easiest to guess; under the wrong one at few.
    """
    if num < 1 or num_levels < 1 or len(data) == 0:
        raise InputError(f"{num} images at {num_levels} noise levels of {len(data)} images is nothing to look at")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data), generator=generator)[:num].sort().values.numpy()
    x0 = model.latents_of(data, chosen)
    eps = torch.randn(x0.shape, generator=generator)
    labels = _labels(model, data, chosen)
    levels = [(index + 0.5) / num_levels for index in range(num_levels)]
    relative: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for name, losses in relative.items():
        process = make_process(name, learn_sigma=model.config.learn_sigma)
        for level in levels:
            time = int(level * 1000) if name == "diffusion" else 1 - level
            t = torch.full((len(x0),), time)
            target, x_t = process.target(x0, t, eps), process.noise(x0, t, eps)
            error = sum(
                (_output(model, x, s, y) - wanted).square().sum().item()
                for x, s, y, wanted in zip(*(part.split(batch_size) for part in (x_t, t, labels, target)), strict=True)
            )
            guess = (target - target.mean((0, 2, 3), keepdim=True)).square().sum().item()
            losses.append(error / guess)
    return ProcessLosses(noise_levels=levels, relative=relative, verdict=_verdict(relative, model.process.name))


def _output(model: Model, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    device = model.device
    return model.network(x.to(device), t.to(device), y.to(device))[:, : x.shape[1]].cpu()


def _labels(model: Model, data: Data, chosen: np.ndarray) -> Tensor:
    if model.knows_classes_of(data):
        return torch.from_numpy(data.labels[chosen]).long()
    return torch.full((len(chosen),), model.config.null_class or 0)


def _verdict(relative: dict[str, list[float]], chosen: str) -> str:
    means = {name: float(np.mean(np.minimum(losses, 4))) for name, losses in relative.items()}
    best = min(means, key=means.__getitem__)
    other = next(name for name in means if name != best)
    figures = f"a mean loss of {means[best]:.2f} of a guess's as {best}, {means[other]:.2f} as {other}"
    if means[best] > 0.9:
        return (
            f"The model does no better than guessing under either process ({figures}): wrong autoencoder, or untrained."
        )
    if means[other] - means[best] < 0.1:
        return f"Both processes fit about alike ({figures}): look at the pictures."
    return f"It is {best} ({figures})" + ("." if best == chosen else f", not {chosen}: change the process.")
