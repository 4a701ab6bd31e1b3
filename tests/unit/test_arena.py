"""Arenas: the same budget for everybody, each set once, and what the numbers add up to."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from engine.arena import arena as arena_module
from engine.arena.arena import Known, Scores, run_arena, score_entrants
from engine.arena.bout import Bout, hold_bout
from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.arena.result import arena_result
from engine.data.latents import encoding_examples
from engine.errors import InputError
from engine.evaluation.efficiency import count_macs
from engine.evaluation.protocol import Protocol
from engine.pruning.surgery import keep_blocks, with_classes_of
from engine.runs.arena_job import arena_job
from engine.runs.store import create_run
from engine.runs.workspace import open_workspace, read_json
from engine.steps import result_of
from engine.training.config import FinetuneConfig

CONFIG = ArenaConfig(
    num_dropped=2,
    num_seeds=2,
    num_random=2,
    entrants=("ced-target", "bi", "first", "last"),
    finetune=FinetuneConfig(num_steps=1, batch_size=8),
    protocol=Protocol(num_images=16, num_steps=2, cfg_scale=1.0),
    samples=16,
    timesteps=2,
)
SCORES = Scores(
    of={"a": [1, 2, 3, 4], "b": [1, 2, 4, 3], "c": [4, 3, 2, 1]}, dropped={"a": (0, 1), "b": (0, 1), "c": (2, 3)}
)


def bout(dropped, seed, fid, loss=1.0, **more) -> dict:
    return asdict(Bout(dropped=dropped, seed=seed, fid=fid, kid=0.0, accuracy=0.9, loss=loss, **more))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Features and latents of the data, worked out once for all of these tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def held(make_model, digits, cache):
    """Holds one bout of the model of four blocks."""

    def hold(config: ArenaConfig, **what) -> Bout:
        model = make_model()
        examples = result_of(encoding_examples(model, digits, cache=cache))
        *_, found = hold_bout(model, digits, config, seed=0, examples=examples, cache=cache, **what)
        return found

    return hold


def test_every_entrant_drops_what_its_scores_call_least(make_model, digits):
    scores = score_entrants(make_model(), digits, CONFIG)
    assert scores.dropped["first"] == (0, 1)
    assert scores.dropped["last"] == (2, 3)
    for name, values in scores.of.items():
        kept = [values[block] for block in range(4) if block not in scores.dropped[name]]
        assert max(values[block] for block in scores.dropped[name]) <= min(kept)
    assert all(len(blocks) == 2 for blocks in scores.dropped.values())
    assert len(scores.dropped) == 6


def test_joint_scores_name_a_set_and_none_that_adds_up(make_model, digits):
    config = replace(CONFIG, entrants=("ced-target", "ced-target-greedy", "ced-target-noisy"))
    scores = score_entrants(make_model(), digits, config)
    assert len(scores.dropped["ced-target-greedy"]) == 2 and "ced-target-greedy" not in scores.of
    assert scores.of["ced-target-noisy"] != scores.of["ced-target"]


def test_a_set_that_several_chose_is_recovered_once_a_seed_and_an_arena_goes_on(make_model, digits, cache, monkeypatch):
    trained = []
    hold = arena_module.hold_bout
    monkeypatch.setattr(
        arena_module, "hold_bout", lambda *a, **k: trained.append((k["dropped"], k["seed"])) or hold(*a, **k)
    )
    *_, last = run_arena(make_model(), digits, CONFIG, known=Known(scores=SCORES), cache=cache)
    assert trained == [((), 0), ((0, 1), 0), ((2, 3), 0), ((), 1), ((0, 1), 1), ((2, 3), 1)]
    assert last.done == last.total == 6
    trained.clear()
    *_, again = run_arena(
        make_model(), digits, CONFIG, known=replace(last.known, bouts=last.known.bouts[:4]), cache=cache
    )
    assert trained == [((0, 1), 1), ((2, 3), 1)]

    def timeless(bouts):
        return [replace(bout, seconds=None) for bout in bouts]

    assert timeless(again.known.bouts) == timeless(last.known.bouts)  # the same seeds give the same numbers
    assert again.result == last.result


def test_an_interrupted_arena_run_goes_on_with_the_next_bout(make_model, digits, tmp_path, monkeypatch):
    workspace = open_workspace(tmp_path)
    config = replace(CONFIG, adapt_steps=2, num_seeds=1)
    run = create_run(
        workspace, kind="arena", title="t", params={"model": "x", "data": "digits", "config": asdict(config)}
    )
    steps = arena_job(run, workspace, make_model())
    for step in steps:
        if step.done >= 2:
            steps.close()
            break
    before = read_json(run.progress_folder / "arena.json")["bouts"]
    trained = []
    hold = arena_module.hold_bout
    monkeypatch.setattr(arena_module, "hold_bout", lambda *a, **k: trained.append(k["dropped"]) or hold(*a, **k))
    monkeypatch.setattr(arena_module, "score_entrants", None)  # known already: never asked again
    phases = [step.phase for step in arena_job(run, workspace, make_model())]
    assert set(phases) == {"recovering"}
    found = read_json(run.path / "arena.json")
    assert found["bouts"][: len(before)] == before and len(before) == 2
    assert not {tuple(b["dropped"]) for b in before} & set(trained)
    assert len(found["bouts"]) == len(before) + len(trained)


def test_everybody_starts_from_the_adapted_model(make_model, digits, cache):
    model = make_model(data="shapes")
    config = replace(CONFIG, adapt_steps=3, entrants=("first", "last"), num_random=0, num_seeds=1)
    steps = run_arena(model, digits, config, cache=cache)
    phases = {}
    for step in steps:
        phases.setdefault(step.phase, step)
        start = step.known.start
    assert list(phases) == ["adapting", "scoring", "recovering"]
    assert start.labels_trained and start.class_names == digits.class_names
    assert not torch.equal(start.network.blocks[0].mlp.fc1.weight, model.network.blocks[0].mlp.fc1.weight)


def test_a_strategy_gets_as_many_steps_in_all_and_ends_at_the_same_depth(held):
    config = replace(CONFIG, finetune=FinetuneConfig(num_steps=12, batch_size=8))
    found = held(config, strategy="progressive")
    assert len(found.dropped) == 2 and found.strategy == "progressive"
    assert sum(stage["num_steps"] for stage in found.stages) == 12
    assert sorted(block for stage in found.stages for block in stage["dropped"]) == list(found.dropped)


def test_training_cost_counts_the_depth_that_was_trained_and_the_teacher(make_model, held):
    model = make_model()
    config = replace(CONFIG, finetune=FinetuneConfig(num_steps=3, batch_size=8))
    pruned, whole = count_macs(keep_blocks(model, [2, 3]).network), count_macs(model.network)
    assert held(config, dropped=(0, 1)).train_macs == 3 * 8 * pruned
    taught = replace(config, finetune=replace(config.finetune, distill_weight=1.0))
    assert held(taught, dropped=(0, 1)).train_macs == pytest.approx(3 * 8 * (pruned + whole / 3))


def test_distillation_changes_what_is_learned(held):
    taught = replace(CONFIG, finetune=FinetuneConfig(num_steps=3, batch_size=8, distill_weight=5.0))
    plain = replace(CONFIG, finetune=FinetuneConfig(num_steps=3, batch_size=8))
    losses = [held(config, dropped=(0, 1)).loss for config in (taught, plain)]
    assert losses[0] != losses[1]


def test_a_model_that_never_learned_the_classes_is_no_teacher(make_model, digits, cache):
    start = with_classes_of(make_model(data="shapes"), digits, seed=0)
    taught = replace(CONFIG, finetune=FinetuneConfig(num_steps=2, batch_size=8, distill_weight=5.0))
    plain = replace(CONFIG, finetune=FinetuneConfig(num_steps=2, batch_size=8))
    examples = result_of(encoding_examples(start, digits, cache=cache))
    bouts = [
        list(hold_bout(start, digits, config, dropped=(0, 1), seed=0, examples=examples, cache=cache))[-1]
        for config in (taught, plain)
    ]
    assert bouts[0].loss == bouts[1].loss and bouts[0].train_macs == bouts[1].train_macs


def test_foresight_is_the_rank_correlation_of_foretold_and_found():
    values = [1.0, 2.0, 4.0, 8.0]
    sets = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    fids = [5.0, 6.0, 9.0, 7.0, 8.0, 10.0]
    scores = {"of": {"knows": values, "flat": [1.0] * 4}, "dropped": {"knows": [0, 1]}}
    bouts = [bout(s, seed, fid + seed) for s, fid in zip(sets, fids, strict=True) for seed in (0, 1)]
    bouts.append(bout((0, 1), 0, 1.0, strategy="progressive"))  # not dropped at once: no part of it
    found = arena_result(CONFIG, scores, bouts)["foresight"]
    foretold = [sum(values[block] for block in blocks) for blocks in sets]
    assert found["knows"]["fid"]["value"] == pytest.approx(stats.spearmanr(foretold, fids).statistic)
    assert found["knows"]["fid"]["low"] <= found["knows"]["fid"]["value"] <= found["knows"]["fid"]["high"]
    assert found["flat"]["fid"] is None


def test_the_table_has_means_with_students_interval_and_the_intact_model():
    scores = {"of": {"a": [1, 2, 3, 4]}, "dropped": {"a": [0, 1], "random 1": [1, 2]}}
    bouts = [bout((), 0, 1.0), bout((0, 1), 0, 4.0), bout((0, 1), 1, 6.0), bout((1, 2), 0, 9.0)]
    rows = arena_result(CONFIG, scores, bouts)["table"]
    assert [row["kind"] for row in rows] == ["intact", "criterion", "chance"]
    half = stats.t.ppf(0.95, 1) * 2**0.5 / 2**0.5
    assert rows[1]["fid"] == pytest.approx({"mean": 5.0, "low": 5 - half, "high": 5 + half})
    assert rows[2]["fid"]["low"] is None  # one seed says nothing about spread
    assert rows[1]["accuracy"]["high"] <= 1


def test_quality_is_set_against_the_intact_model_of_the_same_seed_and_chance_is_taken_over_sets():
    scores = {"of": {}, "dropped": {"random 1": [1, 2], "random 2": [0, 1], "random 3": [1, 2]}}
    bouts = [bout((), 0, 2.0), bout((), 1, 4.0), bout((1, 2), 0, 4.0), bout((1, 2), 1, 4.0), bout((0, 1), 0, 8.0)]
    found = arena_result(CONFIG, scores, bouts)
    rows = {row["entrant"]: row for row in found["table"]}
    assert rows["random 1"]["against_intact"]["mean"] == pytest.approx(np.mean([4 / 2, 4 / 4]))
    assert rows["intact, same budget"]["against_intact"] is None
    assert found["chance"]["num_sets"] == 2  # one was drawn twice
    assert found["chance"]["fid"]["mean"] == pytest.approx((4.0 + 8.0) / 2)


def test_a_strategy_is_a_row_of_its_own_whatever_sets_it_came_to():
    scores = {"of": {}, "dropped": {"a": [0, 1]}}
    stages = ({"dropped": [0], "num_steps": 1, "reason": ""},)
    bouts = [
        bout((0, 1), 0, 5.0),
        bout((0, 1), 0, 3.0, strategy="progressive", stages=stages),
        bout((0, 2), 1, 3.0, strategy="progressive", stages=stages),
        bout((0, 2), 2, 3.0, strategy="progressive", stages=stages),
    ]
    first, second = arena_result(CONFIG, scores, bouts)["table"]
    assert (first["kind"], first["dropped"], first["num_sets"], first["num_seeds"]) == ("progressive", [0, 2], 2, 3)
    assert second["entrant"] == "a" and second["num_seeds"] == 1


def test_results_of_before_there_were_strategies_are_still_counted():
    old = [
        {key: value for key, value in bout((0, 1), seed, 5.0).items()
         if key not in ("strategy", "stages", "train_macs", "seconds")}
        for seed in (0, 1)
    ]  # fmt: skip
    (row,) = arena_result(CONFIG, {"of": {}, "dropped": {"a": [0, 1]}}, old)["table"]
    assert row["fid"]["mean"] == 5.0 and row["train_macs"] is None


def test_every_entrant_says_what_it_does():
    for entrant in ENTRANTS.values():
        assert entrant.title and entrant.meaning.endswith(".")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entrants": ("luck",)}, "no entrant named 'luck'"),
        ({"entrants": ("bi",), "num_random": 0}, "at least two entrants"),
        ({"num_seeds": 0}, "at least 1"),
        ({"adapt_steps": -1}, "adapt_steps is -1"),
    ],
)
def test_an_arena_that_cannot_be_costs_one_line(change, words):
    with pytest.raises(InputError, match=words):
        ArenaConfig(**change)
    with pytest.raises(InputError, match="at least one must stay"):
        ArenaConfig(num_dropped=4).check_against(4)
