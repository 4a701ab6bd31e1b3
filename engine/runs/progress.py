"""What a job tells while it works, and how its parameters become configs. Free of torch."""

from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import InputError

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """``done`` of ``total`` units of work, whatever the unit; both may be estimates."""

    phase: str
    message: str
    done: float
    total: float


def config_from(cls: type[Config], values: dict[str, Any]) -> Config:
    """A config from plain JSON. Raises InputError for keys that it doesn't have and for values of another kind."""
    known = {field.name for field in fields(cls)}
    unknown = sorted(settings(cls.__name__, values).keys() - known)
    if unknown:
        raise InputError(f"{cls.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    kinds = get_type_hints(cls)
    for name, value in values.items():
        if not _is_a(value, kinds[name]):
            raise InputError(f"{cls.__name__}: {name} is {value!r}; it should be {_in_words(kinds[name])}")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def settings(name: str, values: Any) -> dict[str, Any]:
    """``values`` themselves. Raises InputError where these aren't settings by name, as a JSON object has them."""
    if not isinstance(values, dict):
        raise InputError(f'{name} is {values!r}; it should be settings by their names, as in {{"seed": 1}}')
    return values


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of the kind that a field is declared to be."""
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in _WORDS:
        return isinstance(value, kind)
    whole, parts = get_origin(kind), get_args(kind)
    if whole in (Union, UnionType):
        return any(_is_a(value, part) for part in parts)
    if whole is tuple:
        return isinstance(value, (list, tuple)) and all(_is_a(each, parts[0]) for each in value)
    if whole is dict:
        return isinstance(value, dict) and all(_is_a(each, parts[1]) for each in value.values())
    return isinstance(value, kind)


def _in_words(kind: Any) -> str:
    whole, parts = get_origin(kind), get_args(kind)
    if whole in (Union, UnionType):
        return " or ".join(_in_words(part) for part in parts)
    if whole is tuple:
        return f"a list, each of it {_in_words(parts[0])}"
    if whole is dict:
        return f"names, each with {_in_words(parts[1])}"
    return _WORDS.get(kind, "settings by their names")
