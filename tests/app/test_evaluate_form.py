"""Measuring stages again from the compare page: what is asked for, how long it takes, what becomes of it."""

from dataclasses import asdict, replace

import pytest

from app.comparing import evaluate_runs
from app.comparing.picked import Picked
from engine.evaluation import weights
from engine.evaluation.protocol import SAMPLERS, Protocol
from engine.evaluation.timing import Timing
from engine.runs.listing import list_runs
from engine.runs.store import Run, create_run, open_run
from engine.runs.workspace import Workspace, write_json
from tests.app.conftest import words
from tests.app.fixtures import add_prune, metrics


@pytest.fixture
def pruned(empty: Workspace) -> Run:
    return add_prune(empty)


def picked(run: Run, number: int) -> Picked:
    stage = run.stage(number)
    return Picked(run=run, stage=stage, label=f"stage {number}", intact=number == 0)


def form(open_page, run: Run, numbers: tuple[int, ...] = (0, 1)):
    return open_page("compare", compare=",".join(f"{run.id}@{number}" for number in numbers))


def asked(workspace: Workspace) -> list[Run]:
    """Oldest first."""
    found = [summary.id for summary in list_runs(workspace) if summary.kind == "evaluate"]
    return [open_run(workspace, run_id) for run_id in reversed(found)]


def test_every_stage_is_measured_with_the_same_protocol_and_timed_with_its_intact_model(open_page, empty, pruned):
    at = form(open_page, pruned)
    at.number_input("evaluate_num").set_value(800)
    at.number_input("evaluate_cfg").set_value(1.0)
    at.number_input("evaluate_batch").set_value(32)
    at.selectbox("evaluate_precision").set_value("bf16")
    at.selectbox("evaluate_sampler_euler").set_value("heun").run()
    at.button("evaluate_start").click().run()
    assert not at.exception
    first, second = sorted(asked(empty), key=lambda run: run.params["model"])
    wanted = replace(Protocol(sampler="heun", num_images=800, cfg_scale=1.0), device="cpu")
    for run, number in ((first, 0), (second, 1)):
        assert run.params["model"] == f"{pruned.id}@{number}" and run.params["data"] == "shapes"
        assert Protocol(**run.params["protocol"]) == wanted
        assert Timing(**run.params["timing"]) == Timing(batch_size=32, precision="bf16")
        assert run.status().state == "queued"
    assert "baseline" not in first.params and second.params["baseline"] == f"{pruned.id}@0"
    assert first.id in words(at) and second.id in words(at)
    at.button("evaluate_start").click().run()
    assert len(asked(empty)) == 2  # the same again is the same


def test_a_run_that_measured_a_model_as_it_is_asks_for_that_model(pruned, empty):
    params = {"model": "demo-sit", "process": "flow", "data": "shapes", "protocol": asdict(Protocol())}
    run = create_run(empty, kind="evaluate", title="t", params=params)
    with run.new_stage(0) as folder:
        write_json(folder / "stage.json", pruned.stage(0).info)
        write_json(folder / "metrics.json", metrics(0, 12))
    found = evaluate_runs.params_for(picked(run, 0), "shapes", Protocol(), Timing(), features_weights="")
    assert (found["model"], found["process"]) == ("demo-sit", "flow") and "baseline" not in found


def test_time_is_told_from_what_was_measured(pruned):
    one = picked(pruned, 0)
    protocol = Protocol(sampler="euler", num_images=100, num_steps=10, cfg_scale=2.0)
    images_a_second = one.stage.metrics()["efficiency"]["images_per_second"]  # through one forward
    assert evaluate_runs.seconds_for(one, protocol) == pytest.approx(100 * 10 * 2 / images_a_second)
    assert evaluate_runs.seconds_for(one, replace(protocol, cfg_scale=1.0, num_images=400)) == pytest.approx(
        400 * 10 / images_a_second
    )
    assert evaluate_runs.seconds_for(one, replace(protocol, device="cuda")) is None
    assert evaluate_runs.seconds_for(one, replace(protocol, sampler="dopri5")) is None


