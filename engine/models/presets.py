"""Sizes of the published DiT and SiT models (arXiv 2212.09748, table 1; arXiv 2401.08740 uses the same)."""

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
