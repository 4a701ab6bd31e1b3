import math

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.process import make_process
from engine.process.guidance import guided

LATENT = (2, 4, 8, 8)


def draw(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randn(LATENT, generator=generator).clamp(-2, 2)
    return x0, torch.randn(LATENT, generator=generator)


def schedule():
    betas = np.linspace(1e-4, 0.02, 1000, dtype=np.float64)
    return betas, np.cumprod(1 - betas)


def test_diffusion_noise_follows_the_linear_schedule():
    x0, eps = draw()
    _, alphas_bar = schedule()
    process = make_process("diffusion")
    t = torch.tensor([0, 999])
    x_t = process.noise(x0, t, eps)
    for k, step in enumerate(t.tolist()):
        expected = math.sqrt(alphas_bar[step]) * x0[k] + math.sqrt(1 - alphas_bar[step]) * eps[k]
        assert torch.allclose(x_t[k], expected, atol=1e-6)
    assert torch.equal(process.target(x0, t, eps), eps)
    assert alphas_bar[999] < 1e-4  # the far end is noise


def test_flow_goes_from_noise_to_data():
    x0, eps = draw()
    process = make_process("flow")
    assert torch.equal(process.noise(x0, torch.zeros(2), eps), eps)
    assert torch.equal(process.noise(x0, torch.ones(2), eps), x0)
    t, step = torch.full((2,), 0.3), 1e-3
    slope = (process.noise(x0, t + step, eps) - process.noise(x0, t - step, eps)) / (2 * step)
    assert torch.allclose(process.target(x0, t, eps), slope, atol=1e-3)


def reference_hybrid_loss(output, x0, t, eps):
    """ε-MSE + variational bound in bits per dimension, in float64 and without torch, one sample at a time."""
    betas, alphas_bar = schedule()
    result = []
    for k, step in enumerate(t):
        predicted, v = output[k, :4], output[k, 4:]
        before = alphas_bar[step - 1] if step else 1.0
        variance = betas[step] * (1 - before) / (1 - alphas_bar[step])
        low = math.log(betas[1] * (1 - alphas_bar[0]) / (1 - alphas_bar[1])) if step == 0 else math.log(variance)
        log_variance = low + (v + 1) / 2 * (math.log(betas[step]) - low)
        x_t = math.sqrt(alphas_bar[step]) * x0[k] + math.sqrt(1 - alphas_bar[step]) * eps[k]
        clean = (x_t - math.sqrt(1 - alphas_bar[step]) * predicted) / math.sqrt(alphas_bar[step])
        a = betas[step] * math.sqrt(before) / (1 - alphas_bar[step])
        b = (1 - before) * math.sqrt(1 - betas[step]) / (1 - alphas_bar[step])
        mean, true_mean = a * clean + b * x_t, a * x0[k] + b * x_t
        if step == 0:
            erf = np.vectorize(math.erf)
            deviation = np.exp(0.5 * log_variance)
            upper = 0.5 * (1 + erf((x0[k] + 1 / 255 - mean) / deviation / math.sqrt(2)))
            lower = 0.5 * (1 + erf((x0[k] - 1 / 255 - mean) / deviation / math.sqrt(2)))
            mass = np.where(x0[k] < -0.999, upper, np.where(x0[k] > 0.999, 1 - lower, upper - lower))
            bound = -np.log(np.maximum(mass, 1e-12))
        else:
            bound = 0.5 * (
                log_variance - low - 1 + np.exp(low - log_variance) + (true_mean - mean) ** 2 * np.exp(-log_variance)
            )
        result.append(((predicted - eps[k]) ** 2).mean() + bound.mean() / math.log(2))
    return np.array(result)


def test_learned_sigma_loss_equals_a_float64_reference():
    generator = torch.Generator().manual_seed(3)
    x0, eps = (torch.randn(4, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    output = torch.cat([eps + 0.1 * torch.randn(eps.shape, generator=generator, dtype=torch.float64), torch.rand(
        eps.shape, generator=generator, dtype=torch.float64) * 2 - 1], dim=1)  # fmt: skip
    t = torch.tensor([0, 1, 400, 999])
    ours = make_process("diffusion").loss(output, x0, t, eps)
    expected = reference_hybrid_loss(output.numpy(), x0.numpy(), t.tolist(), eps.numpy())
    assert ours.numpy() == pytest.approx(expected, rel=1e-5)


def test_the_bound_trains_the_variance_alone():
    x0, eps = draw()
    output = torch.randn(2, 8, 8, 8, requires_grad=True)
    t = torch.tensor([10, 700])
    process = make_process("diffusion")
    (gradient,) = torch.autograd.grad(process.loss(output, x0, t, eps).sum(), output)
    expected = 2 * (output[:, :4] - eps) / eps[0].numel()
    assert torch.allclose(gradient[:, :4], expected, atol=1e-6)
    assert gradient[:, 4:].abs().max() > 0


@pytest.mark.parametrize(
    ("name", "sampler"), [("diffusion", "ddim"), ("diffusion", "dpm++"), ("flow", "euler"), ("flow", "heun")]
)
def test_sampling_with_the_perfect_network_returns_the_clean_latent(name, sampler):
    """For data that is one point the ideal prediction is known in closed form, and every solver must end there."""
    process = make_process(name)
    x0, eps = draw()
    _, alphas_bar = schedule()

    def perfect(x, t, y):
        if name == "flow":
            return (x0 - x) / (1 - t[:, None, None, None]).clamp(min=1e-3)
        alpha = torch.tensor(alphas_bar, dtype=torch.float32)[t][:, None, None, None]
        return (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()

    states = list(process.sample(perfect, eps, torch.zeros(2, dtype=torch.long), num_steps=20, sampler=sampler))
    assert torch.allclose(states[-1][1], x0, atol=0.02)


def test_ddpm_steps_are_the_official_posterior():
    """One ancestral step from t = 999 with a learned variance at its upper bound, against the formula."""
    process = make_process("diffusion")
    _, eps = draw()
    betas, alphas_bar = schedule()

    def network(x, t, y):
        return torch.cat([0.5 * x, torch.ones_like(x)], dim=1)

    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    steps = process.sample(
        network, eps, torch.zeros(2, dtype=torch.long), num_steps=1000, sampler="ddpm", generators=generators
    )
    t, x = next(steps)
    clean = (eps - math.sqrt(1 - alphas_bar[999]) * 0.5 * eps) / math.sqrt(alphas_bar[999])
    a = betas[999] * math.sqrt(alphas_bar[998]) / (1 - alphas_bar[999])
    b = (1 - alphas_bar[998]) * math.sqrt(1 - betas[999]) / (1 - alphas_bar[999])
    noise = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(2)])
    assert t == 999
    assert torch.allclose(x, a * clean + b * eps + math.sqrt(betas[999]) * noise, atol=1e-3)


def test_guidance_extrapolates_and_costs_nothing_at_one():
    calls = []

    def network(x, t, y):
        calls.append(len(x))
        return y[:, None, None, None] * torch.ones(len(x), 8, 8, 8)

    x, t, y = torch.zeros(LATENT), torch.zeros(2), torch.tensor([3, 5])
    assert guided(network, null_class=10, cfg_scale=1.0, num_guided_channels=None) is network
    out = guided(network, null_class=10, cfg_scale=1.5, num_guided_channels=3)(x, t, y)
    assert calls == [4]  # both halves in one batch
    assert out[0, 0, 0, 0].item() == 10 + 1.5 * (3 - 10)
    assert out[0, 3, 0, 0].item() == 3  # beyond the guided channels: the class half
    assert out[1, 7, 0, 0].item() == 5


def test_timestep_grids_cover_their_range_towards_noise():
    assert make_process("diffusion").timestep_grid(4).tolist() == [125, 375, 625, 875]
    assert make_process("flow").timestep_grid(4).tolist() == pytest.approx([0.875, 0.625, 0.375, 0.125])


def test_unknown_process_is_one_clear_line():
    with pytest.raises(InputError, match="diffusion, flow"):
        make_process("gan")
