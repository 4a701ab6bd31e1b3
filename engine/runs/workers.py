"""The workers that a workspace has: which are alive and what they do, and starting one where there is none.

Free of torch.
"""

import math
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engine.runs.store import RunStatus
from engine.runs.table import read, transact
from engine.runs.workspace import Workspace, writing

HEARTBEAT_SECONDS = 2.0
ALIVE_SECONDS = 10.0
_STARTING_SECONDS = 30.0  # how long a worker that we started may take until its first heartbeat
_LONGEST_STEP_SECONDS = 3600.0
_LOG_BYTES = 1 << 20  # a worker's log is started afresh beyond this
_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    worker_id: str
    pid: int
    device: str
    heartbeat: float
    doing: str  # id of a run, "preview" or ""


def beat(workspace: Workspace, worker: WorkerInfo) -> None:
    row = (worker.worker_id, socket.gethostname(), worker.pid, worker.device, worker.heartbeat, worker.doing)
    transact(workspace, lambda table: table.execute("REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?)", row))


def remove_worker(workspace: Workspace, worker_id: str) -> None:
    """For one that ends in good order: what it was answering is left to the next."""

    def remove(table: sqlite3.Connection) -> None:
        table.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,))
        table.execute("UPDATE previews SET state = 'queued' WHERE state = 'running' AND worker_id = ?", (worker_id,))

    transact(workspace, remove)


def live_workers(workspace: Workspace) -> list[WorkerInfo]:
    """Those with a fresh heartbeat whose process exists."""
    return read(workspace, live_workers_in)


def live_workers_in(table: sqlite3.Connection) -> list[WorkerInfo]:
    columns = "SELECT worker_id, pid, device, heartbeat, doing, host FROM workers WHERE heartbeat > ? ORDER BY device"
    rows = table.execute(columns, (time.time() - ALIVE_SECONDS,)).fetchall()
    here = socket.gethostname()
    return [
        WorkerInfo(worker_id=worker_id, pid=pid, device=device, heartbeat=heartbeat, doing=doing)
        for worker_id, pid, device, heartbeat, doing, host in rows
        if host != here or process_exists(pid)  # another container's process numbers mean nothing here
    ]


def process_exists(pid: int, *, since: float = math.inf) -> bool:
    """Whether a process has this number, had it at the time ``since`` already, and hasn't ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and is somebody else's
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        (boot_time,) = re.findall(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no Linux
        return True
    born = int(boot_time) + int(numbers[18]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5)
    return state not in ("Z", "X") and born < since + 2  # boot_time is in whole seconds


def is_at_work(status: RunStatus) -> bool:
    """For a run that no worker holds: one started from the command line, or left behind. A step may take long."""
    fresh = time.time() - status.heartbeat < _LONGEST_STEP_SECONDS
    return fresh and status.pid is not None and process_exists(status.pid, since=status.heartbeat)


def worker_log(workspace: Workspace, device: str) -> Path:
    return workspace.root / f"worker-{re.sub(r'[^A-Za-z0-9]', '-', device)}.log"


_started: dict[tuple[Path, str], tuple[subprocess.Popen, float]] = {}


def ensure_worker(workspace: Workspace, *, device: str = "cpu") -> bool:
    """Starts a worker unless one is alive or starting; True if this call did. Two callers at once do no harm: the
    worker takes a lock, and the one that comes second ends quietly."""
    earlier = _started.get((workspace.root, device))
    starting = earlier is not None and earlier[0].poll() is None and time.time() - earlier[1] < _STARTING_SECONDS
    if starting or any(worker.device == device for worker in live_workers(workspace)):
        return False
    log = worker_log(workspace, device)
    command = [sys.executable, "-m", "engine", "worker", "--workspace", str(workspace.root), "--device", device]
    with writing(log):
        fresh = log.exists() and log.stat().st_size > _LOG_BYTES
        with open(log, "wb" if fresh else "ab") as output:
            process = subprocess.Popen(
                command, cwd=_REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
    _started[workspace.root, device] = process, time.time()
    return True
