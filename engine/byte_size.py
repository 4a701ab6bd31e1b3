"""Numbers of bytes in words."""


def byte_size(num_bytes: float) -> str:
    """Three digits that count, decimal units: "1.23 GB"."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"
