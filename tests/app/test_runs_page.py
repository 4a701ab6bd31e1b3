"""The Runs page: every state says what it means, deleted runs come back, runs travel as one file."""

import io
import json
import shutil
import time
from collections.abc import Callable
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from app import jobs
from app.keeping import bin_dialog, pack_button
from app.keeping.states import MEANINGS
from app.keeping.wait_words import duration, ordinal, wait_words
from engine.runs.bin import delete_run, empty_bin, list_bin, restore_run
from engine.runs.listing import UNREADABLE_STATES, list_runs
from engine.runs.pack import pack_run
from engine.runs.queue import claim_next_run, submit_run
from engine.runs.store import STATES, Run, create_run
from engine.runs.unpack import unpack_run
from engine.runs.waiting import Wait, expected_wait
from engine.runs.workers import WorkerInfo, beat
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import add_arena, add_ced, add_criteria, add_export, add_prune


def button(at: AppTest, label: str):
    return next(found for found in at.button if found.label.startswith(label))


def labels(at: AppTest) -> list[str]:
    return [found.label for found in at.button] + [found.proto.label for found in at.get("download_button")]


def badges(at: AppTest) -> str:
    return "\n".join(found.value for found in at.markdown)


def at_work(workspace: Workspace, run: Run) -> None:
    beat(workspace, WorkerInfo(worker_id="w", pid=1, device="cpu", heartbeat=time.time(), doing=run.id))


def in_the_bin() -> None:
    from app.errors import shown_as_one_line
    from app.keeping import bin_dialog

    with shown_as_one_line():
        bin_dialog.contents()


def taking_in() -> None:
    from app.errors import shown_as_one_line
    from app.keeping import take_in

    with shown_as_one_line():
        take_in.contents()