def test_drawing_that_was_timed_end_to_end_counts_more_than_one_forward(pruned):
    found = metrics(0, 12, num_steps=20, cfg_scale=2.0)
    found["efficiency"] |= {"sampling": {"images_per_second": 4.0}, "precision": "bf16"}
    write_json(pruned.stage(0).path / "metrics.json", found)
    protocol = Protocol(sampler="euler", num_images=10, num_steps=40, cfg_scale=1.0)
    assert evaluate_runs.seconds_for(picked(pruned, 0), protocol) == pytest.approx(10 / 4.0)
    del found["efficiency"]["sampling"]
    write_json(pruned.stage(0).path / "metrics.json", found)
    assert evaluate_runs.seconds_for(picked(pruned, 0), protocol) is None  # drawing is fp32, this forward wasn't


def test_a_million_images_are_asked_about_with_how_long_they_take(open_page, empty, pruned):
    at = form(open_page, pruned)
    assert [box for box in at.checkbox if str(box.key).startswith("evaluate_sure")] == []
    at.number_input("evaluate_num").set_value(1_000_000).run()
    assert "Drawing takes about" in words(at) and "hours" in words(at)
    assert [button for button in at.button if button.key == "evaluate_start"] == []
    at.checkbox("evaluate_sure_1000000_2").check().run()
    at.button("evaluate_start").click().run()
    assert [run.params["protocol"]["num_images"] for run in asked(empty)] == [1_000_000] * 2


@pytest.mark.parametrize("num", [0, -5, 7])
def test_too_few_images_cant_be_asked_for(open_page, empty, pruned, num):
    at = form(open_page, pruned)
    at.number_input("evaluate_num").set_value(num).run()
    assert [error.value for error in at.error] == [f"Images: {num} is out of range. Choose 8 … 1,000,000."]
    assert "Out of range: Images. " in words(at) and "evaluate_start" not in {button.key for button in at.button}


def test_features_say_where_their_weights_come_from_and_whether_they_are_here(open_page, empty, pruned, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(empty.root / "no-torch"))
    at = form(open_page, pruned)
    assert "ships with the studio" in words(at)
    at.selectbox("evaluate_features").set_value("inception").run()
    assert "96 MB" in words(at) and "aren't here yet" in words(at) and "github.com" in words(at)
    at.text_input("evaluate_weights").set_value(" /somewhere/w.pth ").run()
    at.button("evaluate_start").click().run()
    assert {run.params["features_weights"] for run in asked(empty)} == {"/somewhere/w.pth"}
    place = empty.root / "hub" / "features" / weights.PUBLISHED["inception"].file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"as if")
    at = form(open_page, pruned)
    at.selectbox("evaluate_features").set_value("inception").run()
    assert "on this machine" in words(at)
    assert [box for box in at.text_input if box.key == "evaluate_weights"] == []


def test_weights_that_the_environment_names_and_that_arent_there_are_one_line(open_page, empty, pruned, monkeypatch):
    monkeypatch.setenv(weights.WEIGHTS_VARIABLE, str(empty.root / "nowhere.pth"))
    at = form(open_page, pruned)
    assert [error.value for error in at.error] == []  # demo-cnn needs none
    at.selectbox("evaluate_features").set_value("inception").run()
    (line,) = [error.value for error in at.error]
    assert "nowhere.pth is missing" in line and "\n" not in line


def test_one_that_failed_says_why_and_goes_on(open_page, empty, pruned):
    at = form(open_page, pruned)
    at.button("evaluate_start").click().run()
    run = asked(empty)[0]
    run.update(state="failed", error="inception needs weights, which can't be reached")
    asked(empty)[1].update(state="done")
    at = form(open_page, pruned)
    assert any("The measurement failed: inception needs weights" in error.value for error in at.error)
    at.button(f"evaluate_resume_{run.id}").click().run()
    assert run.status().state == "queued"


def test_samplers_are_those_of_the_processes():
    from engine.process import PROCESSES

    assert {name: process.samplers for name, process in PROCESSES.items()} == SAMPLERS
    assert {name: names[0] for name, names in SAMPLERS.items()} == {
        name: process.default_sampler for name, process in PROCESSES.items()
    }
