"""The compare page: which stages, by link and by hand; pictures paired by seed, ordered, enlarged; what isn't there."""

import json
import re
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat
from streamlit.testing.v1 import AppTest

from app.comparing import difference, ordering
from app.comparing.shared_seeds import Kept, match
from engine.evaluation.protocol import Protocol
from engine.runs.bin import delete_run
from engine.runs.listing import list_runs
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace
from tests.app.conftest import Open, words
from tests.app.fixtures import SHAPES, add_prune, metrics, model_config, sample_images

LABELS, SEEDS = np.arange(40) % 10, np.arange(40)


def asked(at: AppTest, name: str) -> str | None:
    """What the address says."""
    value = at.query_params.get(name)
    return value[0] if isinstance(value, list) else value


def figures(at: AppTest) -> list[str]:
    return re.findall(r"<figure>.*?</figure>", words(at))


def captions(at: AppTest) -> list[str]:
    return re.findall(r"<figcaption>(.*?)(?:<b>|</figcaption>)", words(at))


def cells(figure: str) -> list[str]:
    """What the enlarged pictures of a figure say."""
    return re.findall(r'data-say="(.*?)"', figure)


def said(at: AppTest) -> list[str]:
    return [element.value for element in [*at.error, *at.warning, *at.info]]


def link(*stages: tuple[Run, int]) -> str:
    return ",".join(f"{run.id}@{number}" for run, number in stages)


def samples(run: Run, number: int, **arrays: object) -> None:
    """Writes other pictures into a stage."""
    whole = {"arr_0": sample_images(number), "labels": LABELS, "seeds": SEEDS} | arrays
    np.savez(run.path / "stages" / str(number) / "samples.npz", **whole)


def scores(number: int, *, weights: str = "ab" * 32) -> dict[str, np.ndarray]:
    """As the engine keeps them: picture k of a later stage is the farther away and the less sure the larger k is."""
    features = np.tile([0.0, 1.0], (40, 4))[:, :8] + 0.1 * np.arange(40)[:, None] * np.arange(8)
    confidence = np.linspace(0.99, 0.01, 40).astype(np.float32)
    return {
        "demo_features": (features + number * np.arange(40)[:, None]).astype(np.float32),
        "demo_cnn": np.array(weights), "class_confidence": confidence, "seen_class": (LABELS + 1) % 10,
    }  # fmt: skip


def add_evaluate(workspace: Workspace, *, model: str = "demo-sit", kept: tuple[int, ...] = tuple(range(12))) -> Run:
    params = {"model": model, "data": "shapes", "protocol": asdict(Protocol())}
    run = create_run(workspace, kind="evaluate", title=f"{model} on shapes", params=params)
    with run.new_stage(0) as folder:
        info = {"stage": 0, "parent": None, "title": "as it is", "model": model, "data": "shapes", "process": "flow",
                "kept_blocks": list(kept), "dropped_blocks": [], "depth": len(kept), "decision": None,
                "finetune": None, "train": None, "created": time.time()}  # fmt: skip
        (folder / "stage.json").write_text(json.dumps(info))
        (folder / "metrics.json").write_text(json.dumps(metrics(0, len(kept))))
        np.savez(folder / "samples.npz", arr_0=sample_images(2), labels=LABELS, seeds=SEEDS)
    run.update(state="done", progress=1.0, message="finished")
    return run


# --- which stages ---


def test_it_opens_with_both_ends_of_the_newest_run(full: Workspace, open_page: Open) -> None:
    run = add_prune(full)
    at = open_page("compare")
    assert asked(at, "compare") == link((run, 0), (run, 3))
    assert len(figures(at)) == 20
    assert cells(figures(at)[0]) == ["stage 0 · circle · seed 0", "stage 3 · circle · seed 0"]


def test_a_link_shows_a_colleague_the_same(empty: Workspace, open_page: Open) -> None:
    first, second = add_prune(empty), add_prune(empty, num_stages=2)
    query = {"compare": link((first, 0), (second, 2), (first, 3), (second, 1)), "class": "heart", "seed": "16"}
    at = open_page("compare", **query)
    assert {name: asked(at, name) for name in query} == query
    assert len(figures(at)) == 4 and len(cells(figures(at)[0])) == 4
    assert cells(figures(at)[1])[1:3] == ["B: stage 2 · heart · seed 16", "C: stage 3 · heart · seed 16"]
    assert at.text_input(key="compare_seed").value == "16" and not at.warning and not at.error


