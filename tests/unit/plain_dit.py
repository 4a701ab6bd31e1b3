"""A second implementation of the DiT forward, written from the paper in plain products, to compare with."""

import math

import torch
from torch import Tensor


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
