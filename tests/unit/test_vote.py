import pytest

from engine.pruning.config import DEFAULT_WEIGHTS, PruneConfig
from engine.pruning.decision import numbers_to_drop
from engine.pruning.vote import Candidate, count_votes


def candidate(k: int, *, macs: int, ntk: float, zico: float) -> Candidate:
    return Candidate(num_dropped=k, dropped=tuple(range(k)), macs=macs, seconds_per_step=0.0, ntk=ntk, zico=zico)


def test_ranks_are_added_with_their_weights_and_the_lowest_sum_wins():
    candidates = [
        candidate(0, macs=300, ntk=5.0, zico=30.0),
        candidate(1, macs=200, ntk=9.0, zico=20.0),
        candidate(2, macs=100, ntk=7.0, zico=10.0),
    ]
    vote = count_votes(candidates, DEFAULT_WEIGHTS)
    assert vote.ranks == [
        {"cost": 3, "ntk": 1, "zico": 1},
        {"cost": 2, "ntk": 3, "zico": 2},
        {"cost": 1, "ntk": 2, "zico": 3},
    ]
    assert vote.totals == [4.0, 4.5, 3.5]
    assert vote.chosen == 2
    assert vote.reason.startswith("2 blocks go: best on cost")


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


@pytest.mark.parametrize("num_stages", [1, 2, 3, 5])
@pytest.mark.parametrize(("depth", "target"), [(12, 6), (28, 14), (7, 6), (5, 1)])
@pytest.mark.parametrize("greed", ["least", "most"])
def test_the_target_is_reached_whatever_the_votes_say(depth, target, num_stages, greed):
    config = PruneConfig(target_depth=target, num_stages=num_stages)
    left = depth
    for stage in range(num_stages):
        numbers = numbers_to_drop(left, config, stages_left=num_stages - stage)
        left -= numbers[0] if greed == "least" else numbers[-1]
        assert left >= target
    assert left == target


def test_a_vote_has_a_choice_before_the_last_stage():
    config = PruneConfig(target_depth=6, num_stages=3)
    assert list(numbers_to_drop(12, config, stages_left=3)) == [0, 1, 2, 3]
    assert list(numbers_to_drop(8, config, stages_left=1)) == [2]
