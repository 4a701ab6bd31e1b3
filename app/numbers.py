"""Numbers as they are written: with as many decimals as their range allows."""

import math

_MOST_DECIMALS = 6


def number(value: float) -> str:
    """Three digits that count, of a number without a range."""
    return _minus(f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}")


def ranged(value: dict) -> str:
    """A number with as many decimals as its range allows: two digits of the range's width."""
    return _minus(f"{value['value']:,.{_decimals(value)}f}")


def change(value: dict, first: dict) -> str:
    """From ``first`` to ``value``, both as they are written: who subtracts what stands there finds the same."""
    decimals = [_decimals(one) for one in (value, first)]
    now, before = (round(one["value"], digits) for one, digits in zip((value, first), decimals, strict=True))
    return _minus(f"{now - before:+,.{max(decimals)}f}")


def interval(value: dict) -> str:
    decimals = _decimals(value)
    low, high = (_minus(f"{value[end]:,.{decimals}f}") for end in ("low", "high"))
    return f"{low} … {high}"


def _decimals(value: dict) -> int:
    width = value["high"] - value["low"]
    return decimals_for(width, digits=2) if width > 0 else 3


def decimals_for(size: float, *, digits: int) -> int:
    """How many write a number of this size, above 0, with so many digits that count."""
    return min(_MOST_DECIMALS, max(0, digits - 1 - math.floor(math.log10(size))))


def _minus(text: str) -> str:
    """With a true minus, and none before zero."""
    return text.lstrip("+-") if not text.strip("+-0.,") else text.replace("-", "−")


def count(value: float) -> str:
    for size, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}"
