"""The worker in a process of its own, with small programs in place of the engine's runs and previews."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runs.bin import delete_run
from engine.runs.queue import (
    cancel_run,
    preview_result,
    queue_position,
    resume_run,
    submit_preview,
    submit_run,
)
from engine.runs.store import RESTING_STATES, Run, create_run
from engine.runs.workers import live_workers
from engine.runs.workspace import Workspace, open_workspace

REPOSITORY = Path(__file__).parents[2]

FAKE_RUN = """
import os, signal, sys, time
from pathlib import Path
from engine.runs.store import Run

run = Run(Path(sys.argv[1]))
assert sys.argv[2:] == ["--device", "cpu"]
kind = run.params["do"]
if kind == "say nothing":
    sys.exit(0)
run.update(state="running", phase="working")
print("at work", flush=True)
if kind == "fail":
    sys.exit("the file weights.safetensors is damaged; get it again\\n")
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
if kind == "deaf":
    time.sleep(60)
if kind == "wait":
    give_up = time.time() + 60
    while time.time() < give_up and not (run.path / "go").exists():
        if run.cancel_requested:
            run.clear_cancel()
            run.update(state="cancelled", message="stopped when asked")
            sys.exit(0)
        time.sleep(0.02)
run.update(state="done", progress=1.0)
"""

FAKE_STANDBY = """
import runpy, sys
from engine.runs.standby import wait_for_run

sys.argv = [sys.argv[1], *wait_for_run()]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

FAKE_WORKER = """
import json, sys, time, types
from pathlib import Path
from engine.errors import InputError
from engine.runs import child, worker
from engine.runs.workspace import open_workspace

def answer_preview(kind, params, *, folder, device):
    if kind == "slow":
        (folder / "begun").write_text("")
        time.sleep(params["seconds"])  # goes on after a signal, as a long computation would
    if kind == "bad":
        raise InputError("block 99 doesn't exist: this model has blocks 0 … 11")
    if kind == "unwritable":
        return {"picture": folder}
    if kind == "defect":
        raise ZeroDivisionError("deep inside")
    (folder / "picture.txt").write_text(device)
    return {"seconds": 0.5, "params": params}

previews = types.ModuleType("engine.runs.previews")
previews.answer_preview = answer_preview
sys.modules["engine.runs.previews"] = previews
root, options, constants, *programs = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]), *sys.argv[4:]
for name, value in constants.items():
    (home,) = (module for module in (worker, child) if hasattr(module, name))
    setattr(home, name, value)
commands = dict(run_command=[sys.executable, programs[0]], standby_command=[sys.executable, *programs[1:], programs[0]])
worker.run_worker(open_workspace(root), **commands, **options)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


StartWorker = Callable[..., subprocess.Popen]


@pytest.fixture
def start_worker(workspace: Workspace, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a worker; keywords in capitals replace its constants."""
    (tmp_path / "fake_run.py").write_text(FAKE_RUN)
    (tmp_path / "fake_standby.py").write_text(FAKE_STANDBY)
    (tmp_path / "fake_worker.py").write_text(FAKE_WORKER)
    processes: list[subprocess.Popen] = []

    def start(**options: object) -> subprocess.Popen:
        constants = {name: options.pop(name) for name in list(options) if name.isupper()}
        programs = [str(tmp_path / "fake_run.py"), str(tmp_path / "fake_standby.py")]
        arguments = [str(workspace.root), json.dumps(options), json.dumps(constants), *programs]
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "fake_worker.py"), *arguments],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stderr=open(workspace.root / "worker-cpu.log", "ab"),  # noqa: SIM115 - the worker's to close
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.02)


def submit(workspace: Workspace, do: str) -> Run:
    run = create_run(workspace, kind="prune", title=do, params={"do": do})
    submit_run(workspace, run)
    return run


def wait_for_state(run: Run, *states: str) -> None:
    wait_for(lambda: run.status().state in states)


def wait_until_working(run: Run) -> int:
    """The process number of its child."""
    wait_for(lambda: run.status().phase == "working")
    return run.status().pid


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def answer_to(workspace: Workspace, kind: str, params: dict) -> dict:
    key = submit_preview(workspace, kind, params)
    wait_for(lambda: preview_result(workspace, key))
    return preview_result(workspace, key)


# --- runs ---


