"""The numbers of the compare page: what stands in one table, what is called better, files, speed, classes, ways."""

import csv
import html
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import numbers
from app.comparing import class_drop, efficiency_table, metrics_files, metrics_table, pareto_line, ways
from app.comparing.compare_charts import Trade
from app.comparing.headline import headline
from app.comparing.measured import Measured, apart_in_words, groups_alike, measured
from app.comparing.picked import Picked
from engine.runs.queue import claim_next_preview, finish_preview
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace
from tests.app import conftest
from tests.app.fixtures import SHAPES, add_prune, metrics, sample_images


def around(value: float, half: float) -> dict:
    return {"value": value, "low": value - half, "high": value + half}


def timed(median: float, spread: float = 0.0) -> dict:
    latency = {"median": median, "low": median * (1 - spread), "high": median * (1 + spread)}
    return {"parameters": 170_000, "macs": 2_600_000, "latency_ms": latency, "images_per_second": 9.0,
            "batch_size": 8, "device": "cpu", "precision": "fp32", "peak_memory_bytes": None}  # fmt: skip


def picked_of(run: Run, *numbers: int) -> list[Picked]:
    return [Picked(run=run, stage=run.stage(number), label=f"stage {number}", intact=number == 0) for number in numbers]


def write_metrics(run: Run, number: int, content: dict) -> None:
    (run.path / "stages" / str(number) / "metrics.json").write_text(json.dumps(content))


@pytest.fixture
def run(empty: Workspace) -> Run:
    """12 → 10 → 8 → 6 blocks, every stage timed with the intact model."""
    made = add_prune(empty)
    for number, depth in enumerate((12, 10, 8, 6)):
        content = metrics(number, depth)
        if number:
            content["efficiency_of_intact"] = {**content["efficiency"], **timed(9.6, 0.1)}
        write_metrics(made, number, content)
    return made


def shown(draw: str, picked: list[Picked]) -> AppTest:
    """One part of the page by itself."""

    def page(draw: str) -> None:
        import importlib

        from app.errors import shown_as_one_line
        from tests.app import test_compare_numbers

        with shown_as_one_line():
            importlib.import_module(f"app.comparing.{draw}").draw(test_compare_numbers.ON_SCREEN)

    ON_SCREEN[:] = picked
    at = AppTest.from_function(page, kwargs={"draw": draw}, default_timeout=120).run()
    assert not at.exception, at.exception[0].value
    return at


ON_SCREEN: list[Picked] = []


def words(at: AppTest) -> str:
    return html.unescape(conftest.words(at))


# --- one table ---


def test_up_to_four_stages_stand_side_by_side_with_intervals(run: Run) -> None:
    said = words(shown("metrics_table", picked_of(run, 0, 1, 2, 3)))
    for value, low, high in ((18.4, 17.4, 19.4), (22.4, 21.4, 23.4), (26.4, 25.4, 27.4), (30.4, 29.4, 31.4)):
        assert f"{value:.3g}</span><small>{low:.3g} … {high:.3g}" in said
    assert "+12.0, worse" in said and "noise floor 2.10 (1.90 … 2.30)" in said
    assert "500 images · euler 20 steps" in said


@pytest.mark.parametrize(
    ("values", "floor", "marked"),
    [
        ([(20, 1), (10, 1), (15, 1)], None, "10.0"),
        ([(20, 1), (10, 1), (11.5, 1)], None, None),  # overlaps one of the others
        ([(20, 1), (10, 1), (15, 1)], around(2, 3), None),  # the floor alone moves by 6
    ],
)
def test_the_best_is_marked_only_beyond_noise_of_all_others(run: Run, values, floor, marked) -> None:
    group = []
    for number, (value, half) in enumerate(values):
        content = {**metrics(number, 12), "fidelity": {"FID (demo-cnn)": around(value, half)}, "noise_floor": {}}
        content["noise_floor"] = {"FID (demo-cnn)": floor} if floor else {}
        group.append(Measured(picked=picked_of(run, number)[0], metrics=content))
    said = metrics_table.fidelity_table(group)
    assert said.count('class="best') == (marked is not None)
    assert marked is None or f'class="best of-all">{marked}</span>' in said


