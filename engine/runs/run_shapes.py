"""How the JSON files of a run are built, as far as anything reads them; see docs/architecture.md. Free of torch.

A shape is a type, a tuple of alternatives, ``[shape]`` for a list of such, ``{"name": shape}`` for an object that has
at least these, and ``{str: shape}`` for one whose values are all alike.
"""

import math
from typing import Any

NUMBER = (int, float)
_BLOCKS = [int]
_MAYBE = (None, dict)
_INTERVAL = {"value": NUMBER, "low": NUMBER, "high": NUMBER}
_EFFICIENCY = {"parameters": NUMBER, "macs": NUMBER, "latency_ms": {"median": NUMBER, "low": NUMBER, "high": NUMBER}}
_NUMBERS = (None, *NUMBER)
_ROW = [_NUMBERS]

SHAPES: dict[str, Any] = {
    "config.json": {"schema": int, "kind": str, "title": str, "created": NUMBER, "params": {str: object}},
    "status.json": {"state": str, "phase": str, "message": str, "progress": NUMBER, "error": (None, str)},
    "drive.json": {"number": (None, int), "head": (None, int), "decision": _MAYBE, "step": bool, "changes": dict},
    "train_state.json": {"parent": (None, int), "number": int, "pending": bool, "drop": _BLOCKS, "record": _MAYBE,
                         "ced": _MAYBE},
    "stage.json": {"stage": int, "parent": (None, int), "title": str, "model": str, "data": str, "process": str,
                   "kept_blocks": _BLOCKS, "dropped_blocks": _BLOCKS, "depth": int, "decision": _MAYBE,
                   "finetune": _MAYBE, "train": (None, {"num_steps": int, "final_loss": _NUMBERS, "seconds": NUMBER}),
                   "created": NUMBER},
    "metrics.json": {"protocol": {"num_images": int, "num_steps": int, "cfg_scale": NUMBER, "seed": int},
                     "fidelity": {str: _INTERVAL}, "warnings": [str], "efficiency": _EFFICIENCY},
    "ced.json": {"model": str, "data": str, "variable": str, "protocol": dict, "blocks": list, "timesteps": _ROW,
                 "entropy": _ROW, "delta": [_ROW], "ced": _ROW, "ci_low": _ROW, "ci_high": _ROW, "order": list},
    "criteria.json": {"model": str, "data": str, "protocol": dict, "blocks": list, "labels": [str], "names": [str],
                      "criteria": {str: {"title": str, "scores": _ROW, "order": list}}},
    "arena.json": {"scores": {"of": {str: _ROW}, "dropped": {str: _BLOCKS}}, "bouts": [{"dropped": _BLOCKS}]},
    "config.json of a model": {"process": str, "network": {str: object}, "class_names": [str]},
    "event train": {"step": int, "num_steps": int, "loss": _NUMBERS, "learning_rate": NUMBER},
    "event samples": {"step": int, "picture": str},
    "event band": {"mean": _NUMBERS, "low": _NUMBERS, "high": _NUMBERS},
    "event decision": {"stage": int, "decision": dict},
    "event log": {"message": str},
    "event column": {"column": int, "num_columns": int},
}  # fmt: skip


def mismatch(value: Any, shape: Any, *, place: str = "") -> str:
    """The first thing in ``value`` that isn't as ``shape`` says, as one line; empty where all is."""
    if isinstance(shape, tuple):
        lines = [mismatch(value, each, place=place) for each in shape]
        return "" if "" in lines else lines[-1]
    if shape is None or isinstance(shape, type):
        return "" if _is_a(value, shape) else f"{place or 'it'} is {_shown(value)}; expected {_name(shape)}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place or 'it'} is {_shown(value)}; expected a list"
        found = (mismatch(each, shape[0], place=f"{place}[{index}]") for index, each in enumerate(value))
        return next((line for line in found if line), "")
    if not isinstance(value, dict):
        return f"{place or 'it'} is {_shown(value)}; expected an object"
    if str in shape:
        pairs = [(key, each, shape[str]) for key, each in value.items()]
    else:
        absent = [key for key in shape if key not in value]
        if absent:
            return f"{place or 'it'} lacks {absent[0]!r}"
        pairs = [(key, value[key], each) for key, each in shape.items()]
    found = (mismatch(each, wanted, place=f"{place}.{key}".lstrip(".")) for key, each, wanted in pairs)
    return next((line for line in found if line), "")


def _is_a(value: Any, shape: type | None) -> bool:
    if shape is None:
        return value is None
    if shape in NUMBER:
        return isinstance(value, shape) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, shape)


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _name(shape: type | None) -> str:
    return {None: "null", int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list",
            dict: "an object"}.get(shape, "something else")  # fmt: skip