def test_runs_are_done_one_after_the_other(workspace: Workspace, start_worker: StartWorker) -> None:
    runs = [submit(workspace, "work") for _ in range(2)]
    assert start_worker(once=True).wait(timeout=120) == 0
    first, second = (run.status() for run in runs)
    assert (first.state, second.state, second.progress) == ("done", "done", 1.0)
    assert first.finished <= second.started
    assert (runs[0].path / "log.txt").read_text() == "at work\n"
    assert live_workers(workspace) == []
    assert queue_position(workspace, runs[0].id) is None


def test_run_that_fails_says_why(workspace: Workspace, start_worker: StartWorker) -> None:
    failing, silent = submit(workspace, "fail"), submit(workspace, "say nothing")
    assert start_worker(once=True).wait(timeout=120) == 0
    assert failing.status().state == "failed"
    assert failing.status().error == "the file weights.safetensors is damaged; get it again"
    assert silent.status().state == "failed"
    assert silent.status().error == "it ended with code 0 and said nothing"


def test_killed_child_is_interrupted_and_can_be_resumed(workspace: Workspace, start_worker: StartWorker) -> None:
    run, after = submit(workspace, "wait"), submit(workspace, "work")
    start_worker()
    os.kill(wait_until_working(run), signal.SIGKILL)
    wait_for_state(run, *RESTING_STATES)
    status = run.status()
    assert status.state == "interrupted"
    assert "SIGKILL" in status.error
    wait_for_state(after, "done")  # the worker goes on
    (run.path / "go").touch()
    resume_run(workspace, run.id)
    wait_for_state(run, "done")
    assert run.status().error is None


def test_child_dies_with_its_worker(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "stubborn")
    worker = start_worker()
    child = wait_until_working(run)
    worker.kill()
    worker.wait()
    wait_for(lambda: is_gone(child), seconds=2)
    assert run.status().state == "running"  # nobody was left to say otherwise
    other = submit(workspace, "work")
    start_worker()
    wait_for_state(run, *RESTING_STATES)
    assert run.status().state == "interrupted"
    wait_for_state(other, "done")
    assert run.status().state == "interrupted"  # it doesn't start again by itself


def test_running_run_stops_when_asked(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "wait")
    start_worker()
    wait_until_working(run)
    cancel_run(workspace, run.id)
    cancel_run(workspace, run.id)
    wait_for_state(run, *RESTING_STATES)
    assert (run.status().state, run.status().message) == ("cancelled", "stopped when asked")


@pytest.mark.parametrize("do", ["deaf", "stubborn"])
def test_run_that_does_not_listen_is_ended(workspace: Workspace, start_worker: StartWorker, do: str) -> None:
    run = submit(workspace, do)
    start_worker(CANCEL_GRACE_SECONDS=0.2, TERMINATE_GRACE_SECONDS=0.3)
    child = wait_until_working(run)
    cancel_run(workspace, run.id)
    wait_for_state(run, *RESTING_STATES)
    assert run.status().state == "cancelled"
    assert is_gone(child)
    wait_for(lambda: queue_position(workspace, run.id) is None)


def test_worker_told_to_stop_leaves_nothing_behind(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "stubborn")
    worker = start_worker()
    child = wait_until_working(run)
    wait_for(lambda: [found.doing for found in live_workers(workspace)] == [run.id])
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(timeout=120) == 0
    assert time.monotonic() - began < 2
    assert is_gone(child)
    assert run.status().state == "interrupted"
    assert "engine was stopped" in run.status().error
    assert live_workers(workspace) == []


def test_run_deleted_while_it_works_is_no_trouble(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "wait")
    worker = start_worker()
    child = wait_until_working(run)
    run.path.rename(workspace.root / "moved away by hand")
    os.kill(child, signal.SIGKILL)
    assert answer_to(workspace, "drop", {})["state"] == "done"
    after = submit(workspace, "work")
    wait_for_state(after, "done")
    assert worker.poll() is None


def test_status_damaged_by_a_dying_child_is_mended(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "wait")
    start_worker()
    child = wait_until_working(run)
    (run.path / "status.json").write_text('{"state": "runn')
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: queue_position(workspace, run.id) is None)
    assert run.status().state == "interrupted"


# --- the process that stands by ---


