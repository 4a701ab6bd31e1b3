"""A process that stands by for the next run: it has loaded torch already and waits to be told a run's folder.

Loading takes seconds, most of what a heatmap of a bundled model needs. The waiting process belongs to the worker like a
run's own: a group of its own, killed with its worker. What is handed over is one line of JSON on its standard input:
``{"arguments": […], "log": path}``. Free of torch until it runs as a program: ``python -m engine.runs.standby``.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from engine.runs.process import start_process

COMMAND = (sys.executable, "-m", "engine.runs.standby")
IMPORT_NICENESS = 15  # loading gives way to the page, the browser and a preview


class Standby:
    """At most one process, which waits. ``command`` None: never one."""

    def __init__(self, command: Sequence[str] | None) -> None:
        self._command = command
        self._process: subprocess.Popen | None = None
        self._failed = False

    @property
    def is_wanted(self) -> bool:
        """False where there is one, and where the last one ended by itself: the next run may say why."""
        self._forget_if_ended()
        return self._command is not None and self._process is None and not self._failed

    def make(self) -> None:
        """Its complaints, until it has a run, go where the worker's go."""
        self._process = start_process(self._command, stdin=subprocess.PIPE)

    def hand_over(self, arguments: Sequence[str], log: Path) -> subprocess.Popen | None:
        """The process, which does the run from now on; None where there is none to hand it to."""
        self._forget_if_ended()
        process, self._process, self._failed = self._process, None, False
        if process is None:
            return None
        try:
            with process.stdin as pipe:
                pipe.write(json.dumps({"arguments": list(arguments), "log": str(log)}).encode() + b"\n")
        except BrokenPipeError:  # it ended this moment
            process.wait()
            return None
        return process

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()

    def _forget_if_ended(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._process.stdin.close()
            self._process, self._failed = None, True


def load_gently(module: str) -> threading.Thread:
    """Begins to import ``module`` in a thread that gives way to all else; whoever imports it too waits for it."""

    def load() -> None:
        if sys.platform == "linux":  # there, a thread has a niceness of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), IMPORT_NICENESS)
        import_module(module)

    thread = threading.Thread(target=load, name="loading", daemon=True)
    thread.start()
    return thread


def wait_for_run() -> list[str]:
    """What the worker hands over. From then on this process prints into the run's log and reads nothing. Ends the
    process where the worker has gone or wants no run."""
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        sys.exit(0)
    order = json.loads(line)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    return order["arguments"]


def main() -> int:
    from engine import cli

    load_gently("engine.runs.jobs")
    return cli.main(["run", *wait_for_run()])


if __name__ == "__main__":
    sys.exit(main())
