"""How the worker starts a process that must not outlive it. Free of torch."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_REPOSITORY = Path(__file__).parents[2]

# Runs before the process's own program: the kernel kills it when the worker dies. Set here and not between fork and
# exec, where Python code may hang in a process with threads.
_DIE_WITH_WORKER = """
import os, signal, sys
worker, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != worker:
    sys.exit("the worker died before this process began")
os.execvp(command[0], command)
"""


def start_process(
    command: Sequence[str], *, stdin: int = subprocess.DEVNULL, output: IO[bytes] | None = None
) -> subprocess.Popen:
    """In a group of its own, so that a signal reaches its helpers too. ``output`` None: it prints where we do.

    To be called from the worker's main thread: the kernel means that thread when it speaks of a parent's death.
    """
    return subprocess.Popen(
        [sys.executable, "-ISc", _DIE_WITH_WORKER, str(os.getpid()), *command],
        cwd=_REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=stdin,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