def test_what_was_measured_otherwise_stands_in_a_table_of_its_own(run: Run) -> None:
    write_metrics(run, 2, metrics(2, 8, cfg_scale=4.0))
    picked = picked_of(run, 0, 2, 3)
    groups = groups_alike(measured(picked))
    assert [[one.label for one in group] for group in groups] == [["stage 0", "stage 3"], ["stage 2"]]
    said = words(shown("metrics_table", picked))
    assert "cfg_scale (2.0 against 4.0)" in said and "scores not comparable" in said
    first, second = said.split("Measured under different conditions")[0], said.split("compared with nothing above")[1]
    assert "18.4</span>" in first and "30.4</span>" in first and "26.4</span>" not in first
    assert "26.4</span>" in second.split("Time of one forward")[0]


def test_other_data_or_weights_are_named_with_their_hashes(run: Run) -> None:
    first, second = measured(picked_of(run, 0, 1))
    stamped = {"features": {"name": "demo-cnn", "weights": "w", "sha256": "a" * 64},
               "reference": {"name": "digits", "hash": "b" * 64, "num_images": 10}}  # fmt: skip
    other = {**stamped, "features": {**stamped["features"], "sha256": "c" * 64},
             "reference": {**stamped["reference"], "name": "shapes", "hash": "d" * 64}}  # fmt: skip
    first, second = (replace(one, metrics={**one.metrics, **extra})
                     for one, extra in ((first, stamped), (second, other)))  # fmt: skip
    assert apart_in_words(first, second) == (
        "weights of the features (w, aaaaaaaa… against w, cccccccc…), "
        "data (digits, bbbbbbbb… against shapes, dddddddd…)"
    )


def test_how_many_real_pictures_were_compared_is_said(run: Run) -> None:
    first, second = measured(picked_of(run, 0, 1))
    every = {"name": "mine", "hash": "b" * 64, "num_images": 30_000}
    first, second = (replace(one, metrics={**one.metrics, "reference": reference})
                     for one, reference in ((first, every), (second, {**every, "num_compared": 20_000})))  # fmt: skip
    assert apart_in_words(first, second) == "real pictures compared (30,000 against 20,000)"
    assert "against 30,000 real pictures of mine. Ranges" in metrics_table._protocol([first])
    said = "against 30,000 real pictures of mine (KID, precision, recall and the noise floor by 20,000 of them). Ranges"
    assert said in metrics_table._protocol([second])


def test_a_stage_that_was_not_evaluated_is_named_and_the_others_stay(run: Run) -> None:
    (run.path / "stages" / "1" / "metrics.json").unlink()
    at = shown("metrics_table", picked_of(run, 0, 1, 2))
    assert "Not evaluated, so without numbers: stage 1" in at.info[0].value
    assert "26.4</span>" in words(at)


def test_damaged_metrics_are_one_line(run: Run) -> None:
    (run.path / "stages" / "1" / "metrics.json").write_text("{")
    for part in ("metrics_table", "pareto", "class_drop"):
        at = shown(part, picked_of(run, 0, 1))
        assert len(at.error) == 1 and "is damaged" in at.error[0].value


def test_the_headline_is_one_sentence(run: Run) -> None:
    two = headline(groups_alike(measured(picked_of(run, 0, 3))))
    assert "12 → 6 blocks" in two and "2.00× as fast</b> (1.44 … 2.51)" in two and "18.4 → 30.4 (worse)" in two
    three = headline(groups_alike(measured(picked_of(run, 0, 1, 3))))
    assert "best FID (demo-cnn): <b>stage 0</b>" in three and "stage 3 is <b>2.00× as fast" in three


