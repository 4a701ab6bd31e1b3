"""Recorded runs: what ships can be shown and recounted, what a run wrote is in its replay, damage costs one line."""

import base64
import json
import math

import numpy as np
import pytest
from scipy import linalg

from engine.assets import ASSETS, read_asset
from engine.errors import AssetError, InputError
from engine.evaluation.features import extract, load_features
from engine.learn.fid_by_number import MODELS, balanced, fid_of, fid_of_draws, read_kept_features
from engine.learn.replay import MOST_BYTES, encode, read_replay, replay_of, write_replay
from engine.pruning import vote
from engine.runs.workspace import open_workspace
from tests.app.fixtures import add_ced, add_prune

REPLAYS = sorted((ASSETS / "replays").glob("*.json"))
KEPT = sorted((ASSETS / "replays").glob("*.npz"))


def test_a_replay_and_kept_features_ship():
    assert REPLAYS
    assert KEPT
    assert all(file.stat().st_size < MOST_BYTES for file in REPLAYS + KEPT)


@pytest.mark.parametrize("file", REPLAYS, ids=lambda file: file.stem)
def test_what_ships_can_be_shown_and_recounted(file):
    replay = read_replay(read_asset(file), name=file.name)
    assert replay["command"].startswith(f"python -m engine prune {replay['model']} {replay['data']}")
    kept = set(replay["stages"][0]["kept_blocks"])
    for stage in replay["stages"][1:]:
        kept -= set(stage["dropped_blocks"])
        assert set(stage["kept_blocks"]) == kept
        assert stage["depth"] == len(kept)
        record = stage["decision"]
        again = vote.recount(record, record["weights"])
        assert again["chosen"] == record["chosen"]
        assert record["candidates"][record["chosen"]]["dropped"] == stage["dropped_blocks"]
        assert all(math.isfinite(one["value"]) for one in stage["metrics"]["fidelity"].values())
        assert [event for event in replay["train"] if event["stage"] == stage["number"]]
    assert [picture["stage"] for picture in replay["pictures"]] == sorted(p["stage"] for p in replay["pictures"])


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


def test_a_finished_run_becomes_a_replay_that_reads_back(workspace, tmp_path):
    run = add_prune(workspace)
    out = tmp_path / "replay.json"
    assert write_replay(run, out) == out.stat().st_size
    replay = read_replay(out.read_bytes(), name="it")
    assert replay == json.loads(json.dumps(replay_of(run)))
    assert [stage["number"] for stage in replay["stages"]] == [0, 1, 2, 3]
    assert [stage["depth"] for stage in replay["stages"]] == [stage.depth for stage in run.stages()]
    train = [event for event in run.events()[0] if event["event"] == "train"]
    assert len(replay["train"]) <= 400
    for number in (1, 2, 3):
        own = [event["step"] for event in train if event["stage"] == number]
        shown = [event["step"] for event in replay["train"] if event["stage"] == number]
        assert (shown[0], shown[-1]) == (own[0], own[-1])
        assert set(shown) <= set(own)


def test_long_runs_are_thinned_evenly_and_repeated_steps_count_once(workspace):
    run = add_prune(workspace)
    for step in [*range(1, 3001), *range(2990, 3011)]:
        run.append("train", stage=3, step=step, num_steps=3010, loss=float(step), learning_rate=1e-3,
                   images_per_second=1.0)  # fmt: skip
    shown = [event for event in replay_of(run)["train"] if event["stage"] == 3]
    steps = [event["step"] for event in shown]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3010
    assert len(replay_of(run)["train"]) <= 400
    assert max(np.diff(steps)) < 30


def test_what_cant_be_replayed_costs_one_line(workspace, tmp_path):
    with pytest.raises(InputError, match="only a pruning run"):
        replay_of(add_ced(workspace))
    with pytest.raises(InputError, match="no pruned stage yet"):
        replay_of(add_prune(workspace, num_stages=0))
    with pytest.raises(InputError, match="can't be written"):
        write_replay(add_prune(workspace), tmp_path / "nowhere" / "replay.json")


@pytest.mark.parametrize("harm", ["half", "empty", "list", "schema", "missing", "picture", "stages"])
def test_a_damaged_replay_costs_one_line(harm):
    replay = json.loads(REPLAYS[0].read_bytes())
    content = {
        "half": lambda: REPLAYS[0].read_bytes()[:5000], "empty": lambda: b"", "list": lambda: b"[1]",
        "schema": lambda: encode(replay | {"schema": 99}),
        "missing": lambda: encode({k: v for k, v in replay.items() if k != "train"}),
        "picture": lambda: encode(replay | {"pictures": [{"png": base64.b64encode(b"no").decode()}]}),
        "stages": lambda: encode(replay | {"stages": []}),
    }[harm]()  # fmt: skip
    with pytest.raises(AssetError, match="the file isn't a replay") as caught:
        read_replay(content, name="the file")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def kept():
    return read_kept_features(read_asset(KEPT[0]), name="kept")


@pytest.mark.parametrize("model", MODELS)
def test_fid_of_all_kept_features_is_the_textbook_formula(kept, model, digits):
    a, b = kept.features[model], extract(load_features("demo-cnn"), digits.images)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert fid_of(kept, model, len(a), draw=0) == pytest.approx(expected, rel=1e-3)


def test_fewer_images_score_higher_and_scatter_more(kept):
    found = [fid_of_draws(kept, "intact", num, draws=12) for num in (50, 200, 500)]
    assert found[0].low > found[1].high > found[2].value
    widths = [one.high - one.low for one in found]
    assert widths[0] > widths[2]


def test_a_draw_holds_every_class_alike_and_no_image_twice(kept):
    for num in (50, 137, len(kept.labels)):
        chosen = balanced(kept.labels, num, np.random.default_rng(1))
        assert len(set(chosen.tolist())) == num
        counts = np.bincount(kept.labels[chosen])
        assert counts.max() - counts.min() <= 1
    assert fid_of(kept, "pruned", 50, draw=0) != fid_of(kept, "pruned", 50, draw=1)
    assert fid_of(kept, "pruned", 50, draw=3) == fid_of(kept, "pruned", 50, draw=3)


@pytest.mark.parametrize("num", [0, 1, 10**6])
def test_too_few_and_too_many_images_are_refused(kept, num):
    with pytest.raises(InputError, match="choose 2"):
        balanced(kept.labels, num, np.random.default_rng(0))


def test_accuracy_by_class_counts_what_was_seen(kept):
    one = kept.accuracy("cut", 4)
    own = kept.labels == 4
    assert one.value == np.count_nonzero(kept.seen["cut"][own] == 4) / np.count_nonzero(own)
    assert one.low < one.value < one.high or one.value in (0, 1)
    assert kept.pictures["cut"].shape == kept.pictures["intact"].shape == (10, 6, 32, 32, 3)
    edges = np.concatenate([kept.pictures["intact"][:, :, :, side] for side in (0, -1)])
    assert edges.mean() < 8  # digits stand on black: cut in the wrong places they would reach the edges


@pytest.mark.parametrize("content", [b"", b"PK not a zip", KEPT[0].read_bytes()[:9000] if KEPT else b""])
def test_damaged_features_cost_one_line(content):
    with pytest.raises(AssetError, match="doesn't hold kept features") as caught:
        read_kept_features(content, name="the file")
    assert "\n" not in str(caught.value)
