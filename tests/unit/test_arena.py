"""Arenas: the same budget for everybody, each set once, and what the numbers add up to."""

from dataclasses import asdict

import pytest
from scipy import stats

from engine.arena import arena as arena_module
from engine.arena.arena import Bout, Scores, run_arena, score_entrants
from engine.arena.config import ArenaConfig
from engine.arena.result import arena_result
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
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


def bout(dropped, seed, fid, loss=1.0) -> dict:
    return asdict(Bout(dropped=dropped, seed=seed, fid=fid, kid=0.0, accuracy=0.9, loss=loss))


def test_every_entrant_drops_what_its_scores_call_least(make_model, digits):
    scores = score_entrants(make_model(), digits, CONFIG)
    assert scores.dropped["first"] == (0, 1)
    assert scores.dropped["last"] == (2, 3)
    for name, values in scores.of.items():
        kept = [values[block] for block in range(4) if block not in scores.dropped[name]]
        assert max(values[block] for block in scores.dropped[name]) <= min(kept)
    assert all(len(blocks) == 2 for blocks in scores.dropped.values())
    assert len(scores.dropped) == 6


def test_a_set_that_several_chose_is_recovered_once_a_seed_and_an_arena_goes_on(make_model, digits, monkeypatch):
    scores = Scores(of={"a": [1, 2, 3, 4], "b": [1, 2, 4, 3], "c": [4, 3, 2, 1]},
                    dropped={"a": (0, 1), "b": (0, 1), "c": (2, 3)})  # fmt: skip
    trained = []
    recover = arena_module._recover
    monkeypatch.setattr(arena_module, "_recover", lambda *a: trained.append(a[1:3]) or recover(*a))
    *_, last = run_arena(make_model(), digits, CONFIG, scores=scores)
    assert trained == [((), 0), ((0, 1), 0), ((2, 3), 0), ((), 1), ((0, 1), 1), ((2, 3), 1)]
    assert last.done == last.total == 6
    trained.clear()
    *_, again = run_arena(make_model(), digits, CONFIG, scores=scores, done=last.bouts[:4])
    assert trained == [((0, 1), 1), ((2, 3), 1)]
    assert again.bouts == last.bouts  # the same seeds give the same numbers
    assert again.result == last.result


def test_foresight_is_the_rank_correlation_of_foretold_and_found():
    values = [1.0, 2.0, 4.0, 8.0]
    sets = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    fids = [5.0, 6.0, 9.0, 7.0, 8.0, 10.0]
    scores = {"of": {"knows": values, "flat": [1.0] * 4}, "dropped": {"knows": [0, 1]}}
    bouts = [bout(s, seed, fid + seed) for s, fid in zip(sets, fids, strict=True) for seed in (0, 1)]
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entrants": ("luck",)}, "no criterion named 'luck'"),
        ({"entrants": ("bi",), "num_random": 0}, "at least two entrants"),
        ({"num_seeds": 0}, "at least 1"),
    ],
)
def test_an_arena_that_cannot_be_costs_one_line(change, words):
    with pytest.raises(InputError, match=words):
        ArenaConfig(**change)
    with pytest.raises(InputError, match="at least one must stay"):
        ArenaConfig(num_dropped=4).check_against(4)
