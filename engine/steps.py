"""Long work that yields progress and returns its result: passed on, or run to its end. Free of torch."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

Step = TypeVar("Step")
Told = TypeVar("Told")
Result = TypeVar("Result")


def told_as(steps: Generator[Step, Any, Result], tell: Callable[[Step], Told]) -> Generator[Told, None, Result]:
    """The same work with each of its steps told in other words: ``result = yield from told_as(steps, tell)``."""
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            return stop.value
        yield tell(step)


def result_of(steps: Generator[Any, Any, Result]) -> Result:
    """Runs the work to its end for what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
