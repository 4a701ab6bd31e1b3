"""A run's own process stops within a second when somebody cancels it, also in the middle of a long step. Free of torch.

Between its steps a run looks for the request itself. A step may take long (a column of a large model's heatmap, the
features of fifty thousand pictures): then a thread that looks on has ``Cancelled`` raised in the main one, as Ctrl-C
would raise its own. Whatever was being written is not there or whole, as after any error.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from engine.errors import Cancelled
from engine.runs.store import Run

LOOK_SECONDS = 0.1
GRACE_SECONDS = 0.3  # for the run to see the request between two steps
MESSAGE = "cancelled on request; finished stages are kept"


@contextmanager
def stopping_when_cancelled(run: Run) -> Iterator[None]:
    """Raises Cancelled in the body. Outside of the main thread the run has only its own looks between the steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()
    main = threading.get_ident()

    def stop(number: int, frame: FrameType | None) -> None:
        if not ended.is_set():
            ended.set()  # once: what tidies up after it must not be disturbed
            raise Cancelled(MESSAGE)

    def look_on() -> None:
        seen: float | None = None
        while not ended.wait(LOOK_SECONDS):
            if not run.cancel_requested:
                seen = None
                continue
            seen = seen or time.monotonic()
            if time.monotonic() - seen >= GRACE_SECONDS:
                signal.pthread_kill(main, signal.SIGUSR1)
                return

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=look_on, name="stopping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
