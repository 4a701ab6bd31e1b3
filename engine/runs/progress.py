"""What a job tells while it works, and how its parameters become configs. Free of torch."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

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
    """A config from plain JSON. Raises InputError for keys that it doesn't have."""
    known = {field.name for field in fields(cls)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InputError(f"{cls.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
