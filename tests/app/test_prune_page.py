"""The prune page as a person drives it: stop, decide otherwise, recount, go on, branch."""

import json
import re
import shutil
import time
from dataclasses import asdict, replace

import pytest
from streamlit.testing.v1 import AppTest

from app import charts, jobs
from app.pruning import driving, recovery, vote_table
from app.pruning.stage_tree import Place, places
from app.style import LIGHT
from engine.compute import Compute
from engine.evaluation.protocol import MIN_IMAGES, Protocol
from engine.evaluation.timing import Timing
from engine.models.bundled import read_model_info
from engine.pruning import vote
from engine.pruning.config import PruneConfig, usual_scoring
from engine.runs.drive import Drive, read_drive, write_drive
from engine.runs.listing import list_runs
from engine.runs.run_compute import compute_of
from engine.runs.stage_files import evaluation_protocol
from engine.runs.store import Run, open_run
from engine.runs.workspace import Workspace
from engine.training.config import usual_recovery
from tests.app.conftest import Open, words
from tests.app.fixtures import add_branch, add_ced, add_opened, add_prune, rest_at_decision


def button(at: AppTest, label: str):
    found = [button for button in at.button if button.label == label]
    assert found, f"no button {label!r}; there are {[button.label for button in at.button]}"
    return found[0]


def labels(at: AppTest) -> set[str]:
    return {button.label for button in at.button}


def weigh(at: AppTest, voter: str, value: float, *, of: str = "") -> AppTest:
    """Moves a slider: of the first vote on the page, or of the one whose key has ``of`` in it."""
    sliders = [slider for slider in at.slider if slider.key.endswith(f"_{voter}") and of in slider.key]
    return sliders[0].set_value(value).run()


@pytest.fixture
def resting(empty: Workspace) -> Run:
    """At a decision on stage 2, asked to stop at each."""
    run = add_prune(empty, num_stages=1)
    write_drive(run, Drive(step=True))
    rest_at_decision(run)
    return run


# --- the form ---


def newest(workspace: Workspace) -> dict:
    return open_run(workspace, next(found.id for found in list_runs(workspace) if found.kind == "prune")).params


