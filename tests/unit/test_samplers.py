"""Every sampler against data whose answer is known: a Gaussian, for which the ideal network is a formula.

Data N(MEAN, SPREAD²) in every dimension. Under both processes x_t is Gaussian too, so the ideal prediction is linear
in x, an ODE maps each noise ε to MEAN + SPREAD·ε, and a stochastic sampler's mean and variance follow a recursion in
float64.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

from engine.errors import InputError, TrainingDiverged
from engine.process import make_process
from engine.process.adaptive import ATOL, RTOL, dormand_prince
from engine.process.flow import Flow
from engine.process.stochastic import DIFFUSIONS
from tests.conftest import make_network

MEAN, SPREAD = 0.7, 0.4
ALPHAS_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))
SDES = {name: name.removeprefix("sde-") if "-" in name else "sigma" for name in Flow.samplers if name.startswith("sde")}


def velocity_of(t):
    """v(x, t) = E[x0 − ε | x_t = x] = offset + factor·x"""
    factor = (t * SPREAD**2 - (1 - t)) / (t**2 * SPREAD**2 + (1 - t) ** 2)
    return MEAN - factor * t * MEAN, factor


def noise_of(t):
    """E[ε | x_t = x] = offset + factor·x under the linear betas."""
    factor = np.sqrt(1 - ALPHAS_BAR[t]) / (ALPHAS_BAR[t] * SPREAD**2 + 1 - ALPHAS_BAR[t])
    return -factor * np.sqrt(ALPHAS_BAR[t]) * MEAN, factor


def ideal(process: str, *, calls: list | None = None):
    def network(x, t, y):
        if calls is not None:
            calls.append(t.tolist())
        offset, factor = velocity_of(t.double().numpy()) if process == "flow" else noise_of(t.numpy())
        offset, factor = (torch.from_numpy(np.asarray(v))[:, None, None, None].to(x.dtype) for v in (offset, factor))
        return offset + factor * x

    return network


def drawn(sampler: str, *, num_steps: int, num: int = 4, seed: int = 0, dtype=torch.float32, calls=None):
    """Noise (num, 4, 16, 16) and what the sampler makes of it with the ideal network."""
    process = make_process("flow" if sampler in Flow.samplers else "diffusion", learn_sigma=False)
    generators = [torch.Generator().manual_seed(seed + k) for k in range(num)]
    noise = torch.stack([torch.randn(4, 16, 16, generator=g) for g in generators]).to(dtype)
    *_, (_, x) = process.sample(
        ideal(process.name, calls=calls), noise, torch.zeros(num), num_steps=num_steps, sampler=sampler,
        generators=generators,
    )  # fmt: skip
    return noise, x


def error_of_ode(sampler: str, num_steps: int) -> float:
    noise, x = drawn(sampler, num_steps=num_steps)
    return (x.double() - (MEAN + SPREAD * noise.double())).abs().mean().item()


@pytest.mark.parametrize(("sampler", "order", "counts"), [("euler", 1, (20, 40, 80)), ("heun", 2, (10, 20, 40))])
def test_flow_solvers_converge_with_their_order(sampler, order, counts):
    errors = [error_of_ode(sampler, num_steps) for num_steps in counts]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)
    assert errors[-1] < 0.02


def test_diffusion_solvers_converge_to_the_map_of_the_ode():
    first, second = ([error_of_ode(sampler, n) for n in (10, 20, 40, 1000)] for sampler in ("ddim", "dpm++"))
    for errors in (first, second):
        assert errors[0] > 1.6 * errors[1] > 1.6**2 * errors[2] and errors[3] < 0.01
    assert second[1] < first[1] / 2  # the second order pays


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
@pytest.mark.parametrize("num_steps", [61, 240, 300, 400, 600, 700])
def test_steps_that_dont_divide_the_timesteps_lead_there_too(sampler, num_steps):
    process, visited = make_process("diffusion", learn_sigma=False), []

    def network(x, t, y):
        visited.append(int(t[0]))
        offset, factor = noise_of(visited[-1])
        return offset + factor * x

    noise = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    *_, (_, x) = process.sample(network, noise, torch.zeros(64), num_steps=num_steps, sampler=sampler)
    assert len(visited) == num_steps and visited[0] == 999 and visited == sorted(set(visited), reverse=True)
    assert visited[-1] == round(1000 / num_steps) - 1
    expected = MEAN + SPREAD * noise
    # DDIM is of the first order; with a stride other than the next step's it was 0.04 off at 300 steps, 0.2 at 600
    assert (x - expected).abs().mean() < (0.03 if num_steps < 100 else 0.01)


def test_heun_is_the_trapezoid_rule_in_float64():
    noise, x = drawn("heun", num_steps=12, dtype=torch.float64)
    sigmas = np.append(np.linspace(1, 1e-3, 12), 0.0)
    reference = noise.numpy()
    for sigma, after in pairwise(sigmas):
        offset, factor = velocity_of(1 - sigma)
        slope, h = offset + factor * reference, sigma - after
        if after:
            offset, factor = velocity_of(1 - after)
            slope = (slope + offset + factor * (reference + h * slope)) / 2
        reference = reference + h * slope
    assert np.abs(x.numpy() - reference).max() < 1e-5  # diffusers keeps its σ in float32


def exact_ddpm(num_steps: int) -> tuple[float, float]:
    """Mean and variance of the samples, through the posterior of the spaced chain; variance "fixed large"."""
    timesteps = sorted({round(step * 999 / (num_steps - 1)) for step in range(num_steps)})
    abar = ALPHAS_BAR[timesteps]
    before = np.append(1.0, abar[:-1])
    betas = 1 - abar / before
    mean, variance = 0.0, 1.0
    for k in reversed(range(num_steps)):
        offset, factor = noise_of(timesteps[k])
        of_x0 = betas[k] * math.sqrt(before[k]) / (1 - abar[k])
        of_x = (1 - before[k]) * math.sqrt(1 - betas[k]) / (1 - abar[k])
        gain = of_x0 * (1 - math.sqrt(1 - abar[k]) * factor) / math.sqrt(abar[k]) + of_x
        mean = gain * mean - of_x0 * math.sqrt(1 - abar[k]) * offset / math.sqrt(abar[k])
        variance = gain**2 * variance + (betas[k] if k else 0.0)
    return mean, variance


def exact_sde(form: str, num_steps: int) -> tuple[float, float]:
    start, stop = (1e-3 if form == "sbdm" else 0.0), 0.96
    times = np.linspace(start, stop, num_steps)
    steps = np.append(np.diff(times), 0.04)
    mean, variance = 0.0, 1.0
    for t, h in zip(times, steps, strict=True):
        w = {
            "sigma": 1 - t, "constant": 1.0, "sbdm": (1 - t) / max(t, 1e-9),
            "decreasing": 0.25 * (math.cos(math.pi * t) + 1) ** 2, "increasing-decreasing": math.sin(math.pi * t) ** 2,
        }[form]  # fmt: skip
        offset, factor = velocity_of(t)
        gain = 1 + h * (factor + w * (t * factor - 1) / (1 - t))
        mean = gain * mean + h * (offset + w * t * offset / (1 - t))
        variance = gain**2 * variance + (2 * w * h if t < stop else 0.0)
    return mean, variance


@pytest.mark.parametrize("num_steps", [20, 250])
@pytest.mark.parametrize("sampler", ["ddpm", *SDES])
def test_stochastic_samplers_have_the_mean_and_variance_of_their_recursion(sampler, num_steps):
    _, x = drawn(sampler, num_steps=num_steps, num=16)
    mean, variance = exact_ddpm(num_steps) if sampler == "ddpm" else exact_sde(SDES[sampler], num_steps)
    n = x.numel()  # independent dimensions, all Gaussian
    assert abs(x.double().mean().item() - mean) < 4 * math.sqrt(variance / n)
    assert abs(x.double().var().item() / variance - 1) < 4 * math.sqrt(2 / n)


@pytest.mark.parametrize("sampler", ["ddpm", *(name for name in SDES if name != "sde-constant")])
def test_at_the_official_number_of_steps_that_is_the_datas(sampler):
    mean, variance = exact_ddpm(250) if sampler == "ddpm" else exact_sde(SDES[sampler], 250)
    assert mean == pytest.approx(MEAN, abs=0.02)
    assert math.sqrt(variance) == pytest.approx(SPREAD, abs=0.02)


def test_the_constant_diffusion_loses_spread_in_the_official_last_step():
    """Known: a last step without noise takes out as much as w puts in, and at t = 0.96 w = 1 is far more than 1 − t."""
    mean, variance = exact_sde("constant", 250)
    assert mean == pytest.approx(MEAN, abs=0.02) and math.sqrt(variance) == pytest.approx(0.296, abs=1e-3)


def test_every_diffusion_of_the_table_can_be_chosen():
    assert set(SDES.values()) == set(DIFFUSIONS)


def test_one_euler_maruyama_step_by_hand_and_the_last_without_noise():
    process = make_process("flow")
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(k) for k in (5, 6)]
    steps = process.sample(
        lambda x, t, y: 0.5 * x, noise, torch.zeros(2), num_steps=3, sampler="sde", generators=generators
    )
    added = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in (5, 6)])
    t, x = next(steps)
    assert t == pytest.approx(0.48)
    first = noise + 0.48 * (0.5 * noise - noise) + math.sqrt(2 * 0.48) * added  # w(0) = 1, score −x
    assert torch.allclose(x, first, atol=1e-5)
    _, before = next(steps)
    t, last = next(steps)
    assert t == 1.0 and torch.allclose(last, before + 0.04 * (0.5 * before + 0.48 * before - before), atol=1e-5)


def test_an_sde_of_one_step_is_one_clear_line():
    with pytest.raises(InputError, match="at least 2 steps"):
        drawn("sde", num_steps=1)


def test_dopri5_ends_at_the_exact_map():
    noise, x = drawn("dopri5", num_steps=1)
    assert (x.double() - (MEAN + SPREAD * noise.double())).abs().max() < 0.02  # rtol is of a step
    calls = []
    drawn("dopri5", num_steps=1, calls=calls)
    assert all(0 <= t <= 1 for call in calls for t in call)  # nobody is asked beyond the data
    assert (len(calls) - 2) % 6 == 0 and len(calls) < 60
    *_, (_, tight) = dormand_prince(
        lambda x, t: ideal("flow")(x, t, None), noise.double(), atol=ATOL / 1000, rtol=RTOL / 1000
    )
    assert (tight - (MEAN + SPREAD * noise.double())).abs().max() < 1e-5


@pytest.fixture(scope="module")
def network_velocity():
    network = make_network(drop_sigma=True, gate_std=0.4).double()

    def velocity(x, t, y):
        with torch.inference_mode():
            return 3 * network(x, t, y)

    return velocity


def test_each_image_is_solved_as_torchdiffeq_and_scipy_solve_it_alone(network_velocity):
    """The same pair of formulas and the same control of the step, in float64, on a network."""
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise *= torch.tensor([0.3, 1.0, 4.0])[:, None, None, None]  # each needs steps of its own
    y = torch.tensor([0, 4, 9])
    *_, (_, ours) = dormand_prince(lambda x, t: network_velocity(x, t, y), noise)
    for k in range(3):
        label = y[k : k + 1]
        theirs = odeint(
            lambda t, x, label=label: network_velocity(x, t[None], label), noise[k : k + 1], torch.tensor([0.0, 1.0]),
            method="dopri5", atol=ATOL, rtol=RTOL,
        )[-1]  # fmt: skip
        assert (ours[k] - theirs[0]).abs().max() < 4 * RTOL * theirs.abs().max()
        scipys = solve_ivp(
            lambda t, x, label=label: network_velocity(
                torch.from_numpy(x).view(1, 4, 8, 8), torch.tensor([t]), label
            ).numpy().ravel(),
            (0.0, 1.0), noise[k].numpy().ravel(), method="RK45", atol=ATOL, rtol=RTOL,
        )  # fmt: skip
        assert np.abs(ours[k].numpy().ravel() - scipys.y[:, -1]).max() < 1e-9 * np.abs(scipys.y[:, -1]).max()


def test_an_image_takes_its_own_steps_in_any_company(network_velocity):
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise *= torch.tensor([0.1, 1.0, 6.0])[:, None, None, None]
    y = torch.tensor([0, 4, 9])

    def rounds(chosen):
        states = list(dormand_prince(lambda x, t: network_velocity(x, t, y[chosen]), noise[chosen]))
        return len(states), states[-1][1]

    alone = [rounds([k]) for k in range(3)]
    together = rounds([0, 1, 2])
    assert together[0] == max(num for num, _ in alone) > min(num for num, _ in alone)
    for k, (_, x) in enumerate(alone):
        assert torch.allclose(together[1][k], x[0], rtol=1e-9, atol=1e-11)
    shared = odeint(
        lambda t, x: network_velocity(x, t.expand(3), y), noise, torch.tensor([0.0, 1.0]), atol=ATOL, rtol=RTOL
    )[-1]
    assert not torch.allclose(shared[0], alone[0][1][0], rtol=1e-9, atol=1e-11)  # shared steps: other numbers


def test_a_velocity_that_is_no_number_or_too_fast_ends_in_one_line():
    x = torch.ones(2, 4, 8, 8)
    with pytest.raises(TrainingDiverged, match="isn't finite"):
        list(dormand_prince(lambda x, t: x * float("nan"), x))
    with pytest.raises(InputError, match="too fast"):
        list(dormand_prince(lambda x, t: 1e9 * torch.sin(1e9 * x), x))