def untrained(run: Run, number: int) -> None:
    """As in a run of before metrics.json said it: the model alone does."""
    file = run.path / "stages" / str(number) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels_trained": False}))


def test_a_stage_with_an_untrained_label_table_is_compared_with_nothing(run: Run) -> None:
    for number in (0, 1, 3):
        write_metrics(run, number, {**run.stage(number).metrics(), **with_classes(number, {"star": 9.0})})
    untrained(run, 0)
    picked = picked_of(run, 0, 1, 3)
    said = headline(groups_alike(measured(picked[:2])))
    assert "no word about quality: the pictures of stage 0 are of no class" in said
    assert not any(word in said for word in ("better", "worse", "best", "measured under different conditions"))
    assert "as fast" in said
    numbers_shown = words(shown("metrics_table", picked))
    assert "<b>stage 0</b> is compared with nothing." in numbers_shown and "Adapt first" in numbers_shown
    assert "Evaluate with the same settings" not in numbers_shown
    assert "Left out, compared with nothing: stage 0" in words(shown("pareto", picked))
    classes = shown("class_drop", picked)
    assert "Left out here, compared with nothing: stage 0." in words(classes)
    assert "stage 3 against stage 1" in words(classes)
    first = metrics_files.as_data(groups_alike(measured(picked)))["tables"][0]["stages"][0]
    assert first["labels_trained"] is False and first["warnings"][0].startswith("The label table was made afresh")


def test_kid_says_that_it_reads_low_and_its_noise_floor_alike(run: Run) -> None:
    drawn = metrics_table.fidelity_table(measured(picked_of(run, 0, 3)))
    assert drawn.count("so it reads a little low at few pictures and can be negative") == 1  # FID says nothing of it
    assert "the noise floor reads low by about the same" not in drawn  # KID has none in these files
    for number in (0, 3):
        content = run.stage(number).metrics()
        content["noise_floor"]["KID (demo-cnn)"] = {"value": -0.003, "low": -0.004, "high": -0.002}
        write_metrics(run, number, content)
    assert "the noise floor reads low by about the same<br>noise floor −0.0030" in metrics_table.fidelity_table(
        measured(picked_of(run, 0, 3))
    )


# --- efficiency ---


def cells(rows: list, name: str) -> list[str]:
    return next((cells for title, _, cells in rows if title == name), [])


def test_only_what_was_timed_in_turns_is_divided(run: Run) -> None:
    rows = efficiency_table.rows(measured(picked_of(run, 0, 1, 3)))
    none, *others = cells(rows, "Speed-up of one forward")
    assert none == "–" and others[0].startswith("1.20×") and others[1].startswith("2.00×")
    times = cells(rows, "Time of one forward")
    assert "×" not in "".join(times) and "same turns" not in times[0]
    assert times[1].endswith("<small>its intact model in the same turns: <b>9.6 ms</b></small>")
    assert cells(rows, "MACs")[2].startswith("15.6 M<small>50% of stage 0")


def test_old_files_give_no_speedup(run: Run) -> None:
    write_metrics(run, 3, metrics(3, 6))
    rows = efficiency_table.rows(measured(picked_of(run, 0, 3)))
    assert not cells(rows, "Speed-up of one forward") and cells(rows, "Time of one forward")
    assert "as fast" not in headline(groups_alike(measured(picked_of(run, 0, 3))))


