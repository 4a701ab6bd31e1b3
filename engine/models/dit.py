"""One transformer for DiT (arXiv 2212.09748) and SiT (arXiv 2401.08740): the two differ in process, not in network.

Shapes: B batch, C latent channels, H×W latent, P patch_size, T = (H/P)·(W/P) tokens, D hidden_size, N depth.
Parameter names are those of the official checkpoints, so that their state dicts load with ``strict=True``.
"""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from engine.errors import InputError
from engine.models import compiled
from engine.models.presets import FREQUENCY_EMBEDDING_SIZE

#: Frequencies of the timestep, i = 0 … 127: 10000^(−i/(128 − shift))
TIME_EMBEDDINGS = {"official": 0, "diffusers": 1}


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Constructor arguments under their official names.

    ``drop_sigma``: the network has the variance half of the output channels but doesn't return it (official SiT).
    ``time_embedding``: diffusers spreads the frequencies of the timestep over 127 steps, the official code over 128; a
    model must keep to what it was trained or converted with.
    """

    input_size: int = 32  # side of the latent, in latent pixels
    patch_size: int = 2
    in_channels: int = 4
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_classes: int = 1000
    class_dropout_prob: float = 0.1  # > 0 means that the label table has one more row: the null class
    learn_sigma: bool = True
    drop_sigma: bool = False
    time_embedding: str = "official"

    def __post_init__(self) -> None:
        if self.input_size % self.patch_size:
            raise InputError(f"input_size {self.input_size} is not a multiple of patch_size {self.patch_size}")
        if self.hidden_size % self.num_heads or self.hidden_size % 4:
            raise InputError(
                f"hidden_size {self.hidden_size} must be a multiple of 4 and of num_heads {self.num_heads}"
            )
        if min(self.depth, self.num_classes, self.in_channels) < 1:
            raise InputError("depth, num_classes and in_channels must be at least 1")
        if self.time_embedding not in TIME_EMBEDDINGS:
            raise InputError(
                f"time_embedding {self.time_embedding!r} is unknown; choose one of {', '.join(TIME_EMBEDDINGS)}"
            )

    @property
    def num_tokens(self) -> int:
        return (self.input_size // self.patch_size) ** 2

    @property
    def out_channels(self) -> int:
        return self.in_channels * 2 if self.learn_sigma else self.in_channels

    @property
    def null_class(self) -> int | None:
        """Label id that stands for "no class"; None where the model was trained without label dropout."""
        return self.num_classes if self.class_dropout_prob > 0 else None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.in_channels, self.input_size, self.input_size


class PatchEmbed(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_channels, config.hidden_size, config.patch_size, stride=config.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        # (B, C, H, W) -> (B, T, D), laid out so: else every operation of every block would copy or stride
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()


class TimestepEmbedder(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        hidden_size = config.hidden_size
        self.frequency_shift = TIME_EMBEDDINGS[config.time_embedding]
        self.mlp = nn.Sequential(
            nn.Linear(FREQUENCY_EMBEDDING_SIZE, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        frequencies = get_timestep_embedding(
            t.float(), FREQUENCY_EMBEDDING_SIZE, flip_sin_to_cos=True, downscale_freq_shift=self.frequency_shift
        )  # (B, 256)
        return self.mlp(frequencies.to(self.mlp[0].weight.dtype))  # (B, D)


class LabelEmbedder(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        rows = config.num_classes + (config.null_class is not None)
        self.embedding_table = nn.Embedding(rows, config.hidden_size)

    def forward(self, y: Tensor) -> Tensor:
        return self.embedding_table(y)  # (B,) -> (B, D)


class Attention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each (B, heads, T, D/heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, T, D))


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, int(hidden_size * mlp_ratio))
        self.fc2 = nn.Linear(int(hidden_size * mlp_ratio), hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


def gelu(x: Tensor) -> Tensor:
    """x/2·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³), the official DiT's GELU.

    That equals x·σ(2u), which a CPU works out in half the time of torch's own kernel, up to rounding. Training keeps
    torch's: its backward needs one tensor where this would keep several.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    slope = 2 * math.sqrt(2 / math.pi)
    return x.square().mul_(0.044715 * slope).add_(slope).mul_(x).sigmoid_().mul_(x)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (B, T, D) scaled and shifted per sample by (B, D) vectors."""
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class DiTBlock(nn.Module):
    """adaLN-Zero block: two gated residual branches, attention and MLP."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.norm1 = nn.LayerNorm(D, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(D, config.num_heads)
        self.norm2 = nn.LayerNorm(D, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(D, config.mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(D, 6 * D))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.modulated(x, self.modulation(c))

    def modulation(self, c: Tensor) -> Tensor:
        """Shift, scale and gate of both branches, (B, 6, D), from the conditioning vector (B, D)."""
        return self.adaLN_modulation(c).unflatten(1, (6, -1))

    def modulated(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The block's work on tokens (B, T, D), its conditioning already worked out."""
        return compiled.run(_past, self, x, modulation)


def _past(block: DiTBlock, x: Tensor, modulation: Tensor) -> Tensor:
    """Tokens x (B, T, D) past a block; ``modulation`` (B, 6, D) is the block's own."""
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unbind(1)  # each (B, D)
    x = torch.addcmul(x, gate_a.unsqueeze(1), block.attn(modulate(block.norm1(x), shift_a, scale_a)))
    return torch.addcmul(x, gate_m.unsqueeze(1), block.mlp(modulate(block.norm2(x), shift_m, scale_m)))


def _recomputed(block: DiTBlock, x: Tensor, c: Tensor) -> Tensor:
    """``block(x, c)``, of which only the input is kept: the backward pass works the rest out again, the same way."""
    wanted = compiled.are_wanted()
    # to stop early is done by an exception, which compiled blocks would be blamed for
    with set_checkpoint_early_stop(not wanted):
        return checkpoint(
            block,
            x,
            c,
            use_reentrant=False,
            preserve_rng_state=False,  # a block draws nothing
            context_fn=lambda: (nullcontext(), compiled.compiled_blocks(wanted)),
        )


class FinalLayer(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.norm_final = nn.LayerNorm(D, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(D, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(D, 2 * D))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))  # (B, T, P·P·C_out)


class DiT(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = PatchEmbed(config)
        self.t_embedder = TimestepEmbedder(config)
        self.y_embedder = LabelEmbedder(config)
        self.pos_embed = nn.Parameter(position_embedding(config), requires_grad=False)  # (1, T, D)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    @classmethod
    def holding(cls, config: DiTConfig, state: dict[str, Tensor]) -> "DiT":
        """A network around these tensors, which are not copied: a large model fits into memory once, not twice."""
        with torch.device("meta"):
            network = cls(config)
        network.load_state_dict(state, assign=True)
        network.pos_embed.requires_grad_(False)
        return network

    def embed(self, x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block sees: tokens (B, T, D) and the conditioning vector (B, D)."""
        return self.x_embedder(x) + self.pos_embed, self.t_embedder(t) + self.y_embedder(y)

    def head(self, h: Tensor, c: Tensor) -> Tensor:
        """Tokens after the last block (B, T, D) -> output (B, C_out, H, W)."""
        config, side = self.config, self.config.input_size // self.config.patch_size
        patches = self.final_layer(h, c).view(-1, side, side, config.patch_size, config.patch_size, config.out_channels)
        out = patches.permute(0, 5, 1, 3, 2, 4).reshape(-1, config.out_channels, config.input_size, config.input_size)
        return out[:, : config.in_channels] if config.drop_sigma else out

    def forward(self, x: Tensor, t: Tensor, y: Tensor, *, skip: Iterable[int] = (), recompute: bool = False) -> Tensor:
        """x (B, C, H, W), t (B,), y (B,) class ids -> (B, C_out, H, W). Blocks in ``skip`` contribute nothing.

        ``recompute``: of each block its input alone is kept for the backward pass (gradient checkpointing), which costs
        another forward; the gradient is the same.
        """
        skip = frozenset(skip)
        h, c = self.embed(x, t, y)
        for index, block in enumerate(self.blocks):
            if index not in skip:
                h = _recomputed(block, h, c) if recompute else block(h, c)
        return self.head(h, c)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator, *, gate_std: float = 0.0) -> "DiT":
        """Official initialisation from one seed. ``gate_std`` > 0 opens the gates, which adaLN-Zero starts at zero:
        with closed gates every block is the identity and no test of surgery or skipping can fail."""
        for name, parameter in self.named_parameters():
            if name == "pos_embed":
                continue
            if name.startswith(("t_embedder.mlp", "y_embedder")) and name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif "adaLN_modulation" in name or name.startswith("final_layer.linear"):
                parameter.zero_()
                if gate_std:
                    parameter.normal_(std=gate_std, generator=generator)
            elif name.endswith("weight"):
                nn.init.xavier_uniform_(parameter.view(parameter.shape[0], -1), generator=generator)
            else:
                parameter.zero_()
        return self

    def with_blocks(self, kept: list[int]) -> "DiT":
        """A network of the same parts that shares these blocks, in this order; weights are not copied."""
        pruned = self._shared(replace(self.config, depth=len(kept)))
        pruned.blocks = nn.ModuleList(self.blocks[index] for index in kept)
        return pruned.train(self.training)

    def with_num_classes(self, num_classes: int) -> "DiT":
        """A network of the same parts with a label table of its own, not yet filled; weights are not copied."""
        changed = self._shared(replace(self.config, num_classes=num_classes))
        changed.y_embedder = LabelEmbedder(changed.config).to(self.pos_embed.device)
        changed.y_embedder.requires_grad_(self.x_embedder.proj.weight.requires_grad)
        return changed.train(self.training)

    def _shared(self, config: DiTConfig) -> "DiT":
        twin = DiT.__new__(DiT)
        nn.Module.__init__(twin)
        twin.config = config
        twin.x_embedder, twin.t_embedder, twin.y_embedder = self.x_embedder, self.t_embedder, self.y_embedder
        twin.pos_embed, twin.blocks, twin.final_layer = self.pos_embed, self.blocks, self.final_layer
        return twin


def position_embedding(config: DiTConfig) -> Tensor:
    """(1, T, D) sines and cosines of rows and columns, counted from 0 in steps of 1; no model trains them."""
    side = config.input_size // config.patch_size
    table = get_2d_sincos_pos_embed(config.hidden_size, side, base_size=side, output_type="pt")  # (T, D)
    return table.float().unsqueeze(0)
