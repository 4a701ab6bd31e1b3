"""The table of requests: which runs wait, which previews are asked for, which workers are alive.

Everything here can be lost: runs are in their folders, and a table that is missing or damaged is made again from them.
Each call opens and closes its own connection, so any thread may call. Free of torch.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import AssetError, InputError, WorkspaceError
from engine.runs.store import ACTIVE_STATES, FINISHED_STATES, Run, RunStatus, list_runs, open_run
from engine.runs.workspace import Workspace, read_json, write_json, writing

HEARTBEAT_SECONDS = 2.0
ALIVE_SECONDS = 10.0
_STARTING_SECONDS = 30.0  # how long a worker that we started may take until its first heartbeat
_LONGEST_STEP_SECONDS = 3600.0
_LOG_BYTES = 1 << 20  # a worker's log is started afresh beyond this
_REPOSITORY = Path(__file__).parents[2]

_VERSION = 1
#: table -> columns. The state of a run or preview is queued or running: what has ended is not in the table
_TABLES = {
    "runs": "number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, state TEXT",
    "previews": "number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, kind TEXT, params TEXT, state TEXT, "
    "worker_id TEXT, anonymous INTEGER",
    "clients": "client TEXT PRIMARY KEY, key TEXT",  # the one preview that each of them waits for
    "workers": "worker_id TEXT PRIMARY KEY, host TEXT, pid INTEGER, device TEXT, heartbeat REAL, doing TEXT",
}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    worker_id: str
    pid: int
    device: str
    heartbeat: float
    doing: str  # id of a run, "preview" or ""


@dataclass(frozen=True, kw_only=True)
class PreviewRequest:
    key: str
    kind: str
    params: dict[str, Any]
    folder: Path


# Runs: first come, first served


def submit_run(workspace: Workspace, run: Run) -> None:
    _transact(workspace, lambda table: _enqueue(table, run.id))


def queue_position(workspace: Workspace, run_id: str) -> int | None:
    """0: running or next; None: neither running nor queued."""

    def position(table: sqlite3.Connection) -> int | None:
        row = table.execute("SELECT number, state FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None or row[1] == "running":
            return None if row is None else 0
        return table.execute("SELECT COUNT(*) FROM runs WHERE state = 'queued' AND number < ?", row[:1]).fetchone()[0]

    return _read(workspace, position)


def cancel_run(workspace: Workspace, run_id: str) -> None:
    """A queued run is cancelled at once, a running one is asked to stop, a finished one stays as it is."""
    run = open_run(workspace, run_id)

    def cancel(table: sqlite3.Connection) -> None:
        status = run.status()
        table.execute("DELETE FROM runs WHERE id = ? AND state = 'queued'", (run_id,))
        claimed = table.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone()
        if status.state == "queued" and not claimed:
            run.update(state="cancelled", message="cancelled before it began")
        elif status.state not in FINISHED_STATES:
            run.request_cancel()
            at_work = {worker.doing for worker in _live_workers(table)}
            if status.state in ACTIVE_STATES and run_id not in at_work and not _is_at_work(status):
                interrupt(run, "its process is gone")  # nobody is left to see the request

    _transact(workspace, cancel)


def resume_run(workspace: Workspace, run_id: str) -> None:
    """Queues an interrupted, failed or cancelled run again; one that is queued or running stays as it is."""
    run = open_run(workspace, run_id)

    def resume(table: sqlite3.Connection) -> None:
        status = run.status()
        if status.state == "done":
            raise InputError(f"run {run_id} is done: there is nothing to resume")
        if status.state in FINISHED_STATES:
            run.clear_cancel()
            # Within the transaction, so that no worker starts it before its folder says "queued".
            run.write_status(RunStatus(state="queued", progress=status.progress, heartbeat=time.time()))
        if status.state not in ACTIVE_STATES:
            _enqueue(table, run_id)

    _transact(workspace, resume)


def claim_next_run(workspace: Workspace, worker_id: str) -> Run | None:
    """The run that waits longest; its folder still says "queued". Those deleted meanwhile are passed over."""

    def claim(table: sqlite3.Connection) -> Run | None:
        for (run_id,) in table.execute("SELECT id FROM runs WHERE state = 'queued' ORDER BY number").fetchall():
            run = _if_queued(workspace, run_id)
            if run is not None:
                table.execute("UPDATE runs SET state = 'running' WHERE id = ?", (run_id,))
                table.execute("UPDATE workers SET doing = ? WHERE worker_id = ?", (run_id, worker_id))
                return run
            table.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        return None

    return _transact(workspace, claim)


def finish_run(workspace: Workspace, run_id: str) -> None:
    """Takes a run that has ended off the table."""
    _transact(workspace, lambda table: table.execute("DELETE FROM runs WHERE id = ? AND state = 'running'", (run_id,)))


def _enqueue(table: sqlite3.Connection, run_id: str) -> None:
    table.execute("INSERT INTO runs (id, state) VALUES (?, 'queued') ON CONFLICT (id) DO NOTHING", (run_id,))


def _if_queued(workspace: Workspace, run_id: str) -> Run | None:
    try:
        run = open_run(workspace, run_id)
        return run if run.status().state == "queued" else None
    except (InputError, AssetError):
        return None


# Previews: the newest question first


def submit_preview(workspace: Workspace, kind: str, params: dict[str, Any], *, client: str = "") -> str:
    """Asks a question and returns its key at once. What ``client`` asked before is dropped, unless others wait too."""
    question = json.dumps({"kind": kind, "params": params}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    key = hashlib.sha256(question.encode()).hexdigest()[:32]
    file = workspace.previews / key / "result.json"

    def ask(table: sqlite3.Connection) -> None:
        row = table.execute("SELECT state, worker_id, anonymous FROM previews WHERE key = ?", (key,)).fetchone()
        table.execute("DELETE FROM clients WHERE client = ?", (client,))
        if _read_result(file).get("state") != "done":
            if row is None:
                with writing(file):
                    file.unlink(missing_ok=True)  # an answer that failed: the question is put again
            state, worker_id, anonymous = row or ("queued", "", False)
            table.execute(  # replaced as a whole: its number becomes the highest
                "REPLACE INTO previews (key, kind, params, state, worker_id, anonymous) VALUES (?, ?, ?, ?, ?, ?)",
                (key, kind, json.dumps(params), state, worker_id, anonymous or not client),
            )
            if client:
                table.execute("INSERT INTO clients VALUES (?, ?)", (client, key))
        table.execute(
            "DELETE FROM previews WHERE state = 'queued' AND NOT anonymous AND key NOT IN (SELECT key FROM clients)"
        )

    _transact(workspace, ask)
    return key


def preview_result(workspace: Workspace, key: str) -> dict[str, Any] | None:
    """None while the question waits or is being answered; ``{"state": "stale"}`` when nobody is going to answer it."""
    if not re.fullmatch(r"[0-9a-f]{32}", key):
        raise InputError(f"{key!r} isn't the key of a preview; ask again")
    file = workspace.previews / key / "result.json"
    if result := _read_result(file):
        return result
    if _read(workspace, lambda table: table.execute("SELECT 1 FROM previews WHERE key = ?", (key,)).fetchone()):
        return None
    # The worker writes the answer first and takes the question off the table then: look once more.
    return _read_result(file) or {"state": "stale", "error": None}


def claim_next_preview(workspace: Workspace, worker_id: str) -> PreviewRequest | None:
    def claim(table: sqlite3.Connection) -> PreviewRequest | None:
        newest = "SELECT key, kind, params FROM previews WHERE state = 'queued' ORDER BY number DESC LIMIT 1"
        row = table.execute(newest).fetchone()
        if row is None:
            return None
        key, kind, params = row
        table.execute("UPDATE previews SET state = 'running', worker_id = ? WHERE key = ?", (worker_id, key))
        return PreviewRequest(key=key, kind=kind, params=json.loads(params), folder=workspace.previews / key)

    return _transact(workspace, claim)


def finish_preview(workspace: Workspace, key: str, result: dict[str, Any]) -> None:
    folder = workspace.previews / key
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)

    def finish(table: sqlite3.Connection) -> None:
        table.execute("DELETE FROM previews WHERE key = ?", (key,))
        table.execute("DELETE FROM clients WHERE key = ?", (key,))

    _transact(workspace, finish)


def num_waiting(workspace: Workspace) -> tuple[int, int]:
    """Previews and runs that wait."""
    waiting = "(SELECT COUNT(*) FROM {} WHERE state = 'queued')"
    counts = f"SELECT {waiting.format('previews')}, {waiting.format('runs')}"
    return _read(workspace, lambda table: table.execute(counts).fetchone())


def table_mark(workspace: Workspace) -> tuple[tuple[int, int, int] | None, ...]:
    """Another one whenever somebody has written to the table: a small part of the price of asking it."""
    marks = []
    for file in (workspace.queue_file, workspace.queue_file.with_name("queue.sqlite-wal")):
        try:
            about = os.stat(file)
        except OSError:  # no such file; anything worse is noticed by whoever asks the table itself
            marks.append(None)
        else:
            marks.append((about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(marks)


def _read_result(file: Path) -> dict[str, Any]:
    """Empty where there is none or it is damaged: then the question is open."""
    try:
        result = read_json(file)
    except AssetError:
        return {}
    return result if isinstance(result, dict) else {}


# Workers


def beat(workspace: Workspace, worker: WorkerInfo) -> None:
    row = (worker.worker_id, socket.gethostname(), worker.pid, worker.device, worker.heartbeat, worker.doing)
    _transact(workspace, lambda table: table.execute("REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?)", row))


def remove_worker(workspace: Workspace, worker_id: str) -> None:
    """For one that ends in good order: what it was answering is left to the next."""

    def remove(table: sqlite3.Connection) -> None:
        table.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,))
        table.execute("UPDATE previews SET state = 'queued' WHERE state = 'running' AND worker_id = ?", (worker_id,))

    _transact(workspace, remove)


def live_workers(workspace: Workspace) -> list[WorkerInfo]:
    """Those with a fresh heartbeat whose process exists."""
    return _read(workspace, _live_workers)


def _live_workers(table: sqlite3.Connection) -> list[WorkerInfo]:
    columns = "SELECT worker_id, pid, device, heartbeat, doing, host FROM workers WHERE heartbeat > ? ORDER BY device"
    rows = table.execute(columns, (time.time() - ALIVE_SECONDS,)).fetchall()
    here = socket.gethostname()
    return [
        WorkerInfo(worker_id=worker_id, pid=pid, device=device, heartbeat=heartbeat, doing=doing)
        for worker_id, pid, device, heartbeat, doing, host in rows
        if host != here or _process_exists(pid)  # another container's process numbers mean nothing here
    ]


def _process_exists(pid: int, *, since: float = math.inf) -> bool:
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


def recover(workspace: Workspace, worker_id: str) -> None:
    """Tidies up after workers that died: their runs become "interrupted" (or "cancelled", where that was asked for),
    runs that they had claimed but not begun wait again, their previews are given up.

    Called by worker ``worker_id`` while it is answering nothing, so what it claimed and didn't answer is given up too.
    """
    summaries = list_runs(workspace)
    at_work = {worker.doing for worker in live_workers(workspace)}  # asked last: a run just begun must be in it
    for summary in summaries:
        if summary.state in ACTIVE_STATES and summary.id not in at_work:
            run = open_run(workspace, summary.id)
            if not _is_at_work(run.status()):
                interrupt(run, "the engine stopped while this was running; resume it to go on")

    def tidy(table: sqlite3.Connection) -> list[str]:
        workers = {worker.worker_id: worker for worker in _live_workers(table)}
        at_work = {worker.doing for worker in workers.values()}
        for (run_id,) in table.execute("SELECT id FROM runs WHERE state = 'running'").fetchall():
            if run_id not in at_work:  # whoever claims it sees from its folder whether it still wants to run
                table.execute("UPDATE runs SET state = 'queued' WHERE id = ?", (run_id,))
        given_up = table.execute("SELECT key, worker_id FROM previews WHERE state = 'running'").fetchall()
        return [key for key, owner in given_up if owner == worker_id or owner not in workers]

    for key in _transact(workspace, tidy):
        finish_preview(workspace, key, {"state": "failed", "error": "the engine stopped while answering; ask again"})


def interrupt(run: Run, reason: str) -> None:
    """Closes a run whose process is gone, unless it closed itself in its last moment."""
    if run.status().state in FINISHED_STATES:
        return
    if run.cancel_requested:
        run.update(state="cancelled", message="cancelled")
    else:
        run.update(state="interrupted", message=reason, error=reason)


def _is_at_work(status: RunStatus) -> bool:
    """For a run that no worker holds: one started from the command line, or left behind. A step may take long."""
    fresh = time.time() - status.heartbeat < _LONGEST_STEP_SECONDS
    return fresh and status.pid is not None and _process_exists(status.pid, since=status.heartbeat)


# The table itself


def _read(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    return _attempt(workspace, work)


def _transact(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    def transaction(table: sqlite3.Connection) -> T:
        with table:  # commits, or rolls back
            table.execute("BEGIN IMMEDIATE")
            return work(table)

    return _attempt(workspace, transaction)


def _attempt(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        with closing(_open(workspace)) as table:
            return work(table)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise _explain(workspace, error) from error
    _set_aside(workspace)
    try:
        with closing(_open(workspace)) as table:
            return work(table)
    except sqlite3.DatabaseError as error:
        raise _explain(workspace, error) from error


def _open(workspace: Workspace) -> sqlite3.Connection:
    table = sqlite3.connect(workspace.queue_file, timeout=5, isolation_level=None)
    try:
        if table.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            with _alone(workspace):
                if table.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                    _create(table, workspace)
        table.execute("PRAGMA synchronous = NORMAL")
        return table
    except BaseException:
        table.close()
        raise


def _create(table: sqlite3.Connection, workspace: Workspace) -> None:
    """An empty table, and in it the runs that their folders say are waiting or running, in order of creation."""
    table.execute("PRAGMA journal_mode = WAL")
    with table:
        table.execute("BEGIN IMMEDIATE")
        for name, columns in _TABLES.items():
            table.execute(f"DROP TABLE IF EXISTS {name}")
            table.execute(f"CREATE TABLE {name} ({columns})")
        for summary in reversed(list_runs(workspace)):
            if summary.state == "queued" or summary.state in ACTIVE_STATES:
                state = "queued" if summary.state == "queued" else "running"
                table.execute("INSERT INTO runs (id, state) VALUES (?, ?)", (summary.id, state))
        table.execute(f"PRAGMA user_version = {_VERSION}")


def _set_aside(workspace: Workspace) -> None:
    with _alone(workspace), writing(workspace.queue_file):
        try:
            with closing(sqlite3.connect(workspace.queue_file, timeout=5)) as table:
                if table.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                    return  # somebody else was here first
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise _explain(workspace, error) from error
        for ending in ("-wal", "-shm"):
            workspace.queue_file.with_name(workspace.queue_file.name + ending).unlink(missing_ok=True)
        os.replace(workspace.queue_file, workspace.queue_file.with_name("queue.sqlite.damaged"))


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Making and discarding the table is for one process at a time."""
    path = workspace.root / "queue.lock"
    with writing(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _explain(workspace: Workspace, error: sqlite3.DatabaseError) -> WorkspaceError:
    return WorkspaceError(
        f"{workspace.queue_file} can't be used ({error}); check that the folder is there, writable and not full"
    )
