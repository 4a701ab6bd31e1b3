"""Run folders: whole files or none, and nothing that a crash can do makes one unreadable."""

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from engine.errors import AssetError, InputError, WorkspaceError
from engine.runs.bin import delete_run
from engine.runs.listing import list_runs
from engine.runs.store import Run, RunStatus, create_run, open_run
from engine.runs.workspace import Workspace, open_workspace, read_json, write_bytes_atomically, write_json


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def run(workspace: Workspace) -> Run:
    return create_run(workspace, kind="prune", title="Half of the blocks", params={"model": "demo-sit", "drop": (3, 7)})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write_stage(folder: Path, number: int) -> None:
    info = {"stage": number, "title": f"stage {number}", "depth": 12 - number, "kept_blocks": list(range(12 - number))}
    write_json(folder / "stage.json", info)


# --- the workspace ---


def test_workspace_is_made_and_leaves_no_probe(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "a" / "b")
    assert names(workspace.root) == {"runs", "cache", "previews"}


def test_workspace_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTPRUNER_WORKSPACE", str(tmp_path / "elsewhere"))
    assert open_workspace().root == tmp_path / "elsewhere"
    monkeypatch.delenv("ENTPRUNER_WORKSPACE")
    monkeypatch.chdir(tmp_path)
    assert open_workspace().root == tmp_path / "workspace"


def test_workspace_that_is_or_lies_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file", tmp_path / "file" / "workspace"):
        with pytest.raises(WorkspaceError, match="a file is where a folder should be") as caught:
            open_workspace(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "the disk is read-only"), (errno.EIO, "check that the disk")],
)
def test_disk_that_refuses_is_one_line_and_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    file = workspace.root / "kept.json"
    write_json(file, {"value": 1})

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WorkspaceError, match=words) as caught:
        write_json(file, {"value": 2})
    assert "\n" not in str(caught.value)
    with pytest.raises(WorkspaceError, match=words):
        open_workspace(workspace.root)
    assert read_json(file) == {"value": 1}
    assert names(workspace.root) == {"runs", "cache", "previews", "kept.json"}


def test_reader_never_sees_half_a_file(workspace: Workspace) -> None:
    """Who has the old file open goes on reading the old file: the new one is another, put in its place."""
    file = workspace.root / "status.json"
    write_json(file, ["old"] * 10_000)
    with open(file, "rb") as reader:
        begun = reader.read(100)
        write_json(file, ["new"])
        assert json.loads(begun + reader.read()) == ["old"] * 10_000
    assert read_json(file) == ["new"]


def test_numbers_that_are_not_finite_become_null(workspace: Workspace) -> None:
    write_json(workspace.root / "x.json", {"a": [1.5, float("nan")], "b": float("inf"), "c": (1, 2)})
    assert read_json(workspace.root / "x.json") == {"a": [1.5, None], "b": None, "c": [1, 2]}


def test_reading_what_is_missing_or_damaged(workspace: Workspace) -> None:
    with pytest.raises(AssetError, match="is missing"):
        read_json(workspace.root / "none.json")
    write_bytes_atomically(workspace.root / "bad.json", b'{"half":')
    with pytest.raises(AssetError, match="is damaged"):
        read_json(workspace.root / "bad.json")


# --- a run ---


def test_new_run_is_queued_and_can_be_opened(workspace: Workspace, run: Run) -> None:
    again = open_run(workspace, run.id)
    assert (again.kind, again.title, again.created) == ("prune", "Half of the blocks", run.created)
    assert again.params == {"model": "demo-sit", "drop": [3, 7]}
    assert again.status().state == "queued"
    assert read_json(run.path / "config.json")["id"] == run.id
    assert names(workspace.runs) == {run.id}


def test_run_that_cannot_be_made_leaves_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(WorkspaceError, match="no space left"):
        create_run(workspace, kind="ced", title="", params={})
    assert names(workspace.runs) == set()


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "../runs", "a/b", "/etc", ".new-1", "a\0b", "20260101-000000-ced-0000"]
)
def test_ids_that_are_not_runs_are_refused(workspace: Workspace, run_id: str) -> None:
    (workspace.runs / ".new-1").mkdir()
    for function in (open_run, delete_run):
        with pytest.raises(InputError, match="no run named"):
            function(workspace, run_id)