def children_of(pid: int) -> list[int]:
    """That live; a worker whose own process has ended has none."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in found if not is_gone(int(child))]


def wait_for_standby(worker: subprocess.Popen, *, other_than: int | None = None) -> int:
    wait_for(lambda: children_of(worker.pid) not in ([], [other_than]))
    (standby,) = children_of(worker.pid)
    return standby


@pytest.fixture
def stood_by(start_worker: StartWorker) -> tuple[subprocess.Popen, int]:
    """A worker and the process that waits for its next run."""
    worker = start_worker(QUIET_SECONDS=0.1)
    return worker, wait_for_standby(worker)


def test_run_is_handed_to_the_process_that_stands_by(workspace: Workspace, stood_by: tuple) -> None:
    worker, standby = stood_by
    run = submit(workspace, "wait")
    assert wait_until_working(run) == standby
    time.sleep(0.5)
    assert children_of(worker.pid) == [standby]  # no other beside a run
    (run.path / "go").touch()
    wait_for_state(run, "done")
    assert (run.path / "log.txt").read_text() == "at work\n"
    assert wait_for_standby(worker, other_than=standby) != standby
    assert len(children_of(worker.pid)) == 1
    second = submit(workspace, "fail")
    wait_for_state(second, *RESTING_STATES)
    assert second.status().error == "the file weights.safetensors is damaged; get it again"


def test_handed_run_can_be_ended_like_any_other(workspace: Workspace, start_worker: StartWorker) -> None:
    worker = start_worker(QUIET_SECONDS=0.1, CANCEL_GRACE_SECONDS=0.2, TERMINATE_GRACE_SECONDS=0.3)
    standby = wait_for_standby(worker)
    run = submit(workspace, "stubborn")
    assert wait_until_working(run) == standby
    assert os.getpgid(standby) == standby  # a group of its own
    cancel_run(workspace, run.id)
    wait_for_state(run, *RESTING_STATES)
    assert run.status().state == "cancelled"
    again = submit(workspace, "deaf")
    os.kill(wait_until_working(again), signal.SIGKILL)
    wait_for_state(again, *RESTING_STATES)
    assert again.status().state == "interrupted"
    assert "SIGKILL" in again.status().error


def test_standby_and_handed_run_die_with_the_worker(
    workspace: Workspace, stood_by: tuple, start_worker: StartWorker
) -> None:
    worker, standby = stood_by
    worker.kill()
    worker.wait()
    wait_for(lambda: is_gone(standby), seconds=2)
    worker = start_worker(QUIET_SECONDS=0.1)
    standby = wait_for_standby(worker)
    run = submit(workspace, "stubborn")
    assert wait_until_working(run) == standby
    worker.kill()
    worker.wait()
    wait_for(lambda: is_gone(standby), seconds=2)


def test_standby_goes_when_its_worker_is_told_to_stop(stood_by: tuple) -> None:
    worker, standby = stood_by
    worker.terminate()
    assert worker.wait(timeout=120) == 0
    assert is_gone(standby)


def test_run_does_not_depend_on_the_standby(workspace: Workspace, stood_by: tuple) -> None:
    worker, standby = stood_by
    os.kill(standby, signal.SIGKILL)
    run = submit(workspace, "work")
    wait_for_state(run, "done")
    assert run.status().pid != standby
    assert wait_for_standby(worker) not in (standby, run.status().pid)


def test_standby_that_fails_is_not_tried_again_and_again(
    workspace: Workspace, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "fake_standby.py").write_text("import sys; sys.exit('torch is broken')")
    start_worker(QUIET_SECONDS=0.1)
    log = workspace.root / "worker-cpu.log"
    wait_for(lambda: "torch is broken" in log.read_text())
    time.sleep(1.0)
    assert log.read_text().count("torch is broken") == 1
    run = submit(workspace, "work")
    wait_for_state(run, "done")
    wait_for(lambda: log.read_text().count("torch is broken") == 2)


def test_standby_that_waited_long_enough_ends(workspace: Workspace, start_worker: StartWorker) -> None:
    worker = start_worker(QUIET_SECONDS=0.1, STANDBY_SECONDS=2.0)
    wait_for_standby(worker)
    wait_for(lambda: not children_of(worker.pid), seconds=30)
    run = submit(workspace, "work")
    wait_for_state(run, "done")
    wait_for_standby(worker)


# --- previews ---


def test_previews_are_answered_while_a_run_goes_on(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "wait")
    start_worker()
    wait_until_working(run)
    key = submit_preview(workspace, "drop", {"drop": [3]})
    wait_for(lambda: preview_result(workspace, key))
    result = preview_result(workspace, key)
    assert (result["state"], result["error"], result["params"]) == ("done", None, {"drop": [3]})
    assert (workspace.previews / key / "picture.txt").read_text() == "cpu"
    assert run.status().state == "running"
    assert [found.doing for found in live_workers(workspace)] == [run.id]
    (run.path / "go").touch()
    wait_for_state(run, "done")


def test_preview_that_fails_is_one_line_and_the_worker_goes_on(workspace: Workspace, start_worker: StartWorker) -> None:
    start_worker()
    bad = answer_to(workspace, "bad", {})
    assert bad == {"state": "failed", "error": "block 99 doesn't exist: this model has blocks 0 … 11"}
    defect = answer_to(workspace, "defect", {})
    assert defect == {"state": "failed", "error": "internal error: ZeroDivisionError: deep inside (see worker log)"}
    log = (workspace.root / "worker-cpu.log").read_text()
    assert "Traceback" in log
    assert "deep inside" in log
    assert "not JSON serializable" in answer_to(workspace, "unwritable", {})["error"]
    assert answer_to(workspace, "drop", {})["state"] == "done"


def test_worker_beats_and_stops_in_the_middle_of_a_preview(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "wait")
    worker = start_worker(HEARTBEAT_SECONDS=0.2)
    child = wait_until_working(run)
    key = submit_preview(workspace, "slow", {"seconds": 60})
    wait_for(lambda: (workspace.previews / key / "begun").exists())
    beats = set()
    wait_for(lambda: beats.update(found.heartbeat for found in live_workers(workspace)) or len(beats) >= 4)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(timeout=120) == 0
    assert time.monotonic() - began < 2.5
    assert is_gone(child)
    assert run.status().state == "interrupted"
    assert live_workers(workspace) == []
    assert preview_result(workspace, key) is None  # the next worker answers it


def test_preview_that_took_the_worker_down_is_given_up(workspace: Workspace, start_worker: StartWorker) -> None:
    worker = start_worker()
    key = submit_preview(workspace, "slow", {"seconds": 60})
    wait_for(lambda: (workspace.previews / key / "begun").exists())
    worker.kill()
    worker.wait()
    assert preview_result(workspace, key) is None
    start_worker()
    wait_for(lambda: preview_result(workspace, key))
    assert preview_result(workspace, key)["state"] == "failed"


# --- the worker itself ---


def test_one_worker_per_device(workspace: Workspace, start_worker: StartWorker) -> None:
    workers = [start_worker() for _ in range(3)]
    wait_for(lambda: sum(worker.poll() is None for worker in workers) == 1)
    assert sorted(worker.poll() for worker in workers if worker.poll() is not None) == [0, 0]
    wait_for(lambda: len(live_workers(workspace)) == 1)
    (survivor,) = (worker for worker in workers if worker.poll() is None)
    assert live_workers(workspace)[0].pid == survivor.pid
    survivor.kill()
    survivor.wait()
    assert live_workers(workspace) == []
    start_worker()  # a lock dies with its process
    wait_for(lambda: len(live_workers(workspace)) == 1)


def test_idle_worker_leaves_when_asked_to(workspace: Workspace, start_worker: StartWorker) -> None:
    run = submit(workspace, "wait")
    worker = start_worker(idle_exit=0.5)
    wait_until_working(run)
    time.sleep(1.0)
    assert worker.poll() is None  # a run is going on
    (run.path / "go").touch()
    assert worker.wait(timeout=120) == 0
    assert run.status().state == "done"


def test_worker_leaves_a_workspace_that_vanished(
    workspace: Workspace, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(HEARTBEAT_SECONDS=0.2)
    wait_for(lambda: live_workers(workspace))
    workspace.root.rename(tmp_path / "gone")
    assert worker.wait(timeout=120) == 0


def test_lost_table_is_made_again_beside_a_worker(workspace: Workspace, start_worker: StartWorker) -> None:
    running = submit(workspace, "wait")
    start_worker(HEARTBEAT_SECONDS=0.2)
    wait_until_working(running)
    waiting = submit(workspace, "work")
    workspace.queue_file.unlink()
    wait_for(lambda: [found.doing for found in live_workers(workspace)] == [running.id])
    assert queue_position(workspace, waiting.id) == 0
    (running.path / "go").touch()
    wait_for_state(waiting, "done")
    assert running.status().state == "done"


def test_deleted_run_is_not_begun(workspace: Workspace, start_worker: StartWorker) -> None:
    deleted, kept = submit(workspace, "work"), submit(workspace, "work")
    delete_run(workspace, deleted.id)
    assert start_worker(once=True).wait(timeout=120) == 0
    assert kept.status().state == "done"
    assert not deleted.path.exists()


def test_worker_module_is_free_of_torch() -> None:
    program = "import sys, engine.runs.worker; print([name for name in ('torch', 'streamlit') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
