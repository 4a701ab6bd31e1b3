"""A cancelled run ends within two seconds, whatever its process is in the middle of."""

import threading
import time
from collections.abc import Iterator

import pytest

from engine.errors import Cancelled
from engine.runs import jobs, stopping
from engine.runs.child import CANCEL_GRACE_SECONDS, TERMINATE_GRACE_SECONDS
from engine.runs.jobs import execute_run
from engine.runs.progress import Progress
from engine.runs.stopping import stopping_when_cancelled
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, open_workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def run(workspace: Workspace) -> Run:
    return create_run(workspace, kind="ced", title="x", params={})


def cancel_soon(run: Run, seconds: float = 0.2) -> None:
    threading.Timer(seconds, run.request_cancel).start()


def test_a_step_that_takes_long_is_broken_off_and_the_run_is_cancelled(
    workspace: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied = []

    def job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
        yield Progress(phase="scoring", message="", done=1, total=100)
        try:
            with run.new_stage(0) as folder:
                (folder / "stage.json").write_text("{}")
                time.sleep(30)
        finally:
            tidied.append(True)

    monkeypatch.setitem(jobs.JOBS, "ced", job)
    cancel_soon(run)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(execute_run(run, workspace))
    assert time.monotonic() - began < 2
    assert (run.status().state, run.status().message) == ("cancelled", stopping.MESSAGE)
    assert not run.cancel_requested and tidied == [True]
    assert list((run.path / "stages").iterdir()) == []


def test_a_busy_loop_is_broken_off_too(run: Run) -> None:
    cancel_soon(run)
    began = time.monotonic()
    with pytest.raises(Cancelled), stopping_when_cancelled(run):
        while True:
            sum(range(1000))
    assert time.monotonic() - began < 2


def test_a_run_that_looks_itself_is_left_to_do_so(
    workspace: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
        try:
            for step in range(1000):
                time.sleep(0.02)
                seen.append(step)
                yield Progress(phase="recovery", message="", done=step, total=1000)
        except GeneratorExit:  # closed at a yield, not broken off in the middle of a step
            seen.append("closed")
            raise

    monkeypatch.setitem(jobs.JOBS, "ced", job)
    cancel_soon(run)
    with pytest.raises(Cancelled):
        list(execute_run(run, workspace))
    assert seen[-1] == "closed" and run.status().state == "cancelled"


def test_nothing_is_left_after_the_body_and_other_threads_are_left_alone(run: Run) -> None:
    before = threading.active_count()
    with stopping_when_cancelled(run):
        assert threading.active_count() == before + 1
    run.request_cancel()
    time.sleep(stopping.GRACE_SECONDS + 3 * stopping.LOOK_SECONDS)  # nothing is raised here any more
    assert threading.active_count() == before
    ended = []

    def elsewhere() -> None:
        with stopping_when_cancelled(run):
            time.sleep(stopping.GRACE_SECONDS + 3 * stopping.LOOK_SECONDS)
        ended.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ended == [True]


def test_a_request_that_is_taken_back_stops_nothing(run: Run) -> None:
    with stopping_when_cancelled(run):
        run.request_cancel()
        time.sleep(0.05)
        run.clear_cancel()
        time.sleep(stopping.GRACE_SECONDS + 4 * stopping.LOOK_SECONDS)


def test_the_worker_s_own_means_fit_into_two_seconds() -> None:
    """For a process that doesn't listen; half a second is left for looking, and for closing the folder."""
    assert stopping.LOOK_SECONDS + stopping.GRACE_SECONDS < CANCEL_GRACE_SECONDS
    assert CANCEL_GRACE_SECONDS + TERMINATE_GRACE_SECONDS <= 1.5