def test_a_run_can_be_asked_to_stop_at_each_decision(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.toggle(key="step").set_value(True).run()
    at.number_input(key="max_per_stage").set_value(2).run()
    at.button_group(key="recovery_shares").set_value("last-heavy").run()
    weigh(at, "zico", 1.5)
    button(at, "Start pruning").click().run()
    params = newest(empty)
    assert params["step"] is True and params["max_per_stage"] == 2 and params["recovery_shares"] == "last-heavy"
    assert params["weights"] == {"cost": 1.0, "ntk": 0.5, "zico": 1.5}


def test_how_the_stages_are_measured_can_be_chosen(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.selectbox(key="judge_sampler_flow").set_value("heun").run()
    at.number_input(key="judge_steps").set_value(50).run()
    at.number_input(key="judge_cfg").set_value(1.0).run()
    at.number_input(key="judge_batch").set_value(32).run()
    at.number_input(key="judge_seed").set_value(7).run()
    at.selectbox(key="judge_features").set_value("inception").run()
    at.text_input(key="judge_weights").set_value("/somewhere/inception.pth").run()
    button(at, "Start pruning").click().run()
    params = newest(empty)
    chosen = Protocol(sampler="heun", num_steps=50, cfg_scale=1.0, seed=7, features="inception")
    assert params["protocol"] == asdict(chosen) and params["timing"] == asdict(Timing(batch_size=32))
    assert params["features_weights"] == "/somewhere/inception.pth"


def test_the_numbers_that_a_run_works_in_can_be_chosen(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    button(at, "Start pruning").click().run()
    assert "compute" not in newest(empty)
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.selectbox(key="arithmetic").set_value("bf16, compiled").run()
    button(at, "Start pruning").click().run()
    params = newest(empty)
    assert compute_of(params) == Compute(precision="bf16", compile=True)
    assert evaluation_protocol(params).precision == "bf16" and params["timing"]["precision"] == "bf16"


def test_how_long_it_takes_is_said_as_far_as_it_was_measured(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    assert "How long training and drawing 500 images for every stage take" in words(at)
    add_prune(empty)
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    few = re.search(r"of training and (\d+) min of drawing in all, 500 images for every stage, ", words(at))
    at.number_input(key="num_images").set_value(50_000).run()
    many = re.search(r"of training and (\d+) (min|h) of drawing in all, 50,000 images for", words(at))
    assert few and many and int(many[1]) * (60 if many[2] == "h" else 1) > int(few[1])
    at.selectbox(key="judge_sampler_flow").set_value("dopri5").run()
    assert "how long drawing 50,000 images for every stage takes shows after the first ones" in words(at)


@pytest.mark.parametrize(
    ("key", "bad", "line"),
    [
        ("learning_rate_0.004", 1e30, "Learning rate: 1e+30 is out of range. Choose 1e-08 … 0.5."),
        ("learning_rate_0.004", 0.0, "Learning rate: 0.0 is out of range"),
        ("learning_rate_0.004", -1.0, "Learning rate: -1.0 is out of range"),
        ("num_steps", 999_999_999, "Steps: 999,999,999 is out of range. Choose 0 … 1,000,000."),
        ("batch_size", 5000, "Batch: 5,000 is out of range. Choose 1 … 4,096."),
        ("batch_size", 0, "Batch: 0 is out of range"),
        ("distill_weight", 1e9, "Distillation: 1,000,000,000.0 is out of range. Choose 0.0 … 100.0."),
        ("num_images", 1, f"Images to score: 1 is out of range. Choose {MIN_IMAGES} … 50,000."),
        ("max_per_stage", 40, "Most blocks in a stage: 40 is out of range. Choose 1 … 11."),
        ("judge_steps", 0, "Sampling steps: 0 is out of range. Choose 1 … 1,000."),
    ],
)
def test_a_number_out_of_range_is_said_at_its_field_and_nothing_starts(
    empty: Workspace, open_page: Open, key: str, bad: float, line: str
) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    good = at.number_input(key=key).value
    at.number_input(key=key).set_value(bad).run()
    assert len(at.error) == 1 and at.error[0].value.startswith(line)
    assert button(at, "Start pruning").disabled and at.selectbox(key="arithmetic") and at.number_input(key="num_images")
    assert f"Out of range: {line.partition(':')[0]}. " in words(at) and "of recovery in all" not in words(at)
    at.number_input(key=key).set_value(good).run()
    assert not at.error and not button(at, "Start pruning").disabled


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("even", " each; "),
        ("last-heavy", " on average, more for later ones; "),
        ("final", ", most of them for the last; "),
    ],
)
def test_how_the_steps_are_shared_out_is_said_as_it_was_chosen(
    empty: Workspace, open_page: Open, shares: str, said: str
) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive", shares=shares)
    button(at, "Start pruning").click().run()
    assert "300 recovery steps each" in words(at) and said in words(at)


def test_what_is_left_as_it_stands_is_the_usual(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    assert at.number_input(key="max_per_stage").value is None
    assert at.number_input(key="max_per_stage").proto.placeholder == "automatic"
    button(at, "Start pruning").click().run()
    params = newest(empty)
    assert params["max_per_stage"] is None and params["adapt_steps"] == 0 and params["num_stages"] == 3
    usual = usual_recovery(read_model_info(empty.root.parent / "models" / "demo-sit").num_parameters)
    assert params["ced"] == asdict(usual_scoring())
    assert params["protocol"] == asdict(Protocol()) and "features_weights" not in params
    assert params["finetune"] == asdict(usual) and usual.schedule == "cosine" and usual.learning_rate == 4e-3
    PruneConfig(**{key: params[key] for key in ("target_depth", "num_stages", "max_per_stage", "adapt_steps")})


def test_the_reading_that_orders_the_blocks_can_be_chosen(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.selectbox(key="stages_variable").set_value("prediction").run()
    at.button_group(key="stages_order").set_value("greedy").run()
    button(at, "Start pruning").click().run()
    assert newest(empty)["ced"] == asdict(usual_scoring(variable="prediction", order="greedy"))


def test_a_large_model_starts_from_the_published_rate(empty: Workspace, open_page: Open) -> None:
    add_opened(empty)
    at = open_page("prune", run="new", model="dit-xl", data="shapes", how="adaptive")
    assert at.number_input(key="learning_rate_0.0001").value == 1e-4
    assert at.selectbox(key="schedule_0.0001").value == "constant"


def test_stages_are_never_more_than_the_blocks_that_go(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.slider(key="num_stages").set_value(4).run()
    at.slider(key="target_depth").set_value(10).run()
    assert (at.slider(key="num_stages").max, at.slider(key="num_stages").value) == (2, 2) and not at.error
    at.slider(key="target_depth").set_value(11).run()
    only = at.slider(key="num_stages_only")
    assert only.disabled and only.value == 1 and not at.error
    button(at, "Start pruning").click().run()
    assert newest(empty)["num_stages"] == 1
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.slider(key="num_stages").set_value(4).run()
    at.slider(key="target_depth").set_value(11).run()
    at.slider(key="target_depth").set_value(5).run()
    assert at.slider(key="num_stages").value == 4  # what was chosen is remembered


def test_the_intact_model_adapts_first_where_the_data_has_other_classes(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="glyphs", how="adaptive")
    adapt = at.number_input(key="adapt_demo-sit_glyphs")
    assert adapt.value == 300 and "the intact model adapts for 300 steps" in words(at)
    assert "doesn't know the classes" not in words(at)
    adapt.set_value(0).run()
    assert "demo-sit doesn't know the classes of glyphs yet" in words(at)
    at.number_input(key="adapt_demo-sit_glyphs").set_value(120).run()
    button(at, "Start pruning").click().run()
    assert newest(empty)["adapt_steps"] == 120
    assert "The intact model adapts for 120 steps first. To 8 blocks in 3 stages" in words(at)


def test_a_speed_up_can_be_the_target(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    at.button_group(key="goal").set_value("a speed-up").run()
    at.slider(key="target_speedup").set_value(2.0).run()
    assert "6 of 12 blocks stay, or fewer" in words(at)
    button(at, "Start pruning").click().run()
    params = newest(empty)
    assert params["target_speedup"] == 2.0 and "target_depth" not in params and "drop" not in params


def test_weights_that_nobody_could_vote_with_cost_one_line(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run="new", model="demo-sit", data="shapes", how="adaptive")
    for voter in vote_table.VOTERS:
        weigh(at, voter, 0.0)
    assert len(at.error) == 1 and "All weights are 0" in at.error[0].value


# --- at a decision ---


def test_the_vote_is_shown_with_its_candidates_and_its_sentence(resting: Run, open_page: Open) -> None:
    said = words(open_page("prune", run=resting.id))
    assert "Stage 2: what goes?" in said and "2 blocks go: cost wanted that." in said
    assert "waits for your decision" in said
    for head in ("MACs", "forward, one batch", "NTK condition", "ZiCo", "vote"):
        assert f"<th>{head}</th>" in said
    assert said.count('<tr class="chosen">') == 1 + 1  # of the vote that waits, and of stage 1


def test_a_page_without_a_run_in_its_address_finds_the_one_that_rests(resting: Run, open_page: Open) -> None:
    assert "Stage 2: what goes?" in words(open_page("prune"))


def test_going_on_as_the_vote_has_it_changes_nothing(resting: Run, open_page: Open, started: list[str]) -> None:
    button(open_page("prune", run=resting.id), "Go on with this").click().run()
    assert resting.status().state == "queued" and started
    assert read_drive(resting) == Drive(step=True)


def test_running_to_the_target_stops_asking(resting: Run, open_page: Open) -> None:
    button(open_page("prune", run=resting.id), "Go on and run to the target").click().run()
    assert resting.status().state == "queued"
    assert read_drive(resting).step is False


def test_other_weights_recount_the_vote_at_once_and_hold_from_then_on(resting: Run, open_page: Open) -> None:
    at = open_page("prune", run=resting.id)
    record = driving.pending(resting)["record"]
    weigh(at, "ntk", 2.0)
    weigh(at, "zico", 2.0)
    weights = {"cost": 1.0, "ntk": 2.0, "zico": 2.0}
    again = vote.recount(record, weights)
    assert again["chosen"] != record["chosen"]
    assert f"With these weights: {again['reason']}" in words(at)
    assert resting.status().state == "paused"  # looking costs nothing
    button(at, "Go on with this").click().run()
    drive = read_drive(resting)
    assert drive.decision == {"drop": vote.blocks_going(again), "record": again}
    assert drive.changes == {"weights": weights} and drive.head == 1 and drive.step is True


def test_another_number_than_the_vote_is_carried_out(resting: Run, open_page: Open) -> None:
    at = open_page("prune", run=resting.id)
    record = driving.pending(resting)["record"]
    at.button_group[0].set_value("number").run()
    next(slider for slider in at.slider if slider.label == "Blocks to drop").set_value(3).run()
    assert "chosen by hand; the vote wanted 2" in words(at)
    button(at, "Go on with this").click().run()
    decision = read_drive(resting).decision
    assert decision["drop"] == sorted(record["order"][:3])
    assert decision["record"]["mode"] == "overridden" and read_drive(resting).changes == {}


def test_blocks_by_hand_are_named_as_in_the_loaded_model(resting: Run, open_page: Open) -> None:
    kept = resting.stage(1).kept_blocks
    at = open_page("prune", run=resting.id)
    at.button_group[0].set_value("hand").run()
    assert button(at, "Go on with this").disabled and "Choose at least one block" in words(at)
    pills = next(group for group in at.button_group if group.label == "Blocks to drop")
    assert [int(option.content) for option in pills.proto.options] == list(kept)
    pills.set_value([kept[-1], kept[3]]).run()
    button(at, "Go on with this").click().run()
    assert read_drive(resting).decision["drop"] == sorted([kept[3], kept[-1]])


def test_all_blocks_by_hand_are_refused_in_one_line(resting: Run, open_page: Open) -> None:
    at = open_page("prune", run=resting.id)
    at.button_group[0].set_value("hand").run()
    pills = next(group for group in at.button_group if group.label == "Blocks to drop")
    pills.set_value(list(resting.stage(1).kept_blocks)).run()
    assert len(at.error) == 1 and "keep at least one" in at.error[0].value
    assert resting.status().state == "paused"


def test_of_two_tabs_the_second_finds_what_the_first_decided(resting: Run, open_page: Open) -> None:
    first, second = open_page("prune", run=resting.id), open_page("prune", run=resting.id)
    button(first, "Go on with this").click().run()
    button(second, "Go on with this").click().run()
    assert not second.error and "Stage 2: what goes?" not in words(second)
    assert resting.status().state == "queued" and read_drive(resting).decision is None


def test_a_drive_that_the_engine_refuses_is_one_line(resting: Run, open_page: Open, monkeypatch) -> None:
    at = open_page("prune", run=resting.id)
    monkeypatch.setattr(driving, "at_rest", lambda run: True)
    weigh(at, "zico", 2.0)
    (resting.path / "stages" / "1" / "stage.json").write_text("{")
    button(at, "Go on with this").click().run()
    assert len(at.error) >= 1 and all("\n" not in error.value for error in at.error)


# --- on the way ---


def test_a_run_under_way_can_be_paused_and_says_so(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, state="running", num_stages=1)
    at = open_page("prune", run=run.id)
    assert (
        "step 120 of 300" in at.get("progress")[0].proto.text and "about 40 s left" in at.get("progress")[0].proto.text
    )
    button(at, "Pause").click().run()
    assert driving.pausing(run)
    assert "pausing" in at.get("progress")[0].proto.text and button(at, "Pause").disabled


def test_a_pause_in_mid_recovery_goes_on_step_by_step_or_to_the_target(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, state="running", num_stages=1)
    run.update(state="paused", message="paused at step 120 of 300")
    at = open_page("prune", run=run.id)
    assert {"Go on", "Step", "Cancel"} <= labels(at) and "Run to the target" not in labels(at)
    button(at, "Step").click().run()
    assert run.status().state == "queued" and read_drive(run).step is True
    run.update(state="paused")
    at = open_page("prune", run=run.id)
    assert {"Go on", "Run to the target"} <= labels(at) and "Step" not in labels(at)
    button(at, "Run to the target").click().run()
    assert run.status().state == "queued" and read_drive(run).step is False


def test_going_on_keeps_the_branch_that_was_being_grown(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    decision = driving.by_hand([0, 1])
    write_drive(run, Drive(head=0, decision=decision, changes={"weights": {"cost": 2.0, "ntk": 0.0, "zico": 0.0}}))
    run.update(state="paused", message="paused at step 3 of 300")
    button(open_page("prune", run=run.id), "Step").click().run()
    drive = read_drive(run)
    assert (drive.head, drive.decision, drive.step) == (0, decision, True)
    assert drive.changes["weights"]["cost"] == 2.0


def test_a_paused_run_can_be_cancelled(resting: Run, open_page: Open) -> None:
    button(open_page("prune", run=resting.id), "Cancel").click().run()
    assert resting.status().state == "cancelled"
    assert "was cancelled" in words(open_page("prune", run=resting.id))


def test_a_run_of_chosen_blocks_has_no_steps_to_offer(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=0)
    about = json.loads((run.path / "config.json").read_text())
    params = {key: value for key, value in about["params"].items() if key not in ("target_depth", "num_stages")}
    (run.path / "config.json").write_text(json.dumps({**about, "params": {**params, "drop": [3, 7]}}))
    run.update(state="paused", message="paused at step 3 of 300")
    at = open_page("prune", run=run.id)
    assert "Go on" in labels(at) and "Step" not in labels(at)


def test_a_run_in_the_middle_of_adapting_shows_what_it_learns(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, state="running", num_stages=-1, adapt_steps=300)
    at = open_page("prune", run=run.id)
    assert "adapting" in at.get("progress")[0].proto.text
    said = words(at)
    assert "Step 120 of 300 of adapting the intact model" in said
    assert "The intact model adapts for 300 steps first" in said
    chart = at.get("plotly_chart")[0].proto.spec
    assert "intact model adapts" in chart and "Is it learning the data?" in chart and "recovery step" not in chart


def test_the_lines_of_the_recovery_are_named_once_and_the_text_says_both_ends(
    empty: Workspace, open_page: Open
) -> None:
    events = [train(stage, step, 2.0 - step / 100) for stage in (1, 2) for step in range(5, 105, 5)]
    fig = charts.loss_curve(events, palette=LIGHT)
    assert [trace.name for trace in fig.data if trace.showlegend] == ["a few steps each", "running mean"]
    mean = fig.data[-1].y[-1]
    assert mean == pytest.approx(1.1) and fig.data[-2].y[-1] == pytest.approx(1.0)
    run = add_prune(empty, num_stages=2)
    assert re.search(
        r"loss \d\.\d{4} in the last few steps \(pale line\), \d\.\d{4} in the running mean \(bold\)",
        words(open_page("prune", run=run.id)),
    )


def test_an_adapted_intact_model_is_called_so_wherever_it_stands(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2, adapt_steps=300)
    at = open_page("prune", run=run.id, stage="2")
    said = words(at)
    assert "<b>Stage 0</b> intact, adapted 300 steps" in said and said.count("<span>300 recovery steps</span>") == 2
    assert "<th>intact, adapted<small>" in said and "of recovery in stage 2" in said
    chart = next(chart.proto.spec for chart in at.get("plotly_chart") if "training loss" in chart.proto.spec)
    assert "intact model adapts" in chart and "stage 1" in chart and "Is the model learning again?" in chart
    assert f"{run.id}@0" in jobs.stages_by_ref()
    plain = add_prune(empty, num_stages=1)
    assert f"{plain.id}@0" not in jobs.stages_by_ref()


# --- stages and branches ---


def test_lanes_are_branches_and_rows_are_stages_from_the_intact_model() -> None:
    found = places({0: None, 1: 0, 2: 1, 3: 0, 4: 3, 5: 1, 6: 5})
    assert found[2] == Place(level=2, lane=0, parent_lane=0)
    assert found[3] == Place(level=1, lane=1, parent_lane=0)
    assert found[4] == Place(level=2, lane=1, parent_lane=1)
    assert found[5] == Place(level=2, lane=2, parent_lane=0)
    assert found[6] == Place(level=3, lane=2, parent_lane=2)
    assert len({(place.level, place.lane) for place in found.values()}) == len(found)


def test_a_card_says_what_came_of_a_stage(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    metrics = json.loads((run.path / "stages" / "2" / "metrics.json").read_text())
    slow = {**metrics["efficiency"], "latency_ms": {"median": 9.6, "low": 9.0, "high": 10.0}}
    (run.path / "stages" / "2" / "metrics.json").write_text(json.dumps({**metrics, "efficiency_of_intact": slow}))
    said = words(open_page("prune", run=run.id))
    dropped = ", ".join(map(str, run.stage(2).info["dropped_blocks"]))
    assert f"without {dropped}" in said and "8 of 12 blocks" in said
    assert "FID (demo-cnn) <b>26.4</b> (25.4 … 27.4)" in said and "<b>1.50×</b> as fast (1.12 … 1.79)" in said
    assert "300 recovery steps" in said


def test_a_finished_run_asks_what_if_and_branches_from_the_answer(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    at = open_page("prune", run=run.id, stage="1")
    assert "Stage 1: why these blocks went" in words(at)
    assert not any("Branch from stage 0 with this vote" in label for label in labels(at))
    for voter in ("ntk", "zico"):
        weigh(at, voter, 2.0, of="_if_")
    record = run.stage(1).info["decision"]
    again = vote.recount(record, {"cost": 1.0, "ntk": 2.0, "zico": 2.0})
    assert f"With these weights: {again['reason']}" in words(at)
    button(at, "Branch from stage 0 with this vote").click().run()
    drive = read_drive(run)
    assert (drive.head, drive.number, drive.decision["record"]) == (0, 3, again)
    assert run.status().state == "queued"


def test_going_back_to_a_stage_offers_the_vote_that_was_held_there(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    at = open_page("prune", run=run.id, stage="1")
    at.number_input(key=f"steps_{run.id}_from1").set_value(50).run()
    button(at, "Branch from stage 1").click().run()
    drive = read_drive(run)
    record = run.stage(2).info["decision"]
    assert (drive.head, drive.decision) == (1, driving.choice_of(record))
    assert drive.changes["finetune"]["num_steps"] == 50 and drive.changes["finetune"]["batch_size"] == 128


def test_from_the_last_stage_blocks_go_by_hand_or_are_scored_afresh(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    at = open_page("prune", run=run.id, stage="2")
    assert button(at, "Branch from stage 2").disabled
    at.button_group(key=f"how_{run.id}_from2").set_value("Score and vote afresh").run()
    for wrong in (0, 99):
        at.number_input(key=f"depth_{run.id}_from2").set_value(wrong).run()
        assert f"Blocks to keep: {wrong} is out of range. Choose 1 … " in at.error[0].value
        assert button(at, "Branch from stage 2").disabled and "Out of range: Blocks to keep. " in words(at)
    at.number_input(key=f"depth_{run.id}_from2").set_value(5).run()
    button(at, "Branch from stage 2").click().run()
    drive = read_drive(run)
    assert (drive.head, drive.decision) == (2, None)
    assert drive.changes == {"target_depth": 5, "target_speedup": None, "drop": [], "num_stages": 3}
    PruneConfig(**{**drive.changes, "drop": ()}).check_against(12)
    assert "To 5 blocks in 3 stages" in words(at)


def test_branches_stand_side_by_side_and_lead_to_compare(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    branch = add_branch(run, parent=1, drop=[run.stage(1).kept_blocks[0]])
    at = open_page("prune", run=run.id, stage=str(branch))
    said = words(at)
    assert "--lanes: 2" in said and "· from stage 1" in said and "grid-row: 3; grid-column: 2" in said
    link = next(link for link in at.get("page_link") if link.proto.label.startswith("Compare stages"))
    assert link.proto.label == "Compare stages 2 and 3 →"
    assert "stage=3" in link.proto.query_string and "left=2" in link.proto.query_string


def test_a_branch_has_to_wait_until_the_run_rests(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, state="running", num_stages=2)
    at = open_page("prune", run=run.id, stage="1")
    assert button(at, "Branch from stage 1").disabled and "Pause it first" in words(at)


def test_a_branch_that_waits_stands_where_it_will_grow(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=2)
    write_drive(run, Drive(head=0, decision=driving.by_hand([3, 8])))
    run.update(state="queued")
    said = words(open_page("prune", run=run.id))
    assert "<b>Stage 3</b> waits · from stage 0" in said and "grid-row: 2; grid-column: 2" in said
    card = said[said.index("<b>Stage 3</b> waits") :]
    assert 'class="dropped" title="block 3' in card and 'class="dropped" title="block 8' in card


def test_thirty_stages_are_shown(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    for number in range(1, 30):
        add_branch(run, parent=number if number % 7 else 0, drop=[])
    at = open_page("prune", run=run.id)
    assert words(at).count('class="ep-stage ') == 31
    assert at.button_group(key=f"stage_{run.id}").value == 30


@pytest.mark.parametrize("stage", ["99", "-1", "x"])
def test_a_stage_that_is_not_there_costs_one_line(empty: Workspace, open_page: Open, stage: str) -> None:
    run = add_prune(empty, num_stages=1)
    at = open_page("prune", run=run.id, stage=stage)
    assert len(at.warning) == 1 and repr(stage) in at.warning[0].value and not at.error


# --- recovery ---


def train(stage: int, step: int, loss: float = 0.5) -> dict:
    return {"event": "train", "stage": stage, "step": step, "loss": loss}


def decided(stage: int, *dropped: int, parent: int = 0) -> dict:
    candidates = [{"dropped": list(dropped)}]
    return {"event": "decision", "stage": stage, "parent": parent,
            "decision": {"reason": "", "candidates": candidates, "chosen": 0}}  # fmt: skip


def recovery_events(*stages: int) -> list[dict]:
    return [train(stage, step) for stage in stages for step in (5, 10)]


def test_of_a_step_done_twice_the_later_counts() -> None:
    events = [decided(1, 3), train(1, 5, 0.9), train(1, 10, 0.8), decided(1, 3), train(1, 10, 0.7), train(1, 15, 0.6)]
    assert [(event["step"], event["loss"]) for event in recovery.valid(events)] == [(5, 0.9), (10, 0.7), (15, 0.6)]


def test_what_a_stage_had_learned_before_it_was_decided_otherwise_is_gone() -> None:
    events = [decided(1, 3), train(1, 5), train(1, 10), decided(1, 4), train(1, 5, 0.1)]
    assert [event["loss"] for event in recovery.valid(events)] == [0.1]


def test_the_curve_follows_the_branch_that_grows(empty: Workspace) -> None:
    run = add_prune(empty, num_stages=2)
    grown = [*recovery_events(1, 2), decided(3, 7, parent=1), train(3, 5)]
    parents = recovery.parents_of(grown, run.stages())
    assert {event["stage"] for event in recovery.on_branch(recovery.valid(grown), parents)} == {1, 3}


def test_the_intact_models_band_is_drawn_with_its_meaning(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    assert "The band is the training loss of the intact model" not in words(open_page("prune", run=run.id))
    run.append("band", stage=1, mean=0.3, low=0.28, high=0.32)
    assert "The band is the training loss of the intact model" in words(open_page("prune", run=run.id))


# --- disaster ---


def test_a_run_of_another_kind_is_one_line(empty: Workspace, open_page: Open) -> None:
    at = open_page("prune", run=add_ced(empty).id)
    assert len(at.error) == 1 and "kind ced" in at.error[0].value


def test_a_damaged_stage_is_one_line_and_the_run_can_still_be_left(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    (run.path / "stages" / "1" / "stage.json").write_text("{")
    at = open_page("prune", run=run.id)
    assert len(at.error) == 1 and "stage.json" in at.error[0].value
    assert "New pruning" in labels(at)


def test_a_damaged_status_is_one_line_and_the_run_can_still_be_left(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    (run.path / "status.json").write_text("[]")
    at = open_page("prune", run=run.id)
    assert len(at.error) == 1 and "status" in at.error[0].value
    assert "New pruning" in labels(at)


def test_damaged_numbers_leave_the_rest_of_the_page(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    (run.path / "stages" / "1" / "metrics.json").write_text("{")
    at = open_page("prune", run=run.id)
    assert len(at.error) == 1 and "metrics.json" in at.error[0].value
    assert "Finished" in words(at) and "its numbers can't be read" in words(at)


def test_a_damaged_drive_is_one_line(resting: Run, open_page: Open) -> None:
    (resting.path / "drive.json").write_text('{"wheels": 4}')
    at = open_page("prune", run=resting.id)
    button(at, "Go on with this").click().run()
    assert at.error and all("drive.json" in error.value for error in at.error)
    assert resting.status().state == "paused"


def test_a_run_deleted_while_it_rests_is_one_line(resting: Run, open_page: Open) -> None:
    at = open_page("prune", run=resting.id)
    shutil.rmtree(resting.path)
    button(at, "Go on with this").click().run()
    assert not at.exception and len(at.error) == 1


def test_a_paused_run_is_not_called_stopped_when_no_engine_lives(resting: Run, open_page: Open) -> None:
    resting.write_status(replace(resting.status(), heartbeat=time.time() - 3600))
    assert "The engine stopped" not in words(open_page("prune", run=resting.id))


def test_a_click_that_comes_with_a_change_of_the_run_is_heard(empty: Workspace, open_page: Open) -> None:
    """The run began between two looks: the look that carries the click finds another state than the page had."""
    run = add_prune(empty)
    run.update(state="queued")
    open_page("prune", run=run.id)  # the app's own setup

    def page(run_id: str) -> None:
        import streamlit as st

        from app.pruning import prune_watch

        begun = st.session_state.pop("begun", False)
        prune_watch._watch(run_id, ("queued",) if begun else prune_watch._signature(prune_watch.jobs.open_run(
            prune_watch.jobs.workspace(), run_id)))  # fmt: skip

    at = AppTest.from_function(page, args=(run.id,)).run()
    run.update(state="running")
    at.session_state["begun"] = True
    button(at, "Cancel").click().run()
    assert not at.exception and run.cancel_requested
