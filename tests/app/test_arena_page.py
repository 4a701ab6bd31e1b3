"""The arena page: recorded and own arenas, what their numbers allow to be said, and starting one."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from app.arena import (
    arena_charts,
    arena_entries,
    arena_foresight,
    arena_form,
    arena_reading,
    arena_runs,
    arena_table,
)
from app.arena.arena_entries import Entry
from app.arena.arena_reading import apart
from app.importance.criteria import short
from app.style import DARK, LIGHT
from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.arena.result import arena_result as result_of
from engine.evaluation.protocol import Protocol
from engine.models.bundled import ModelInfo, read_model_info
from engine.runs.listing import list_runs
from engine.runs.store import open_run
from engine.runs.workspace import Workspace
from engine.training.config import FinetuneConfig
from tests.app.conftest import Open, words
from tests.app.fixtures import DEPTH, GOOD, add_arena, add_opened, add_prune, arena_config, arena_content, arena_round

METRIC = "FID (demo-cnn)"
STAGED = [name for name in ENTRANTS if ENTRANTS[name].progressive]
PLANNED = 3 * arena_round()


def button(at, label: str):
    return next(button for button in at.button if button.label == label)


def record(folder: Path, *, old: bool = False, num_bouts: int | None = None, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    content = arena_content(old=old, num_bouts=num_bouts) | {
        "model": "demo-sit", "data": "shapes", "command": "python -m engine arena demo-sit shapes",
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
    bouts = tuple({"seed": seed, "fid": fid} for seed, fid in enumerate(fids))
    usual = dict(names=("loss",), kind="criterion", dropped=(1,), row=row, bouts=bouts)
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
    found = arena_entries.entries(arena_content())
    shared = [entry for entry in found if entry.dropped == GOOD]
    assert len(shared) == 1 and shared[0].names == ("ced-target", "bi") and len(shared[0].fids) == 3
    assert shared[0].group == "ced" and shared[0].title == "CED target = Block influence"
    assert shared[0].label == "CED target (and 1 with the same blocks)"


def test_one_that_prunes_in_stages_is_an_entry_of_its_own_though_a_criterion_chose_the_same_blocks() -> None:
    content = arena_content()
    for bout in content["bouts"]:
        if bout["strategy"] == "progressive":
            bout["dropped"] = list(GOOD)
    content["result"] = result_of(ArenaConfig(num_random=4), content["scores"], content["bouts"])
    found = arena_entries.entries(content)
    same = {entry.names: entry for entry in found if entry.dropped == GOOD}
    assert set(same) == {("ced-target", "bi"), ("progressive",)}
    strategy = same["progressive",]
    assert strategy.group == strategy.kind == "progressive" and len(strategy.bouts) == 3
    assert strategy.fids != same["ced-target", "bi"].fids


def test_every_group_has_members_that_can_be_told_apart() -> None:
    groups = [entry.group for entry in arena_entries.entries(arena_content())]
    assert set(groups) == set(arena_entries.GROUPS) and groups.count("progressive") == len(STAGED)
    assert len({group.mark for group in arena_entries.GROUPS.values()}) == len(arena_entries.GROUPS)
    for palette in (LIGHT, DARK):
        colours = {getattr(palette, group.colour) for group in arena_entries.GROUPS.values()}
        assert len(colours) == len(arena_entries.GROUPS)


def test_everyone_in_an_arena_has_a_readable_short_name() -> None:
    names = [*ENTRANTS, "random 1", "intact, same budget"]
    titles = [short(name) for name in names]
    assert len(set(titles)) == len(titles)
    assert all(title[0].isupper() and not title.startswith("Ced") and len(title) <= 32 for title in titles), titles
    assert short("progressive-greedy") == "Progressive · greedy" and short("ced-x") == "CED · x"  # of an older arena


def test_without_a_true_difference_no_winner_is_named() -> None:
    content = arena_content(gap=0.0)
    found = arena_reading.read(content)
    assert not found.wins and not found.beats_chance
    said = arena_reading.sentences(content, metric=METRIC)
    assert "can't be told from" in said[0] and "Beyond noise it beats neither sets drawn by lot nor" in said[0]
    assert "nothing beats them beyond noise" in said[1]


def test_with_a_large_difference_the_winner_is_named_and_beats_chance() -> None:
    content = arena_content(gap=1.2)
    found = arena_reading.read(content)
    assert found.wins and found.best.dropped == GOOD
    assert [entry.dropped for entry in found.beats_chance] == [found.best.dropped]
    said = arena_reading.sentences(content, metric=METRIC)
    assert said[0].startswith(
        "<b>CED target (and 1 with the same blocks)</b> came out best, with a mean FID (demo-cnn)"
    )
    assert "every other way of pruning is worse beyond noise (3 seeds)" in said[0]
    assert "It beats sets drawn by lot and dropping the last blocks beyond noise; its FID is" in said[0]
    assert "beaten beyond noise by CED target (and 1 with the same blocks), whose own interval lies wholly" in said[1]


def test_sets_drawn_by_lot_are_beaten_only_where_the_intervals_lie_apart() -> None:
    content = arena_content(gap=1.2)
    best = arena_reading.read(content).best
    low = arena_reading.chance(content).low
    assert best.row["fid"]["mean"] < low
    for row in content["result"]["table"]:
        if row["dropped"] == list(best.dropped) and row["kind"] == "criterion":
            row["fid"]["high"] = low * 1.01  # the mean stays where it is
    assert not arena_reading.read(content).beats_chance
    said = arena_reading.sentences(content, metric=METRIC)
    assert "Beyond noise it beats dropping the last blocks, but not sets drawn by lot" in said[0]
    assert "nothing beats them beyond noise, as no way's own interval lies wholly below theirs" in said[1]


def test_pruning_in_stages_can_come_out_best_beside_others_that_cannot_be_told_from_it() -> None:
    content = arena_content(staged_gap=1.0)
    found = arena_reading.read(content)
    assert sorted(name for entry in (found.best, *found.level) for name in entry.names) == sorted(STAGED)
    said = arena_reading.sentences(content, metric=METRIC)[0]
    num_worse = len(found.worse)
    assert f"{num_worse} of the {num_worse + len(STAGED) - 1} others are worse beyond noise" in said
    assert said.count("Progressive") == len(STAGED) and said.count(". ") == 1  # two sentences


def ratio(mean: float, low: float | None, high: float | None) -> str:
    content = arena_content(gap=1.2)
    best = next(row for row in content["result"]["table"] if row["entrant"] == "ced-target")
    for row in content["result"]["table"]:
        if row["dropped"] == best["dropped"]:
            row["against_intact"] = {"mean": mean, "low": low, "high": high}
    return arena_reading.sentences(content, metric=METRIC)[0]


def test_how_far_it_is_from_the_intact_model_is_said_by_the_interval() -> None:
    assert "its FID is 1.20× (1.10 … 1.29) that of the equally trained intact model: within 1.3×." in ratio(
        1.2, 1.1, 1.29
    )
    assert "whether that is within 1.3× can't be told" in ratio(1.2, 1.1, 1.4)
    assert ": not within 1.3×" in ratio(1.6, 1.4, 1.8)
    assert "1.20× that of the equally trained intact model, from one seed" in ratio(1.2, None, None)


def test_one_seed_is_never_enough() -> None:
    content = arena_content(ArenaConfig(num_random=4, num_seeds=1), gap=2.0)
    assert not arena_reading.read(content).wins
    said = arena_reading.sentences(content, metric=METRIC)[0]
    assert "from one seed nobody can tell" in said and "beyond noise" not in said


def test_foresight_is_claimed_only_where_its_interval_is_above_zero() -> None:
    content = arena_content()
    content["result"]["foresight"] = {"bi": {"fid": {"value": 0.5, "low": -0.1, "high": 0.8}, "loss": None}}
    assert "every interval reaches 0" in arena_reading.sentences(content, metric=METRIC)[-1]
    content["result"]["foresight"]["loss"] = {"fid": {"value": 0.7, "low": 0.2, "high": 0.9}, "loss": None}
    said = arena_reading.sentences(content, metric=METRIC)[-1]
    assert "1 of 2 criteria" in said and "that of Loss rise, +0.70 (+0.20 … +0.90)" in said


def test_a_half_finished_arena_can_be_read_at_any_moment() -> None:
    for num_bouts in (1, 2, 5, 13, *range(PLANNED // 3 - 3, PLANNED // 3 + 2), 45, PLANNED):
        content = arena_content(num_bouts=num_bouts)
        assert arena_reading.sentences(content, metric=METRIC)
        assert arena_entries.num_planned(content) == PLANNED
        assert bool(arena_entries.unmeasured(content)) == (num_bouts < PLANNED // 3)


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
    assert "python -m engine arena demo-sit shapes" in said and "600 steps of 64 images" in said and "3 seeds" in said
    assert "4.0e-03, cosine" in said and "measured so far" not in said
    assert "judged from 4" in said and "nothing dropped, the same extra training" in said
    assert said.count('<div class="ep-row-strip"') == len(arena_entries.entries(arena_content()))
    assert 'class="best"' not in said  # no winner beyond noise in this one
    without = ("FID (demo-cnn)", "check of the FID", "the FID over", "its FID is")
    assert said.count("FID") == sum(said.count(phrase) for phrase in without)
    assert len(at.get("plotly_chart")) == 3


def test_stages_unfold_under_those_that_prune_in_stages(empty: Workspace, open_page: Open, assets: Path) -> None:
    record(assets)
    said = words(open_page("arena", arena="sit-shapes"))
    assert said.count("<summary>3 stages</summary>") == len(STAGED)
    bout = next(bout for bout in arena_content()["bouts"] if bout["strategy"] == "progressive")
    first = ", ".join(map(str, bout["dropped"][:2]))
    assert f'title="2 blocks go: cost wanted that.">2 blocks ({first}), 100 steps</span> → ' in said
    assert "one of 3 sets that it came to, by seed" in said


def test_what_training_cost_is_relative_to_a_set_that_went_at_once(
    empty: Workspace, open_page: Open, assets: Path
) -> None:
    record(assets)
    said = words(open_page("arena", arena="sit-shapes"))
    assert (
        said.count("<td>1.20×</td>") == len(STAGED) and said.count("<td>2.00×</td>") == 1 and "<td>1.00×</td>" in said
    )
    assert "over those of a set that went at once" in said


def test_an_arena_recorded_before_any_pruned_in_stages_is_still_shown(
    empty: Workspace, open_page: Open, assets: Path
) -> None:
    record(assets, old=True)
    old = json.loads((assets / "sit-shapes.json").read_text())
    assert "chance" not in old["result"] and "strategy" not in old["bouts"][0]
    at = open_page("arena", arena="sit-shapes")
    said = words(at)
    assert not at.error and len(at.get("plotly_chart")) == 3 and "measured so far" not in said
    assert "that of the equally trained intact model" in said and "<th>× intact</th>" in said
    assert "training cost" not in said and "<details>" not in said  # nobody counted, nobody had stages
    for label in ("CSV of entrants", "CSV of bouts", "JSON"):
        assert any(found.proto.label == label for found in at.get("download_button"))


def test_the_recorded_arenas_that_ship_are_shown(empty: Workspace, open_page: Open, monkeypatch) -> None:
    folder = Path(arena_runs.__file__).parents[2] / "assets" / "arena"
    monkeypatch.setattr(arena_runs, "_FOLDER", folder)
    assert list(folder.glob("*.json"))
    for file in folder.glob("*.json"):
        at = open_page("arena", arena=file.stem)
        assert not at.error and len(at.get("plotly_chart")) >= 2, file
        assert "came out best" in words(at)


def test_recorded_arenas_are_told_apart_and_the_most_complete_comes_first(
    empty: Workspace, open_page: Open, assets: Path
) -> None:
    record(assets, num_bouts=12, planned=66)
    (assets / "sit-shapes.json").rename(assets / "a-part.json")
    record(assets)
    choice = open_page("arena").selectbox[0]
    whole = "Recorded: demo-sit on shapes · 600 steps · distillation 4"
    assert choice.options == [whole, f"{whole} · 12 of 66 trainings"]


def test_a_recording_that_is_not_whole_says_what_is_missing(empty: Workspace, open_page: Open, assets: Path) -> None:
    record(assets, num_bouts=12, planned=66)
    said = words(open_page("arena", arena="sit-shapes"))
    assert "12 of 66 trainings measured so far" in said
    assert f"Nothing yet of: {short(STAGED[0])}, {short(STAGED[1])}" in said
    assert "from one seed nobody can tell" in said


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
    assert f"20 of {PLANNED}" in at.get("progress")[0].proto.text and "About 10 min to go" in words(at)
    assert f"20 of {PLANNED} trainings measured so far" in words(at) and len(at.get("plotly_chart")) == 3
    button(at, "Cancel").click().run()
    assert run.cancel_requested


def test_a_stopped_arena_says_why_and_can_be_resumed(empty: Workspace, open_page: Open) -> None:
    run = add_arena(empty, state="failed")
    at = open_page("arena", arena=run.id)
    assert "the fixture failed" in at.error[0].value
    button(at, "Resume").click().run()
    assert open_run(empty, run.id).status().state == "queued"


def choose_entrants(at, *names: str) -> None:
    for group in ("progressive", "ced", "criterion"):
        at.button_group(key=f"arena_{group}").set_value([name for name in names if arena_form._group(name) == group])


def test_an_own_arena_is_started_with_what_the_form_says(full: Workspace, open_page: Open) -> None:
    at = open_page("arena", model="demo-sit", data="shapes")
    choose_entrants(at, "loss", "bi", "ced-target-greedy", "progressive")
    at.slider(key="arena_dropped").set_value(4)
    for name, value in (("seeds", 5), ("random", 3), ("steps", 50), ("images", 200), ("batch", 32)):
        at.number_input(key=f"arena_{name}").set_value(value)
    at.number_input(key="arena_adapt_demo-sit_shapes").set_value(40)
    at.number_input(key="arena_rate_0.004").set_value(1e-3)
    at.number_input(key="arena_distill").set_value(0.5)
    at.run()
    said = words(at)
    assert "40 steps of adaptation, then at most 7 sets and 1 in stages × 5 seeds = <b>40 trainings</b>" in said
    button(at, "Start the arena").click().run()
    run = open_run(full, list_runs(full)[0].id)
    usual = ArenaConfig()
    expected = ArenaConfig(
        entrants=("progressive", "ced-target-greedy", "bi", "loss"), num_dropped=4, num_seeds=5, num_random=3,
        adapt_steps=40, protocol=replace(usual.protocol, num_images=200),
        finetune=replace(usual.finetune, num_steps=50, learning_rate=1e-3, batch_size=32, distill_weight=0.5),
    )  # fmt: skip
    assert run.kind == "arena" and run.params["config"] == json.loads(json.dumps(asdict(expected)))
    assert at.selectbox(key="arena_arena").value == run.id


@pytest.mark.parametrize(
    ("box", "number", "said"), [
        ("seeds", 0, "Seeds: 0 is out of range. Choose 1 … 50."),
        ("images", 100_000, "Images to score: 100,000 is out of range. Choose 16 … 50,000."),
        ("rate_0.004", 2.0, "Learning rate: 2.0 is out of range. Choose 1e-08 … 0.5."),
        ("distill", -1.0, "Distillation: -1.0 is out of range. Choose 0.0 … 100.0."),
    ],
)  # fmt: skip
def test_no_arena_starts_while_a_number_is_out_of_range(
    full: Workspace, open_page: Open, box: str, number: float, said: str
) -> None:
    at = open_page("arena", model="demo-sit", data="shapes")
    before = at.number_input(key=f"arena_{box}").value
    at.number_input(key=f"arena_{box}").set_value(number).run()
    assert [error.value for error in at.error] == [said] and "trainings</b>" not in words(at)
    assert f"Out of range: {said.partition(':')[0]}. " in words(at) and button(at, "Start the arena").disabled
    at.number_input(key=f"arena_{box}").set_value(before).run()
    assert not at.error and not button(at, "Start the arena").disabled


def test_an_arena_left_as_it_stands_is_the_usual_one(full: Workspace, open_page: Open) -> None:
    at = open_page("arena", model="demo-sit", data="shapes")
    button(at, "Start the arena").click().run()
    run = open_run(full, list_runs(full)[0].id)
    assert run.params["config"] == json.loads(json.dumps(asdict(ArenaConfig())))


def test_data_with_other_classes_are_learned_first(full: Workspace, open_page: Open) -> None:
    at = open_page("arena", model="demo-sit", data="glyphs")
    assert at.number_input(key="arena_adapt_demo-sit_glyphs").value == 300
    assert "300 steps of adaptation" in words(at)


def test_a_large_model_learns_at_its_own_rate(empty: Workspace, open_page: Open) -> None:
    add_opened(empty)
    at = open_page("arena", model="dit-xl", data="shapes")
    assert at.number_input(key="arena_rate_0.0001").value == 1e-4
    button(at, "Start the arena").click().run()
    finetune = open_run(empty, list_runs(empty)[0].id).params["config"]["finetune"]
    assert (finetune["learning_rate"], finetune["schedule"], finetune["num_steps"]) == (1e-4, "constant", 600)


def test_an_interval_ends_where_the_measure_does() -> None:
    accuracy, fid = arena_table._Number(decimals=1, most=1.0), arena_table._Number(decimals=0)
    assert accuracy.ends({"mean": 0.9, "low": 0.5, "high": 1.3}) == '<small class="ends">0.5 … 1.0</small>'
    assert fid.ends({"mean": 3, "low": -1, "high": 7}) == '<small class="ends">0 … 7</small>'


def test_a_column_has_the_same_number_of_decimals_throughout() -> None:
    content = arena_content()
    for place, row in enumerate(content["result"]["table"]):
        row["fid"] = {"mean": 1 + 0.1 * place, "low": 0.9 + 0.1 * place, "high": 1.1 + 0.1 * place}
        row["kid"] = {"mean": -9.04e-05 + 1e-3 * place, "low": -0.002, "high": 0.002}
    found = arena_entries.entries(content)
    drawn = arena_table.table(found, None, metric=METRIC, depth=DEPTH, num_seeds=3, palette=LIGHT)
    assert "<th>KID (demo-cnn), × 10⁻³</th>" in drawn and "e-05" not in drawn
    first = drawn.split("<tr")[2]
    assert '<span class="">1.00</span><small class="ends">0.90 … 1.10</small>' in first
    assert '<td>−0.1<small class="ends">−2.0 … 2.0</small></td>' in first
    assert arena_reading.decimals([{"mean": 0.36, "low": None, "high": None}]) == 3


def test_one_far_off_with_a_huge_interval_is_not_called_within_noise_of_the_best() -> None:
    content = arena_content(gap=1.2)
    best = arena_reading.read(content).best
    fids = [bout["fid"] for bout in best.bouts]
    for row in content["result"]["table"]:
        if row["kind"] == "criterion" and row["entrant"] == "last":
            far = row
            row["fid"] = {"mean": 2.2 * sum(fids) / 3, "low": 0.1, "high": 4 * max(fids)}
    for bout in content["bouts"]:
        if bout["dropped"] == far["dropped"] and not bout["strategy"]:
            bout["fid"] = (1.05, 1.05, 4.5)[bout["seed"]] * fids[bout["seed"]]
    reading = arena_reading.read(content)
    assert [entry.names for entry in reading.unsettled] == [("last",)] and not reading.level and not reading.wins
    said = arena_reading.sentences(content, metric=METRIC)[0]
    assert "Last blocks lies far off, which 3 seeds can't settle" in said and "can't be told from" not in said
    drawn = arena_table.table(
        arena_entries.entries(content), reading, metric=METRIC, depth=DEPTH, num_seeds=3, palette=LIGHT
    )
    assert drawn.count("3 seeds can't settle it") == 1 and "within noise of the best" not in drawn


def test_a_random_set_below_the_best_way_is_mentioned_with_it() -> None:
    content = arena_content(gap=1.2)
    low = arena_reading.read(content).best.row["fid"]["mean"] / 2
    next(row for row in content["result"]["table"] if row["entrant"] == "random 2")["fid"]["mean"] = low
    said = arena_reading.sentences(content, metric=METRIC)[0]
    assert "came out best of the ways tried (one random set was lower: " in said


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
    choose_entrants(at, "loss")
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


def test_the_estimate_rests_on_a_training_that_was_measured(empty: Workspace, tmp_path: Path) -> None:
    info = model(tmp_path)
    config = ArenaConfig(
        entrants=("bi", "loss"), num_random=0, num_seeds=1, num_dropped=6, finetune=FinetuneConfig(num_steps=300),
        protocol=Protocol(num_images=1, num_steps=1, cfg_scale=1.0), samples=8, timesteps=1,
    )  # fmt: skip
    assert not arena_runs.estimate_seconds(info, config)[1]
    add_prune(empty)  # 300 steps of the 6 blocks that are left took 33 s at batch 128
    seconds, measured = arena_runs.estimate_seconds(info, config)
    assert measured and seconds == pytest.approx(66 * (1 + 2 * 0.5), rel=0.01)  # intact, and two of half the depth
    half_batch = replace(config, finetune=FinetuneConfig(num_steps=300, batch_size=64))
    assert arena_runs.estimate_seconds(info, half_batch)[0] == pytest.approx(seconds / 2, rel=0.01)
    more = arena_runs.estimate_seconds(info, replace(config, num_seeds=3))[0]
    assert more == pytest.approx(3 * seconds, rel=0.01)
    with_sampling = replace(config, entrants=("bi", "loss", "ced-samples"), num_seeds=1, samples=10_000, timesteps=10)
    assert arena_runs.estimate_seconds(info, with_sampling)[0] > 5 * seconds


def test_the_estimate_counts_stages_and_adaptation(empty: Workspace, tmp_path: Path) -> None:
    info = model(tmp_path)
    add_prune(empty)
    config = ArenaConfig(
        entrants=("bi", "loss"), num_random=0, num_seeds=2, num_dropped=6, finetune=FinetuneConfig(num_steps=300),
        protocol=Protocol(num_images=1, num_steps=1, cfg_scale=1.0), samples=8, timesteps=1,
    )  # fmt: skip

    def seconds(**changes: object) -> float:
        return arena_runs.estimate_seconds(info, replace(config, **changes))[0]

    usual = seconds()
    assert seconds(adapt_steps=300) == pytest.approx(usual + 66, rel=0.01)  # once, of all blocks
    staged = seconds(entrants=("bi", "loss", "progressive"))
    assert staged == pytest.approx(usual + 2 * 1.2 * 33, rel=0.01)
    scored = dict(samples=2000, timesteps=10)  # three times for each seed, 0.5 forwards for each block left out
    extra = seconds(entrants=("bi", "loss", "progressive"), **scored) - seconds(**scored) - 2 * 1.2 * 33
    forward = 66 / (300 * 128 * 3)
    assert extra == pytest.approx(2 * 3 * 0.5 * 2000 * 10 * DEPTH * forward, rel=0.01)
    assert seconds(entrants=("bi", "ced-target-greedy"), **scored) > seconds(entrants=("bi", "ced-target"), **scored)


# --- importance against what came out ---


def dots_of(content: dict, name: str, measure: str = "fid") -> list[arena_charts.Dot]:
    sets = [entry for entry in arena_entries.entries(content) if entry.kind in ("criterion", "chance")]
    return [arena_foresight._dot(entry, name, content["scores"]["of"][name], measure) for entry in sets]


def test_the_scatter_has_a_point_for_each_set_that_went_at_once() -> None:
    content = arena_content(gap=1.0)
    dots = dots_of(content, "loss")
    sets = {tuple(bout["dropped"]) for bout in content["bouts"] if not bout["strategy"] and bout["dropped"]}
    assert len(dots) == len(sets) == content["result"]["num_sets"]
    scores = content["scores"]["of"]["loss"]
    good = next(dot for dot in dots if dot.names == ("CED target", "Block influence"))
    assert good.x == pytest.approx(sum(scores[block] for block in GOOD)) and good.about == "without 0, 2, 4, 6, 8, 10"
    assert good.low < good.value < good.high
    assert [dot.names[0] for dot in dots if dot.strong] == ["Loss rise"]  # ringed: what it would drop itself


def test_labels_of_the_scatter_never_lie_on_each_other() -> None:
    dots = dots_of(arena_content(gap=1.0), "loss")
    placed = arena_charts._labels(dots, size=(760, 380), log=False)
    assert 5 < len(placed) <= len(dots)
    assert not [dot for dot, _ in placed if dot.group == "chance"]
    crowd = [replace(dots[0], x=0.0, value=1.0)] * 30
    assert len(arena_charts._labels(crowd, size=(760, 380), log=False)) <= 6


def test_the_caption_says_what_the_correlation_allows() -> None:
    found = {"value": 0.61, "low": 0.2, "high": 0.8}
    said = arena_foresight._caption(found, "loss", 14)
    assert "Spearman's rank correlation +0.61 (+0.20 … +0.80)</b> over 14 sets: more than noise would give" in said
    assert "no more than noise may give" in arena_foresight._caption({**found, "low": -0.1}, "loss", 14)
    assert "wrong way round" in arena_foresight._caption({"value": -0.6, "low": -0.8, "high": -0.2}, "loss", 14)
    assert "at least four sets" in arena_foresight._caption(None, "loss", 2)


def test_a_criterion_and_an_outcome_are_chosen_for_the_scatter(full: Workspace, open_page: Open) -> None:
    add_arena(full)
    at = open_page("arena")
    chosen = at.selectbox(key="arena_scores_of")
    assert "CED target · noisy" in chosen.options and not [name for name in chosen.options if "greedy" in name]
    chosen.set_value("taylor").run()
    at.button_group(key="foresight").set_value("loss").run()
    chart = next(c for c in at.get("plotly_chart") if "summed importance" in c.proto.spec)
    assert "summed importance by Taylor" in chart.proto.spec
    assert "training loss" in chart.proto.spec and "ringed what Taylor would drop itself" in words(at)


def test_wide_outcomes_are_drawn_on_a_log_scale_with_intervals_that_it_can_show() -> None:
    dots = [
        arena_charts.Dot(names=("a",), group="ced", value=1.0, low=-2.0, high=4.0, about=""),
        arena_charts.Dot(names=("b",), group="criterion", value=50.0, low=40.0, high=60.0, about=""),
    ]
    fig = arena_charts.outcomes(dots, lot=None, title="FID", palette=LIGHT, band=(0.0, 1000.0))
    assert fig.layout.xaxis.type == "log" and "log scale" in fig.layout.xaxis.title.text
    assert all(x > 0 for trace in fig.data for x in trace.x)
    (dots_drawn,) = [trace for trace in fig.data if trace.error_x.arrayminus is not None]
    ends = [x - below for x, below in zip(dots_drawn.x, dots_drawn.error_x.arrayminus, strict=True)]
    assert len(ends) == 2 and min(ends) > 0


# --- what can be taken away ---


def test_the_table_to_download_has_every_entrant() -> None:
    content = arena_content()
    rows = arena_table.frame_of_entrants(content)
    assert set(rows["entrant"]) == {"intact, same budget", *ENTRANTS, *(f"random {i}" for i in range(1, 5))}
    assert (rows["fid_low"] < rows["fid_mean"]).all() and rows["fid_mean"].is_monotonic_increasing
    assert rows.set_index("entrant").loc["progressive", ["num_sets", "train_macs"]].tolist() == [3, 1.2e12]
    assert rows.set_index("entrant")["against_intact_mean"].notna().sum() == len(rows) - 1


def test_the_table_of_bouts_has_every_training() -> None:
    content = arena_content()
    rows = arena_table.frame_of_bouts(content)
    assert len(rows) == len(content["bouts"]) == PLANNED
    strategies = rows[rows["strategy"] != ""]
    assert len(strategies) == 3 * len(STAGED) and json.loads(strategies["stages"].iloc[0])[0]["num_steps"] == 100


def test_the_fixture_is_what_the_engine_writes() -> None:
    content, config = arena_content(), arena_config()
    assert content["result"] == json.loads(json.dumps(result_of(config, content["scores"], content["bouts"])))
