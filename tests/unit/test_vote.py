import json
import math
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.data.dataset import Data
from engine.errors import InputError
from engine.models.model import Model
from engine.pruning.config import DEFAULT_WEIGHTS, PruneConfig, usual_stages
from engine.pruning.decision import (
    Decision,
    decide,
    decision_from,
    numbers_to_drop,
    proxy_batches,
    target_depth_of,
)
from engine.pruning.proxies import NoisedBatch
from engine.pruning.vote import Candidate, blocks_going, check_weights, count_votes, override, recount
from engine.runs.workspace import read_json, write_json

WEIGHTS_OF_COST = {"cost": 1.0, "ntk": 0.0, "zico": 0.0}
WEIGHTS_OF_NTK = {"cost": 0.0, "ntk": 1.0, "zico": 0.0}


def candidate(k: int, *, macs: int, ntk: float | None, zico: float | None) -> Candidate:
    return Candidate(num_dropped=k, dropped=tuple(range(k)), macs=macs, seconds_per_step=0.0, ntk=ntk, zico=zico)


THREE = [
    candidate(0, macs=300, ntk=5.0, zico=30.0),
    candidate(1, macs=200, ntk=9.0, zico=20.0),
    candidate(2, macs=100, ntk=7.0, zico=10.0),
]


def record_of(candidates: list[Candidate], weights: dict[str, float] = DEFAULT_WEIGHTS) -> dict[str, Any]:
    vote = count_votes(candidates, weights)
    scored = [
        {**asdict(c), "dropped": list(c.dropped), "ranks": ranks, "total": total}
        for c, ranks, total in zip(candidates, vote.ranks, vote.totals, strict=True)
    ]
    return {
        "mode": "adaptive",
        "order": list(range(4)),
        "scores": {str(block): block / 10 for block in range(4)},
        "candidates": scored,
        "weights": dict(weights),
        "chosen": vote.chosen,
        "reason": vote.reason,
    }


def test_ranks_are_added_with_their_weights_and_the_lowest_sum_wins():
    vote = count_votes(THREE, DEFAULT_WEIGHTS)
    assert vote.ranks == [
        {"cost": 3, "ntk": 1, "zico": 1},
        {"cost": 2, "ntk": 3, "zico": 2},
        {"cost": 1, "ntk": 2, "zico": 3},
    ]
    assert vote.totals == [4.0, 4.5, 3.5]
    assert vote.chosen == 2


def test_equal_values_share_a_rank_and_a_tie_removes_fewer_blocks():
    candidates = [candidate(1, macs=100, ntk=5.0, zico=1.0), candidate(0, macs=100, ntk=5.0, zico=1.0)]
    vote = count_votes(candidates, DEFAULT_WEIGHTS)
    assert vote.ranks[0] == vote.ranks[1] == {"cost": 1, "ntk": 1, "zico": 1}
    assert candidates[vote.chosen].num_dropped == 0
    assert "tie" in vote.reason


def test_weights_change_the_outcome():
    candidates = [candidate(0, macs=300, ntk=1.0, zico=9.0), candidate(3, macs=100, ntk=2.0, zico=1.0)]
    assert count_votes(candidates, {"cost": 3.0, "ntk": 0.5, "zico": 0.5}).chosen == 1
    assert count_votes(candidates, {"cost": 0.1, "ntk": 0.5, "zico": 0.5}).chosen == 0