def test_what_newer_files_know_is_shown(run: Run) -> None:
    content = run.stage(3).metrics()
    sampling = {"images_per_second": 12.5, "seconds": 1.3, "speedup": 1.8, "speedup_low": 1.7, "speedup_high": 1.9,
                "batch_size": 16, "turns": 5}  # fmt: skip
    content["efficiency"]["notes"] = ["this processor has no bf16 of its own"]
    content["efficiency"] |= {"file_bytes": 4_200_000, "peak_memory_bytes": 1_500_000_000, "sampling": sampling}
    write_metrics(run, 3, content)
    rows = efficiency_table.rows(measured(picked_of(run, 0, 3)))
    assert cells(rows, "File size") == ["–", "4.2 MB"] and cells(rows, "Peak memory") == ["–", "1.5 GB"]
    assert cells(rows, "Pictures a second")[1].startswith("12.5<small>batch 16 · 5 turns")
    assert efficiency_table.notes(measured(picked_of(run, 0, 3))) == ["stage 3: this processor has no bf16 of its own."]
    assert cells(rows, "Speed-up of drawing")[1] == "1.80×<small>1.70 … 1.90 over the turns</small>"


def test_a_stage_without_pictures_a_second_names_the_next_step(run: Run) -> None:
    def row() -> list[str]:
        return cells(efficiency_table.rows(measured(picked_of(run, 0, 3))), "Pictures a second")

    assert row() == []  # nobody has any, and nothing was left out
    content = run.stage(3).metrics()
    content["efficiency"]["notes"] = ["sampling wasn't timed: drawing 16 images takes about 40 s here"]
    write_metrics(run, 3, content)
    assert "“Measure again” does" in row()[0] and "“Measure again” with a smaller batch" in row()[1]


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (-0.00000491, -0.00157, 0.0016, "0.0000 (−0.0016 … 0.0016)"),
        (0.708, 0.642, 0.793, "0.71 (0.64 … 0.79)"),
        (1234.5, 1200.0, 1300.0, "1,234 (1,200 … 1,300)"),
        (1.0, 1.0, 1.0, "1.000 (1.000 … 1.000)"),
    ],
)
def test_a_number_has_as_many_decimals_as_its_range_allows(value, low, high, shown) -> None:
    number = {"value": value, "low": low, "high": high}
    assert f"{numbers.ranged(number)} ({numbers.interval(number)})" == shown


@pytest.mark.parametrize(
    ("first", "value", "shown"),
    [
        ((0.9541, 0.06), (0.9553, 0.06), ("0.95", "0.96", "+0.01")),
        ((0.9549, 0.6), (0.9551, 0.06), ("1.0", "0.96", "−0.04")),
        ((18.4, 1.0), (26.4, 1.0), ("18.4", "26.4", "+8.0")),
        ((0.5, 0.06), (0.5, 0.06), ("0.50", "0.50", "0.00")),
    ],
)
def test_a_difference_agrees_with_the_numbers_beside_it(first, value, shown) -> None:
    before, after = ({"value": v, "low": v - half, "high": v + half} for v, half in (first, value))
    assert (numbers.ranged(before), numbers.ranged(after), numbers.change(after, before)) == shown


# --- files ---


def test_files_hold_what_is_shown_and_how_it_was_measured(run: Run) -> None:
    write_metrics(run, 2, metrics(2, 8, cfg_scale=4.0))
    groups = groups_alike(measured(picked_of(run, 0, 3, 2)))
    lines = list(csv.DictReader(io.StringIO(metrics_files.as_csv(groups))))
    fids = [line for line in lines if line["number"] == "FID (demo-cnn)"]
    assert [(line["stage"], line["table"], float(line["value"])) for line in fids] == [
        (f"{run.id}@0", "1", 18.4), (f"{run.id}@3", "1", 30.4), (f"{run.id}@2", "2", 26.4),
    ]  # fmt: skip
    assert [line["beyond_noise_best"] for line in fids] == ["yes", "no", "no"]
    assert "cfg 2 on" in fids[0]["protocol"] and "cfg 4 on" in fids[2]["protocol"]
    speed = next(line for line in lines if line["number"].startswith("speed-up"))
    assert speed["stage"] == f"{run.id}@3" and float(speed["value"]) == pytest.approx(2.0)
    data = json.loads(json.dumps(metrics_files.as_data(groups)))
    assert [len(table["stages"]) for table in data["tables"]] == [2, 1]
    assert data["tables"][1]["differs_from_first"] == "cfg_scale (2.0 against 4.0)"
    assert data["tables"][0]["stages"][0]["protocol"]["cfg_scale"] == 2.0


