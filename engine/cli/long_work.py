"""Asking before images are drawn that take hours, from the speed measured here."""

import sys
from typing import TYPE_CHECKING

from engine.cli.output import tell
from engine.errors import Cancelled, InputError

if TYPE_CHECKING:
    from engine.evaluation.protocol import Protocol
    from engine.models.model import Model

LONG = 3600.0  # seconds that nobody should start by accident
WORTH_A_WORD = 5.0


def ask_if_long(model: "Model", protocol: "Protocol", num_images: int, *, yes: bool) -> None:
    """Says how long ``num_images`` will take where that is worth a word, and asks where it is hours, unless ``yes``.

    Raises InputError where nobody can answer, Cancelled where the answer isn't yes.
    """
    from engine.evaluation.sample_files import estimate_seconds

    seconds = estimate_seconds(model, protocol, num_images)
    if seconds > LONG and not yes:
        _ask(f"{num_images:,} images would take about {duration(seconds)} and {_size(model, num_images)}")
    elif seconds > WORTH_A_WORD:
        tell(f"{num_images:,} images, about {duration(seconds)}")


def _ask(what: str) -> None:
    if not sys.stdin.isatty():
        raise InputError(f"{what}; add --yes if that is meant, or ask for fewer with --num")
    tell(f"{what}; what is drawn is kept whenever you stop. Go on? (y/N)")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Cancelled("nothing was drawn")


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(model: "Model", num_images: int) -> str:
    num_bytes = 3 * model.image_side**2 * num_images
    return f"up to {num_bytes / 1e9:,.1f} GB" if num_bytes > 1e9 else f"up to {num_bytes / 1e6:,.0f} MB"
