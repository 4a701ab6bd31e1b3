"""Blocks by torch.compile, within a ``with``; where that can't be done they run as they are, and one line says why.

All blocks of a network are one function of a block and its tokens, so that the first one's compilation serves the
others, in pruned networks and copies too. Outside of the ``with`` nothing is compiled: what hooks itself into layers
(NTK, Taylor) or counts operations sees the blocks as they are written.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch

from engine.errors import EngineError

logger = logging.getLogger("engine.compiled")

_wanted: ContextVar[bool] = ContextVar("compiled", default=False)
_reasons: list[str] = []  # why nothing is compiled in this process any more


@contextmanager
def compiled_blocks(wanted: bool = True) -> Iterator[None]:
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


def are_wanted() -> bool:
    return _wanted.get()


def why_not() -> str | None:
    """Why blocks run as they are though compiled ones were wanted; None as far as nothing went wrong."""
    return _reasons[0] if _reasons else None


def run(work: Callable[..., Any], *args: Any) -> Any:
    """``work(*args)``, compiled where that is wanted and possible."""
    if not _wanted.get() or _reasons:
        return work(*args)
    try:
        return _compiled(work)(*args)
    except Exception as error:  # noqa: BLE001 - a compiler fails in any way it likes
        stop = _stop_behind(error)
        if stop is not None:
            raise stop from None
        _reasons.append(_in_words(error))
    logger.warning("blocks can't be compiled here, so they run as they are, with the same results: %s", _reasons[0])
    return work(*args)


@cache
def _compiled(work: Callable[..., Any]) -> Callable[..., Any]:
    # other batch sizes: the second one seen makes the size a variable, so that a last, smaller batch costs one
    # compilation and not one each
    return torch.compile(work)


def _stop_behind(error: BaseException | None) -> BaseException | None:
    """What isn't the compiler's fault: a cancelled run, memory that is full."""
    while error is not None:
        if isinstance(error, EngineError | torch.OutOfMemoryError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _in_words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no words'}"