# --- quality against speed ---


def trade(speed: float, score: float, half: float = 0.5) -> Trade:
    return Trade(name=f"{speed}", short="", about="", speed=around(speed, 0.1), score=around(score, half), look=None)


def test_the_line_joins_those_that_no_other_beats_in_both() -> None:
    trades = [trade(1, 10), trade(2, 14), trade(1.5, 20), trade(3, 30), trade(2, 13), trade(3, 31)]
    line = pareto_line.pareto_line(trades)
    assert line == [0, 4, 3]
    for place, one in enumerate(trades):  # the definition, spelled out
        beaten = any(
            other.speed["value"] >= one.speed["value"] and other.score["value"] <= one.score["value"]
            and (other.speed["value"], other.score["value"]) != (one.speed["value"], one.score["value"])
            for other in trades
        )  # fmt: skip
        assert beaten is (place not in line)


def test_a_point_is_in_doubt_where_a_faster_one_can_not_be_told_from_it() -> None:
    trades = [trade(1, 10), trade(2, 10.5), trade(3, 30)]
    assert pareto_line.doubted(trades, pareto_line.pareto_line(trades), None) == {0: 1}
    assert pareto_line.doubted(trades, [0, 1, 2], around(2, 20)) == {0: 2, 1: 2}
    off = [trade(1, 10.6), trade(2, 10.5), trade(3, 30)]  # the first is beaten, though within noise
    assert pareto_line.pareto_line(off) == [1, 2] and pareto_line.doubted(off, [1, 2], None) == {0: 1}
    assert pareto_line.doubted([trade(1, 20), *off[1:]], [1, 2], None) == {}


def test_all_stages_of_the_run_are_there_and_the_picked_ones_stand_out(run: Run) -> None:
    at = shown("pareto", picked_of(run, 0, 3))
    chart = json.loads(at.get("plotly_chart")[0].proto.spec)
    points = [trace for trace in chart["data"] if trace["mode"] == "markers+text"]
    assert [trace["text"][0] for trace in points] == ["<b>stage 0</b>", "<b>stage 3</b>", "stage 1", "stage 2"]
    assert [round(trace["x"][0], 2) for trace in points] == [1.0, 2.0, 1.2, 1.5]
    assert points[1]["y"][0] == 30.4 and points[1]["error_y"]["array"] == pytest.approx([1.0])
    assert points[1]["error_x"]["array"][0] > 0
    assert "Each of them is better than every faster one beyond noise" in words(at)


def test_stages_that_do_not_belong_in_one_picture_are_named(run: Run) -> None:
    write_metrics(run, 1, metrics(1, 10, num_steps=50))
    write_metrics(run, 2, metrics(2, 8))
    said = words(shown("pareto", picked_of(run, 0, 3)))
    assert "measured otherwise: stage 1 (num_steps (20 against 50))" in said
    assert "no speed-up known: stage 2 (not timed together with an intact model)" in said


def test_speeds_that_were_timed_otherwise_are_on_no_common_axis(run: Run) -> None:
    content = run.stage(2).metrics()
    content["efficiency"]["precision"] = "bf16"
    write_metrics(run, 2, content)
    said = words(shown("pareto", picked_of(run, 0, 3)))
    assert "timed otherwise: stage 2 (batch 8, cpu, bf16 against batch 8, cpu, fp32)" in said


def test_one_stage_has_no_trade(run: Run) -> None:
    for number in (1, 2, 3):
        write_metrics(run, number, metrics(number, 6))
    assert "Two stages at least" in words(shown("pareto", picked_of(run, 0, 3)))


# --- classes ---


