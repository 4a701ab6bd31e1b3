"""Sizes of the published DiT and SiT models (arXiv 2212.09748, table 1; arXiv 2401.08740 uses the same), and how many
parameters a network of given sizes has. Free of torch.
"""

import math
from collections.abc import Mapping

FREQUENCY_EMBEDDING_SIZE = 256  # fixed in the official models

_SIZES = {
    "S": dict(depth=12, hidden_size=384, num_heads=6),
    "B": dict(depth=12, hidden_size=768, num_heads=12),
    "L": dict(depth=24, hidden_size=1024, num_heads=16),
    "XL": dict(depth=28, hidden_size=1152, num_heads=16),
}

#: name -> the constructor arguments that the name stands for, e.g. ``PRESETS["XL/2"]["depth"] == 28``.
PRESETS: dict[str, dict[str, int]] = {
    f"{size}/{patch_size}": {**shape, "patch_size": patch_size}
    for size, shape in _SIZES.items()
    for patch_size in (2, 4, 8)
}


def num_parameters(network: Mapping[str, int | float]) -> int | None:
    """Of a network with these constructor arguments, without its fixed position table; None where they don't say."""
    names = ("hidden_size", "depth", "patch_size", "in_channels", "num_classes", "mlp_ratio", "class_dropout_prob")
    said = [network.get(name) for name in (*names, "learn_sigma")]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in said):
        return None
    D, N, P, C, num_classes, mlp_ratio, dropout = (network[name] for name in names)
    wide, patch = int(D * mlp_ratio), C * P**2

    def linear(num_in: int, num_out: int) -> int:
        return (num_in + 1) * num_out

    block = linear(D, 3 * D) + linear(D, D) + linear(D, wide) + linear(wide, D) + linear(D, 6 * D)
    head = linear(D, patch * (2 if network["learn_sigma"] else 1)) + linear(D, 2 * D)
    time = linear(FREQUENCY_EMBEDDING_SIZE, D) + linear(D, D)
    return linear(patch, D) + time + (num_classes + (dropout > 0)) * D + N * block + head
