"""A second implementation of the official DiT, written from the paper in plain products, to compare with."""

import math

import torch
from torch import Tensor, nn


class PlainDiT(nn.Module):
    """Takes the constructor arguments of the official class and has its parameter names, so that official weights load
    with ``strict=True``. ``flow``: as SiT, which throws the variance half of its output away."""

    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        *,
        flow: bool = False,
    ) -> None:
        super().__init__()
        D, wide = hidden_size, int(hidden_size * mlp_ratio)
        self.num_heads, self.patch_size, self.in_channels = num_heads, patch_size, in_channels
        self.halved = flow and learn_sigma
        out = patch_size**2 * in_channels * (2 if learn_sigma else 1)
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(in_channels, D, patch_size, stride=patch_size)})
        self.t_embedder = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(256, D), nn.SiLU(), nn.Linear(D, D))})
        rows = num_classes + int(class_dropout_prob > 0)
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(rows, D)})
        self.pos_embed = nn.Parameter(plain_positions(input_size // patch_size, D), requires_grad=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "attn": nn.ModuleDict({"qkv": nn.Linear(D, 3 * D), "proj": nn.Linear(D, D)}),
                "mlp": nn.ModuleDict({"fc1": nn.Linear(D, wide), "fc2": nn.Linear(wide, D)}),
                "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(D, 6 * D)),
            })
            for _ in range(depth)
        )  # fmt: skip
        self.final_layer = nn.ModuleDict({
            "linear": nn.Linear(D, out), "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(D, 2 * D))
        })  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        state = dict(self.state_dict())
        out = plain_forward(state, x, t, y, num_heads=self.num_heads, patch_size=self.patch_size)
        return out[:, : self.in_channels] if self.halved else out

    def forward_with_cfg(self, x: Tensor, t: Tensor, y: Tensor, cfg_scale: float, channels: int = 3) -> Tensor:
        """x, t, y: the batch twice, with classes and with the null class; the latents of the second half are ignored.
        Returns the batch twice, its first channels guided, the others as each half has them."""
        half = len(x) // 2
        with_class, without = (self.forward(x[:half], t[part], y[part]) for part in (slice(half), slice(half, None)))
        guided = without[:, :channels] + cfg_scale * (with_class[:, :channels] - without[:, :channels])
        return torch.cat([torch.cat([guided, out[:, channels:]], dim=1) for out in (with_class, without)])


def plain_positions(side: int, hidden_size: int) -> Tensor:
    """(1, side², D): of the column first, then of the row, each its sines and then its cosines."""
    quarter = hidden_size // 4
    table = torch.empty(side * side, hidden_size, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            values = []
            for position in (column, row):
                angles = torch.tensor([position / 10000 ** (i / quarter) for i in range(quarter)], dtype=torch.float64)
                values += [angles.sin(), angles.cos()]
            table[row * side + column] = torch.cat(values)
    return table.float()[None]


def plain_forward(
    state: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor, *, num_heads: int, patch_size: int
) -> Tensor:
    def linear(name: str, v: Tensor) -> Tensor:
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def normed(v: Tensor) -> Tensor:
        mean = v.mean(-1, keepdim=True)
        return (v - mean) / torch.sqrt(((v - mean) ** 2).mean(-1, keepdim=True) + 1e-6)

    def silu(v: Tensor) -> Tensor:
        return v / (1 + torch.exp(-v))

    def gelu(v: Tensor) -> Tensor:
        return 0.5 * v * (1 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))

    B, C, H, _ = x.shape
    P, side = patch_size, H // patch_size
    D = state["pos_embed"].shape[-1]
    kernel = state["x_embedder.proj.weight"].reshape(D, -1)
    tokens = torch.empty(B, side * side, D, dtype=x.dtype)
    for row in range(side):
        for column in range(side):
            patch = x[:, :, row * P : (row + 1) * P, column * P : (column + 1) * P].reshape(B, -1)
            tokens[:, row * side + column] = patch @ kernel.T + state["x_embedder.proj.bias"]
    h = tokens + state["pos_embed"]

    frequencies = torch.tensor([10000 ** (-i / 128) for i in range(128)], dtype=x.dtype)
    angles = t[:, None].to(x.dtype) * frequencies
    c = linear("t_embedder.mlp.2", silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], dim=1))))
    c = c + state["y_embedder.embedding_table.weight"][y]

    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    for i in range(depth):
        m = linear(f"blocks.{i}.adaLN_modulation.1", silu(c)).reshape(B, 6, 1, D)
        a = normed(h) * (1 + m[:, 1]) + m[:, 0]
        qkv = linear(f"blocks.{i}.attn.qkv", a)
        heads = []
        width = D // num_heads
        for head in range(num_heads):
            q, k, v = (qkv[..., part * D + head * width : part * D + (head + 1) * width] for part in range(3))
            heads.append(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(width), dim=-1) @ v)
        h = h + m[:, 2] * linear(f"blocks.{i}.attn.proj", torch.cat(heads, dim=-1))
        a = normed(h) * (1 + m[:, 4]) + m[:, 3]
        h = h + m[:, 5] * linear(f"blocks.{i}.mlp.fc2", gelu(linear(f"blocks.{i}.mlp.fc1", a)))

    m = linear("final_layer.adaLN_modulation.1", silu(c)).reshape(B, 2, 1, D)
    patches = linear("final_layer.linear", normed(h) * (1 + m[:, 1]) + m[:, 0])
    C_out = patches.shape[-1] // (P * P)
    out = torch.empty(B, C_out, H, H, dtype=x.dtype)
    for row in range(side):
        for column in range(side):
            patch = patches[:, row * side + column].reshape(B, P, P, C_out).permute(0, 3, 1, 2)
            out[:, :, row * P : (row + 1) * P, column * P : (column + 1) * P] = patch
    return out
