"""Many sessions at once: everybody gets their pages. How fast and at what cost: ``python -m tests.soak.load``."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.__main__ import is_healthy
from engine.runs.table import read
from engine.runs.workers import WorkerInfo, beat
from engine.runs.workspace import Workspace
from tests.app.fixtures import full_workspace
from tests.soak.visitor import Page, open_visitor, run_to_end

ROOT = Path(__file__).parents[2]
SESSIONS = 40
HEADLINES = {"": "Which blocks", "importance": "Importance", "compare": "Compare", "runs": "Runs"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Workspace]]:
    """The page alone, in lecture mode, with made-up runs; this process is taken for its engine, and answers nothing."""
    workspace = full_workspace(tmp_path / "workspace")
    seem_alive(workspace)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "ENTPRUNER_WORKSPACE": str(workspace.root), "ENTPRUNER_LECTURE": "1"}
    command = [sys.executable, "-m", "streamlit", "run", "app/serve.py", "--server.port", str(port)]
    with open(tmp_path / "log", "wb") as log:
        page = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            if is_healthy("127.0.0.1", port):
                break
            time.sleep(0.1)
        yield port, workspace
    finally:
        page.kill()
        page.wait()


def seem_alive(workspace: Workspace) -> None:
    worker = WorkerInfo(worker_id="nobody", pid=os.getpid(), device="cpu", heartbeat=time.time() + 60, doing="")
    beat(workspace, worker)


async def browse(port: int, number: int) -> list[tuple[str, Page, list[str]]]:
    """Every page once, each visitor beginning elsewhere."""
    names = list(HEADLINES)
    seen = []
    async with open_visitor(port) as visitor:
        for step in range(len(names)):
            name = names[(number + step) % len(names)]
            query = {"model": "demo-sit", "data": "shapes", "block": "3"} if name == "importance" else {}
            seen.append((name, await visitor.visit(name, **query), list(visitor.errors)))
    return seen


def test_forty_sessions_all_get_their_pages_and_one_question_is_computed_once(served):
    port, workspace = served

    async def everybody() -> list[list[tuple[str, Page, list[str]]]]:
        return await asyncio.gather(*(browse(port, number) for number in range(SESSIONS)))

    visits = run_to_end(everybody())
    assert len(visits) == SESSIONS
    for name, page, errors in (seen for visit in visits for seen in visit):
        assert not page.errors and not errors, (name, page.errors, errors)
        assert HEADLINES[name] in page.words, name
    # all forty took block 3 out of the same model, and each waits for the answer
    assert read(workspace, lambda table: table.execute("SELECT kind, state FROM previews").fetchall()) == [
        ("drop", "queued")
    ]
    assert read(workspace, lambda table: table.execute("SELECT COUNT(*) FROM clients").fetchone()) == (SESSIONS,)
