"""What a replay must look like to be shown: a file from anywhere may claim to be one. Free of torch.

Two checks. A walk over everything bounds its size and lets no markup in, whatever a page does with the words. Then the
parts that a page reads have the types that it takes for granted.
"""

import base64
import binascii
import math
import struct
from typing import Any

from engine.errors import EngineError
from engine.evaluation.protocol import Protocol

_MOST_STAGES, _MOST_EVENTS, _MOST_PICTURES, _MOST_BLOCKS = 64, 1000, 64, 1000
_DEEPEST, _MOST_VALUES, _LONGEST, _LARGEST = 12, 200_000, 4000, 10**300
_TALLEST, _MOST_TILES = 1024, 64  # pixels of a strip's height; square pictures side by side in it
_NUMBER = (int, float)


def check_replay(replay: Any) -> None:
    """Raises ValueError with the reason."""
    _walk(replay, depth=0, left=[_MOST_VALUES])
    _is(replay, dict, "it")
    for name in ("title", "model", "data", "command"):
        _is(replay[name], str, name)
    for name in ("created", "seconds"):
        _is(replay[name], _NUMBER, name)
    numbers = _stages(replay["stages"])
    _train(replay["train"], numbers)
    _bands(replay["bands"])
    _pictures(replay["pictures"], numbers)


