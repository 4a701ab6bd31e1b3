"""About: on an empty workspace and on a full one, for visitors of a lecture, and what it says of the machine."""

import os
import subprocess
import time

import pytest

from app import jobs
from app.about import citing, computer, libraries, room
from app.access import lecture_key, rights
from engine import version
from engine.runs.queue import WorkerInfo, beat
from engine.runs.store import folder_bytes
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words


@pytest.fixture
def lecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lecture_key.SWITCH, "1")
    monkeypatch.setenv(lecture_key.FINGERPRINT, lecture_key.fingerprint("a key for the lecture"))
    monkeypatch.setattr(rights, "_WRONG_KEY_SECONDS", 0.0)


def test_an_empty_workspace_is_said_to_be_empty(empty: Workspace, open_page: Open) -> None:
    at = open_page("about")
    said = words(at)
    assert "Nothing is in it yet" in said and str(empty.root) in said
    assert version.VERSION in said and "demo-sit" in said and "streamlit" in said
    assert "2511.21122" in "".join(code.value for code in at.code)
    assert not at.error


def test_a_full_one_says_what_takes_the_space_and_what_waits(full: Workspace, open_page: Open) -> None:
    found = {part.name: part.num_bytes for part in room.parts(str(full.root))}
    assert found["samples"] > 0 and found["runs"] + found["samples"] == folder_bytes(full.runs)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    run = jobs.start_run("ced", title="a heatmap that waits", params={"model": "demo-sit", "data": "shapes"})
    jobs.ask("drop", {"model": "demo-sit", "data": "shapes", "drop": [1]})
    assert jobs.queue.queue_position(full, run.id) is not None
    said = words(open_page("about"))
    assert "runs that wait</dt><dd>1<" in said and "questions that wait</dt><dd>1<" in said and "Now: nothing" in said


def test_it_says_whether_the_engine_lives_and_what_it_does(full: Workspace, open_page: Open) -> None:
    beat(full, WorkerInfo(worker_id="w", pid=os.getpid(), device="cpu", heartbeat=time.time(), doing="preview"))
    said = words(open_page("about"))
    assert "at work on cpu" in said and "Now: a question of a page" in said


def test_visitors_of_a_lecture_learn_no_path(full: Workspace, lecture, open_page: Open) -> None:
    pages = [("about", {}), ("start", {}), ("prune", {"run": "nope"}), ("runs", {"run": "20260101-000000-prune-dead"})]
    for page, query in pages:
        assert str(full.root) not in words(open_page(page, **query)), page
    assert "On the machine that runs the studio" in words(open_page("about"))


def test_the_paper_is_cited_with_its_authors_and_the_program_without_any() -> None:
    for name in ("Li, Changlin", "Zhang, Jiawei", "Shi, Zeyi", "Yang, Zongxin", "Li, Zhihui", "Chang, Xiaojun"):
        assert name in citing.PAPER and name not in citing.product()
    for entry in (citing.PAPER, citing.product()):
        assert entry.count("{") == entry.count("}") and entry.startswith("@")
    assert version.VERSION in citing.product()


def test_every_library_has_a_version_and_a_licence() -> None:
    found = {one.name: one for one in libraries.installed()}
    assert {"torch", "streamlit", "plotly", "diffusers", "torch-fidelity"} <= set(found)
    assert all(one.version and one.licence and "\n" not in one.licence for one in found.values())
    assert "Apache" in found["streamlit"].licence and "BSD" in found["torch"].licence


def test_a_gpu_is_named_where_its_driver_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    computer._gpu.clear()
    said = "NVIDIA A, 40960\nNVIDIA B, 81920\n"
    answer = subprocess.CompletedProcess([], 0, stdout=said)
    monkeypatch.setattr(computer.subprocess, "run", lambda *command, **more: answer)
    facts = computer.facts("cuda:1")
    assert facts["GPU"] == "NVIDIA B" and facts["GPU memory"].endswith("GB") and facts["device"] == "cuda:1"
    assert computer.facts("cuda:7")["GPU"].startswith("unknown")
    assert "GPU" not in computer.facts("cpu")
    computer._gpu.clear()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "0123456789\n"}, "0123456"),
        ({"HEAD": "ref: refs/heads/main\n", "packed-refs": "# pack\nabcdef0123 refs/heads/main\n"}, "abcdef0"),
        ({"HEAD": "fedcba9876\n"}, "fedcba9"),
        ({}, ""),
    ],
)
def test_the_commit_is_read_from_a_checkout(tmp_path, monkeypatch, files: dict, found: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(version, "_GIT", tmp_path)
    assert version.commit() == found