@pytest.mark.parametrize(
    ("candidates", "weights", "reason"),
    [
        (
            THREE,
            DEFAULT_WEIGHTS,
            "2 blocks go: cost wanted that, against trainability (NTK) and gradient signal (ZiCo), who wanted none.",
        ),
        (
            [candidate(0, macs=3, ntk=5.0, zico=1.0), candidate(1, macs=2, ntk=3.0, zico=9.0)],
            DEFAULT_WEIGHTS,
            "1 block goes: cost, trainability (NTK) and gradient signal (ZiCo) wanted that.",
        ),
        (
            [
                candidate(0, macs=3, ntk=1.0, zico=9.0),
                candidate(1, macs=2, ntk=2.0, zico=8.0),
                candidate(2, macs=1, ntk=9.0, zico=1.0),
            ],
            {"cost": 1.0, "ntk": 0.6, "zico": 0.6},
            "No block goes now: trainability (NTK) and gradient signal (ZiCo) wanted that, against cost, who wanted 2.",
        ),
        (
            [
                candidate(0, macs=4, ntk=1.0, zico=4.0),
                candidate(1, macs=3, ntk=2.0, zico=5.0),
                candidate(2, macs=2, ntk=8.0, zico=3.0),
                candidate(3, macs=1, ntk=9.0, zico=2.0),
            ],
            {"cost": 1.0, "ntk": 1.5, "zico": 0.0},  # without a voice, ZiCo isn't in the sentence
            "No block goes now: trainability (NTK) wanted that, against cost, who wanted 3.",
        ),
        (
            [
                candidate(0, macs=3, ntk=1.0, zico=1.0),
                candidate(1, macs=2, ntk=2.0, zico=1.0),
                candidate(2, macs=1, ntk=3.0, zico=1.0),
            ],
            {"cost": 1.0, "ntk": 1.0, "zico": 1.0},
            "No block goes now: trainability (NTK) wanted that, against cost, who wanted 2; gradient signal (ZiCo) saw "
            "no difference; a tie, settled for fewer blocks.",
        ),
        (
            [
                candidate(0, macs=4, ntk=1.0, zico=1.0),
                candidate(1, macs=2, ntk=2.0, zico=8.0),
                candidate(2, macs=1, ntk=9.0, zico=9.0),
                candidate(3, macs=3, ntk=3.0, zico=7.0),
            ],
            {"cost": 1.0, "ntk": 2.0, "zico": 1.0},
            "1 block goes: cost and gradient signal (ZiCo) wanted 2; trainability (NTK) wanted none; this has the best "
            "sum of ranks.",
        ),
        (THREE[:1], DEFAULT_WEIGHTS, "No block goes now: nothing else would still reach the target."),
        (
            [
                candidate(0, macs=3, ntk=5.0, zico=1.0),
                candidate(1, macs=2, ntk=None, zico=2.0),
                candidate(2, macs=1, ntk=None, zico=3.0),
            ],
            DEFAULT_WEIGHTS,
            "2 blocks go: cost and gradient signal (ZiCo) wanted that, against trainability (NTK), who wanted none; "
            "NTK couldn't be worked out for dropping 1 and 2: its kernel is singular to rounding.",
        ),
        (
            [candidate(0, macs=3, ntk=None, zico=None), candidate(1, macs=2, ntk=3.0, zico=9.0)],
            {"cost": 1.0, "ntk": 1.0, "zico": 0.0},  # ZiCo has no voice, so nobody misses it
            "1 block goes: cost and trainability (NTK) wanted that; NTK couldn't be worked out for dropping none: its "
            "gradients aren't finite.",
        ),
        (
            [candidate(0, macs=3, ntk=None, zico=1.0), candidate(1, macs=2, ntk=None, zico=1.0)],
            {"cost": 0.0, "ntk": 1.0, "zico": 1.0},
            "No block goes now: trainability (NTK) and gradient signal (ZiCo) saw no difference; a tie, settled for "
            "fewer blocks; NTK couldn't be worked out for dropping none and 1: its kernel is singular to rounding.",
        ),
        (
            [candidate(2, macs=3, ntk=None, zico=1.0)],
            DEFAULT_WEIGHTS,
            "2 blocks go: nothing else would still reach the target; NTK couldn't be worked out for dropping 2: its "
            "kernel is singular to rounding.",
        ),
    ],
)
def test_the_reason_says_who_wanted_what(candidates, weights, reason):
    assert count_votes(candidates, weights).reason == reason


@pytest.mark.parametrize("bad", [math.inf, math.nan, -math.inf, None])
def test_a_score_that_could_not_be_worked_out_ranks_last(bad):
    candidates = [
        candidate(0, macs=3, ntk=1e12, zico=-5.0),
        candidate(1, macs=2, ntk=bad, zico=bad),
        candidate(2, macs=1, ntk=7.0, zico=10.0),
    ]
    vote = count_votes(candidates, WEIGHTS_OF_NTK)
    assert [rank["ntk"] for rank in vote.ranks] == [2, 3, 1]
    assert [rank["zico"] for rank in vote.ranks] == [2, 3, 1]
    assert vote.chosen == 2
    both = count_votes(
        [candidate(0, macs=2, ntk=bad, zico=1.0), candidate(1, macs=1, ntk=None, zico=1.0)], WEIGHTS_OF_NTK
    )
    assert [rank["ntk"] for rank in both.ranks] == [1, 1] and both.chosen == 0


