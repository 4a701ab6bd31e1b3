"""Each page: empty, with runs, with nonsense in the address, with an engine that is gone."""

import errno
import json
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import jobs
from app.importance import heatmap
from engine.importance.config import CedConfig
from engine.models import bundled
from engine.runs.listing import list_runs
from engine.runs.queue import WorkerInfo, beat, claim_next_preview, finish_preview
from engine.runs.store import open_run
from engine.runs.workspace import Workspace
from tests.app.conftest import MAIN, Open, words
from tests.app.fixtures import add_ced, ced_result, sample_images

PAGES = ["start", "model_data", "importance", "prune", "compare", "arena", "runs", "open_model", "open_data", "about"]


def button(at: AppTest, label: str):
    return next(button for button in at.button if button.label == label)


def asked(at: AppTest, name: str) -> str:
    """What the address says."""
    value = at.query_params[name]
    return value[0] if isinstance(value, list) else value


def newest(workspace: Workspace, kind: str):
    return next(open_run(workspace, found.id) for found in list_runs(workspace) if found.kind == kind)


def answer_preview(workspace: Workspace, key: str) -> None:
    """As the worker would: result and pictures."""
    folder = workspace.previews / key
    folder.mkdir()
    for i, image in enumerate(sample_images(0)[:8]):
        for name in ("intact", "pruned"):
            Image.fromarray(image).save(folder / f"{name}_{i}.png")
    delta = [0.1] * 10
    content = {"state": "done", "timesteps": ced_result(CedConfig())["timesteps"], "delta": delta, "output_mse": delta}
    (folder / "result.json").write_text(json.dumps({**content, "ced": 0.1, "seconds": 0.8}))


# --- every page ---


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_an_empty_workspace(empty: Workspace, open_page: Open, page: str) -> None:
    at = open_page(page)
    assert at.title and not at.error
    assert "Engine" in words(at)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_a_workspace_with_everything_in_it(full: Workspace, open_page: Open, page: str) -> None:
    at = open_page(page)
    assert at.title and not at.error


@pytest.mark.parametrize("page", PAGES)
def test_every_control_says_what_it_does(full: Workspace, open_page: Open, page: str) -> None:
    at = open_page(page)
    kinds = ("button", "button_group", "selectbox", "slider", "number_input", "select_slider", "text_input",
             "text_area", "toggle", "checkbox", "file_uploader", "download_button", "page_link")  # fmt: skip
    silent = [f"{kind} {w.label}" for kind in kinds for w in at.get(kind) if not w.proto.help]
    assert not silent


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("importance", "hasn't been asked yet"),
        ("prune", "haven't been ranked"),
        ("compare", "Nothing to compare yet"),
        ("runs", "No runs yet"),
    ],
)
def test_an_empty_page_says_what_to_do_next(empty: Workspace, open_page: Open, page: str, says: str) -> None:
    at = open_page(page)
    assert says in words(at)
    assert at.button or at.get("page_link")


def test_without_models_the_start_page_says_how_to_get_them(empty, open_page, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path / "nothing")
    at = open_page("start")
    assert "No models are here yet" in words(at) and "assets/build.py" in words(at)


@pytest.mark.parametrize(
    ("page", "query", "says"),
    [
        ("importance", {"model": "dit-xxl"}, "There is no model named 'dit-xxl'"),
        ("importance", {"data": "../../etc"}, "There is no data named '../../etc'"),
        ("importance", {"variable": "beauty"}, "There is no variable named 'beauty'"),
        ("importance", {"model": "demo-sit", "data": "shapes", "block": "99"}, "block '99'"),
        ("importance", {"model": "demo-sit", "data": "shapes", "block": "-1"}, "block '-1'"),
        ("importance", {"model": "demo-sit", "data": "shapes", "timestep": "x"}, "timestep 'x'"),
        ("model_data", {"model": "nobody@7"}, "There is no model named 'nobody@7'"),
        ("prune", {"run": "../../../etc/passwd"}, "../../../etc/passwd"),
        ("prune", {"run": "new", "data": "nothing"}, "There is no data named 'nothing'"),
        ("prune", {"run": "new", "how": "magic"}, "There is no how named 'magic'"),
        ("compare", {"run": "nope"}, "There is no run named 'nope'"),
        ("compare", {"stage": "17"}, "stage '17'"),
        ("runs", {"run": "nope"}, "There is no run named 'nope'"),
    ],
)
def test_nonsense_in_the_address_costs_one_line(
    full: Workspace, open_page: Open, page: str, query: dict, says: str
) -> None:
    at = open_page(page, **query)
    said = [element.value for element in [*at.error, *at.warning]]
    assert len(said) == 1 and says in said[0] and "\n" not in said[0]


def test_a_workspace_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch, started) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("ENTPRUNER_WORKSPACE", str(file / "workspace"))
    jobs.st.cache_resource.clear()
    at = AppTest.from_file(str(MAIN), default_timeout=120).run()
    assert not at.exception and len(at.error) == 1 and str(file) in at.error[0].value


