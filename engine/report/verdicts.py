"""What the numbers of two measurements allow to be said: better, worse, or no difference beyond noise.

That is noise of the sampled images, as ``beyond_noise`` has it; one run says nothing about the noise of training again
with another seed.
"""

from typing import Any

from engine.evaluation.comparing import beyond_noise, higher_is_better


def compare(name: str, before: dict[str, Any], after: dict[str, Any], *, floor: dict[str, Any] | None = None) -> int:
    """1: ``after`` is better beyond noise, -1: worse, 0: no difference beyond noise."""
    if not beyond_noise(before, after, floor=floor):
        return 0
    return 1 if (after["value"] > before["value"]) == higher_is_better(name) else -1