@pytest.mark.parametrize(
    "weights",
    [
        {"cost": 0.0, "ntk": 0.0, "zico": 0.0},
        {"cost": -1.0, "ntk": 1.0, "zico": 1.0},
        {"cost": math.nan, "ntk": 1.0, "zico": 1.0},
        {"cost": math.inf, "ntk": 1.0, "zico": 1.0},
        {"cost": "much", "ntk": 1.0, "zico": 1.0},
        {"cost": 1.0, "ntk": 1.0},
        {"cost": 1.0, "ntk": 1.0, "zico": 1.0, "beauty": 1.0},
    ],
)
def test_weights_that_cannot_be_are_refused_everywhere(weights):
    for refuse in (
        lambda: check_weights(weights),
        lambda: count_votes(THREE, weights),
        lambda: recount(record_of(THREE), weights),
        lambda: PruneConfig(target_depth=2, weights=weights),
    ):
        with pytest.raises(InputError, match="weight"):
            refuse()


def test_a_vote_is_the_same_counted_again_from_its_file(tmp_path):
    with_gap = [*THREE, candidate(3, macs=50, ntk=None, zico=1.0)]
    record = record_of(with_gap)
    write_json(tmp_path / "stage.json", record)
    read = read_json(tmp_path / "stage.json")
    assert recount(read, read["weights"]) == read == json.loads(json.dumps(record))


def test_other_weights_give_another_vote_of_the_same_scores():
    record = record_of(THREE)
    before = json.dumps(record)
    other = recount(record, WEIGHTS_OF_NTK)
    assert (record["chosen"], other["chosen"]) == (2, 0)
    assert other["weights"] == WEIGHTS_OF_NTK and other["candidates"][0]["total"] == 1.0
    assert [entry["ntk"] for entry in other["candidates"]] == [5.0, 9.0, 7.0]
    assert other["reason"].startswith("No block goes now: trainability (NTK) wanted that")
    assert json.dumps(record) == before
    assert recount(other, DEFAULT_WEIGHTS) == record


def test_an_override_keeps_the_votes_own_choice_beside():
    record = record_of(THREE)
    ours = override(record, num_dropped=1)
    assert (ours["mode"], ours["chosen"], ours["dropped"]) == ("overridden", 1, [0])
    assert ours["vote"] == {"chosen": 2, "reason": record["reason"]}
    assert ours["reason"] == "1 block goes (0), chosen by hand; the vote wanted 2 (0, 1)."
    assert ours["candidates"] == record["candidates"] and blocks_going(ours) == [0]
    again = override(ours, drop=[3, 1])
    assert (again["chosen"], again["dropped"], again["vote"]) == (None, [1, 3], ours["vote"])
    assert override(again, num_dropped=0)["reason"] == "No block goes now, chosen by hand; the vote wanted 2 (0, 1)."
    assert override(again, drop=[1, 0])["reason"].endswith("as the vote had it.")
    assert override(record, num_dropped=3)["chosen"] is None
    assert recount(again, DEFAULT_WEIGHTS) == record
    assert blocks_going(record) == [0, 1]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "either how many"),
        ({"num_dropped": 1, "drop": [0]}, "either how many"),
        ({"num_dropped": 4}, "choose 0 … 3"),
        ({"num_dropped": -1}, "choose 0 … 3"),
        ({"drop": [9]}, "block 9 isn't there"),
        ({"drop": [1, 1]}, "twice"),
        ({"drop": [0, 1, 2, 3]}, "keep at least one"),
    ],
)
def test_an_override_that_cannot_be_is_refused(choice, message):
    with pytest.raises(InputError, match=message):
        override(record_of(THREE), **choice)


def test_blocks_chosen_beforehand_have_no_vote():
    record = {
        "mode": "chosen",
        "order": [],
        "scores": {},
        "candidates": [],
        "weights": {},
        "chosen": None,
        "reason": "",
    }
    assert blocks_going(record) is None
    for ask in (lambda: recount(record, DEFAULT_WEIGHTS), lambda: override(record, num_dropped=1)):
        with pytest.raises(InputError, match="no vote"):
            ask()


@pytest.mark.parametrize("num_stages", [1, 2, 3, 5])
@pytest.mark.parametrize(("depth", "target"), [(12, 6), (28, 14), (7, 6), (5, 1)])
@pytest.mark.parametrize("max_per_stage", [None, 1, 4])
@pytest.mark.parametrize("greed", ["least", "most"])
def test_the_target_is_reached_whatever_the_votes_say(depth, target, num_stages, max_per_stage, greed):
    left = depth
    for stage in range(num_stages):
        numbers = numbers_to_drop(left, target, stages_left=num_stages - stage, max_per_stage=max_per_stage)
        left -= numbers[0] if greed == "least" else numbers[-1]
        assert left >= target
    assert left == target


