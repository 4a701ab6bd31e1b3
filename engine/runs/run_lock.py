"""One process does the work of a run at a time. Free of torch."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import InputError
from engine.runs.store import Run
from engine.runs.workspace import writing


@contextmanager
def working_alone(run: Run) -> Iterator[None]:
    """Raises InputError where another process is at it. The lock, on a file that never changes, goes with the process
    however it ends; a file system that knows no locks gives none."""
    file = run.path / "config.json"
    with writing(file):
        lock = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = run.status().pid
            who = f"another process ({pid})" if pid else "another process"
            raise InputError(f"run {run.id} is being worked on by {who}; wait for it, or cancel it first") from error
        except OSError:
            pass
        yield
    finally:
        os.close(lock)
