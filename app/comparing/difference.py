"""How far two pictures of one seed are apart, as a picture and as a number in grey levels."""

import numpy as np

_CHUNK = 512  # pictures at a time, so that those on the disk needn't all be in memory


def amplified(first: np.ndarray, second: np.ndarray, *, factor: int) -> np.ndarray:
    """|first − second| of each pixel and colour, ``factor`` times as strong, clipped at 255. uint8 (H, W, 3)."""
    apart = np.abs(first.astype(np.int32) - second)
    return np.minimum(apart * factor, 255).astype(np.uint8)


def rms(first: np.ndarray, second: np.ndarray) -> float:
    """Root of the mean squared difference over pixels and colours, in grey levels: 0 … 255."""
    return float(np.sqrt(np.mean((first.astype(np.float64) - second) ** 2)))


def rms_of_all(first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``rms`` of each pair: uint8 (N, H, W, 3), (M, H, W, 3) and their rows (2, num_pairs) -> (num_pairs,)."""
    found = np.empty(rows.shape[1], np.float64)
    for begin in range(0, len(found), _CHUNK):
        mine, theirs = rows[:, begin : begin + _CHUNK]
        apart = first[mine].astype(np.float32) - second[theirs]
        found[begin : begin + len(mine)] = np.sqrt(np.mean(np.square(apart), axis=(1, 2, 3), dtype=np.float64))
    return found
