"""The engine's worker, its runs as in tests/soak/child.py: ``python -m tests.soak.worker WORKSPACE``."""

import sys

from engine.runs.worker import run_worker
from engine.runs.workspace import open_workspace

CHILD = (sys.executable, "-m", "tests.soak.child")

if __name__ == "__main__":
    run_worker(open_workspace(sys.argv[1]), run_command=CHILD, standby_command=(*CHILD, "--standby"))
