"""The queue of requests: which runs wait and which previews are asked for, and who does them.

Everything here can be lost: runs are in their folders (store.py), the rest can be asked again. Any thread may call.
Free of torch.
"""

import hashlib
import json
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import AssetError, InputError
from engine.runs.drive import Drive, clear_pause, request_pause, write_drive
from engine.runs.store import ACTIVE_STATES, RESTING_STATES, Run, RunStatus, open_run
from engine.runs.table import read, transact
from engine.runs.workers import (  # noqa: F401 - the app puts its questions here and gets to the workers this way too
    WorkerInfo,
    beat,
    ensure_worker,
    is_at_work,
    live_workers,
    live_workers_in,
    process_exists,
)
from engine.runs.workspace import Workspace, read_json, write_json, writing


@dataclass(frozen=True, kw_only=True)
class PreviewRequest:
    key: str
    kind: str
    params: dict[str, Any]
    folder: Path


# Runs: first come, first served


def submit_run(workspace: Workspace, run: Run) -> None:
    transact(workspace, lambda table: enqueue(table, run.id))


def queue_position(workspace: Workspace, run_id: str) -> int | None:
    """0: running or next; None: neither running nor queued."""

    def position(table: sqlite3.Connection) -> int | None:
        row = table.execute("SELECT number, state FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None or row[1] == "running":
            return None if row is None else 0
        return table.execute("SELECT COUNT(*) FROM runs WHERE state = 'queued' AND number < ?", row[:1]).fetchone()[0]

    return read(workspace, position)


def cancel_run(workspace: Workspace, run_id: str) -> None:
    """A queued run is cancelled at once, a running one is asked to stop, a finished one stays as it is."""
    run = open_run(workspace, run_id)

    def cancel(table: sqlite3.Connection) -> None:
        status = run.status()
        table.execute("DELETE FROM runs WHERE id = ? AND state = 'queued'", (run_id,))
        claimed = table.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone()
        if status.state == "queued" and not claimed:
            run.update(state="cancelled", message="cancelled before it began")
        elif status.state == "paused":
            run.update(state="cancelled", message="cancelled while it was paused; finished stages are kept")
        elif status.state not in RESTING_STATES:
            run.request_cancel()
            at_work = {worker.doing for worker in live_workers_in(table)}
            if status.state in ACTIVE_STATES and run_id not in at_work and not is_at_work(status):
                run.interrupt("its process is gone")  # nobody is left to see the request

    transact(workspace, cancel)


def pause_run(workspace: Workspace, run_id: str) -> None:
    """A queued run rests at once, a running one is asked to save where it is and rest; one at rest stays so."""
    run = open_run(workspace, run_id)

    def pause(table: sqlite3.Connection) -> None:
        table.execute("DELETE FROM runs WHERE id = ? AND state = 'queued'", (run_id,))
        claimed = table.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone()
        state = run.status().state
        if state == "queued" and not claimed:
            run.update(state="paused", message="paused before it began")
        elif state not in RESTING_STATES:
            request_pause(run)

    transact(workspace, pause)


def drive_run(workspace: Workspace, run_id: str, drive: Drive) -> None:
    """Sets how a run goes on and queues it, a finished one too: from another stage, or with a decision made by hand.

    Raises InputError for one that is waiting or at work: it must rest first.
    """
    run = open_run(workspace, run_id)
    if run.status().state not in RESTING_STATES:
        raise InputError(f"run {run_id} is {run.status().state}; pause it first, then say how it goes on")
    write_drive(run, drive)
    resume_run(workspace, run_id, even_if_done=True)


def resume_run(workspace: Workspace, run_id: str, *, even_if_done: bool = False) -> None:
    """Queues a run at rest again; one that is queued or running stays as it is."""
    run = open_run(workspace, run_id)

    def resume(table: sqlite3.Connection) -> None:
        status = run.status()
        if status.state == "done" and not even_if_done:
            raise InputError(f"run {run_id} is done: there is nothing to resume")
        if status.state in RESTING_STATES:
            run.clear_cancel()
            clear_pause(run)
            # Within the transaction, so that no worker starts it before its folder says "queued".
            run.write_status(RunStatus(state="queued", progress=status.progress, heartbeat=time.time()))
            # Replaced: a worker that has just closed the run may not have taken its old row off the table yet.
            table.execute("REPLACE INTO runs (id, state) VALUES (?, 'queued')", (run_id,))
        elif status.state not in ACTIVE_STATES:
            enqueue(table, run_id)

    transact(workspace, resume)


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

    return transact(workspace, claim)


def finish_run(workspace: Workspace, run_id: str, *, worker_id: str = "") -> None:
    """Takes a run that has ended off the table, unless it was resumed meanwhile: then it waits, or another worker than
    ``worker_id`` has it."""

    def finish(table: sqlite3.Connection) -> None:
        others = {worker.doing for worker in live_workers_in(table) if worker.worker_id != worker_id}
        if run_id not in others:
            table.execute("DELETE FROM runs WHERE id = ? AND state = 'running'", (run_id,))

    transact(workspace, finish)


def enqueue(table: sqlite3.Connection, run_id: str) -> None:
    """Where it isn't in the table yet."""
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

    transact(workspace, ask)
    return key


def withdraw_preview(workspace: Workspace, client: str) -> None:
    """``client`` wants no answer any more: its question is dropped, or given up where it is being answered, unless
    others wait for it too."""

    def withdraw(table: sqlite3.Connection) -> None:
        table.execute("DELETE FROM clients WHERE client = ?", (client,))
        table.execute(
            "DELETE FROM previews WHERE state = 'queued' AND NOT anonymous AND key NOT IN (SELECT key FROM clients)"
        )

    transact(workspace, withdraw)


def is_wanted(workspace: Workspace, key: str) -> bool:
    """Whether anybody still waits for the answer to this question."""
    wanted = "SELECT 1 FROM previews WHERE key = ? AND (anonymous OR key IN (SELECT key FROM clients))"
    return read(workspace, lambda table: table.execute(wanted, (key,)).fetchone()) is not None


def waits_for_others(workspace: Workspace, key: str) -> bool:
    """Whether this question is queued while another is being answered."""
    both = (
        "SELECT 1 FROM previews WHERE key = ? AND state = 'queued' "
        "AND EXISTS (SELECT 1 FROM previews WHERE state = 'running')"
    )
    return read(workspace, lambda table: table.execute(both, (key,)).fetchone()) is not None


def preview_result(workspace: Workspace, key: str) -> dict[str, Any] | None:
    """None while the question waits or is being answered; ``{"state": "stale"}`` when nobody is going to answer it."""
    if not re.fullmatch(r"[0-9a-f]{32}", key):
        raise InputError(f"{key!r} isn't the key of a preview; ask again")
    file = workspace.previews / key / "result.json"
    if result := _read_result(file):
        return result
    if read(workspace, lambda table: table.execute("SELECT 1 FROM previews WHERE key = ?", (key,)).fetchone()):
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

    return transact(workspace, claim)


def finish_preview(workspace: Workspace, key: str, result: dict[str, Any]) -> None:
    folder = workspace.previews / key
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)

    def finish(table: sqlite3.Connection) -> None:
        table.execute("DELETE FROM previews WHERE key = ?", (key,))
        table.execute("DELETE FROM clients WHERE key = ?", (key,))

    transact(workspace, finish)


def num_waiting(workspace: Workspace) -> tuple[int, int]:
    """Previews and runs that wait."""
    waiting = "(SELECT COUNT(*) FROM {} WHERE state = 'queued')"
    counts = f"SELECT {waiting.format('previews')}, {waiting.format('runs')}"
    return read(workspace, lambda table: table.execute(counts).fetchone())


def _read_result(file: Path) -> dict[str, Any]:
    """Empty where there is none or it is damaged: then the question is open."""
    try:
        result = read_json(file)
    except AssetError:
        return {}
    return result if isinstance(result, dict) else {}
