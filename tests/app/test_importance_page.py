"""The whole method on the importance page: every setting, two heatmaps, branches, removal, criteria, downloads."""

import base64
import io
import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app.importance import branches, criteria, heatmap, heatmap_picture, pair
from engine.importance.config import CedConfig, CriteriaConfig
from engine.runs.listing import list_runs
from engine.runs.store import Run, open_run
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import COLUMNS, DEPTH, add_ced, add_criteria, ced_result, criteria_result


def figure(at: AppTest, place: int) -> dict:
    return json.loads(at.get("plotly_chart")[place].proto.spec)


def numbers(packed: dict) -> np.ndarray:
    """Plotly packs arrays as base64."""
    flat = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])
    return flat.reshape([int(side) for side in packed["shape"].split(",")])


def rewrite(run: Run, **changes: object) -> None:
    """Changes what a finished measurement found."""
    file = run.path / "ced.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def kinds(workspace: Workspace) -> list[str]:
    return sorted(found.kind for found in list_runs(workspace))


def branch_result() -> dict:
    """24 rows: the fixture's blocks as attention, their double as MLP."""
    one = ced_result(CedConfig())
    result = {**one, "labels": [f"{block} {half}" for block in range(DEPTH) for half in ("attn", "mlp")]}
    for key in ("delta", "cell_low", "cell_high", "output_mse"):
        result[key] = [[value * times for value in row] for row in one[key] for times in (1, 2)]
    result["blocks"] = list(range(2 * DEPTH))
    result["ced"] = [value * times for value in one["ced"] for times in (1, 2)]
    result["ci_low"], result["ci_high"] = ([value + by for value in result["ced"]] for by in (-0.001, 0.001))
    result["order"] = np.argsort(result["ced"]).tolist()
    ranks = np.argsort(result["order"]) + 1
    return result | {"rank_low": ranks.tolist(), "rank_high": ranks.tolist()}


# --- settings ---


