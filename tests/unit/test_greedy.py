import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.importance.ced import ced_columns, compute_ced, joint_effect
from engine.importance.config import CedConfig

SMALL = dict(samples=24, timesteps=2, num_bootstrap=30)


@pytest.mark.parametrize("variable", ["target", "prediction", "samples"])
def test_each_removal_is_the_least_joint_ced_found_by_trying_all(make_model, digits, variable):
    model, config = make_model("diffusion"), CedConfig(variable=variable, **SMALL)
    result = compute_ced(model, digits, CedConfig(variable=variable, order="greedy", num_candidates=3, **SMALL))
    gone = []
    for removal in result.greedy:
        tried = {
            row: joint_effect(model, digits, sorted([*gone, row]), config).ced for row in range(4) if row not in gone
        }
        assert removal["row"] == min(tried, key=tried.get)
        assert removal["ced"] == pytest.approx(tried[removal["row"]], abs=1e-4)
        assert removal["ci_low"] <= removal["ced"] <= removal["ci_high"]
        assert 0 <= removal["agreement"] <= 1
        gone.append(removal["row"])
    assert result.order[:3] == gone
    assert sorted(result.order) == [0, 1, 2, 3]


def test_two_blocks_that_do_the_same_work_do_not_go_together(make_model, digits):
    """Blocks 0 and 1 add the same large vector to every token. The final norm hides that one is missing, not both."""
    model = make_model()
    with torch.no_grad():
        for block in model.network.blocks[:2]:
            for parameter in block.parameters():
                parameter.zero_()
            block.adaLN_modulation[1].bias[5 * 32 :] = 1.0  # the MLP's gate
            block.mlp.fc2.bias[:] = 5 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    config = CedConfig(**SMALL)
    alone = compute_ced(model, digits, config)
    greedy = compute_ced(model, digits, CedConfig(order="greedy", **SMALL))
    assert {0, 1} < set(alone.order[:3])  # neither is missed alone
    assert not {0, 1} < set(greedy.order[:3])
    assert greedy.greedy[2]["ced"] < 0.1 * joint_effect(model, digits, sorted(alone.order[:3]), config).ced


def test_the_heatmap_is_that_of_the_independent_order(make_model, digits):
    alone = compute_ced(make_model(), digits, CedConfig(**SMALL))
    greedy = compute_ced(make_model(), digits, CedConfig(order="greedy", **SMALL))
    assert (greedy.delta, greedy.ced, greedy.ci_low, greedy.rank_high) == (
        alone.delta,
        alone.ced,
        alone.ci_low,
        alone.rank_high,
    )
    assert greedy.order[0] == alone.order[0]
    assert greedy.greedy[0]["ced"] == min(alone.ced)
    assert len(greedy.greedy) == 4


def test_rows_that_stay_follow_in_the_order_of_the_last_scores(make_model, digits):
    one = compute_ced(make_model(), digits, CedConfig(order="greedy", num_candidates=1, **SMALL))
    assert one.order == compute_ced(make_model(), digits, CedConfig(**SMALL)).order
    assert len(one.greedy) == 1


def test_branches_are_removed_one_by_one(make_model, digits):
    config = CedConfig(order="greedy", granularity="branch", num_candidates=2, **SMALL)
    result = compute_ced(make_model(), digits, config)
    assert [removal["label"] for removal in result.greedy] == [result.labels[row] for row in result.order[:2]]
    joint = joint_effect(make_model(), digits, sorted(result.order[:2]), config)
    assert result.greedy[1]["ced"] == pytest.approx(joint.ced, abs=1e-4)


def test_columns_count_up_to_the_end(make_model, digits):
    seen = list(ced_columns(make_model(), digits, CedConfig(order="greedy", num_candidates=2, **SMALL)))
    assert [item.column for item in seen] == [1, 2, 3, 4, 5]
    assert {item.num_columns for item in seen} == {5}
    assert seen[1].result.greedy is None
    assert len(seen[2].result.greedy) == 1
    assert np.isfinite(seen[-1].result.ced).all()


def test_greedy_has_no_race():
    with pytest.raises(InputError, match="exact"):
        CedConfig(order="greedy", method="racing")