def test_a_vote_has_a_choice_before_the_last_stage():
    assert list(numbers_to_drop(12, 6, stages_left=3)) == [0, 1, 2, 3]
    assert list(numbers_to_drop(8, 6, stages_left=1)) == [2]


def ranked(model: Model) -> SimpleNamespace:
    """What a decision asks of a CED result; the last block is the least important."""
    depth = model.config.depth
    return SimpleNamespace(order=list(reversed(range(depth))), ced=[1 - block / depth for block in range(depth)])


@pytest.mark.parametrize("process", ["flow", "diffusion"])
def test_a_decision_is_reproducible_from_its_record(make_model, digits: Data, process):
    model = make_model(process, depth=5)
    config = PruneConfig(target_depth=2, num_stages=2, num_proxy_samples=4)
    scores = ranked(model)
    (*candidates, decision), (*_, again) = (
        list(decide(model, digits, scores, config, stages_left=2, seed=0)) for _ in range(2)
    )
    assert [item.candidate.num_dropped for item in candidates] == [0, 1, 2, 3]
    assert without_times(decision) == without_times(again)
    record = json.loads(json.dumps(decision.record))
    assert recount(record, record["weights"]) == record
    assert decision_from(model, record) == Decision(drop=decision.drop, record=record)
    assert record["candidates"][1]["macs"] > record["candidates"][2]["macs"] > 0
    by_hand = decision_from(model, override(record, drop=[4, 0]))
    assert by_hand.drop == [0, 4]
    stage = model.with_network(model.network.with_blocks([1, 2, 4]), change="keep", kept=[1, 2, 4])
    assert decision_from(stage, {**by_hand.record, "dropped": [4]}).drop == [2]
    with pytest.raises(InputError, match="block 0 is gone"):
        decision_from(stage, by_hand.record)


def without_times(decision: Decision) -> dict:
    return json.loads(json.dumps(decision.record), object_hook=lambda entry: entry | {"seconds_per_step": 0})


def test_a_damaged_candidate_loses_without_stopping_the_vote(make_model, digits: Data):
    model = make_model(depth=3)
    scores = ranked(model)
    spared = scores.order[-1]
    model.network.blocks[spared].mlp.fc1.weight.data.fill_(torch.nan)
    *_, decision = decide(
        model, digits, scores, PruneConfig(target_depth=1, num_stages=2, num_proxy_samples=4), stages_left=2, seed=0
    )
    assert {entry["ntk"] for entry in decision.record["candidates"]} == {None}
    assert "NTK couldn't be worked out for dropping none, 1 and 2: its gradients aren't" in decision.record["reason"]
    assert "NaN" not in json.dumps(decision.record)


def test_a_target_speedup_is_the_deepest_model_that_reaches_it(make_model, digits: Data):
    model = make_model(depth=6)
    halved = PruneConfig(target_speedup=2.0, num_proxy_samples=4)
    depth = target_depth_of(model.network, halved)
    assert depth == 2  # half of six blocks isn't half of the MACs: embedding and head stay
    assert target_depth_of(model.network, PruneConfig(target_depth=4)) == 4
    assert target_depth_of(model.network, PruneConfig(drop=(1,))) is None
    with pytest.raises(InputError, match=r"with one block of 6 the model takes \d\.\d\d× fewer MACs"):
        target_depth_of(model.network, PruneConfig(target_speedup=5.99))
    scores = ranked(model)
    *_, decision = decide(model, digits, scores, halved, stages_left=1, seed=0, target_depth=depth)
    assert len(decision.drop) == 4
    assert decision.record["target"] == {"speedup": 2.0, "counted_in": "MACs", "depth": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "say either"),
        ({"target_depth": 3, "target_speedup": 2.0}, "not two"),
        ({"drop": (1,), "target_speedup": 2.0}, "not two"),
        ({"target_speedup": 1.0}, "above 1"),
        ({"target_speedup": math.nan}, "above 1"),
        ({"target_speedup": 6.0}, "out of reach"),
        ({"target_depth": 6}, "not below"),
        ({"target_depth": 3, "max_per_stage": -1}, "max_per_stage is -1; expected 1 or more, or None"),
        ({"target_depth": 3, "max_per_stage": 0}, "max_per_stage is 0; expected 1 or more, or None"),
        ({"target_depth": 3, "adapt_steps": -1}, "adapt_steps is -1; expected 0"),
        ({"target_depth": 7}, "not below the model's 6 blocks"),
        ({"target_depth": 0}, "at least one block must stay"),
        ({"target_depth": 3, "num_stages": 4}, "4 stages for 3 blocks to drop: .* choose at most 3"),
        ({"target_depth": 5, "num_stages": 2}, "2 stages for 1 block to drop: .* choose at most 1"),
        ({"target_depth": 3, "num_proxy_samples": 1}, "at least 2"),
        ({"target_depth": 3, "recovery_shares": "all"}, "choose even, last-heavy, final"),
    ],
)
def test_a_pruning_that_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PruneConfig(**settings).check_against(6)


