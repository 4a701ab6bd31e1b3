"""The app under test, page by page, on a workspace of its own and with an engine that can't be started by accident."""

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import jobs
from engine.models import bundled
from engine.runs.workspace import Workspace, open_workspace
from tests.app.fixtures import full_workspace, write_models

MAIN = Path(__file__).parents[2] / "app" / "main.py"
Open = Callable[..., AppTest]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Devices for which the app asked for a worker; none is ever started."""
    asked: list[str] = []

    def ensure_worker(workspace: Workspace, *, device: str = "cpu") -> bool:
        asked.append(device)
        return True

    monkeypatch.setattr(jobs.queue, "ensure_worker", ensure_worker)
    return asked


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]) -> Workspace:
    st.cache_data.clear()
    st.cache_resource.clear()
    write_models(tmp_path / "models")
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path / "models")
    monkeypatch.setenv("ENTPRUNER_WORKSPACE", str(tmp_path / "workspace"))
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def full(empty: Workspace) -> Workspace:
    return full_workspace(empty.root)


@pytest.fixture
def open_page() -> Open:
    """``open_page("prune", run="new")``: the page as the browser asks for it. An exception on it fails the test."""

    def open_page(name: str, **query: str) -> AppTest:
        at = AppTest.from_file(str(MAIN), default_timeout=120).run()
        at.switch_page(f"views/{name}.py")
        for key, value in query.items():
            at.query_params[key] = value
        at.run()
        assert not at.exception, at.exception[0].value
        return at

    return open_page


def words(at: AppTest) -> str:
    """Everything on screen that is text."""
    kinds = ("title", "header", "subheader", "markdown", "error", "warning", "info", "success", "caption")
    parts = [element.value for kind in kinds for element in getattr(at, kind)]
    parts += [element.proto.body for element in at.get("html")]
    return "\n".join(map(str, parts))
