"""A value between the ends of a 90 % interval, and how such ends are found."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

CONFIDENCE = 0.9
_Z = 1.6448536269514722  # 95th percentile of the normal distribution, for 90 % intervals


@dataclass(frozen=True, kw_only=True)
class Interval:
    value: float
    low: float
    high: float


def bootstrap_interval(value: float, resampled: np.ndarray, *, least: float = -np.inf) -> Interval:
    """Percentiles of the bootstrap, moved to lie about ``value``: a resample repeats images, which raises every FID and
    KID alike, so that unmoved percentiles would often lie above the value itself."""
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)) - resampled.mean()
    return Interval(value=value, low=max(least, value + min(0.0, float(low))), high=value + max(0.0, float(high)))


def median_interval(values: np.ndarray) -> Interval:
    """The median between two of the ``values`` that hold it with at least 90 %, whatever their distribution: as many
    lie below it as heads come up (David and Nagaraja, Order Statistics, 7.1). Of less than five: least and most."""
    ordered = np.sort(values)
    least = max(0, int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5)) - 1)
    return Interval(value=float(np.median(ordered)), low=float(ordered[least]), high=float(ordered[-1 - least]))


def share_interval(share: float, num: int) -> Interval:
    """Wilson's score interval of a share of ``num`` images."""
    centre = (share + _Z**2 / (2 * num)) / (1 + _Z**2 / num)
    half = _Z / (1 + _Z**2 / num) * np.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    return Interval(value=share, low=max(0.0, float(centre - half)), high=min(1.0, float(centre + half)))


def halves_interval(share: float, num: int, of_halves: np.ndarray) -> Interval:
    """The wider of Wilson's interval and of the spread over random halves of a set: half a set drawn without repeats
    scatters about its own mean as the whole set does about the truth."""
    wilson, spread = share_interval(share, num), _Z * float(np.std(of_halves)) if len(of_halves) else 0.0
    return Interval(
        value=share,
        low=max(0.0, min(wilson.low, share - spread)),
        high=min(1.0, max(wilson.high, share + spread)),
    )


def range_of(values: list[float]) -> Interval:
    """Mean, smallest and largest."""
    return Interval(value=float(np.mean(values)), low=float(min(values)), high=float(max(values)))
