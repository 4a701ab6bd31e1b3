"""What the engine warns of while a run is at work becomes a line of the run's events. Free of torch."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from engine.runs.store import Run


@contextmanager
def logged_into(run: Run) -> Iterator[None]:
    """Warnings of the loggers named ``engine.…``, such as that blocks can't be compiled here."""
    handler = _Events(run)
    logger = logging.getLogger("engine")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Events(logging.Handler):
    def __init__(self, run: Run) -> None:
        super().__init__(level=logging.WARNING)
        self.run = run

    def emit(self, record: logging.LogRecord) -> None:
        self.run.log(record.getMessage())
