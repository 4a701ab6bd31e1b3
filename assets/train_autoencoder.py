"""Trains the bundled autoencoder: 32×32×3 pixels <-> 8×8×4 latents, a diffusers ``AutoencoderTiny``.

Latents (B, 4, 8, 8) are pulled towards unit size and carry noise while training, so that a diffusion model's
small errors stay small in pixels.
"""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

CHANNELS, LATENT_CHANNELS = 48, 4
BATCH_SIZE, LEARNING_RATE, WARMUP_STEPS = 64, 2e-3, 100
LATENT_NOISE, LATENT_PENALTY = 0.1, 1e-3


def train_autoencoder(images: Tensor, *, num_steps: int, seed: int) -> AutoencoderTiny:
    """images: uint8 (N, 3, 32, 32) of every bundled dataset, drawn from with equal chances."""
    torch.manual_seed(seed)
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 3,
        decoder_block_out_channels=(CHANNELS,) * 3,
        num_encoder_blocks=(1, 1, 2),
        num_decoder_blocks=(2, 2, 1),
        latent_channels=LATENT_CHANNELS,
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=num_steps, pct_start=WARMUP_STEPS / num_steps
    )
    for step in range(num_steps):
        batch = images[torch.randint(len(images), (BATCH_SIZE,))].float() / 127.5 - 1
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = autoencoder.encode(batch).latents
            decoded = autoencoder.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
        difference = decoded.float() - batch
        loss = difference.abs().mean() + difference.square().mean() + LATENT_PENALTY * latents.float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps - 1:
            print(
                f"autoencoder step {step}/{num_steps} loss {loss.item():.4f} mse {difference.square().mean():.5f}",
                flush=True,
            )
    return _with_unit_latents(autoencoder.eval().to(memory_format=torch.contiguous_format), images)


@torch.no_grad()
def _with_unit_latents(autoencoder: AutoencoderTiny, images: Tensor) -> AutoencoderTiny:
    """Writes the scale and shift that give latents zero mean and unit deviation into the autoencoder's config."""
    probe = images[torch.randperm(len(images))[:2048]].float() / 127.5 - 1
    latents = torch.cat([autoencoder.encode(chunk).latents for chunk in probe.split(256)])
    scaling_factor, shift_factor = 1 / latents.std().item(), latents.mean().item()
    autoencoder.register_to_config(scaling_factor=scaling_factor, shift_factor=shift_factor)
    worst = F.mse_loss(torch.cat([autoencoder.decode(z).sample for z in latents.split(256)]), probe)
    print(f"autoencoder: reconstruction mse {worst:.5f}, latent mean {shift_factor:.3f}, std {latents.std():.3f}")
    return autoencoder
