"""A real server on a workspace of its own, and Chromium looking at it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.models.bundled import bundled_model_names
from engine.runs.listing import list_runs
from engine.runs.queue import live_workers
from engine.runs.workspace import Workspace
from tests.app.fixtures import add_ced, add_opened, add_prune

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
REQUIRED = os.environ.get("ENTPRUNER_REQUIRE_BROWSER") == "1"
LONGEST = ("test_opening.py", "test_story.py", "test_walks.py")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def without(what: str) -> None:
    """The browser tests can't run: a failure where they are required, else one line of why."""
    (pytest.fail if REQUIRED else pytest.skip)(what)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files of this folder before its others: with files shared out among processes, none runs alone at the
    end."""
    here = Path(__file__).parent
    places = [index for index, item in enumerate(items) if item.path.parent == here]
    ordered = sorted((items[index] for index in places), key=lambda item: item.path.name not in LONGEST)
    for index, item in zip(places, ordered, strict=True):
        items[index] = item


@dataclass
class Server:
    url: str
    workspace: Workspace
    started: float  # time.monotonic() when the process was started


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _serve(tmp_path_factory)


@pytest.fixture
def fresh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that nobody has looked at yet."""
    yield from _serve(tmp_path_factory)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One on a workspace in which work was done: a heatmap, a pruning, a model and a dataset that were opened. What is
    in the files is made up; the models that ship with the studio are the real ones."""
    for server in _serve(tmp_path_factory):
        add_opened(server.workspace)
        add_ced(server.workspace)
        add_prune(server.workspace)
        yield server


@pytest.fixture(scope="session")
def finished(furnished: Server) -> str:
    """Id of its pruning."""
    return next(run.id for run in list_runs(furnished.workspace) if (run.kind, run.state) == ("prune", "done"))


def _serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not bundled_model_names():
        without("no bundled models: build them with python assets/build.py")
    workspace = Workspace(tmp_path_factory.mktemp("browser") / "workspace")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "ENTPRUNER_WORKSPACE": str(workspace.root), "ENTPRUNER_DEVICE": "cpu"}
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    started = time.monotonic()
    log = workspace.root.parent / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://localhost:{port}"
    try:
        _wait_until_up(url, process)
        yield Server(url, workspace, started)
    finally:
        for worker in live_workers(workspace) if workspace.root.exists() else []:
            os.kill(worker.pid, signal.SIGTERM)
        process.terminate()
        process.wait(timeout=20)
    assert "Traceback" not in log.read_text(), f"the server logged an exception:\n{log.read_text()[-3000:]}"


def _wait_until_up(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("the server didn't answer within a minute")


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM.exists():
        without("no /usr/bin/chromium: install it with apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -r requirements-dev.txt")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_tab(browser):
    """``open_tab(dark=True, width=390)``: a tab that notes every request which leaves this machine, and at the end
    proves that there was none and that no traceback is on screen."""
    tabs, outside = [], []

    def open_tab(*, dark: bool = False, width: int = 1280, height: int = 900):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        tab = context.new_page()
        tab.set_default_timeout(180_000)
        local = ("http://localhost:", "ws://localhost:", "data:", "blob:")
        tab.on("request", lambda request: None if request.url.startswith(local) else outside.append(request.url))
        tab.on("websocket", lambda socket: None if socket.url.startswith(local) else outside.append(socket.url))
        tabs.append(tab)
        return tab

    yield open_tab
    texts = [tab.inner_text("body") for tab in tabs]
    for tab in tabs:
        tab.context.close()
    assert not outside, f"the page asked for {outside}"
    assert not [text for text in texts if "Traceback" in text or "Oh no." in text]
