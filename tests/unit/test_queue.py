"""The table of requests: order, cancelling, previews, and that it can be lost without losing anything."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import InputError, WorkspaceError
from engine.runs import table, workers
from engine.runs.bin import delete_run
from engine.runs.queue import (
    cancel_run,
    claim_next_preview,
    claim_next_run,
    finish_preview,
    finish_run,
    is_wanted,
    preview_result,
    queue_position,
    resume_run,
    submit_preview,
    submit_run,
    waits_for_others,
    withdraw_preview,
)
from engine.runs.recovery import recover
from engine.runs.store import Run, RunStatus, create_run
from engine.runs.workers import WorkerInfo, beat, live_workers
from engine.runs.workspace import Workspace, open_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


def new_run(workspace: Workspace, *, submit: bool = True) -> Run:
    run = create_run(workspace, kind="ced", title="", params={})
    if submit:
        submit_run(workspace, run)
    return run


def worker(name: str = "w", *, pid: int | None = None, age: float = 0.0, doing: str = "") -> WorkerInfo:
    pid = os.getpid() if pid is None else pid
    return WorkerInfo(worker_id=name, pid=pid, device="cpu", heartbeat=time.time() - age, doing=doing)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- runs ---


def submit_again_after_claiming(workspace: Workspace, run_id: str) -> None:
    """Resumed, and taken up by another worker at once, which is about to begin it."""
    resume_run(workspace, run_id)
    while claim_next_run(workspace, "second"):
        continue


def test_first_come_first_served(workspace: Workspace) -> None:
    runs = [new_run(workspace) for _ in range(3)]
    assert [queue_position(workspace, run.id) for run in runs] == [0, 1, 2]
    assert claim_next_run(workspace, "w").id == runs[0].id
    assert [queue_position(workspace, run.id) for run in runs] == [0, 0, 1]
    finish_run(workspace, runs[0].id)
    assert [queue_position(workspace, run.id) for run in runs] == [None, 0, 1]
    assert [claim_next_run(workspace, "w").id for _ in range(2)] == [run.id for run in runs[1:]]
    assert claim_next_run(workspace, "w") is None


def test_submitting_twice_runs_once(workspace: Workspace) -> None:
    run = new_run(workspace)
    submit_run(workspace, run)
    assert claim_next_run(workspace, "w").id == run.id
    assert claim_next_run(workspace, "w") is None


def test_each_run_is_claimed_by_one_worker(workspace: Workspace) -> None:
    runs = {new_run(workspace).id for _ in range(12)}
    claimed: list[str] = []

    def work(name: str) -> None:
        while run := claim_next_run(workspace, name):
            claimed.append(run.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 12
    assert set(claimed) == runs


def test_queued_run_is_cancelled_at_once(workspace: Workspace) -> None:
    first, second = new_run(workspace), new_run(workspace)
    cancel_run(workspace, first.id)
    cancel_run(workspace, first.id)
    assert first.status().state == "cancelled"
    assert not first.cancel_requested
    assert queue_position(workspace, first.id) is None
    assert claim_next_run(workspace, "w").id == second.id


def test_run_that_was_never_submitted_can_be_cancelled(workspace: Workspace) -> None:
    run = new_run(workspace, submit=False)
    cancel_run(workspace, run.id)
    assert run.status().state == "cancelled"


def test_running_run_is_asked_to_stop(workspace: Workspace) -> None:
    run = new_run(workspace)
    claim_next_run(workspace, "w")
    cancel_run(workspace, run.id)  # claimed a moment ago: its folder still says "queued"
    assert run.cancel_requested
    assert run.status().state == "queued"
    run.update(state="running")
    cancel_run(workspace, run.id)
    assert run.status().state == "running"


def test_run_whose_process_is_gone_is_cancelled_at_once(workspace: Workspace) -> None:
    run = new_run(workspace)
    claim_next_run(workspace, "w")
    run.update(state="running", pid=None)
    beat(workspace, worker(doing=run.id))
    cancel_run(workspace, run.id)
    assert run.status().state == "running"  # its worker will see to it
    beat(workspace, worker(age=60, doing=run.id))
    cancel_run(workspace, run.id)
    assert run.status().state == "cancelled"


def test_finished_run_stays_as_it_is(workspace: Workspace) -> None:
    run = new_run(workspace)
    claim_next_run(workspace, "w")
    run.update(state="done")
    finish_run(workspace, run.id)
    before = run.status()
    cancel_run(workspace, run.id)
    assert run.status() == before
    assert not run.cancel_requested
    with pytest.raises(InputError, match="is done"):
        resume_run(workspace, run.id)


@pytest.mark.parametrize("state", ["interrupted", "failed", "cancelled"])
def test_resumed_run_waits_at_the_end(workspace: Workspace, state: str) -> None:
    run = new_run(workspace)
    claim_next_run(workspace, "w")
    run.update(state="running", progress=0.4)
    run.request_cancel()
    run.update(state=state, error="why it ended")
    finish_run(workspace, run.id)
    other = new_run(workspace)
    resume_run(workspace, run.id)
    resume_run(workspace, run.id)
    status = run.status()
    assert (status.state, status.error, status.progress) == ("queued", None, 0.4)
    assert not run.cancel_requested
    assert [claim_next_run(workspace, "w").id for _ in range(2)] == [other.id, run.id]
    assert claim_next_run(workspace, "w") is None


@pytest.mark.parametrize("by", [resume_run, submit_again_after_claiming])
def test_run_resumed_before_its_worker_has_let_go_of_it_waits_again(workspace: Workspace, by: Callable) -> None:
    """The worker closes the folder first and takes the run off the table then: a quick person comes in between."""
    run, other = new_run(workspace), new_run(workspace)
    beat(workspace, worker("first"))
    beat(workspace, worker("second"))
    assert claim_next_run(workspace, "first").id == run.id
    run.update(state="interrupted")
    by(workspace, run.id)
    finish_run(workspace, run.id, worker_id="first")
    claimed = [found.id for _ in range(3) if (found := claim_next_run(workspace, "second"))]
    assert claimed == ([other.id, run.id] if by is resume_run else [])
    if by is not resume_run:  # the second worker has both already, and the first takes nothing from it
        assert queue_position(workspace, run.id) == 0


def test_run_that_waits_by_its_folder_alone_gets_back_into_the_table(workspace: Workspace) -> None:
    live_workers(workspace)  # the table is there, so that it isn't made from the folders
    made, old = new_run(workspace, submit=False), new_run(workspace, submit=False)
    old.write_status(RunStatus(state="queued", heartbeat=time.time() - 100))
    recover(workspace, "me")
    assert queue_position(workspace, old.id) == 0
    assert queue_position(workspace, made.id) is None  # whoever made it is about to submit it, or to do it by hand
    recover(workspace, "me")
    assert claim_next_run(workspace, "me").id == old.id
    assert claim_next_run(workspace, "me") is None


def test_deleted_and_damaged_runs_are_passed_over(workspace: Workspace) -> None:
    deleted, damaged, healthy = (new_run(workspace) for _ in range(3))
    delete_run(workspace, deleted.id)
    (damaged.path / "status.json").write_text("{")
    assert claim_next_run(workspace, "w").id == healthy.id
    assert queue_position(workspace, deleted.id) is None
    assert queue_position(workspace, damaged.id) is None


def test_unknown_run_is_one_line(workspace: Workspace) -> None:
    for function in (cancel_run, resume_run):
        with pytest.raises(InputError, match="no run named"):
            function(workspace, "../etc")


# --- previews ---


def test_same_question_is_computed_once(workspace: Workspace) -> None:
    key = submit_preview(workspace, "drop", {"model": "demo-sit", "drop": [3, 7]}, client="a")
    assert submit_preview(workspace, "drop", {"drop": [3, 7], "model": "demo-sit"}, client="b") == key
    assert preview_result(workspace, key) is None
    request = claim_next_preview(workspace, "w")
    assert (request.key, request.kind, request.params) == (key, "drop", {"model": "demo-sit", "drop": [3, 7]})
    assert submit_preview(workspace, "drop", request.params, client="c") == key  # while it is being answered
    assert claim_next_preview(workspace, "w") is None
    assert preview_result(workspace, key) is None
    finish_preview(workspace, key, {"state": "done", "error": None, "ced": 0.25})
    assert preview_result(workspace, key)["ced"] == 0.25
    assert submit_preview(workspace, "drop", request.params, client="d") == key  # answered from the disk
    assert claim_next_preview(workspace, "w") is None
    assert submit_preview(workspace, "drop", {"model": "demo-sit", "drop": [7, 3]}) != key
    assert submit_preview(workspace, "other", request.params) != key


def test_newest_question_is_answered_first(workspace: Workspace) -> None:
    first, second, third = (submit_preview(workspace, "drop", {"n": n}) for n in range(3))
    assert submit_preview(workspace, "drop", {"n": 0}) == first  # asked again: it is the newest now
    assert [claim_next_preview(workspace, "w").key for _ in range(3)] == [first, third, second]


def test_older_question_of_the_same_client_is_dropped(workspace: Workspace) -> None:
    mine_and_yours, mine, anonymous = {"n": 0}, {"n": 1}, {"n": 2}
    shared = submit_preview(workspace, "drop", mine_and_yours, client="me")
    submit_preview(workspace, "drop", mine_and_yours, client="you")
    nobodys = submit_preview(workspace, "drop", anonymous)
    old = submit_preview(workspace, "drop", mine, client="me")
    new = submit_preview(workspace, "drop", {"n": 3}, client="me")
    assert preview_result(workspace, old)["state"] == "stale"
    assert {claim_next_preview(workspace, "w").key for _ in range(3)} == {shared, nobodys, new}
    assert claim_next_preview(workspace, "w") is None
    assert submit_preview(workspace, "drop", mine, client="me") == old
    assert preview_result(workspace, old) is None  # asked again, so no longer stale
    assert claim_next_preview(workspace, "w").key == old


def test_a_question_that_is_being_answered_is_wanted_until_everybody_has_left(workspace: Workspace) -> None:
    key = submit_preview(workspace, "look", {"n": 0}, client="me")
    submit_preview(workspace, "look", {"n": 0}, client="you")
    assert claim_next_preview(workspace, "w").key == key and is_wanted(workspace, key)
    waiting = submit_preview(workspace, "look", {"n": 1}, client="me")  # another path was typed
    assert is_wanted(workspace, key) and waits_for_others(workspace, waiting) and not waits_for_others(workspace, key)
    withdraw_preview(workspace, "you")
    assert not is_wanted(workspace, key)
    withdraw_preview(workspace, "me")
    assert preview_result(workspace, waiting)["state"] == "stale" and claim_next_preview(workspace, "w") is None


def test_answered_question_makes_the_older_one_stale_too(workspace: Workspace) -> None:
    answered = submit_preview(workspace, "drop", {"n": 0}, client="me")
    claim_next_preview(workspace, "w")
    finish_preview(workspace, answered, {"state": "done"})
    old = submit_preview(workspace, "drop", {"n": 1}, client="me")
    submit_preview(workspace, "drop", {"n": 0}, client="me")
    assert preview_result(workspace, old)["state"] == "stale"
    assert claim_next_preview(workspace, "w") is None


def test_question_that_failed_can_be_asked_again(workspace: Workspace) -> None:
    key = submit_preview(workspace, "drop", {})
    claim_next_preview(workspace, "w")
    finish_preview(workspace, key, {"state": "failed", "error": "block 99 doesn't exist"})
    assert preview_result(workspace, key)["error"] == "block 99 doesn't exist"
    submit_preview(workspace, "drop", {})
    assert preview_result(workspace, key) is None
    assert claim_next_preview(workspace, "w").key == key


def test_damaged_answer_is_an_open_question(workspace: Workspace) -> None:
    key = submit_preview(workspace, "drop", {})
    claim_next_preview(workspace, "w")
    finish_preview(workspace, key, {"state": "done"})
    (workspace.previews / key / "result.json").write_text('{"state": "do')
    assert preview_result(workspace, key)["state"] == "stale"
    submit_preview(workspace, "drop", {})
    assert claim_next_preview(workspace, "w").key == key


def test_key_that_is_none_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="isn't the key"):
        preview_result(workspace, "../../etc/passwd")


# --- workers ---


def test_worker_is_alive_while_it_beats_and_exists(workspace: Workspace) -> None:
    beat(workspace, worker("fresh", doing="preview"))
    beat(workspace, worker("silent", age=60))
    beat(workspace, worker("dead", pid=dead_pid()))
    assert [(found.worker_id, found.doing) for found in live_workers(workspace)] == [("fresh", "preview")]


def test_process_that_ended_unnoticed_is_not_alive(workspace: Workspace) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()
    time.sleep(0.3)  # it has ended, and nobody has waited for it
    beat(workspace, worker(pid=process.pid))
    assert live_workers(workspace) == []
    process.wait()


def test_recovery_after_dead_workers(workspace: Workspace) -> None:
    begun, asked_to_stop, unbegun, by_hand, healthy = (new_run(workspace) for _ in range(5))
    for _ in range(5):
        claim_next_run(workspace, "dead")
    begun.update(state="running", pid=dead_pid())
    asked_to_stop.update(state="running", pid=None)
    asked_to_stop.request_cancel()
    by_hand.update(state="running")  # by this process: begun from the command line
    healthy.update(state="running", pid=None)
    beat(workspace, worker("dead", pid=dead_pid(), doing=begun.id))
    beat(workspace, worker("me"))
    beat(workspace, worker("other", doing=healthy.id))
    key = submit_preview(workspace, "drop", {})
    claim_next_preview(workspace, "dead")
    recover(workspace, "me")
    states = [run.status().state for run in (begun, asked_to_stop, unbegun, by_hand, healthy)]
    assert states == ["interrupted", "cancelled", "queued", "running", "running"]
    assert begun.status().error.startswith("the engine stopped")
    assert "engine stopped" in preview_result(workspace, key)["error"]
    assert claim_next_run(workspace, "me").id == unbegun.id  # the interrupted one waits for a person
    assert claim_next_run(workspace, "me") is None


def test_process_number_that_was_given_out_again_is_noticed(workspace: Workspace) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to tell when a process began")
    runs = [new_run(workspace, submit=False) for _ in range(2)]
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    for run, age in zip(runs, (0, 600), strict=True):
        run.update(state="running", pid=process.pid, heartbeat=time.time() - age)
    recover(workspace, "me")
    process.kill()
    process.wait()
    assert [run.status().state for run in runs] == ["running", "interrupted"]
    recover(workspace, "me")
    assert [run.status().state for run in runs] == ["interrupted", "interrupted"]


def test_one_worker_is_started_by_many_calls(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    real = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen:
        commands.append(command)
        return real([sys.executable, "-c", "print('hello'); import time; time.sleep(0.5)"], **options)

    monkeypatch.setattr(workers.subprocess, "Popen", start)
    assert workers.ensure_worker(workspace)
    assert not workers.ensure_worker(workspace)
    root = str(workspace.root)
    assert commands == [[sys.executable, "-m", "engine", "worker", "--workspace", root, "--device", "cpu"]]
    process, _ = workers._started[workspace.root, "cpu"]
    assert os.getsid(process.pid) == process.pid  # it outlives the server that started it
    process.wait()
    assert (workspace.root / "worker-cpu.log").read_text() == "hello\n"
    assert workers.ensure_worker(workspace)  # that one died
    workers._started[workspace.root, "cpu"][0].wait()
    beat(workspace, worker())
    assert not workers.ensure_worker(workspace)
    assert workers.ensure_worker(workspace, device="cuda:1")
    workers._started[workspace.root, "cuda:1"][0].wait()
    assert (workspace.root / "worker-cuda-1.log").exists()


# --- the table itself ---


@pytest.mark.parametrize("leftovers", [True, False])
def test_table_that_was_deleted_is_made_again(workspace: Workspace, leftovers: bool) -> None:
    first, second, running, done = (new_run(workspace) for _ in range(4))
    running.update(state="running")
    done.update(state="done")
    held_open = table.open_table(workspace) if leftovers else None  # then -wal and -shm stay behind
    workspace.queue_file.unlink()
    assert [queue_position(workspace, run.id) for run in (first, second)] == [0, 1]
    assert queue_position(workspace, running.id) == 0
    assert queue_position(workspace, done.id) is None
    assert [claim_next_run(workspace, "w").id for _ in range(2)] == [first.id, second.id]
    assert claim_next_run(workspace, "w") is None
    if held_open:
        held_open.close()


@pytest.mark.parametrize(
    "damage", [b"this is no database, though it is long enough to be taken for one. " * 99, b"SQLite"]
)
def test_damaged_table_is_moved_aside(workspace: Workspace, damage: bytes) -> None:
    runs = [new_run(workspace) for _ in range(2)]
    workspace.queue_file.write_bytes(damage)
    assert [queue_position(workspace, run.id) for run in runs] == [0, 1]
    assert (workspace.root / "queue.sqlite.damaged").read_bytes() == damage


def test_damage_inside_the_table_is_noticed(workspace: Workspace) -> None:
    run = new_run(workspace)
    content = bytearray(workspace.queue_file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # the first page, with the layout, is sound
    workspace.queue_file.write_bytes(content)
    assert claim_next_run(workspace, "w").id == run.id
    assert (workspace.root / "queue.sqlite.damaged").exists()


def test_table_made_by_many_at_once(tmp_path: Path) -> None:
    """Nobody makes it a second time over what the first have written."""
    lost = []
    for attempt in range(10):
        workspace = open_workspace(tmp_path / str(attempt))
        together = threading.Barrier(6)
        keys: list[str] = []

        def ask(n: int, workspace: Workspace = workspace, together: threading.Barrier = together) -> None:
            together.wait()
            keys.append(submit_preview(workspace, "drop", {"n": n}))  # noqa: B023 - joined before the next attempt

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(keys) == 6  # a thread that failed has none
        lost += [key for key in keys if preview_result(workspace, key) is not None]
    assert lost == []


def test_vanished_workspace_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"queue\.sqlite can't be used") as caught:
        live_workers(Workspace(tmp_path / "gone"))
    assert "\n" not in str(caught.value)