def _walk(value: Any, *, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
    if depth > _DEEPEST:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        for name, part in value.items():
            _word(name)
            if name != "png":  # large, and looked at by itself
                _walk(part, depth=depth + 1, left=left)
    elif isinstance(value, list):
        for part in value:
            _walk(part, depth=depth + 1, left=left)
    elif isinstance(value, str):
        _word(value)
    elif isinstance(value, int) and abs(value) > _LARGEST:  # no float holds it, and a page writes floats
        raise ValueError("a number in it is too large")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number isn't finite")


def _word(text: str) -> None:
    if len(text) > _LONGEST:
        raise ValueError(f"a text of {len(text):,} characters is in it")
    if "<" in text or ">" in text or not text.isprintable():
        raise ValueError("a text in it has markup or characters that can't be printed")


def _is(value: Any, kind: type | tuple[type, ...], name: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name!r} is of another type than in a replay")


def _optional(value: Any, kind: type | tuple[type, ...], name: str) -> None:
    if value is not None:
        _is(value, kind, name)


def _list(value: Any, name: str, *, most: int, least: int = 0) -> list:
    _is(value, list, name)
    if not least <= len(value) <= most:
        raise ValueError(f"{name!r} has {len(value):,} entries, {least} … {most:,} can be shown")
    return value


def _blocks(value: Any, name: str) -> list[int]:
    for block in _list(value, name, most=_MOST_BLOCKS):
        _is(block, int, name)
    return value


# --- stages ---


def _stages(stages: Any) -> set[int]:
    """The numbers of the stages."""
    for stage in _list(stages, "stages", least=2, most=_MOST_STAGES):
        _is(stage, dict, "stages")
        _is(stage["number"], int, "number")
        _is(stage["depth"], int, "depth")
        kept, dropped = (_blocks(stage[name], name) for name in ("kept_blocks", "dropped_blocks"))
        if len(kept) != stage["depth"] or set(kept) & set(dropped):
            raise ValueError(f"the blocks of stage {stage['number']} don't fit its depth")
        _optional(stage.get("train"), dict, "train")
        if stage.get("decision") is not None:
            _decision(stage["decision"])
        _metrics(stage["metrics"])
    numbers = [stage["number"] for stage in stages]
    if len(set(numbers)) < len(numbers):
        raise ValueError("two stages have one number")
    return set(numbers)


def _decision(record: Any) -> None:
    _is(record, dict, "decision")
    _is(record["reason"], str, "reason")
    _blocks(record.get("order", []), "order")
    candidates = _list(record["candidates"], "candidates", most=_MOST_BLOCKS)
    if not candidates:
        return
    _is(record["weights"], dict, "weights")
    for name in ("cost", "ntk", "zico"):
        _is(record["weights"][name], _NUMBER, "weights")
        if not 0 <= record["weights"][name] <= 1000:
            raise ValueError(f"the weight of {name} is {record['weights'][name]}")
    for candidate in candidates:
        _is(candidate, dict, "candidates")
        _is(candidate["num_dropped"], int, "num_dropped")
        _blocks(candidate["dropped"], "dropped")
        for name in ("macs", "seconds_per_step", "ntk", "zico", "total"):
            _optional(candidate.get(name), _NUMBER, name)
        for rank in _dict(candidate.get("ranks"), "ranks").values():
            _optional(rank, _NUMBER, "ranks")
    for chosen in (record.get("chosen"), _dict(record.get("vote"), "vote").get("chosen")):
        _optional(chosen, int, "chosen")
        if chosen is not None and not 0 <= chosen < len(candidates):
            raise ValueError(f"candidate {chosen} was chosen, there are {len(candidates)}")


def _dict(value: Any, name: str) -> dict:
    _optional(value, dict, name)
    return value or {}


def _metrics(metrics: Any) -> None:
    for part in ("fidelity", "noise_floor"):
        for one in _dict(_dict(metrics, "metrics").get(part), part).values():
            for end in ("value", "low", "high"):
                _is(one[end], _NUMBER, part)
    for line in _list((metrics or {}).get("warnings", []), "warnings", most=100):
        _is(line, str, "warnings")
    if (metrics or {}).get("fidelity"):
        try:
            Protocol(**_dict(metrics["protocol"], "protocol"))
        except (TypeError, EngineError) as error:
            raise ValueError(f"the protocol of a stage can't be read: {error}") from error
    for name in ("efficiency", "efficiency_of_intact"):
        measured = _dict((metrics or {}).get(name), name)
        for part, middle in (("latency_ms", "median"), ("speedup", "value")):
            if interval := _dict(measured.get(part), part):
                for end in (middle, "low", "high"):
                    _is(interval[end], _NUMBER, part)
                    if interval[end] <= 0:
                        raise ValueError(f"a {part} is {interval[end]}")


# --- what happened on the way ---


def _train(events: Any, numbers: set[int]) -> None:
    for event in _list(events, "train", least=1, most=_MOST_EVENTS):
        _is(event, dict, "train")
        for name in ("stage", "step", "num_steps"):
            _is(event[name], int, name)
        _is(event["loss"], _NUMBER, "loss")
        if event["stage"] not in numbers:
            raise ValueError(f"it trains stage {event['stage']}, which it doesn't have")


def _bands(bands: Any) -> None:
    _is(bands, dict, "bands")
    for number, band in bands.items():
        if not (number.isdecimal() and len(number) < 9):
            raise ValueError(f"a band belongs to stage {number!r}")
        for name in ("mean", "low", "high"):
            _is(band[name], _NUMBER, name)


def _pictures(pictures: Any, numbers: set[int]) -> None:
    for picture in _list(pictures, "pictures", most=_MOST_PICTURES):
        _is(picture, dict, "pictures")
        for name in ("stage", "step"):
            _is(picture[name], int, name)
        if picture["stage"] not in numbers:
            raise ValueError(f"a picture is of stage {picture['stage']}, which it doesn't have")
        _is(picture["png"], str, "png")
        _strip(picture["png"])


def _strip(text: str) -> None:
    """Square pictures side by side, by the header alone: nothing large is unpacked to find out that it is."""
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a picture isn't base64") from error
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        raise ValueError("a picture isn't a PNG")
    width, height = struct.unpack(">II", content[16:24])
    if not (0 < height <= _TALLEST and 0 < width <= _MOST_TILES * height and width % height == 0):
        raise ValueError(f"a picture has {width:,} × {height:,} pixels, not a few squares side by side")
