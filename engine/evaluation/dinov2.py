"""DINOv2's vision transformer (arXiv 2304.07193), as far as its class token needs it.

torch-fidelity loads it by running code that torch.hub downloads; this one takes the published tensors only. Names are
the checkpoint's. Shapes: B batch, T patches, D width.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTH_OF_HEAD = 64  # in every published size
_EPS = 1e-6


class DinoV2(nn.Module):
    def __init__(self, *, width: int, depth: int, patch_size: int, num_patches: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch_size, stride=patch_size)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches + 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of pre-training; not used
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "DinoV2":
        """Of the size that the tensors have. Raises KeyError or RuntimeError where they aren't DINOv2's."""
        width, _, patch_size, _ = state["patch_embed.proj.weight"].shape
        depth = len({found[1] for name in state if (found := re.match(r"blocks\.(\d+)\.", name))})
        num_patches = state["pos_embed"].shape[1] - 1
        network = cls(width=width, depth=depth, patch_size=patch_size, num_patches=num_patches)
        network.load_state_dict(state, strict=True)
        return network

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), normalised -> (B, D)."""
        x = self.patch_embed["proj"](images)  # (B, D, S / p, S / p)
        side = x.shape[-1]
        x = x.flatten(2).transpose(1, 2)  # (B, T, D)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self._positions(side)  # (B, T + 1, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]  # (B, D)

    def _positions(self, side: int) -> Tensor:
        """Learned on a larger grid. The 0.1 is the official code's: it changes the scale of the interpolation."""
        of_class, of_patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        learned = round(of_patches.shape[1] ** 0.5)
        if learned == side:
            return self.pos_embed
        grid = of_patches.unflatten(1, (learned, learned)).permute(0, 3, 1, 2)  # (1, D, learned, learned)
        scale = (side + 0.1) / learned
        grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")  # (1, D, side, side)
        return torch.cat([of_class, grid.flatten(2).transpose(1, 2)], dim=1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.ls1 = nn.ParameterDict({"gamma": torch.ones(width)})
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls2 = nn.ParameterDict({"gamma": torch.ones(width)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, -1, _WIDTH_OF_HEAD))  # (B, T, 3, heads, 64)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, 64) each
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, T, D)
        x = x + self.attn["proj"](seen) * self.ls1["gamma"]
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))) * self.ls2["gamma"]
