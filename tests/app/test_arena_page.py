"""The arena page: recorded and own arenas, what their numbers allow to be said, and starting one."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from app.arena import arena_reading, arena_result, arena_runs
from app.arena.arena_reading import Entry, apart
from engine.arena.config import DEFAULT_ENTRANTS, ArenaConfig
from engine.arena.result import arena_result as result_of
from engine.evaluation.protocol import Protocol
from engine.models.bundled import ModelInfo, read_model_info
from engine.runs.store import list_runs, open_run
from engine.runs.workspace import Workspace
from engine.training.config import FinetuneConfig
from tests.app.conftest import Open, words
from tests.app.fixtures import DEPTH, add_arena, add_prune, arena_content

METRIC = "FID (demo-cnn)"


def button(at, label: str):
    return next(button for button in at.button if button.label == label)


def record(folder: Path, **changes: object) -> Path:
    config = ArenaConfig(num_random=4)
    folder.mkdir(exist_ok=True)
    content = arena_content(config) | {
        "model": "demo-sit", "data": "shapes", "config": asdict(config),
        "command": "python -m engine arena demo-sit shapes",
    }  # fmt: skip
    file = folder / "sit-shapes.json"
    file.write_text(json.dumps(content | changes))
    return file


@pytest.fixture(autouse=True)
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recorded arenas of its own, empty at first; and few resamples, as these tests look at none."""
    monkeypatch.setattr("engine.arena.result._NUM_BOOTSTRAP", 20)
    monkeypatch.setattr(arena_runs, "_FOLDER", tmp_path / "arena")
    monkeypatch.setattr(arena_runs, "read_asset", Path.read_bytes)
    return tmp_path / "arena"


def entry(*fids: float, **more: object) -> Entry:
    row = {"fid": {"mean": float(np.mean(fids)), "low": None, "high": None}, "num_seeds": len(fids)}
    usual = dict(names=("loss",), kind="criterion", dropped=(1,), row=row, fids=dict(enumerate(fids)))
    return Entry(**(usual | more))


# --- what may be said ---


def test_a_difference_that_every_seed_shows_alike_is_beyond_noise_and_one_that_they_dispute_is_not() -> None:
    assert apart(entry(20, 22, 30), entry(30, 33.2, 44.7), confidence=0.9)
    assert not apart(entry(20, 40, 30), entry(30, 33, 31), confidence=0.9)
    assert not apart(entry(20), entry(200), confidence=0.9)  # one seed says nothing


def test_differences_agree_with_a_paired_t_test_on_logs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        a, b = np.exp(rng.normal(3, 0.2, 4)), np.exp(rng.normal(3.3, 0.2, 4))
        p = stats.ttest_rel(np.log(a), np.log(b)).pvalue
        assert apart(entry(*a), entry(*b), confidence=0.9) == (p < 0.1)
        assert apart(entry(*a), entry(*b), confidence=0.9, num_comparisons=7) == (p < 0.1 / 7)


