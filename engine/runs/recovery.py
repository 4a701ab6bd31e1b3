"""Tidying up after workers that died: what becomes of the runs and previews that they had. Free of torch."""

import sqlite3
import time

from engine.errors import AssetError, InputError
from engine.runs.leftovers import sweep_workspace
from engine.runs.listing import RunSummary, list_runs
from engine.runs.queue import enqueue, finish_preview
from engine.runs.store import ACTIVE_STATES, open_run
from engine.runs.table import transact
from engine.runs.workers import is_at_work, live_workers, live_workers_in
from engine.runs.workspace import Workspace

_FORGOTTEN_SECONDS = 60.0  # in which a run that was made gets into the table


def recover(workspace: Workspace, worker_id: str) -> None:
    """Tidies up after workers that died: their runs become "interrupted" (or "cancelled", where that was asked for),
    runs that they had claimed but not begun wait again, their previews are given up. A run that waits by its folder
    and not by the table (the power went before the table was on the disk) waits there again.

    Called by worker ``worker_id`` while it is answering nothing, so what it claimed and didn't answer is given up too.
    """
    sweep_workspace(workspace)
    summaries = list_runs(workspace)
    at_work = {worker.doing for worker in live_workers(workspace)}  # asked last: a run just begun must be in it
    for summary in summaries:
        if summary.state in ACTIVE_STATES and summary.id not in at_work:
            run = open_run(workspace, summary.id)
            if not is_at_work(run.status()):
                run.interrupt("the engine stopped while this was running; resume it to go on")

    forgotten = [summary.id for summary in reversed(summaries) if _waits_long(workspace, summary)]

    def tidy(table: sqlite3.Connection) -> list[str]:
        workers = {worker.worker_id: worker for worker in live_workers_in(table)}
        at_work = {worker.doing for worker in workers.values()}
        for run_id in forgotten:
            enqueue(table, run_id)
        for (run_id,) in table.execute("SELECT id FROM runs WHERE state = 'running'").fetchall():
            if run_id not in at_work:  # whoever claims it sees from its folder whether it still wants to run
                table.execute("UPDATE runs SET state = 'queued' WHERE id = ?", (run_id,))
        given_up = table.execute("SELECT key, worker_id FROM previews WHERE state = 'running'").fetchall()
        return [key for key, owner in given_up if owner == worker_id or owner not in workers]

    for key in transact(workspace, tidy):
        finish_preview(workspace, key, {"state": "failed", "error": "the engine stopped while answering; ask again"})


def _waits_long(workspace: Workspace, summary: RunSummary) -> bool:
    """One just made may not be in the table yet, or was started by hand and is about to begin."""
    if summary.state != "queued":
        return False
    try:
        return time.time() - open_run(workspace, summary.id).status().heartbeat > _FORGOTTEN_SECONDS
    except (InputError, AssetError):  # deleted this moment
        return False