def with_classes(number: int, scores: dict[str, float], *, left_out: dict[str, str] = {}) -> dict:  # noqa: B006
    content = metrics(number, 12 - 2 * number)
    content["per_class"] = {
        name: {"FID (demo-cnn)": around(value, 1.0), "class accuracy (demo-cnn)": around(0.9 - value / 1000, 0.01),
               "num_images": 50, "num_reference": 100, "left_out": ""}
        for name, value in scores.items()
    }  # fmt: skip
    for name, reason in left_out.items():
        content["per_class"][name] = {"class accuracy (demo-cnn)": around(0.5, 0.1), "left_out": reason,
                                      "num_images": 12, "num_reference": 40}  # fmt: skip
    return content


def test_classes_are_sorted_by_what_they_lose(run: Run) -> None:
    write_metrics(run, 0, with_classes(0, {"star": 10, "ring": 20, "moon": 30}))
    write_metrics(run, 3, with_classes(3, {"star": 25, "ring": 21, "moon": 28}))
    at = shown("class_drop", picked_of(run, 0, 3))
    chart = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert chart["layout"]["yaxis"]["ticktext"] == ["star", "ring", "moon"]
    assert [trace["name"] for trace in chart["data"]] == ["stage 0", "stage 3"]
    assert chart["data"][1]["x"] == [25, 21, 28] and chart["data"][1]["error_x"]["array"] == [1, 1, 1]
    assert "worse beyond noise in 1 of 3 classes (star), better in 0, not to be told apart in 2" in words(at)


def test_accuracy_stands_in_where_most_classes_are_too_small(run: Run) -> None:
    reason = "FID: 64 features need more than 64 of each, not 12 generated and {} real images"
    for number in (0, 3):
        content = with_classes(number, {"star": 10.0}, left_out=dict.fromkeys(SHAPES[:4], reason.format(40)))
        content["per_class"]["square"] |= {"left_out": reason.format(41), "num_reference": 41}
        write_metrics(run, number, content)
    at = shown("class_drop", picked_of(run, 0, 3))
    assert at.get("button_group")[0].value == "class accuracy (demo-cnn)"
    assert ("circle, ring, square, triangle: FID (demo-cnn): 64 features need more than 64 of each, not 12 generated "
            "and 40 … 41 real images") in words(at)  # fmt: skip


def test_old_files_have_no_classes(run: Run) -> None:
    assert "No numbers of single classes were kept for stage 0, stage 3" in words(
        shown("class_drop", picked_of(run, 0, 3))
    )


def test_a_class_that_is_better_when_higher_is_sorted_the_other_way() -> None:
    per_class = [{name: {"class accuracy (x)": around(value, 0.01)} for name, value in scores.items()}
                 for scores in ({"a": 0.9, "b": 0.9}, {"a": 0.8, "b": 0.5})]  # fmt: skip
    assert class_drop.sorted_by_drop("class accuracy (x)", per_class, ["a", "b"]) == ["b", "a"]


# --- ways ---


def answer_ways(workspace: Workspace, *, num_frames: int = 5, sample: np.ndarray, process: str = "flow") -> list[dict]:
    """Answers every question for a way as the worker would; the last frame is ``sample``."""
    asked = []
    while (request := claim_next_preview(workspace, "worker")) is not None:
        assert request.kind == "trajectory"
        request.folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(asked)).integers(0, 256, (num_frames, *sample.shape), dtype=np.uint8)
        noise[-1] = sample
        for file in ("states.png", "estimates.png"):
            Image.fromarray(np.concatenate(list(noise), axis=1)).save(request.folder / file)
        left = np.linspace(1, 0, num_frames).tolist()
        finish_preview(workspace, request.key, {
            "state": "done", "error": None, "images": {"state": "states.png", "estimate": "estimates.png"},
            "frames": [{"step": step, "time": 1 - share, "noise_left": share} for step, share in enumerate(left)],
            "process": process, "seconds": 0.1,
            "protocol": {"sampler": "euler", "num_steps": num_frames - 1, "cfg_scale": 2.0, "guided_channels": 3,
                         "device": "cpu", "precision": "fp32"},
        })  # fmt: skip
        asked.append(request.params)
    return asked


