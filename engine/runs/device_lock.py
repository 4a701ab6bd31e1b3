"""One worker per device: the lock that it holds as long as it lives. Free of torch."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.runs.workers import worker_log
from engine.runs.workspace import Workspace, writing


@contextmanager
def device_lock(workspace: Workspace, device: str) -> Iterator[int | None]:
    """The open lock file; None when another process holds it. The lock goes with the process, however it ends."""
    path = lock_file(workspace, device)
    with writing(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield lock if _take(lock) else None
    finally:
        os.close(lock)


def lock_file(workspace: Workspace, device: str) -> Path:
    return worker_log(workspace, device).with_suffix(".lock")


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