def test_a_damaged_model_is_one_line(empty: Workspace, open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "models" / "demo-sit" / "config.json").write_text("{")
    at = open_page("importance")
    assert len(at.error) == 1 and "demo-sit" in at.error[0].value


# --- the engine ---


def test_the_app_starts_an_engine_once(empty: Workspace, open_page: Open, started: list[str]) -> None:
    open_page("start")
    open_page("runs")
    assert started == ["cpu"]


def test_an_engine_that_died_is_named_and_can_be_started(
    empty: Workspace, open_page: Open, started, monkeypatch
) -> None:
    monkeypatch.setattr(jobs, "_START_PATIENCE", 0)
    at = open_page("runs")
    assert "not running" in words(at)
    started.clear()
    button(at, "Start the engine").click().run()
    assert started == ["cpu"]


def test_a_living_engine_shows_its_device(empty: Workspace, open_page: Open) -> None:
    beat(empty, WorkerInfo(worker_id="w", pid=os.getpid(), device="cpu", heartbeat=time.time(), doing=""))
    at = open_page("runs")
    assert "ready on cpu" in words(at)
    assert "Start the engine" not in [button.label for button in at.button]


# --- start and importance ---


def test_one_click_on_a_card_asks_for_its_heatmap(empty: Workspace, started: list[str]) -> None:
    at = AppTest.from_file(str(MAIN), default_timeout=120).run()
    at.button(key="show_demo-sit").click().run()
    assert not at.exception
    run = newest(empty, "ced")
    assert run.params == {"model": "demo-sit", "data": "shapes", "config": asdict(CedConfig())}
    assert run.status().state == "queued" and started


def test_the_same_question_is_asked_once(full: Workspace, open_page: Open) -> None:
    before = len(list_runs(full))
    at = AppTest.from_file(str(MAIN), default_timeout=120).run()
    at.button(key="show_demo-sit").click().run()
    at = open_page("importance", model="demo-sit", data="shapes")
    assert "matters least" in words(at)
    assert len(list_runs(full)) == before