def test_stages_may_be_as_many_as_blocks_that_go_and_are_not_counted_once_begun():
    PruneConfig(target_depth=3, num_stages=3).check_against(6)
    PruneConfig(target_depth=3, num_stages=9).check_against(6, begun=True)
    PruneConfig(drop=(1,), num_stages=9).check_against(6)  # one stage, whatever is said


def test_the_usual_stages_are_never_more_than_the_blocks_that_go(make_model):
    assert usual_stages(12, target_depth=6) == PruneConfig.num_stages == 3
    assert usual_stages(12, target_depth=11) == 1
    assert usual_stages(12) == 1  # blocks chosen beforehand
    network = make_model(depth=6).network
    for speedup in (1.05, 1.2, 1.5, 2.0, 3.0):
        config = PruneConfig(target_speedup=speedup, num_stages=usual_stages(6, target_speedup=speedup))
        config.check_stages(6 - target_depth_of(network, config))


def test_the_batches_of_the_proxies_hold_no_image_twice(make_model, digits: Data):
    model = make_model()
    few = Data("few", digits.images[:6], digits.labels[:6], digits.class_names, "few")
    batches = proxy_batches(model, few, PruneConfig(target_depth=2, num_proxy_samples=6), seed=0)
    latents = model.latents_of(few)
    for batch in batches:
        found = [(latents == x0).flatten(1).all(1).nonzero().item() for x0 in batch.x0]
        assert sorted(found) == list(range(6))
    assert not torch.equal(batches[0].x0, batches[1].x0)


def test_a_kernel_that_is_singular_is_no_measurement(make_model, digits: Data, monkeypatch):
    def of_one_image(model, data, config, *, seed):
        for batch in proxy_batches(model, data, config, seed=seed):
            same = {name: value[:1].expand_as(value).contiguous() for name, value in vars(batch).items()}
            batches.append(NoisedBatch(**same))
        return batches

    batches: list[NoisedBatch] = []
    monkeypatch.setattr("engine.pruning.decision.proxy_batches", of_one_image)
    model = make_model(depth=4)
    config = PruneConfig(target_depth=2, num_stages=2, num_proxy_samples=4)
    *_, decision = decide(model, digits, ranked(model), config, stages_left=2, seed=0)
    record = json.loads(json.dumps(decision.record))
    assert [entry["ntk"] for entry in record["candidates"]] == [None, None, None]
    assert all(math.isfinite(entry["zico"]) for entry in record["candidates"])
    assert {entry["ranks"]["ntk"] for entry in record["candidates"]} == {1}
    assert "(NTK) saw no difference" in record["reason"]
    assert "NTK couldn't be worked out for dropping none, 1 and 2: its kernel is singular" in record["reason"]
    assert recount(record, record["weights"]) == record


@pytest.mark.parametrize(
    ("shares", "expected"), [("even", [100, 100, 100]), ("last-heavy", [50, 100, 150]), ("final", [15, 57, 228])]
)
def test_steps_of_recovery_are_shared_out_without_a_step_more_or_less(shares, expected):
    config = PruneConfig(target_depth=2, recovery_shares=shares)
    assert [config.recovery_steps(stage, 100, last=stage == 3) for stage in (1, 2, 3)] == expected
    assert [config.steps_before(stage, 100) for stage in (1, 2, 3)] == [0, expected[0], expected[0] + expected[1]]
    early = [config.recovery_steps(stage, 100, last=stage == 2) for stage in (1, 2)]
    assert sum(early) == 300 and early[0] == expected[0]  # a target reached early: all that is left
    assert sum(config.recovery_steps(stage, 7, last=stage == 3) for stage in (1, 2, 3)) == 21
    assert config.recovery_steps(1, 0, last=True) == 0
    assert PruneConfig(drop=(1,), recovery_shares=shares).recovery_steps(1, 100, last=True) == 100