def test_chance_is_where_one_more_random_set_would_lie() -> None:
    content = arena_content(ArenaConfig(num_random=5))
    means = [math.log(row["fid"]["mean"]) for row in content["result"]["table"] if row["kind"] == "chance"]
    lot = arena_reading.chance(content)
    low, high = stats.t.interval(0.9, 4, np.mean(means), np.std(means, ddof=1) * math.sqrt(1 + 1 / 5))
    assert (lot.low, lot.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert arena_reading.chance(arena_content(ArenaConfig(num_random=2))) is None


def test_entrants_with_the_same_blocks_are_one_entry() -> None:
    found = arena_reading.entries(arena_content())
    shared = [entry for entry in found if entry.dropped == (0, 2, 4, 6, 8, 10)]
    assert len(shared) == 1 and set(shared[0].names) == {"ced-target", "bi"} and len(shared[0].fids) == 3


def test_without_a_true_difference_no_winner_is_named() -> None:
    content = arena_content(gap=0.0)
    found = arena_reading.read(content)
    assert not found.wins and not found.beats_chance
    said = " ".join(arena_reading.sentences(content, metric=METRIC))
    assert "can be told from it" in said or "can't be told from" in said
    assert "no criterion beats them beyond noise" in said


def test_with_a_large_difference_the_winner_is_named_and_beats_chance() -> None:
    content = arena_content(gap=1.2)
    found = arena_reading.read(content)
    assert found.wins and found.best.dropped == (0, 2, 4, 6, 8, 10)
    assert [entry.dropped for entry in found.beats_chance] == [found.best.dropped]
    said = arena_reading.sentences(content, metric=METRIC)
    assert said[0].startswith("<b>CED target = Block influence</b> got the lowest mean FID (demo-cnn)")
    assert "every other set that a criterion chose is worse beyond noise" in said[0]
    assert "beaten by CED target = Block influence" in said[1]


def test_one_seed_is_never_enough() -> None:
    content = arena_content(ArenaConfig(num_random=4, num_seeds=1), gap=2.0)
    assert not arena_reading.read(content).wins
    assert "From one seed nobody can tell" in arena_reading.sentences(content, metric=METRIC)[0]


def test_foresight_is_claimed_only_where_its_interval_is_above_zero() -> None:
    content = arena_content()
    content["result"]["foresight"] = {"bi": {"fid": {"value": 0.5, "low": -0.1, "high": 0.8}, "loss": None}}
    assert "every interval reaches 0" in arena_reading.sentences(content, metric=METRIC)[-1]
    content["result"]["foresight"]["loss"] = {"fid": {"value": 0.7, "low": 0.2, "high": 0.9}, "loss": None}
    said = arena_reading.sentences(content, metric=METRIC)[-1]
    assert "1 of 2 criteria" in said and "that of Loss rise, +0.70 (+0.20 … +0.90)" in said


def test_a_half_finished_arena_can_be_read_at_any_moment() -> None:
    config = ArenaConfig(num_random=4)
    for num_bouts in (1, 2, 5, 13, 14, 15, 16, 17, 29, 45):
        assert arena_reading.sentences(arena_content(config, num_bouts=num_bouts), metric=METRIC)


# --- the page ---


def test_an_empty_page_offers_to_hold_one(empty: Workspace, open_page: Open) -> None:
    at = open_page("arena")
    assert "No arena has been held yet" in words(at) and not at.error
    assert button(at, "Start the arena")


def test_every_control_says_what_it_does(full: Workspace, open_page: Open) -> None:
    add_arena(full)
    at = open_page("arena")
    kinds = ("button", "button_group", "selectbox", "slider", "number_input", "download_button", "page_link")
    found = [w for kind in kinds for w in at.get(kind)]
    assert len(found) > 10 and not [w.label for w in found if not w.proto.help]


def test_a_recorded_arena_shows_its_reading_its_chance_and_how_it_was_made(
    empty: Workspace, open_page: Open, assets: Path
) -> None:
    record(assets)
    at = open_page("arena", arena="sit-shapes")
    said = words(at)
    assert "python -m engine arena demo-sit shapes" in said and "300 steps" in said and "3 seeds" in said
    assert "judged from 4" in said and "nothing dropped, the same extra training" in said
    assert said.count('<div class="ep-row-strip"') == len(arena_reading.entries(arena_content()))
    assert 'class="best"' not in said  # no winner beyond noise in this one
    assert said.count("FID") == said.count("FID (demo-cnn)") + said.count("check of the FID") >= 3
    assert len(at.get("plotly_chart")) == 2


def test_the_best_is_marked_where_it_is_beyond_noise(empty: Workspace, open_page: Open) -> None:
    add_arena(empty, gap=1.2)
    assert words(open_page("arena")).count('class="best"') == 1


def test_a_damaged_recorded_arena_is_one_line_and_hides_no_other(
    empty: Workspace, open_page: Open, assets: Path
) -> None:
    record(assets)
    (assets / "broken.json").write_text('{"bouts": []')
    (assets / "short.json").write_text('{"bouts": []}')
    at = open_page("arena")
    assert len(at.error) == 2 and "broken.json" in at.error[0].value and "is missing" in at.error[1].value
    assert "Measured with" in words(at)


def test_an_arena_under_way_shows_what_there_is_and_can_be_cancelled(empty: Workspace, open_page: Open) -> None:
    run = add_arena(empty, state="running")
    at = open_page("arena")
    assert "20 of 45" in at.get("progress")[0].proto.text and "About 10 min to go" in words(at)
    assert "As far as it is" in words(at) and len(at.get("plotly_chart")) == 2
    button(at, "Cancel").click().run()
    assert run.cancel_requested


def test_a_stopped_arena_says_why_and_can_be_resumed(empty: Workspace, open_page: Open) -> None:
    run = add_arena(empty, state="failed")
    at = open_page("arena", arena=run.id)
    assert "the fixture failed" in at.error[0].value
    button(at, "Resume").click().run()
    assert open_run(empty, run.id).status().state == "queued"


def test_an_own_arena_is_started_with_what_the_form_says(full: Workspace, open_page: Open) -> None:
    at = open_page("arena", model="demo-sit", data="shapes")
    at.button_group(key="arena_entrants").set_value(["loss", "bi"])
    at.slider(key="arena_dropped").set_value(4)
    for name, value in (("seeds", 5), ("random", 3), ("steps", 50), ("images", 200)):
        at.number_input(key=f"arena_{name}").set_value(value)
    at.run()
    assert "30 trainings" in words(at)  # (2 criteria + 3 random + intact) × 5 seeds
    button(at, "Start the arena").click().run()
    run = open_run(full, list_runs(full)[0].id)
    expected = ArenaConfig(
        entrants=("bi", "loss"), num_dropped=4, num_seeds=5, num_random=3,
        finetune=replace(ArenaConfig().finetune, num_steps=50), protocol=Protocol(num_images=200),
    )  # fmt: skip
    assert run.kind == "arena" and run.params["config"] == json.loads(json.dumps(asdict(expected)))
    assert at.selectbox(key="arena_arena").value == run.id


def test_an_interval_ends_where_the_measure_does() -> None:
    assert arena_result._ends({"mean": 0.9, "low": 0.5, "high": 1.3}, most=1.0) == "<small>0.5 … 1</small>"
    assert arena_result._ends({"mean": 3, "low": -1, "high": 7}) == "<small>0 … 7</small>"


def test_the_name_of_an_arena_stays_while_its_state_changes(empty: Workspace, open_page: Open) -> None:
    run = add_arena(empty, state="running")
    at = open_page("arena")
    before = at.selectbox(key="arena_arena").options
    run.update(state="cancelled", message="cancelled")
    at.run()
    assert at.selectbox(key="arena_arena").options == before
    assert [error.value for error in at.error] == ["This arena was cancelled."]


def test_too_few_entrants_are_refused_in_one_line(full: Workspace, open_page: Open) -> None:
    at = open_page("arena", model="demo-sit", data="shapes")
    at.button_group(key="arena_entrants").set_value(["loss"])
    at.number_input(key="arena_random").set_value(0).run()
    assert len(at.error) == 1 and "at least two entrants" in at.error[0].value


def test_nonsense_in_the_address_costs_one_line(full: Workspace, open_page: Open) -> None:
    add_arena(full)
    at = open_page("arena", arena="../../etc")
    assert len(at.warning) == 1 and "There is no arena named" in at.warning[0].value


# --- how long it takes, and what can be taken away ---


def model(tmp_path: Path) -> ModelInfo:
    return read_model_info(tmp_path / "models" / "demo-sit", name="demo-sit")


def test_flops_follow_the_network(empty: Workspace, tmp_path: Path) -> None:
    info = model(tmp_path)  # 12 blocks, width 96, 16 tokens: 12·D² multiply-adds a token, and 2·T²·D of attention
    assert arena_runs.flops_of_forward(info) == 2 * DEPTH * (16 * 12 * 96**2 + 2 * 16**2 * 96)


def test_the_estimate_rests_on_a_recovery_that_was_measured(empty: Workspace, tmp_path: Path) -> None:
    info = model(tmp_path)
    config = ArenaConfig(
        entrants=("bi", "loss"), num_random=0, num_seeds=1, num_dropped=6, finetune=FinetuneConfig(num_steps=300),
        protocol=Protocol(num_images=1, num_steps=1, cfg_scale=1.0),
        samples=8, timesteps=1,
    )  # fmt: skip
    assert not arena_runs.estimate_seconds(info, config)[1]
    add_prune(empty)  # 300 steps took 33 s at batch 128
    seconds, measured = arena_runs.estimate_seconds(info, config)
    assert measured and seconds == pytest.approx(33 * (1 + 2 * 0.5), rel=0.01)  # intact, and two of half the depth
    more = arena_runs.estimate_seconds(info, replace(config, num_seeds=3))[0]
    assert more == pytest.approx(3 * seconds, rel=0.01)
    with_sampling = replace(config, entrants=("bi", "loss", "ced-samples"), num_seeds=1, samples=10_000, timesteps=10)
    assert arena_runs.estimate_seconds(info, with_sampling)[0] > 5 * seconds


def test_the_table_to_download_has_every_entrant() -> None:
    content = arena_content()
    rows = arena_result.table(content)
    assert set(rows["entrant"]) == {"intact, same budget", *DEFAULT_ENTRANTS, *(f"random {i}" for i in range(1, 5))}
    assert (rows["fid_low"] < rows["fid_mean"]).all() and rows["fid_mean"].is_monotonic_increasing


def test_the_fixture_is_what_the_engine_writes() -> None:
    content, config = arena_content(), ArenaConfig(num_random=4)
    assert content["result"] == json.loads(json.dumps(result_of(config, content["scores"], content["bouts"])))