def on_the_way(run: Run, workspace: Workspace, *numbers: int) -> tuple[AppTest, list[dict]]:
    for number in numbers:
        (run.path / "stages" / str(number) / "weights.safetensors").write_bytes(b"")
    at = shown("trajectory", picked_of(run, *numbers))
    at.button(key="way_go").click().run()
    asked = answer_ways(workspace, sample=sample_images(0)[0])
    at.run()
    assert not at.exception, at.exception[0].value
    return at, asked


def scrubber_data(at: AppTest) -> dict:
    return json.loads(at.get("bidi_component")[0].proto.json)


def test_each_stage_is_followed_with_its_own_model_seed_and_protocol(run: Run, empty: Workspace) -> None:
    at, asked = on_the_way(run, empty, 0, 3)
    assert sorted(one["model"] for one in asked) == [f"{run.id}@0", f"{run.id}@3"]
    assert all((one["class"], one["seed"]) == (0, 0) for one in asked)
    assert asked[0]["protocol"] == {"sampler": "euler", "num_steps": 20, "cfg_scale": 2.0, "guided_channels": 3}
    said = words(at)
    assert "stage 0: the last frame is the picture that the stage kept, pixel by pixel" in said
    assert "stage 3: the last frame differs from the kept picture by up to" in said
    assert len(at.get("plotly_chart")) == 1
    data = scrubber_data(at)
    assert [way["label"] for way in data["ways"]] == ["stage 0", "stage 3"]
    assert data["frames"] == [
        "Pure noise, before the first step (t = 0.000, from 0 to 1)",
        "After step 1 of 4 (t = 0.250, from 0 to 1): 75% of the way lies ahead",
        "After step 2 of 4 (t = 0.500, from 0 to 1): 50% of the way lies ahead",
        "After step 3 of 4 (t = 0.750, from 0 to 1): 25% of the way lies ahead",
        "The finished picture, after 4 steps",
    ]
    assert data["ways"][0]["notes"] == [""] * 5 and data["ways"][1]["places"] == [0, 1, 2, 3, 4]
    assert data["ways"][1]["notes"][-1] == "estimate 0.0 grey levels from stage 0"
    assert all(way[kind].startswith("data:image/png") for way in data["ways"] for kind in ("state", "estimate"))


def test_another_seed_is_followed_without_asking_again(run: Run, empty: Workspace) -> None:
    at, _ = on_the_way(run, empty, 0, 3)
    at.selectbox(key="way_seed_circle").set_value(10).run()
    asked = answer_ways(empty, sample=sample_images(0)[10])
    assert [one["seed"] for one in asked] == [10, 10]


def test_nothing_is_drawn_before_it_is_asked_for(run: Run, empty: Workspace) -> None:
    at = shown("trajectory", picked_of(run, 0, 3))
    assert at.button(key="way_go").label == "Follow circle, seed 0"
    assert claim_next_preview(empty, "worker") is None


def test_while_it_is_drawn_the_page_says_so(run: Run, empty: Workspace) -> None:
    at = shown("trajectory", picked_of(run, 0, 3))
    at.button(key="way_go").click().run()
    assert "engine" in words(at) or "step by step" in words(at)


def test_a_way_that_fails_is_one_line_and_can_be_tried_again(run: Run, empty: Workspace) -> None:
    at = shown("trajectory", picked_of(run, 0))
    at.button(key="way_go").click().run()
    request = claim_next_preview(empty, "worker")
    request.folder.mkdir(parents=True, exist_ok=True)
    finish_preview(empty, request.key, {"state": "failed", "error": "sampler 'ddim' doesn't fit a flow model"})
    at.run()
    assert [error.value for error in at.error] == ["Stage 0: sampler 'ddim' doesn't fit a flow model"]
    at.button(key="way_again").click().run()
    assert len(answer_ways(empty, sample=sample_images(0)[0])) == 1


