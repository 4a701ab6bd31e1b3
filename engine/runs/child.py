"""A run's own process, the child of a worker: how it begins, how it is told to stop, and what its run's folder says
after its end. Free of torch.
"""

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import AssetError, DiskFull
from engine.runs.process import start_process
from engine.runs.standby import Standby
from engine.runs.store import RESTING_STATES, Run, RunStatus
from engine.runs.workspace import writing

CANCEL_GRACE_SECONDS = 1.0  # for the run to see the request itself; then SIGTERM
TERMINATE_GRACE_SECONDS = 0.4  # then SIGKILL

logger = logging.getLogger("engine.worker")


@dataclass
class Child:
    run: Run
    process: subprocess.Popen
    cancel_seen: float | None = None  # monotonic seconds

    def press(self) -> None:
        """For a run that somebody wants to stop: first it may see so itself, then it is told, then killed."""
        now = time.monotonic()
        self.cancel_seen = self.cancel_seen or now
        if now - self.cancel_seen > CANCEL_GRACE_SECONDS + TERMINATE_GRACE_SECONDS:
            self._signal(signal.SIGKILL)
        elif now - self.cancel_seen > CANCEL_GRACE_SECONDS:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Returns when it has ended. A run that this broke off is interrupted."""
        self._signal(signal.SIGKILL)
        if self.process.wait() == -signal.SIGKILL and self.run.path.is_dir():
            self.run.interrupt("the engine was stopped while this was running; resume it to go on")

    def close(self) -> None:
        """Sees to it that the run's folder says how its process ended. May be called again if it fails."""
        if self.run.path.is_dir():
            _close(self.run, self.process.returncode)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


def start_child(run: Run, arguments: Sequence[str], *, command: Sequence[str], standby: Standby) -> Child:
    """The process of ``run``: the one that stands by where there is one, else ``command``, both with ``arguments``.
    Raises EngineError where the run is gone or there is no space."""
    log = run.path / "log.txt"
    with writing(run.path), open(log, "ab") as output:
        run.update(state="running", phase="starting", message="starting", pid=None)  # the child notes its own
        process = standby.hand_over(arguments, log) or start_process([*command, *arguments], output=output)
    return Child(run, process)


def _close(run: Run, code: int) -> None:
    try:
        status = run.status()
    except AssetError as error:
        logger.error("%s", error)
        run.write_status(RunStatus(state="running", heartbeat=time.time()))
        status = run.status()
    if status.state in RESTING_STATES:
        return
    if code == DiskFull.EXIT_CODE and not run.cancel_requested:  # there is room again, or this couldn't be written
        run.update(state="paused", message="the disk was full; there is some space now: resume it to go on")
    elif run.cancel_requested or code < 0:
        run.interrupt(f"stopped from outside by {_signal_name(-code)}; resume it to go on")
    else:
        reason = _last_line(run.path / "log.txt") or f"it ended with code {code} and said nothing"
        run.update(state="failed", message=reason, error=reason)


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (perhaps for want of memory)" if name == "SIGKILL" else name


def _last_line(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((one_line(line) for line in reversed(lines) if line.strip()), "")


def one_line(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()[:300]
