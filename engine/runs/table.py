"""The SQLite file behind the queue: opening it, asking it, and making it again when it is missing or damaged.

Everything in it can be lost: runs are in their folders, and the table is rebuilt from them. Each call opens and closes
its own connection, so any thread may call. Free of torch.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

from engine.errors import WorkspaceError
from engine.runs.listing import list_runs
from engine.runs.store import ACTIVE_STATES
from engine.runs.workspace import Workspace, writing

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


def read(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    """What ``work`` finds. Raises WorkspaceError for a table that can't be used, as all calls here do."""
    return _attempt(workspace, work)


def transact(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    """``work`` may write: all of it counts, or none where it raises."""

    def transaction(table: sqlite3.Connection) -> T:
        with table:  # commits, or rolls back
            table.execute("BEGIN IMMEDIATE")
            return work(table)

    return _attempt(workspace, transaction)


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


def _attempt(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        with closing(open_table(workspace)) as table:
            return work(table)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise _explain(workspace, error) from error
    _set_aside(workspace)
    try:
        with closing(open_table(workspace)) as table:
            return work(table)
    except sqlite3.DatabaseError as error:
        raise _explain(workspace, error) from error


def open_table(workspace: Workspace) -> sqlite3.Connection:
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