@pytest.mark.parametrize(
    ("query", "expected"),
    [({}, (0, 3)), ({"left": "1", "stage": "2"}, (1, 2)), ({"stage": "1"}, (0, 1)), ({"stage": "0"}, (0,))],
)
def test_links_of_other_pages_still_lead_here(empty: Workspace, open_page: Open, query: dict, expected: tuple) -> None:
    run = add_prune(empty)
    add_prune(empty, num_stages=1)
    at = open_page("compare", run=run.id, **query)
    assert asked(at, "compare") == link(*((run, number) for number in expected))
    assert asked(at, "run") is asked(at, "stage") is asked(at, "left") is None


def test_stages_are_added_changed_and_left_out(empty: Workspace, open_page: Open) -> None:
    older, run = add_prune(empty), add_prune(empty, num_stages=2)
    at = open_page("compare", page="2")
    at.button(key="compare_add").click().run()
    assert asked(at, "compare") == link((run, 0), (run, 2), (run, 1)) and asked(at, "page") is None
    at.button(key="compare_add").click().run()
    assert asked(at, "compare") == link((run, 0), (run, 2), (run, 1), (older, 3))
    assert at.button(key="compare_add").disabled
    at.selectbox(key="compare_stage_3").set_value(1).run()
    at.selectbox(key="compare_run_0").set_value(older.id).run()
    at.button(key="compare_remove_1").click().run()
    assert asked(at, "compare") == link((older, 3), (run, 1), (older, 1))
    assert [cell.split(" · ")[0] for cell in cells(figures(at)[0])] == ["A: stage 3", "B: stage 1", "C: stage 1"]


def test_what_was_compared_is_there_on_the_next_visit(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty)
    at = open_page("compare", compare=link((run, 1), (run, 2)))
    at.switch_page("views/runs.py").run()
    at.query_params.clear()
    at.switch_page("views/compare.py").run()
    assert asked(at, "compare") == link((run, 1), (run, 2))


@pytest.mark.parametrize("wrong", ["nope@0", "{run}@17", "{run}", "../../etc/passwd@0", "@", "{run}@-1", "{run}@1e9"])
def test_a_stage_that_is_not_there_costs_one_line(empty: Workspace, open_page: Open, wrong: str) -> None:
    run = add_prune(empty)
    wrong = wrong.format(run=run.id)
    at = open_page("compare", compare=f"{link((run, 1))},{wrong},{link((run, 2))}")
    assert len(at.warning) == 1 and repr(wrong) in at.warning[0].value and not at.error
    assert asked(at, "compare") == link((run, 1), (run, 2))


def test_more_than_four_are_too_many(empty: Workspace, open_page: Open) -> None:
    run, other = add_prune(empty), add_prune(empty, num_stages=1)
    at = open_page("compare", compare=link(*((run, number) for number in range(4)), (other, 1)))
    assert len(at.warning) == 1 and "5 stages" in at.warning[0].value
    assert len(cells(figures(at)[0])) == 4


@pytest.mark.parametrize(
    ("query", "says"),
    [({"class": "unicorn"}, "class 'unicorn'"), ({"order": "beauty"}, "order 'beauty'"), ({"page": "99"}, "page '99'"),
     ({"seed": "4711"}, "no picture of seed '4711'"), ({"seed": "1", "class": "heart"}, "Seed 1 is of another class"),
     ({"amplify": "3"}, "amplify '3'"), ({"size": "1000000"}, "size '1000000'")],
)  # fmt: skip
def test_nonsense_among_the_pictures_costs_one_line(full: Workspace, open_page: Open, query: dict, says: str) -> None:
    at = open_page("compare", **query)
    assert len(at.warning) == 1 and says in at.warning[0].value
    assert len(figures(at)) in (4, 20)


def test_the_same_stage_twice_is_shown_once(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty)
    at = open_page("compare", compare=link((run, 1), (run, 1), (run, 2)))
    assert any("same stage" in line for line in said(at))
    assert len(cells(figures(at)[0])) == 2


def test_a_run_with_one_stage_is_shown_by_itself(empty: Workspace, open_page: Open) -> None:
    add_prune(empty, num_stages=0, state="running")
    at = open_page("compare")
    assert any("one stage on screen" in line for line in said(at))
    assert cells(figures(at)[0]) == ["stage 0 · circle · seed 0"]
    assert at.button(key="compare_add").disabled
    assert not [button for button in at.button if button.key == "compare_remove_0"]