def test_a_run_that_only_evaluated_is_followed_with_its_own_model(run: Run, empty: Workspace) -> None:
    other = create_run(empty, kind="evaluate", title="demo-sit on shapes",
                       params={"model": "demo-sit", "data": "shapes", "process": "flow", "protocol": {}})  # fmt: skip
    with other.new_stage(0) as folder:
        for name in ("samples.npz", "metrics.json", "config.json"):
            (folder / name).write_bytes((run.path / "stages" / "0" / name).read_bytes())
        about = json.loads((run.path / "stages" / "0" / "stage.json").read_text())
        (folder / "stage.json").write_text(json.dumps(about))
    at = shown("trajectory", [Picked(run=other, stage=other.stage(0), label="B", intact=True)])
    at.button(key="way_go").click().run()
    (asked,) = answer_ways(empty, sample=sample_images(0)[0])
    assert (asked["model"], asked["process"]) == ("demo-sit", "flow")


def test_stages_without_pictures_say_so(run: Run) -> None:
    (run.path / "stages" / "3" / "samples.npz").unlink()
    at = shown("trajectory", picked_of(run, 3))
    assert "kept no pictures" in at.info[0].value and not at.get("button")


def test_pictures_of_a_way_that_are_gone_are_one_line(run: Run, empty: Workspace) -> None:
    at, _ = on_the_way(run, empty, 0)
    for file in empty.previews.glob("*/states.png"):
        file.write_bytes(b"broken")
    st.cache_data.clear()
    at.run()
    assert len(at.error) == 1 and "states.png can't be read" in at.error[0].value


def film(estimates: np.ndarray, left: list[float]) -> ways.Film:
    frames = [{"step": step, "time": 1 - share, "noise_left": share} for step, share in enumerate(left)]
    return ways.Film(frames=frames, estimates=estimates, state_uri="", estimate_uri="", side=4, sample=estimates[-1])


def test_the_distance_of_two_estimates_is_their_rms() -> None:
    first = film(np.zeros((3, 4, 4, 3), np.uint8), [1, 0.5, 0])
    second = np.zeros((3, 4, 4, 3), np.uint8)
    second[1], second[2, :2] = 10, 200
    other = film(second, [1, 0.5, 0])
    assert ways.rms_apart(first, other, [0, 1, 2]) == pytest.approx([0, 10, 200 / 2**0.5])
    other = film(second, [1, 0.53, 0])  # 3 % of the way off
    assert ways.rms_apart(first, other, [0, 1, 2]) == [0, None, pytest.approx(200 / 2**0.5)]
    assert ways.rms_apart(first, film(np.zeros((3, 8, 8, 3), np.uint8), [1, 0.5, 0]), [0, 1, 2]) is None


def test_frames_of_other_steps_are_those_nearest_in_time() -> None:
    first = film(np.zeros((3, 4, 4, 3), np.uint8), [1, 0.5, 0]).frames
    other = film(np.zeros((5, 4, 4, 3), np.uint8), [1, 0.9, 0.6, 0.1, 0]).frames
    assert ways.places_beside(first, other) == [0, 2, 4]
    assert ways.places_beside(first, first) == [0, 1, 2]


def test_large_frames_are_sent_small(tmp_path: Path) -> None:
    strip = np.random.default_rng(0).integers(0, 256, (256, 3 * 256, 3), dtype=np.uint8)
    for name in ("s.png", "e.png"):
        Image.fromarray(strip).save(tmp_path / name)
    answer = {"frames": [{"step": i, "time": i / 2, "noise_left": 1 - i / 2} for i in range(3)],
              "images": {"state": "s.png", "estimate": "e.png"}}  # fmt: skip
    found = ways.read_film(tmp_path, answer)
    assert found.side == 128 and found.state_uri.startswith("data:image/webp") and found.sample.shape == (256, 256, 3)