@pytest.fixture
def alive(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is there and does nothing."""
    monkeypatch.setattr("engine.runs.workers.process_exists", lambda pid, **since: True)
    beat(empty, WorkerInfo(worker_id="w", pid=1, device="cpu", heartbeat=time.time(), doing=""))


# --- states ---


@pytest.mark.parametrize("state", [state for state in STATES if state not in ("queued", "running")])
def test_each_state_of_rest_says_what_it_means_and_what_can_be_done(
    empty: Workspace, open_page: Open, state: str
) -> None:
    run = add_ced(empty, state=state)
    at = open_page("runs", run=run.id)
    assert MEANINGS[state].words in words(at) and state in badges(at)
    assert ("Resume" in labels(at)) == (state != "done")
    assert {"Delete", "Pack", "JSON"} <= set(labels(at)) and "Cancel" not in labels(at)


def test_all_states_have_words_in_the_same_voice() -> None:
    assert MEANINGS.keys() == set(STATES) | UNREADABLE_STATES
    assert all(meaning.words.endswith(".") and len(meaning.words) < 170 for meaning in MEANINGS.values())


def test_a_run_of_a_newer_version_is_listed_and_left_alone(full: Workspace, open_page: Open) -> None:
    run = add_prune(full)
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "schema": 2, "title": "from the future"}))
    summary = next(found for found in list_runs(full) if found.id == run.id)
    assert (summary.state, summary.kind, summary.title) == ("newer", "", "from the future")
    at = open_page("runs", run=run.id)
    assert "made by a newer version (schema 2); this one reads 1" in words(at)
    assert MEANINGS["newer"].words in words(at)
    assert "Resume" not in labels(at) and "Delete" in labels(at)
    for page in ("prune", "compare", "importance", "arena", "start"):
        at = open_page(page, run=run.id, arena=run.id)
        assert "Traceback" not in words(at)
    before = (run.path / "config.json").read_text()
    assert "schema 2" in words(open_page("prune", run=run.id)) and (run.path / "config.json").read_text() == before


def test_a_kind_of_which_nothing_is_known_is_no_traceback(empty: Workspace, open_page: Open) -> None:
    run = create_run(empty, kind="dream", title="x", params={})
    run.update(state="done")
    assert "Its kind is unknown to this version" in words(open_page("runs", run=run.id))


def test_place_in_the_line_and_expected_wait(empty: Workspace, open_page: Open, alive: None) -> None:
    now = time.time()
    for took in (100.0, 140.0, 9000.0):
        past = add_ced(empty)
        past.update(state="done", started=now - took, finished=now)
    runs = [create_run(empty, kind="ced", title=f"run {n}", params={"data": "shapes"}) for n in range(3)]
    for run in runs:
        submit_run(empty, run)
    assert expected_wait(empty, past.id) is None
    at = open_page("runs", run=runs[2].id)
    assert "3rd of 3 in the line. It begins in about 5 minutes, as such runs took before." in words(at)  # 2 × 140 s
    assert claim_next_run(empty, "w").id == runs[0].id
    runs[0].update(state="running", eta_seconds=60.0)
    assert expected_wait(empty, runs[2].id) == Wait(place=2, num_waiting=2, num_running=1, seconds=200.0, is_whole=True)
    at = open_page("runs", run=runs[1].id)
    assert "1st of 2 in the line, behind 1 at work. It begins in about 60 s" in words(at)
    states = at.dataframe[0].value["State"].tolist()
    assert states[:3] == ["queued, 2nd in line", "queued, 1st in line", "running"]


def test_a_wait_is_said_as_far_as_it_is_known() -> None:
    wait = dict(place=2, num_waiting=4, num_running=1)
    assert wait_words(Wait(**wait, seconds=0.0, is_whole=False)).endswith("How long those ahead take isn't known yet.")
    assert "in 3 hours at the least" in wait_words(Wait(**wait, seconds=10_800.0, is_whole=False))
    assert "any moment" in wait_words(Wait(**wait, seconds=0.2, is_whole=True))
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0.0, 59.6, 119.0, 120.0, 7200.0, 200_000.0)] == [
        "1 s", "60 s", "119 s", "2 minutes", "2 hours", "2 days",
    ]  # fmt: skip


def test_a_full_disk_is_what_a_run_waits_for(empty: Workspace, open_page: Open, alive: None, monkeypatch) -> None:
    run = create_run(empty, kind="ced", title="x", params={})
    submit_run(empty, run)
    monkeypatch.setattr(jobs.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 4096}))
    assert "is full. Free some space, and it begins." in words(open_page("runs", run=run.id))


# --- the bin ---


def test_a_deleted_run_is_in_the_bin_and_comes_back(full: Workspace, open_page: Open) -> None:
    run = add_ced(full)
    at = open_page("runs", run=run.id)
    assert not any(label.startswith("Bin") for label in labels(at))
    button(at, "Delete").click().run()
    assert not at.exception and run.id not in {found.id for found in list_runs(full)}
    assert [found.id for found in list_bin(full)] == [run.id]
    at = open_page("runs")
    button(at, "Bin: 1 run, ").click().run()
    assert not at.exception and run.title in words(at) and run.id in words(at)
    at = AppTest.from_function(in_the_bin).run()  # what is in a dialog is rerun alone, which AppTest can't
    button(at, "Restore").click().run()
    assert not at.exception
    assert list_bin(full) == [] and run.id in {found.id for found in list_runs(full)}


def test_the_bin_is_emptied_only_for_good(full: Workspace, open_page: Open) -> None:
    for _ in range(2):
        delete_run(full, add_ced(full).id)
    at = AppTest.from_function(in_the_bin).run()
    assert button(at, "Empty the bin").disabled
    at.checkbox(key="empty_bin_sure").check().run()
    assert "are free then" in at.checkbox(key="empty_bin_sure").label
    button(at, "Empty the bin").click().run()
    assert not at.exception and list_bin(full) == []


def test_what_is_restored_never_covers_another_and_an_emptying_that_was_killed_is_finished(empty: Workspace) -> None:
    run = add_ced(empty)
    shutil.copytree(run.path, empty.root / "copy")
    delete_run(empty, run.id)
    shutil.move(empty.root / "copy", run.path)  # somebody put it back by hand
    second = restore_run(empty, run.id)
    assert second != run.id and {found.id for found in list_runs(empty)} == {run.id, second}
    delete_run(empty, second)
    (empty.bin / ".going-1234").mkdir()
    (empty.bin / ".going-1234" / "weights.safetensors").write_bytes(bytes(1000))
    assert [found.id for found in list_bin(empty)] == [second]
    assert empty_bin(empty) > 1000
    assert list(empty.bin.iterdir()) == []


def test_an_empty_bin_and_many_runs_in_it(full: Workspace, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_dialog, "_SHOWN", 1)
    for _ in range(3):
        delete_run(full, add_ced(full).id)
    at = open_page("runs")
    button(at, "Bin: 3 runs").click().run()
    assert "and 2 more, deleted earlier" in words(at)


# --- as a report ---


@pytest.mark.parametrize(
    ("add", "has_one"),
    [
        (add_ced, True),
        (partial(add_ced, state="running"), True),
        (partial(add_ced, state="failed"), False),
        (add_prune, True),
        (partial(add_prune, state="running", num_stages=-1), False),
        (partial(add_arena, state="interrupted"), True),
        (add_criteria, False),
    ],
)
def test_whatever_has_a_result_can_be_had_as_a_report(
    empty: Workspace, open_page: Open, add: Callable[[Workspace], Run], has_one: bool
) -> None:
    run = add(empty)
    at = open_page("runs", run=run.id)
    assert not at.exception and ("Report" in labels(at)) == has_one


def test_a_damaged_result_leaves_one_line_where_its_report_would_be(empty: Workspace, open_page: Open) -> None:
    run = add_arena(empty)
    (run.path / "arena.json").write_text("{")
    at = open_page("runs", run=run.id)
    assert not at.exception and button(at, "Report").disabled and "arena.json" in button(at, "Report").help


# --- as one file ---


def test_a_run_that_is_packed_can_be_taken_in(full: Workspace, open_page: Open) -> None:
    run = next(found for found in list_runs(full) if found.kind == "prune" and found.state == "done")
    at = open_page("runs", run=run.id)
    assert "Pack" in labels(at)
    content = pack_button._packed(jobs.readable(run.id))
    at = open_page("runs")
    button(at, "Take in a run").click().run()
    assert not at.exception and "looked through before it is taken in" in words(at)
    at = AppTest.from_function(taking_in).run()
    at.file_uploader[0].upload("run.zip", content, "application/zip").run()
    assert not at.exception and not at.error
    assert len(list_runs(full)) == 6
    newest = {found.id for found in list_runs(full)} - {run.id}
    assert any(found.rpartition("-")[0] == run.id.rpartition("-")[0] for found in newest)


def test_a_file_that_is_no_run_is_one_line(full: Workspace, open_page: Open) -> None:
    at = AppTest.from_function(taking_in).run()
    at.file_uploader[0].upload("holiday.zip", b"PK\x03\x04 not really", "application/zip").run()
    assert not at.exception and len(at.error) == 1
    assert at.error[0].value.startswith("holiday.zip is no run that was packed")
    assert len(list_runs(full)) == 5


def test_large_runs_exports_and_runs_at_work_are_not_packed_here(
    empty: Workspace, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune, export, running = add_prune(empty), add_export(empty, "x@1"), add_ced(empty, state="running")
    assert "Pack" not in labels(open_page("runs", run=export.id))
    assert "Pack" not in labels(open_page("runs", run=running.id))
    monkeypatch.setattr(pack_button, "LARGEST_BYTES", 10)
    at = open_page("runs", run=prune.id)
    assert button(at, "Pack").disabled and f"python -m engine pack {prune.id}" in button(at, "Pack").proto.help


def test_a_thousand_runs_are_on_screen_in_a_second(empty: Workspace, open_page: Open) -> None:
    model = add_prune(empty)
    for number in range(1000):
        shutil.copytree(model.path, empty.runs / f"20260101-{number:06d}-prune-0000")
    open_page("runs")
    began = time.process_time()  # of this process alone, however busy the machine is
    list_runs(empty)
    listed = time.process_time() - began
    at = open_page("runs")
    assert listed < 0.5 and time.process_time() - began < 3
    assert len(at.dataframe[0].value) == 50


def test_archives_of_the_page_and_of_the_engine_are_the_same(empty: Workspace) -> None:
    run = add_ced(empty)
    content = io.BytesIO()
    pack_run(run, content)
    again = unpack_run(empty, io.BytesIO(pack_button._packed(run)))
    assert again.params == run.params and content.getvalue()[:2] == b"PK"