def test_another_variable_is_measured_at_once(full: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes")
    at.get("button_group")[0].set_value("samples").run()
    assert newest(full, "ced").params["config"]["variable"] == "samples"
    assert asked(at, "variable") == "samples"


def test_a_heatmap_under_way_shows_what_there_is(empty: Workspace, open_page: Open) -> None:
    run = add_ced(empty, state="running")
    at = open_page("importance", model="demo-sit", data="shapes")
    assert "nats per dimension" in words(at)
    assert any('class="ep-partial"' in element.proto.body for element in at.get("html"))
    button(at, "Cancel").click().run()
    assert run.cancel_requested


def test_a_measurement_that_failed_says_why_and_can_be_repeated(empty: Workspace, open_page: Open) -> None:
    add_ced(empty, state="failed")
    at = open_page("importance", model="demo-sit", data="shapes")
    assert "the fixture failed" in at.error[0].value
    button(at, "Measure again").click().run()
    assert newest(empty, "ced").status().state == "queued"


def test_clicking_a_cell_takes_that_block_out(full: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes")
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    layer = next(trace for trace in figure["data"] if trace["type"] == "scatter")
    assert len(layer["customdata"]) == 12 * 10  # every cell can be clicked
    clicked = {"selection": {"points": [{"customdata": layer["customdata"][73]}]}}
    assert heatmap.cell_of(clicked) == (7, 3)
    assert heatmap.cell_of({"selection": {"points": []}}) is None


def test_blocks_in_the_address_are_asked_of_the_engine_and_its_answer_is_drawn(
    full: Workspace, open_page: Open
) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", block="3,7")
    question = claim_next_preview(full, "worker")
    assert question.kind == "drop" and question.params["drop"] == [3, 7]
    assert question.params["seeds"] == list(range(8)) and len(set(question.params["classes"])) == 8
    answer_preview(full, question.key)
    at.run()
    said = words(at)
    assert "drawn in 0.8 s" in said and said.count('alt="without 3, 7') == 8
    assert "their single effects add up to" in said


def test_a_preview_that_failed_is_one_line(full: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", block="3")
    finish_preview(full, claim_next_preview(full, "worker").key, {"state": "failed", "error": "weights are damaged"})
    at.run()
    assert [error.value for error in at.error] == ["Weights are damaged"]
    assert claim_next_preview(full, "worker") is None  # it isn't asked again by itself
    button(at, "Try again").click().run()
    assert claim_next_preview(full, "worker").params["drop"] == [3]


def test_dropping_every_block_is_refused(full: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", block=",".join(map(str, range(12))))
    assert "keep at least one" in at.error[0].value


def test_the_table_has_a_row_for_every_cell(full: Workspace) -> None:
    rows = heatmap.table(ced_result(CedConfig()))
    assert len(rows) == 12 * 10 and rows["delta"].notna().all()
    assert sorted(rows["rank"].unique()) == list(range(1, 13))


# --- prune ---


def test_pruning_by_rank_drops_the_least_important(full: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes")
    at.slider(key="num_drop").set_value(3).run()
    button(at, "Start pruning").click().run()
    run = newest(full, "prune")
    order = jobs.ced_result(newest(full, "ced"))["order"]
    assert run.params["drop"] == sorted(order[:3])
    assert run.params["finetune"]["num_steps"] == 300 and run.params["protocol"]["num_images"] == 500
    assert asked(at, "run") == run.id


def test_pruning_adaptively_asks_for_a_depth(full: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.slider(key="target_depth").set_value(5).run()
    button(at, "Start pruning").click().run()
    params = newest(full, "prune").params
    assert params["target_depth"] == 5 and "drop" not in params


def test_nothing_can_start_before_a_block_is_chosen(full: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="hand")
    assert button(at, "Start pruning").disabled
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="hand", block="1,2")
    assert not button(at, "Start pruning").disabled


def test_dropping_all_by_hand_is_refused_in_one_line(full: Workspace, open_page: Open) -> None:
    everything = ",".join(map(str, range(12)))
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="hand", block=everything)
    assert len(at.error) == 1 and "keep at least one" in at.error[0].value


def test_a_reloaded_page_finds_the_run_that_goes_on(full: Workspace, open_page: Open) -> None:
    at = open_page("prune")
    running = next(found for found in list_runs(full) if found.state == "running")
    assert asked(at, "run") == running.id
    assert "step 120 of 300" in at.get("progress")[0].proto.text
    button(at, "Cancel").click().run()
    assert open_run(full, running.id).cancel_requested


def test_a_failed_run_says_why_and_can_be_resumed(full: Workspace, open_page: Open) -> None:
    failed = next(found for found in list_runs(full) if found.state == "failed")
    at = open_page("prune", run=failed.id)
    assert "the fixture failed" in at.error[0].value
    button(at, "Resume").click().run()
    assert open_run(full, failed.id).status().state == "queued"


def test_the_decision_is_opened_up(full: Workspace, open_page: Open) -> None:
    done = next(found for found in list_runs(full) if found.kind == "prune" and found.state == "done")
    said = words(open_page("prune", run=done.id))
    # the table of the stage looked at, and a card for each
    assert said.count('<tr class="chosen">') == 1 and said.count('class="ep-stage ') == 4
    assert "NTK" in said and "ZiCo" in said and "FID (demo-cnn)" in said


# --- runs ---


def test_a_deleted_run_goes_to_the_bin(full: Workspace, open_page: Open) -> None:
    failed = next(found for found in list_runs(full) if found.state == "failed")
    at = open_page("runs", run=failed.id)
    button(at, "Delete").click().run()
    assert failed.id not in {found.id for found in list_runs(full)}
    assert (full.root / "bin" / failed.id / "config.json").exists()


def test_a_damaged_run_is_listed_and_can_be_deleted(full: Workspace, open_page: Open) -> None:
    at = open_page("runs", run="20260101-000000-prune-dead")
    assert "config.json is missing" in words(at)
    button(at, "Delete").click().run()
    assert not (full.runs / "20260101-000000-prune-dead").exists()


def test_a_run_that_vanishes_while_watched_is_one_line(full: Workspace, open_page: Open) -> None:
    at = open_page("prune")
    shutil.rmtree(full.runs / asked(at, "run"))
    at.run()
    assert not at.exception and len(at.error) == 1


# --- disaster ---


def test_a_full_disk_is_one_line_and_nothing_is_lost(full: Workspace, open_page: Open, monkeypatch) -> None:
    def full_disk(*args, **kwargs) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    at = open_page("prune", run="new", model="demo-sit", data="shapes")
    before = {found.id for found in list_runs(full)}
    monkeypatch.setattr(os, "fsync", full_disk)
    button(at, "Start pruning").click().run()
    assert not at.exception and len(at.error) == 1 and "no space left" in at.error[0].value.lower()
    assert {found.id for found in list_runs(full)} == before


def test_a_run_whose_engine_was_killed_is_not_shown_as_going_on(full: Workspace, open_page: Open) -> None:
    running = open_run(full, next(found.id for found in list_runs(full) if found.state == "running"))
    running.write_status(replace(running.status(), heartbeat=time.time() - 3600))
    assert "The engine stopped while this was running" in words(open_page("prune"))
    assert running.status().state == "running"  # the page only looks; the next worker says what became of it


def test_two_tabs_ask_once(empty: Workspace, started: list[str]) -> None:
    for _ in range(2):
        at = AppTest.from_file(str(MAIN), default_timeout=120).run()
        at.button(key="show_demo-sit").click().run()
    assert len(list_runs(empty)) == 1
