"""Numbers as a report writes them."""

from collections.abc import Mapping
from typing import Any


def interval(measured: Mapping[str, Any] | None, key: str = "value") -> str:
    """A value with its 90 % interval below it, as HTML."""
    if measured is None:
        return "–"
    if measured.get("low") is None or measured.get("high") is None:
        return number(measured[key])
    return f"{number(measured[key])}<small>[{number(measured['low'])}, {number(measured['high'])}]</small>"


def number(value: float | None) -> str:
    """A score that isn't finite is written as null."""
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def si(value: float) -> str:
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {unit}"
    return f"{value:g}"


def count(value: int, noun: str) -> str:
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def blocks(values: Any) -> str:
    return ", ".join(map(str, values)) or "none"