def test_status_changes_field_by_field(run: Run) -> None:
    status = run.update(state="running", phase="recovery")
    assert status.pid == os.getpid()
    assert status.started == pytest.approx(time.time(), abs=5)
    run.update(progress=0.5, message="step 1/2", eta_seconds=3.0)
    status = run.status()
    assert (status.state, status.phase, status.progress, status.message) == ("running", "recovery", 0.5, "step 1/2")
    assert status.pid == os.getpid()
    ended = run.update(state="done")
    assert ended.finished >= status.started
    assert (ended.pid, ended.eta_seconds, ended.progress) == (None, None, 0.5)
    with pytest.raises(AssertionError):
        run.update(colour="blue")
    with pytest.raises(AssertionError):
        run.update(state="sleeping")
    assert run.status() == ended


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"state": "sleeping"}'])
def test_damaged_status_is_one_line(run: Run, content: str) -> None:
    (run.path / "status.json").write_text(content)
    with pytest.raises(AssetError) as caught:
        run.status()
    assert "\n" not in str(caught.value)


def test_events_are_read_once_each(run: Run) -> None:
    assert run.events() == ([], 0)
    run.log("first")
    run.append("train", stage=1, step=10, loss=float("nan"))
    events, offset = run.events()
    assert [event["event"] for event in events] == ["log", "train"]
    assert events[0]["message"] == "first"
    assert events[1]["loss"] is None
    assert events[0]["time"] == pytest.approx(time.time(), abs=5)
    assert run.events(offset) == ([], offset)
    run.log("zweite Zeile — ü")
    assert [event["message"] for event in run.events(offset)[0]] == ["zweite Zeile — ü"]


def test_torn_event_is_left_until_it_is_whole(run: Run) -> None:
    run.log("whole")
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"time": 1, "event": "log", "mess')
    events, offset = run.events()
    assert [event["message"] for event in events] == ["whole"]
    assert run.events(offset) == ([], offset)
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'age": "late"}\n')
    assert [event["message"] for event in run.events(offset)[0]] == ["late"]


def test_event_after_a_crash_is_not_lost_with_the_torn_one(run: Run) -> None:
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"time": 1, "event": "lo')
    run.log("resumed")
    run.log("goes on")
    assert [event["message"] for event in run.events()[0]] == ["resumed", "goes on"]


def test_full_disk_while_appending(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(WorkspaceError, match="no space left"):
        run.log("lost")


def test_cancel_request_comes_and_goes(workspace: Workspace, run: Run) -> None:
    assert not run.cancel_requested
    open_run(workspace, run.id).request_cancel()
    assert run.cancel_requested
    run.request_cancel()
    run.clear_cancel()
    run.clear_cancel()
    assert not run.cancel_requested


# --- stages ---


def test_stage_appears_when_it_is_finished(run: Run) -> None:
    for number in (10, 2, 0):
        with run.new_stage(number) as folder:
            write_stage(folder, number)
            assert run.path in folder.parents
            assert number not in [stage.number for stage in run.stages()]
    assert [stage.number for stage in run.stages()] == [0, 2, 10]
    stage = run.stage(2)
    assert (stage.title, stage.depth, stage.kept_blocks) == ("stage 2", 10, tuple(range(10)))
    assert stage.metrics() is None
    assert stage.samples() is None
    assert stage.ced() is None
    with pytest.raises(InputError, match=r"no stage 1; it has 0, 2, 10"):
        run.stage(1)
    assert names(run.path / "stages") == {"0", "2", "10"}


def test_stage_that_fails_leaves_nothing(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), run.new_stage(0) as folder:
        write_stage(folder, 0)
        raise ZeroDivisionError
    with pytest.raises(WorkspaceError, match="no space left"), run.new_stage(0):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(AssertionError, match=r"no stage\.json"), run.new_stage(0):
        pass
    assert names(run.path / "stages") == set()
    assert run.stages() == []


def test_stage_is_written_once(run: Run) -> None:
    with run.new_stage(0) as folder:
        write_stage(folder, 0)
    with pytest.raises(AssertionError), run.new_stage(0):
        pass
    assert run.stage(0).depth == 12


def test_half_a_stage_of_a_killed_process_is_swept_away(run: Run) -> None:
    leftover = run.path / "stages" / ".new-1-abcd"
    leftover.mkdir(parents=True)
    (leftover / "stage.json").write_text("{}")
    assert run.stages() == []
    with run.new_stage(1) as folder:
        write_stage(folder, 1)
    assert names(run.path / "stages") == {"1"}


def test_samples_and_metrics_of_a_stage(run: Run) -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    with run.new_stage(0) as folder:
        write_stage(folder, 0)
        np.savez(folder / "samples.npz", images, labels=np.array([1, 2]), seeds=np.array([5, 6]))
        write_json(folder / "metrics.json", {"fidelity": {}})
    stage = run.stage(0)
    read, labels, seeds = stage.samples()
    np.testing.assert_array_equal(read, images)
    assert labels.tolist() == [1, 2]
    assert seeds.tolist() == [5, 6]
    assert stage.metrics() == {"fidelity": {}}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"nothing of the kind"])
