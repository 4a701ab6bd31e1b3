"""Reading two metrics.json side by side: whether their numbers may stand in one column, and which way is better.

Free of torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluation.protocol import Protocol

_HIGHER = ("accuracy", "precision", "recall", "is")  # the first words of numbers that are better when higher

#: why nothing is concluded from numbers of a model that can't be told the data's classes
UNTRAINED_LABELS = (
    "The label table was made afresh for this data and hasn't been trained, so these pictures are of no class and "
    "their numbers say nothing about the model. Let it learn the classes first: --adapt-steps, or Adapt first in the "
    "form."
)


def labels_untrained(metrics: Mapping[str, Any]) -> bool:
    """Whether the pictures were drawn with a label table that was still as it was drawn by lot."""
    return metrics.get("labels_trained") is False


def differences(first: dict, second: dict) -> list[str]:
    """What makes the fidelity of two metrics.json incomparable; empty where it may be compared.

    Fields of the protocol by name, "weights of the features" where the name is the same but the file isn't, "data"
    where they were measured against other pictures, "real pictures compared" where against another part of them, and
    "label table" where one of them wasn't trained, which is comparable with nothing. Files of before these were noted
    say nothing about them.
    """
    found = Protocol(**first["protocol"]).differences(Protocol(**second["protocol"]))
    for part, key, what in (("features", "sha256", "weights of the features"), ("reference", "hash", "data")):
        if part in first and part in second and first[part][key] != second[part][key] and part not in found:
            found.append(what)
    known = "reference" in first and "reference" in second and "data" not in found
    if known and num_compared(first["reference"]) != num_compared(second["reference"]):
        found.append("real pictures compared")
    return found + (["label table"] if labels_untrained(first) or labels_untrained(second) else [])


def num_compared(reference: dict) -> int | None:
    """Pictures that KID, precision, recall and the noise floor rest on; ``reference`` as in metrics.json. FID rests on
    all of them."""
    return reference.get("num_compared", reference.get("num_images"))


def part_compared(reference: dict) -> str:
    """In words, where they are a part only: for whoever says how many pictures there are."""
    if "num_compared" not in reference:
        return ""
    return f"KID, precision, recall and the noise floor by {reference['num_compared']:,} of them"


def higher_is_better(name: str) -> bool:
    """Of a number by its name in metrics.json, such as "recall (demo-cnn)"."""
    return name.partition(" (")[0].lower().split()[-1] in _HIGHER


def beyond_noise(first: dict, second: dict, *, floor: dict | None = None) -> bool:
    """Whether two numbers ({"value", "low", "high"}) can be told apart: their intervals don't touch, and the gap is
    wider than the noise floor's own range, which is how far a perfect generator's number moves by chance alone."""
    apart = first["low"] > second["high"] or second["low"] > first["high"]
    return apart and abs(first["value"] - second["value"]) > (floor["high"] - floor["low"] if floor else 0.0)


def compared(name: str, before: dict, after: dict, *, floor: dict | None = None) -> int:
    """1: ``after`` is better beyond noise, -1: worse, 0: no difference beyond noise.

    That is noise of the sampled images; one run says nothing about that of training again with another seed.
    """
    if not beyond_noise(before, after, floor=floor):
        return 0
    return 1 if (after["value"] > before["value"]) == higher_is_better(name) else -1


def best_of(name: str, values: Sequence[dict | None], *, floor: dict | None = None) -> int | None:
    """Which is better than every other beyond noise, by its place; None where none is, or where there is but one."""
    there = [index for index, value in enumerate(values) if value is not None]
    if len(there) < 2:
        return None
    sign = 1 if higher_is_better(name) else -1
    top = max(there, key=lambda index: sign * values[index]["value"])
    others = (values[index] for index in there if index != top)
    return top if all(beyond_noise(values[top], other, floor=floor) for other in others) else None


def speedup(metrics: dict) -> dict | None:
    """{"value", "low", "high"} of one forward over that of the intact model it was timed in turns with; None where it
    wasn't. The median of the turns' ratios with its 90 % interval. Files of before didn't keep the turns: theirs sets
    the slowest of one (95th percentile) against the fastest of the other (5th)."""
    intact, own = (metrics.get(part) or {} for part in ("efficiency_of_intact", "efficiency"))
    if intact and own.get("speedup"):
        return own["speedup"]
    intact, own = intact.get("latency_ms"), own.get("latency_ms")
    if not intact or not own:
        return None
    return {
        "value": intact["median"] / own["median"],
        "low": intact["low"] / own["high"],
        "high": intact["high"] / own["low"],
    }
