"""Equal to the official DiT and SiT, and to diffusers' DiT, with the same random weights and open gates.

The reference is ``PlainDiT`` with official arguments and names; schedules are written here in float64 from the papers.
"""

import math

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, DiTPipeline

from engine.models import layouts
from engine.models.dit import DiT, DiTConfig
from engine.models.presets import PRESETS
from engine.process import make_process
from engine.process.guidance import guided
from tests.conftest import make_network
from tests.unit.plain_dit import PlainDiT
from tests.unit.test_layouts import diffusers_model

ARGUMENTS = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio")
ARGUMENTS += ("class_dropout_prob", "num_classes", "learn_sigma")


def plain_twin(network: DiT, *, flow: bool = False) -> PlainDiT:
    """The official class, built from the arguments, holding the same tensors."""
    with torch.device("meta"):
        plain = PlainDiT(**{name: getattr(network.config, name) for name in ARGUMENTS}, flow=flow)
    plain.load_state_dict(network.state_dict(), strict=True, assign=True)
    return plain.eval().requires_grad_(False)


def inputs(config: DiTConfig, num: int, *, time: float = 999.0):
    x = torch.randn(num, *config.latent_shape, generator=torch.Generator().manual_seed(1))
    return x, torch.linspace(time / num, time, num), torch.linspace(0, config.num_classes, num).long()


def relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return ((ours - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize(
    ("preset", "depth", "learn_sigma", "num"),
    [
        ("S/2", 12, True, 2),
        ("S/2", 12, False, 2),
        ("S/2", 28, True, 2),
        ("S/2", 28, False, 1),
        ("S/2", 7, True, 1),
        ("B/4", 12, True, 2),
        ("B/4", 28, True, 1),
        ("B/4", 7, False, 2),
        ("XL/2", 7, False, 1),
        ("XL/2", 28, True, 1),  # all 675 million parameters
    ],
)
def test_forward_equals_the_official_model(preset, depth, learn_sigma, num):
    config = DiTConfig(**{**PRESETS[preset], "depth": depth}, learn_sigma=learn_sigma)
    network = DiT(config).initialize(torch.Generator().manual_seed(0), gate_std=0.05).eval().requires_grad_(False)
    plain = plain_twin(network)
    with torch.inference_mode():
        reference = plain(*inputs(config, num))
        assert relative(network(*inputs(config, num)), reference) <= 1e-5
        without_a_block = network(*inputs(config, num), skip={depth // 2})
    assert reference.shape == (num, 8 if learn_sigma else 4, 32, 32)
    assert relative(without_a_block, reference) > 1e-3  # the gates are open: each block counts


@pytest.mark.parametrize("size", [8, 32, 64])
def test_a_new_network_has_the_official_position_table(size):
    config = DiTConfig(input_size=size, hidden_size=96, num_heads=4, depth=1)
    official = PlainDiT(input_size=size, hidden_size=96, num_heads=4, depth=1)
    assert torch.allclose(DiT(config).pos_embed, official.pos_embed, atol=1e-6)


def test_sit_throws_the_variance_half_away():
    network = make_network(drop_sigma=True, depth=7)
    x, t, y = inputs(network.config, 3, time=1.0)
    sit = plain_twin(network, flow=True)(x, t, y)
    assert sit.shape == x.shape and relative(network(x, t, y), sit) <= 1e-5
    assert relative(plain_twin(network)(x, t, y)[:, :4], sit) == 0.0


@pytest.mark.parametrize("channels", [3, None])
@pytest.mark.parametrize("flow", [False, True])
def test_guidance_is_the_official_forward_with_cfg(flow, channels):
    network = make_network(drop_sigma=flow)
    x, t, _ = inputs(network.config, 3, time=1.0 if flow else 999.0)
    y, null = torch.tensor([0, 3, 9]), torch.full((3,), 10)
    official = plain_twin(network, flow=flow).forward_with_cfg(
        torch.cat([x, torch.zeros_like(x)]), torch.cat([t, t]), torch.cat([y, null]), 4.0, channels or 4
    )
    ours = guided(network, null_class=10, cfg_scale=4.0, num_guided_channels=channels)(x, t, y)
    assert relative(ours, official[:3]) <= 1e-5
    other = guided(network, null_class=10, cfg_scale=4.0, num_guided_channels=None if channels else 3)(x, t, y)
    assert relative(other, official[:3]) > 1e-3


ALPHAS_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))


def spaced(num_steps: int) -> list[int]:
    """The official code's timesteps, ascending: both ends of 0 … 999, and what lies between rounded."""
    return sorted({round(step * 999 / (num_steps - 1)) for step in range(num_steps)})


@pytest.mark.parametrize("num_steps", [4, 25])
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_ddpm_is_the_official_sampler(num_steps, learn_sigma):
    """Every state against a loop in float64 over respaced betas, with the same noise."""
    network = make_network(learn_sigma=learn_sigma)
    x, _, y = inputs(network.config, 2)
    steps = make_process("diffusion", learn_sigma=learn_sigma).sample(
        network, x, y, num_steps=num_steps, sampler="ddpm",
        generators=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
    )  # fmt: skip
    ours = [state for _, state in steps]

    noises = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    timesteps = spaced(num_steps)
    abar = ALPHAS_BAR[timesteps]
    before = np.append(1.0, abar[:-1])
    betas = 1 - abar / before
    variance = betas * (1 - before) / (1 - abar)  # of the posterior, eq. 7 of arXiv 2006.11239
    least, most = np.log(np.append(variance[1], variance[1:])), np.log(betas)
    if not learn_sigma:  # the official "fixed large": the betas, but the first is the second's posterior variance
        least = most = np.log(np.append(variance[1], betas[1:]))
    reference = x.double()
    for index in reversed(range(num_steps)):
        output = network(reference.float(), torch.full((2,), timesteps[index]), y).double()
        eps, v = output[:, :4], output[:, 4:] if learn_sigma else torch.zeros(1)
        x0 = (reference - math.sqrt(1 - abar[index]) * eps) / math.sqrt(abar[index])
        mean = (
            betas[index] * math.sqrt(before[index]) * x0 + (1 - before[index]) * math.sqrt(1 - betas[index]) * reference
        )
        mean = mean / (1 - abar[index])
        log_variance = least[index] + (most[index] - least[index]) * (v + 1) / 2
        noise = torch.cat([torch.randn(1, 4, 8, 8, generator=generator) for generator in noises]).double()
        reference = mean + (index > 0) * (log_variance / 2).exp() * noise
        assert relative(ours[num_steps - 1 - index].double(), reference) <= 1e-4
    assert relative(ours[-1].double(), reference) <= 1e-4


@pytest.mark.parametrize("num_steps", [1, 5, 20])
def test_ddim_starts_at_pure_noise_and_ends_at_the_clean_latent(num_steps):
    network = make_network()
    x, _, y = inputs(network.config, 2)
    visited = []

    def watched(x, t, y):
        visited.append(int(t[0]))
        return network(x, t, y)

    *_, (_, ours) = make_process("diffusion").sample(watched, x, y, num_steps=num_steps, sampler="ddim")
    timesteps = [round(1000 - step * 1000 / num_steps) - 1 for step in range(num_steps)]
    assert visited == timesteps and timesteps[0] == 999
    reference = x.double()
    for t, before in zip(timesteps, [*timesteps[1:], None], strict=True):
        eps = network(reference.float(), torch.full((2,), t), y)[:, :4].double()
        x0 = (reference - math.sqrt(1 - ALPHAS_BAR[t]) * eps) / math.sqrt(ALPHAS_BAR[t])
        left = 1.0 if before is None else ALPHAS_BAR[before]  # after the last step nothing of the noise is left
        reference = math.sqrt(left) * x0 + math.sqrt(1 - left) * eps
    assert relative(ours.double(), reference) <= 1e-4


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_a_model_of_diffusers_computes_here_what_it_computes_there(learn_sigma):
    model = diffusers_model(out_channels=8 if learn_sigma else 4)
    state = model.state_dict()
    official = layouts.to_official(state, layout="diffusers")
    shapes = {name: tuple(tensor.shape) for name, tensor in official.items()}
    hints = {"num_heads": 4, "num_classes": 10, "input_size": 8, "time_embedding": "diffusers"}
    config, notes = layouts.config_of(shapes, hints=hints)
    assert notes == [] and config.learn_sigma == learn_sigma
    network = DiT(config).eval().requires_grad_(False)
    missing, unexpected = network.load_state_dict(official, strict=False)
    assert missing == ["pos_embed"] and not unexpected

    x, t, y = inputs(config, 3)
    theirs = model(x, timestep=t, class_labels=y).sample
    assert relative(network(x, t, y), theirs) <= 1e-5
    network.t_embedder.frequency_shift = 0
    assert relative(network(x, t, y), theirs) > 1e-3  # the official frequencies are others

    back = layouts.to_diffusers(network.state_dict(), config)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_our_sampling_of_a_diffusers_model_is_that_of_its_pipeline():
    model = diffusers_model(num_embeds_ada_norm=1000)
    config = DiTConfig(input_size=8, hidden_size=32, depth=3, num_heads=4, time_embedding="diffusers")
    network = DiT(config).eval().requires_grad_(False)
    network.load_state_dict(layouts.to_official(model.state_dict(), layout="diffusers"), strict=False)
    # an autoencoder that lets us see the latents
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(4,), decoder_block_out_channels=(4,), num_encoder_blocks=(1,),
        num_decoder_blocks=(1,), scaling_factor=1.0,
    )  # fmt: skip
    seen = []
    autoencoder.decode = lambda latents, **more: seen.append(latents) or AutoencoderTiny.decode(autoencoder, latents)
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False, timestep_spacing="trailing"
    )
    pipeline = DiTPipeline(model, autoencoder, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline(class_labels=[3, 7], guidance_scale=4.0, num_inference_steps=5, generator=torch.Generator().manual_seed(0))

    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = guided(network, null_class=1000, cfg_scale=4.0, num_guided_channels=None)
    *_, (_, x) = make_process("diffusion").sample(ours, noise, torch.tensor([3, 7]), num_steps=5, sampler="ddim")
    assert relative(x, seen[0]) <= 1e-4