def test_damaged_samples_are_one_line(run: Run, content: bytes) -> None:
    with run.new_stage(0) as folder:
        write_stage(folder, 0)
        (folder / "samples.npz").write_bytes(content)
    with pytest.raises(AssetError, match="damaged"):
        run.stage(0).samples()


def test_pickled_samples_are_refused(run: Run) -> None:
    with run.new_stage(0) as folder:
        write_stage(folder, 0)
        np.savez(folder / "samples.npz", np.array([{}], dtype=object), labels=np.zeros(1), seeds=np.zeros(1))
    with pytest.raises(AssetError, match="damaged"):
        run.stage(0).samples()


# --- all runs ---


def test_runs_are_listed_newest_first_and_damage_is_shown(workspace: Workspace) -> None:
    runs = [create_run(workspace, kind="ced", title=f"run {n}", params={}) for n in range(4)]
    runs[1].update(state="failed", error="the loss is no longer finite")
    with runs[2].new_stage(0) as folder:
        write_stage(folder, 0)
    (runs[0].path / "config.json").write_text("{")
    (workspace.runs / ".new-half").mkdir()
    listed = {summary.id: summary for summary in list_runs(workspace)}
    assert set(listed) == {run.id for run in runs}
    assert [summary.title for summary in list_runs(workspace) if summary.kind == "ced"] == ["run 3", "run 2", "run 1"]
    assert (listed[runs[1].id].state, listed[runs[1].id].message) == ("failed", "the loss is no longer finite")
    assert listed[runs[2].id].num_stages == 1
    assert listed[runs[0].id].state == "damaged"
    assert "config.json" in listed[runs[0].id].message


def test_runs_folder_that_is_none_is_one_line(workspace: Workspace) -> None:
    workspace.runs.rmdir()
    assert list_runs(workspace) == []
    workspace.runs.write_text("a file")
    with pytest.raises(WorkspaceError, match="can't be read"):
        list_runs(workspace)


def test_thousand_runs_are_listed_quickly(workspace: Workspace) -> None:
    for n in range(1000):
        folder = workspace.runs / f"20260101-{n:06d}-ced-0000"
        (folder / "stages" / "0").mkdir(parents=True)
        config = {"schema": 1, "id": folder.name, "kind": "ced", "title": "", "created": float(n), "params": {}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "status.json").write_text(json.dumps({"state": "done", "progress": 1.0}))
    began = time.perf_counter()
    listed = list_runs(workspace)
    assert time.perf_counter() - began < 3
    assert [summary.created for summary in listed] == sorted(range(1000), reverse=True)
    assert {summary.num_stages for summary in listed} == {1}


def test_deleted_run_goes_to_the_bin(workspace: Workspace, run: Run) -> None:
    run.update(state="running")
    with pytest.raises(InputError, match="cancel it first"):
        delete_run(workspace, run.id)
    run.update(state="cancelled")
    size = run.size_bytes
    assert size == sum(file.stat().st_size for file in run.path.iterdir()) > 0
    delete_run(workspace, run.id)
    assert list_runs(workspace) == []
    assert Run(workspace.bin / run.id).size_bytes == size


def test_damaged_run_can_be_deleted(workspace: Workspace, run: Run) -> None:
    (run.path / "status.json").write_text("{")
    delete_run(workspace, run.id)
    assert names(workspace.runs) == set()


def test_damaged_status_can_be_replaced(run: Run) -> None:
    (run.path / "status.json").write_text("{")
    run.write_status(RunStatus(state="interrupted"))
    assert run.status().state == "interrupted"