def test_every_setting_reaches_the_engine(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", variable="prediction")
    chosen = {"granularity": "branch", "condition": "class", "estimator": "knn", "method": "racing"}
    for name, value in chosen.items():
        at.selectbox(key=f"ced_{name}").set_value(value)
    for name, value in (("samples", 128), ("timesteps", 5), ("seed", 7)):
        at.number_input(key=f"ced_{name}").set_value(value)
    at.run()
    at.number_input(key="ced_num_candidates").set_value(3).run()
    newest = open_run(empty, list_runs(empty)[0].id)
    expected = CedConfig(variable="prediction", samples=128, timesteps=5, seed=7, num_candidates=3, **chosen)
    assert newest.params["config"] == asdict(expected)
    assert "attention and MLP of each block apart" in words(at) and "racing" in words(at)


def test_nothing_is_measured_while_a_setting_is_out_of_range(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes")
    before = [run.id for run in list_runs(empty)]
    at.number_input(key="ced_samples").set_value(4).run()
    assert [error.value for error in at.error] == ["Images: 4 is out of range. Choose 8 … 100,000."]
    assert "Choose 8 … 100,000. Put that right; then it is measured." in words(at)
    assert [run.id for run in list_runs(empty)] == before
    at.number_input(key="ced_samples").set_value(64).run()
    assert not at.error and open_run(empty, list_runs(empty)[0].id).params["config"]["samples"] == 64


def test_greedy_has_no_race(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="ced_method").set_value("racing").run()
    at.selectbox(key="ced_order").set_value("greedy").run()
    assert not at.error and at.selectbox(key="ced_method").disabled
    newest = open_run(empty, list_runs(empty)[0].id).params["config"]
    assert (newest["order"], newest["method"]) == ("greedy", "exact")


def test_noise_levels_can_be_weighted_and_that_is_said(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes")
    assert "noise levels weighted" not in words(at)
    at.selectbox(key="ced_weighting").set_value("noisy").run()
    assert not at.error and "noise levels weighted, the noisier, the more" in words(at)
    newest = open_run(empty, list_runs(empty)[0].id).params["config"]
    assert newest == asdict(CedConfig(weighting="noisy"))


def test_samples_have_no_noise_levels_to_weigh(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="ced_weighting").set_value("clean").run()
    at.button_group(key="importance_variable").set_value("samples").run()
    assert not at.error and at.selectbox(key="ced_weighting").disabled and "noise levels weighted" not in words(at)
    newest = open_run(empty, list_runs(empty)[0].id).params["config"]
    assert (newest["variable"], newest["weighting"]) == ("samples", "even")
    at.button_group(key="importance_variable").set_value("target").run()
    assert at.selectbox(key="ced_weighting").value == "clean" and not at.selectbox(key="ced_weighting").disabled


def test_two_variables_side_by_side_are_weighted_where_they_can_be(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", look="two", data2="the same", variable2="samples")
    at.selectbox(key="ced_weighting").set_value("noisy").run()
    assert not at.error
    asked = [open_run(empty, found.id).params["config"] for found in list_runs(empty)]
    assert {(config["variable"], config["weighting"]) for config in asked} == {("target", "noisy"), ("samples", "even")}


def test_a_link_to_a_run_of_before_weighting_takes_the_usual_one(full: Workspace, open_page: Open) -> None:
    run = add_ced(full, variable="prediction")
    file = run.path / "config.json"
    content = json.loads(file.read_text())
    del content["params"]["config"]["weighting"]
    file.write_text(json.dumps(content))
    at = open_page("importance", run=run.id)
    assert at.selectbox(key="ced_weighting").value == "even" and "matters least" in words(at)


def test_a_link_to_a_run_brings_its_settings_back(full: Workspace, open_page: Open) -> None:
    run = add_ced(full, variable="prediction", estimator="knn", samples=96, condition="class")
    at = open_page("importance", run=run.id)
    assert "matters least" in words(at) and not at.warning
    assert at.selectbox(key="ced_estimator").value == "knn" and at.number_input(key="ced_samples").value == 96
    assert run.id in at.query_params["run"]
    assert open_page("importance", run="nope").warning[0].value.startswith("There is no measurement")


def test_a_measurement_of_before_a_setting_existed_is_found(empty: Workspace, open_page: Open) -> None:
    run = add_ced(empty)
    file = run.path / "config.json"
    content = json.loads(file.read_text())
    for name in ("granularity", "order", "method", "num_candidates", "weighting"):
        del content["params"]["config"][name]
    file.write_text(json.dumps(content))
    assert "matters least" in words(open_page("importance", model="demo-sit", data="shapes"))


# --- branches, greedy, racing ---


def test_a_branch_is_explained_and_draws_no_pictures(empty: Workspace, open_page: Open) -> None:
    run = add_ced(empty, granularity="branch")
    rewrite(run, **branch_result())
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="ced_granularity").set_value("branch").run()
    assert figure(at, 0)["layout"]["yaxis"]["ticktext"][:3] == ["0 attn", "0 mlp", "1 attn"]
    at.session_state["branch_row"] = 7
    at.run()
    said = words(at)
    assert "3 mlp" in said and "MLP of block 3" in said and "can't be drawn" in said
    assert "It matters more than 3 attn" in said
    assert "asked_drop" not in at.session_state and "strip_importance" not in at.session_state


def test_a_branch_that_cannot_be_told_from_its_other_half_says_so() -> None:
    result = branch_result()
    assert branches.are_rows(result) and not branches.are_rows(ced_result(CedConfig()))
    result["ci_low"][6] = 0.0
    result["ci_high"][6] = 1.0
    assert "can't be told apart from 3 mlp" in branches._against(result, 6, 7)


def test_greedy_removals_are_listed_in_their_order(empty: Workspace, open_page: Open) -> None:
    removals = [
        {"row": row, "label": str(row), "ced": 0.1 * n, "ci_low": 0.09 * n, "ci_high": 0.11 * n, "agreement": 0.83}
        for n, row in enumerate((5, 1, 9), start=1)
    ]
    rewrite(add_ced(empty, order="greedy"), greedy=removals)
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="ced_order").set_value("greedy").run()
    assert "5 → 1 → 9" in words(at) and "83%" in words(at)


def test_racing_says_what_it_found_and_what_it_saved(empty: Workspace, open_page: Open) -> None:
    race = {"num_candidates": 3, "least": [1, 5, 9], "samples": [64] * 6 + [256] * 6, "evaluations": 1, "share": 0.41}
    rewrite(add_ced(empty, method="racing"), racing=race)
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="ced_method").set_value("racing").run()
    assert "**41%**" in words(at) and "1, 5, 9" in words(at)


def test_greedy_names_the_block_that_matters_most_alone_not_the_one_that_goes_last(
    empty: Workspace, open_page: Open
) -> None:
    found = ced_result(CedConfig())
    order = list(found["order"])
    last = [*order[:-2], order[-1], order[-2]]
    removals = [
        {"row": row, "label": str(row), "ced": 0.1, "ci_low": 0.1, "ci_high": 0.1, "agreement": 1} for row in last
    ]
    rewrite(add_ced(empty, order="greedy"), greedy=removals, order=last)
    at = open_page("importance", model="demo-sit", data="shapes")
    at.selectbox(key="ced_order").set_value("greedy").run()
    assert f"Block **{order[-1]}** matters most" in words(at) and "#1 goes first" in words(at)


# --- side by side ---


def test_side_by_side_compares_each_block_alone(full: Workspace, open_page: Open) -> None:
    add_ced(full, data="glyphs")
    at = open_page("importance", model="demo-sit", data="shapes", look="two", data2="glyphs")
    at.selectbox(key="ced_order").set_value("greedy").run()
    assert len(at.get("plotly_chart")) == 3 and kinds(full).count("ced") == 2  # found, nothing asked anew


def test_two_datasets_stand_side_by_side_with_the_same_colours(full: Workspace, open_page: Open) -> None:
    run = add_ced(full, data="glyphs")
    found = ced_result(CedConfig(), data="glyphs")
    rewrite(run, data="glyphs", delta=[[3 * value for value in row] for row in found["delta"]])
    at = open_page("importance", model="demo-sit", data="shapes", look="two", data2="glyphs")
    first, second = figure(at, 0)["data"][0], figure(at, 1)["data"][0]
    assert (first["zmin"], first["zmax"]) == (second["zmin"], second["zmax"])
    assert first["zmax"] == pytest.approx(np.percentile(np.abs(np.multiply(3, found["delta"])), 95), rel=0.05)
    assert "shapes" in words(at) and "would drop the very same 6" in words(at)


def test_two_variables_can_be_compared_and_both_are_asked_at_once(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", look="two", data2="the same", variable2="samples")
    next(button for button in at.button if button.label == "Measure both").click().run()
    asked = [open_run(empty, found.id).params["config"]["variable"] for found in list_runs(empty)]
    assert sorted(asked) == ["samples", "target"]


def test_the_same_question_on_both_sides_is_refused(full: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", look="two", data2="the same")
    assert "same question" in at.info[0].value and kinds(full).count("ced") == 1


def test_needs_names_the_blocks_that_only_one_side_keeps() -> None:
    first, second = ced_result(CedConfig()), ced_result(CedConfig())
    order = list(first["order"])
    second["order"] = [order[-1], *order[1:-1], order[0]]  # the most and the least important change places
    first["rank_low"] = first["rank_high"] = [order.index(row) + 1 for row in range(DEPTH)]
    second["rank_low"] = second["rank_high"] = [second["order"].index(row) + 1 for row in range(DEPTH)]
    sure = pair.sure_changes(first, second)
    assert sorted(sure) == sorted([order[0], order[-1]])
    said = pair.needs(first, second, ("digits", "glyphs"), 6, sure)
    assert f"<b>digits</b> needs <b>{order[-1]}</b>, which glyphs would drop" in said
    assert f"<b>glyphs</b> needs <b>{order[0]}</b>, which digits would drop" in said
    assert "not certain" in pair.needs(first, second, ("digits", "glyphs"), 6, [])


def test_wide_rank_intervals_make_no_change_certain() -> None:
    first, second = ced_result(CedConfig()), ced_result(CedConfig())
    second["order"] = second["order"][::-1]
    for result in (first, second):
        result["rank_low"], result["rank_high"] = [1] * DEPTH, [DEPTH] * DEPTH
    assert pair.sure_changes(first, second) == []


def test_rank_correlation_agrees_with_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.random(12).tolist(), rng.random(12).tolist()
    assert pair.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


# --- criteria ---


def test_criteria_are_asked_with_the_settings_on_screen(empty: Workspace, open_page: Open) -> None:
    at = open_page("importance", model="demo-sit", data="shapes", look="criteria")
    at.number_input(key="ced_samples").set_value(96).run()
    run = open_run(empty, list_runs(empty)[0].id)
    assert run.kind == "criteria"
    assert run.params["config"] == json.loads(json.dumps(asdict(CriteriaConfig(samples=96))))
    at.toggle(key="criteria_samples").set_value(True).run()
    assert open_run(empty, list_runs(empty)[0].id).params["config"]["variables"] == ["target", "prediction", "samples"]


def test_criteria_show_who_agrees_with_whom(empty: Workspace, open_page: Open) -> None:
    add_criteria(empty)
    at = open_page("importance", model="demo-sit", data="shapes", look="criteria")
    result = criteria_result(CriteriaConfig())
    shown = figure(at, 0)["data"][0]
    assert shown["zmin"] == -1 and numbers(shown["z"]) == pytest.approx(np.array(result["spearman"]))
    at.button_group(key="agreement").set_value("Kendall").run()
    assert numbers(figure(at, 0)["data"][0]["z"]) == pytest.approx(np.array(result["kendall"]))
    at.selectbox(key="criterion").set_value("first").run()
    assert "there is no interval" in words(at)


def test_the_reading_of_criteria_names_the_best_and_the_worst_pair() -> None:
    said = criteria.reading(criteria_result(CriteriaConfig()))
    most, least = said.split(";")[:2]
    assert "+1.00" in most and "Taylor" not in most
    assert "Taylor" in least and "−1.00" in least


def test_the_table_of_criteria_has_a_row_for_each_block_and_criterion() -> None:
    rows = criteria.table(criteria_result(CriteriaConfig()))
    assert len(rows) == 11 * DEPTH
    first = rows[rows["criterion"] == "first"]
    assert first["rank"].tolist() == list(range(1, DEPTH + 1)) and first["low"].isna().all()


# --- downloads ---


@pytest.mark.parametrize("look", ["one", "two", "criteria"])
def test_everything_can_be_downloaded(full: Workspace, open_page: Open, look: str) -> None:
    add_ced(full, data="glyphs")
    add_criteria(full)
    at = open_page("importance", model="demo-sit", data="shapes", look=look, data2="glyphs")
    labels = {button.label for button in at.get("download_button")}
    assert any(label.startswith("CSV") for label in labels) and "JSON" in labels
    assert ("PNG" in labels) == (look != "criteria")  # there the charts have a camera each
    silent = [w.label for w in at.get("download_button") if not w.proto.help]
    assert not silent


def test_how_it_was_measured_stands_below_the_heatmap(full: Workspace, open_page: Open) -> None:
    add_ced(full, data="glyphs")
    protocol = "CED on target · 256 images · 10 columns · seed 0 · estimator gaussian"
    said = words(open_page("importance", model="demo-sit", data="shapes"))
    assert f"Measured with: {protocol}" in said and "90% intervals by resampling the images" in said
    said = words(open_page("importance", model="demo-sit", data="shapes", look="two", data2="glyphs"))
    assert said.count(f"Measured with: {protocol}") == 2


def test_the_process_is_part_of_how_it_was_measured() -> None:
    result = ced_result(CedConfig())
    result["protocol"] |= {"process": "flow", "device": "cpu", "precision": "fp32"}
    assert " · flow · 90% intervals" in heatmap.measured_with(result) and "cpu fp32" in heatmap.measured_with(result)


def test_the_axis_says_which_end_is_noise_and_is_short_enough_for_a_phone() -> None:
    for model, said in (("flow", "time: 0 pure noise … 1 clean picture"), ("diffusion", "timestep: 0 clean picture")):
        info = SimpleNamespace(process=model)
        assert heatmap.column_title({"variable": "target"}, info).startswith(said)
        for variable in ("target", "prediction", "samples"):
            assert len(heatmap.column_title({"variable": variable}, info)) <= 46


def test_the_picture_holds_the_colours_of_the_cells() -> None:
    result = ced_result(CedConfig())
    result["delta"][0] = [10.0] * COLUMNS
    result["delta"][1] = [-10.0] * COLUMNS
    result["delta"][2] = [0.0] * COLUMNS
    side = heatmap_picture.Side(title="demo-sit on shapes", result=result, column_title="noise level")
    png = heatmap_picture.draw([side, side], signed=True, limit=0.2, rows=list(range(DEPTH)))
    picture = Image.open(io.BytesIO(png))
    counts = dict((colour, count) for count, colour in picture.getcolors(maxcolors=1 << 24))
    one_row = COLUMNS * 40 * 40
    for colour in ((103, 0, 31), (5, 48, 97)):  # the ends of the scale: noise and sameness, one row each and side
        assert counts.get(colour, 0) > 2 * one_row
    single = Image.open(io.BytesIO(heatmap_picture.draw([side], signed=True, limit=0.2, rows=[0])))
    assert single.width < picture.width and single.height < picture.height


def test_the_table_of_a_heatmap_names_branches_and_intervals() -> None:
    rows = heatmap.table(branch_result())
    assert len(rows) == 2 * DEPTH * COLUMNS and rows["block"].iloc[COLUMNS] == "0 mlp"
    assert (rows["ced_low"] <= rows["ced"]).all() and (rows["ced"] <= rows["ced_high"]).all()
    assert (rows["rank_low"] <= rows["rank"]).all()