def test_an_evaluated_model_stands_beside_a_pruned_one(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty)
    pruned = add_evaluate(empty, model=f"{run.id}@3", kept=run.stage(3).kept_blocks)
    whole = add_evaluate(empty)
    at = open_page("compare", compare=link((whole, 0), (pruned, 0), (run, 3)))
    assert cells(figures(at)[0])[1] == "B: 6 blocks · circle · seed 0"  # classes named by the run that was evaluated
    looks = re.findall(r'class="ep-cell (\w+)', figures(at)[0])
    assert looks == ["intact", "pruned", "pruned"]
    strips = re.findall(r'<div class="ep-strip".*?</div>', words(at))
    assert strips[1].count("dropped in an earlier stage") == 6 and strips[0].count("block of the intact model") == 12


def test_an_evaluated_model_without_its_last_blocks_is_called_pruned(empty: Workspace, open_page: Open) -> None:
    """As it was exported and opened again: its blocks are numbered as those of an intact one."""
    cut = add_evaluate(empty, model="/models/cut", kept=tuple(range(10)))
    file = cut.stage(0).path / "stage.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "depth_of_parent": 12}))
    at = open_page("compare", compare=link((cut, 0), (add_evaluate(empty), 0)))
    assert re.findall(r'class="ep-cell (\w+)', figures(at)[0]) == ["pruned", "intact"]


def test_a_damaged_run_does_not_hide_the_others(empty: Workspace, open_page: Open) -> None:
    good, bad = add_prune(empty), add_prune(empty)
    (bad.path / "stages" / "1" / "stage.json").write_text("{")
    at = open_page("compare")
    assert asked(at, "compare") == link((good, 0), (good, 3))
    at = open_page("compare", run=bad.id)
    assert len(at.error) == 1 and "stage.json" in at.error[0].value and len(figures(at)) == 20


def test_a_run_that_is_deleted_while_it_is_looked_at(empty: Workspace, open_page: Open) -> None:
    run, other = add_prune(empty), add_prune(empty)
    at = open_page("compare", run=run.id)
    shutil.rmtree(run.path)
    at.run()
    assert not at.exception and len(at.warning) == 1
    assert asked(at, "compare") == link((other, 0), (other, 3))


def test_a_run_in_the_bin_is_said_to_be_there(empty: Workspace, open_page: Open) -> None:
    run, _ = add_prune(empty), add_prune(empty)
    address = f"{run.id}@0,{run.id}@3"
    at = open_page("compare", compare=address)
    delete_run(empty, run.id)
    for found in (open_page("compare", compare=address), open_page("prune", run=run.id, stage="3")):
        assert not found.exception and not found.warning
        assert [error.value for error in found.error] == [
            f"The run {run.id} was deleted; the runs page restores it from the bin as long as it is there"
        ]
    assert asked(found, "run") == "new" and asked(found, "stage") is None
    at.run()
    assert not at.exception


# --- the gallery ---


def test_pairs_are_filtered_by_class(full: Workspace, open_page: Open) -> None:
    at = open_page("compare", page="2")
    assert captions(at)[0] == "circle · seed 20"
    at.selectbox(key="compare_class").set_value("heart").run()
    assert captions(at) == [f"heart · seed {seed}" for seed in (6, 16, 26, 36)]
    assert asked(at, "class") == "heart" and asked(at, "page") is None


def test_pages_and_their_size_are_in_the_address(full: Workspace, open_page: Open) -> None:
    at = open_page("compare", size="10", page="4")
    assert captions(at) == [f"{SHAPES[seed % 10]} · seed {seed}" for seed in range(30, 40)]
    at.selectbox(key="compare_size").set_value(50).run()
    assert len(figures(at)) == 40 and asked(at, "page") is None and asked(at, "size") == "50"


def test_only_pictures_with_the_same_seed_and_class_are_paired(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    labels = LABELS.copy()
    labels[39] = 0  # elsewhere seed 39 drew class 9
    samples(run, 1, arr_0=sample_images(1)[10:], seeds=SEEDS[10:], labels=labels[10:])
    at = open_page("compare")
    assert captions(at)[0] == "circle · seed 10"
    assert ("29 are in all of them. Left out of stage 0: 10 with seeds that not all of them drew and 1 whose seed drew "
            "another class elsewhere; of stage 1: 1 whose seed drew another class elsewhere.") in words(at)  # fmt: skip


def test_without_a_shared_seed_it_says_why(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    samples(run, 1, seeds=SEEDS + 1000)
    at = open_page("compare")
    line = next(line for line in said(at) if "share no picture" in line)
    assert "stage 0: 40 with seeds that not all of them drew" in line and not figures(at)
    assert "FID (demo-cnn)" in words(at)


def test_matching_is_by_seed_and_class_in_the_order_of_the_first() -> None:
    images = np.zeros((4, 2, 2, 3), np.uint8)
    first = Kept(images=images, seeds=[5, 3, 5, 9], classes=["a", "b", "c", "d"])
    second = Kept(images=images, seeds=[9, 5, 3, 5], classes=["d", "a", "x", "a"])
    shared = match([first, second])
    assert (shared.seeds, shared.classes) == ([5, 9], ["a", "d"])
    assert shared.rows.tolist() == [[0, 3], [1, 0]]
    assert shared.left_out == [(0, 2), (0, 1)]
    assert shared.of(1).rows.tolist() == [[1, 0]]


def test_pictures_drawn_under_other_conditions_are_called_so(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    assert "Beside the models" not in words(open_page("compare"))
    (run.path / "stages" / "1" / "metrics.json").write_text(json.dumps(metrics(1, 10, cfg_scale=4.0)))
    config = model_config("flow", depth=10)
    config["network"]["input_size"] = 16
    (run.path / "stages" / "1" / "config.json").write_text(json.dumps(config))
    text = words(open_page("compare"))
    assert f"cfg scale (stage 0: {Protocol().cfg_scale}, stage 1: 4.0)" in text
    assert "so that a seed doesn&#x27;t start from the same noise" in text and "stage 1: 4 × 16 × 16" in text


# --- failures first ---


def order_of(at: AppTest) -> list[int]:
    return [int(caption.rpartition(" ")[2]) for caption in captions(at)]


def test_most_different_pairs_come_first(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    apart = np.random.default_rng(0).permutation(40).astype(np.uint8)
    base = np.full((40, 32, 32, 3), 100, np.uint8)
    samples(run, 0, arr_0=base)
    samples(run, 1, arr_0=base + apart[:, None, None, None])
    at = open_page("compare", order="pixels")
    assert order_of(at) == np.argsort(-apart.astype(int)).tolist()[:20]
    assert "<b>RMS 39.0</b>" in figures(at)[0] and "half of the 40 pairs differ by more than 19.5" in words(at)
    assert at.text_input(key="compare_seed").value == str(order_of(at)[0])
    at.button(key="compare_after").click().run()
    assert asked(at, "seed") == str(order_of(at)[1])


def test_pairs_are_ordered_as_the_network_sees_them(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    for number in (0, 1):
        samples(run, number, **scores(number))
    at = open_page("compare", order="features")
    assert order_of(at) == list(range(39, 19, -1))
    features = [scores(number)["demo_features"].astype(float) for number in (0, 1)]
    pairs = [np.linalg.norm(a - b) for a in features[0] for b in features[0]]
    usual = np.sqrt(np.mean(np.square(pairs)))
    expected = np.linalg.norm(features[0][39] - features[1][39]) / usual
    assert f"<b>{expected:.2f} apart</b>" in figures(at)[0]
    samples(run, 1, **scores(1, weights="cd" * 32))
    at = open_page("compare", order="features")
    assert any("different weights of the demo CNN" in line for line in said(at)) and order_of(at) == list(range(20))


def test_classes_in_doubt_come_first_in_the_stage_that_is_chosen(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    sure = scores(0)
    samples(run, 0, **sure | {"class_confidence": sure["class_confidence"][::-1]})
    samples(run, 1, **scores(1))
    at = open_page("compare", order="doubt")
    assert order_of(at) == list(range(39, 19, -1))
    assert "<b>1% sure, sees circle</b>" in figures(at)[0] and "the 10 classes of shapes" in words(at)
    at.selectbox(key="compare_of").set_value(1).run()
    assert order_of(at) == list(range(20)) and asked(at, "of") == "1"


@pytest.mark.parametrize("order", ["features", "doubt"])
def test_of_older_stages_the_order_says_what_to_do(empty: Workspace, open_page: Open, order: str) -> None:
    run = add_prune(empty, num_stages=1)
    at = open_page("compare", order=order)
    line = next(line for line in said(at) if "before these numbers were kept" in line)
    assert re.search(rf"python -m engine evaluate {run.id}@[01] shapes\.", line) and order_of(at) == list(range(20))


def test_unknown_classes_cannot_be_doubted(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    known = scores(1)
    samples(run, 1, demo_features=known["demo_features"], demo_cnn=known["demo_cnn"])
    at = open_page("compare", order="doubt")
    assert any("doesn't know the classes of shapes" in line for line in said(at)) and len(figures(at)) == 20


def test_the_pair_is_chosen_among_more_than_two(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty)
    at = open_page("compare", compare=link((run, 0), (run, 1), (run, 3)), order="pixels")
    assert "|stage 0 − stage 3|" in words(at)
    before = figures(at)
    at.selectbox(key="compare_pair").set_value("1-2").run()
    assert "|stage 0 − stage 1|" in words(at) and asked(at, "pair") == "1-2" and figures(at) != before


# --- one seed closely ---


def test_a_seed_is_jumped_to(full: Workspace, open_page: Open) -> None:
    at = open_page("compare")
    at.text_input(key="compare_seed").set_value(" 27 ").run()
    assert asked(at, "seed") == "27" and "moon · seed 27</b> · 28 of 40" in words(at)
    at.text_input(key="compare_seed").set_value("twelve").run()
    assert len(at.warning) == 1 and "'twelve'" in at.warning[0].value and "0 … 39" in at.warning[0].value


def test_the_difference_is_amplified_by_the_factor_that_is_said(full: Workspace, open_page: Open) -> None:
    at = open_page("compare", seed="7", amplify="8")
    images = [Image.fromarray(sample_images(number)[7]) for number in (0, 1)]
    squares = ImageStat.Stat(ImageChops.difference(*images)).sum2
    expected = np.sqrt(sum(squares) / (3 * 32 * 32))
    assert "8× as strong as it is" in words(at) and f"RMS {expected:.1f}</b> of 255" in words(at)


def test_difference_and_rms_agree_with_pillow() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 256, (2, 20, 9, 7, 3), np.uint8)
    for a, b in zip(first, second, strict=True):
        theirs = ImageChops.difference(Image.fromarray(a), Image.fromarray(b))
        np.testing.assert_array_equal(difference.amplified(a, b, factor=1), theirs)
        np.testing.assert_array_equal(difference.amplified(a, b, factor=4), theirs.point(lambda v: min(255, 4 * v)))
    rows = np.stack([rng.permutation(20), rng.permutation(20)])
    found = difference.rms_of_all(first, second, rows)
    for value, (a, b) in zip(found, rows.T, strict=True):
        stat = ImageStat.Stat(ImageChops.difference(Image.fromarray(first[a]), Image.fromarray(second[b])))
        assert value == pytest.approx(np.sqrt(np.mean(np.square(stat.rms))), rel=1e-5)
        assert value == pytest.approx(difference.rms(first[a], second[b]), rel=1e-5)


def test_all_pairs_are_measured_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 256, (2, 11, 4, 4, 3), np.uint8)
    rows = np.stack([np.arange(11), np.arange(11)[::-1]])
    whole = difference.rms_of_all(first, second, rows)
    monkeypatch.setattr(difference, "_CHUNK", 3)
    np.testing.assert_array_equal(difference.rms_of_all(first, second, rows), whole)


def test_equal_values_stay_as_they_came() -> None:
    order = ordering.Order(values=np.array([1.0, 2.0, 1.0, 2.0]))
    assert order.sorted(np.array([0, 1, 2, 3])).tolist() == [1, 3, 0, 2]
    assert ordering.Order().sorted(np.array([2, 0])).tolist() == [2, 0]


def test_pictures_of_different_sizes_are_shown_and_not_subtracted(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    samples(run, 1, arr_0=np.repeat(np.repeat(sample_images(1), 2, axis=1), 2, axis=2))
    at = open_page("compare", order="pixels")
    sizes = [line for line in said(at) if "32 × 32" in line and "64 × 64" in line]
    assert len(sizes) == 2 and len(figures(at)) == 20 and order_of(at) == list(range(20))


# --- what is missing or damaged ---


def test_a_stage_without_pictures_leaves_the_others(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty)
    (run.path / "stages" / "1" / "samples.npz").unlink()
    at = open_page("compare", compare=link((run, 0), (run, 1), (run, 2)))
    line = next(line for line in said(at) if "kept no pictures" in line)
    assert line.startswith("Stage 1") and f"engine evaluate {run.id}@1 shapes" in line
    assert [cell.split(" · ")[0] for cell in cells(figures(at)[0])] == ["stage 0", "stage 2"]


@pytest.mark.parametrize("damage", ["torn", "labels"])
def test_a_stage_with_damaged_pictures_is_one_line(empty: Workspace, open_page: Open, damage: str) -> None:
    run = add_prune(empty)
    if damage == "torn":
        (run.path / "stages" / "2" / "samples.npz").write_bytes(b"broken")
    else:
        samples(run, 2, labels=LABELS[:5])
    at = open_page("compare", compare=link((run, 0), (run, 2), (run, 3)))
    assert at.error and all("samples.npz is damaged" in error.value for error in at.error)
    assert len(cells(figures(at)[0])) == 2 and "FID (demo-cnn)" in words(at)


def test_a_stage_that_was_not_evaluated_has_no_numbers(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    for name in ("samples.npz", "metrics.json"):
        (run.path / "stages" / "1" / name).unlink()
    at = open_page("compare")
    assert len(figures(at)) == 20 and len(cells(figures(at)[0])) == 1
    assert any("Stage 1 kept no pictures" in line for line in said(at))


def test_damaged_metrics_leave_the_pictures(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    (run.path / "stages" / "1" / "metrics.json").write_text("{")
    at = open_page("compare")
    assert len(figures(at)) == 20
    assert at.error and all("metrics.json" in error.value for error in at.error)


def test_unlike_protocols_are_never_put_side_by_side(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    (run.path / "stages" / "1" / "metrics.json").write_text(json.dumps(metrics(1, 10, cfg_scale=4.0)))
    text = words(open_page("compare", run=run.id))
    assert "under different conditions" in text and "cfg_scale" in text
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    assert not [table for table in tables if "FID" in table and "stage 0" in table and "stage 1" in table]
    assert len([table for table in tables if "FID (demo-cnn)" in table]) == 2


def test_fid_is_never_called_just_fid(full: Workspace, open_page: Open) -> None:
    text = re.sub(r"url\(data:[^)]*\)", "", words(open_page("compare")))
    assert text.count("FID") == text.count("FID (demo-cnn)") > 0


def test_the_stage_to_take_away_is_chosen_among_those_that_hold_a_model(empty: Workspace, open_page: Open) -> None:
    run, whole = add_prune(empty), add_evaluate(empty)
    at = open_page("compare", compare=link((run, 2), (run, 3), (whole, 0)))
    chosen = next(box for box in at.selectbox if box.label == "Stage to take")
    assert chosen.value == f"{run.id}@3" and len(chosen.options) == 2
    chosen.set_value(f"{run.id}@2").run()
    next(button for button in at.button if button.label == "Make the file").click().run()
    assert [found.title for found in list_runs(empty) if found.kind == "export"] == [f"Export of {run.id}@2, official"]


# --- thousands of pictures ---


def test_only_what_is_on_the_page_is_encoded(empty: Workspace, open_page: Open, monkeypatch) -> None:
    from app import pictures

    run = add_prune(empty)
    many = np.random.default_rng(6).integers(0, 256, (5000, 32, 32, 3), np.uint8)
    for number in range(4):
        samples(run, number, arr_0=many, labels=np.arange(5000) % 10, seeds=np.arange(5000))
    encoded = []
    png = pictures.png
    monkeypatch.setattr(pictures, "png", lambda image: encoded.append(1) or png(image))
    at = open_page("compare", compare=link(*((run, number) for number in range(4))), page="200")
    assert captions(at)[0] == f"{SHAPES[3980 % 10]} · seed 3980"
    assert len(encoded) <= 2 * (20 * 4 + 3)  # drawn twice: the page as it opens, and with its address


def test_large_pictures_allow_fewer_on_a_page(empty: Workspace, open_page: Open) -> None:
    run = add_prune(empty, num_stages=1)
    for number in (0, 1):
        samples(run, number, arr_0=np.zeros((40, 256, 256, 3), np.uint8))
    assert open_page("compare").selectbox(key="compare_size").options == ["10", "20"]


def test_the_app_reads_the_scores_that_the_engine_writes(empty: Workspace, open_page: Open, tmp_path: Path) -> None:
    score_pictures = pytest.importorskip("engine.evaluation.picture_scores").score_pictures
    run = add_prune(empty, num_stages=1)
    for number in (0, 1):
        samples(run, number, **score_pictures(sample_images(number), LABELS, "shapes"))
    at = open_page("compare", order="doubt")
    confidence = score_pictures(sample_images(1), LABELS, "shapes")["class_confidence"]
    assert order_of(at) == np.argsort(confidence, kind="stable").tolist()[:20]
    assert not [line for line in said(at) if "demo CNN" in line]
