from itertools import pairwise

import pytest

from engine.data.bundled import bundled_data
from engine.data.dataset import Data
from engine.importance.config import CedConfig
from engine.pruning.config import PruneConfig
from engine.pruning.progressive import Decided, Resume, StageDone, Trained, prune_progressively
from engine.training.config import FinetuneConfig

CED = CedConfig(samples=16, timesteps=2, num_bootstrap=20)
RECOVERY = FinetuneConfig(num_steps=3, batch_size=8, learning_rate=1e-3)


@pytest.fixture(scope="module")
def few() -> Data:
    digits = bundled_data("digits")
    return Data("digits", digits.images[:64], digits.labels[:64], digits.class_names, "few")


def prune(model, data, config, **options):
    options = {"recovery": RECOVERY, "ced": CED, **options}
    return list(prune_progressively(model, data, config, **options))


def test_the_depth_goes_down_in_stages_to_the_target(make_model, few):
    events = prune(make_model(depth=6), few, PruneConfig(target_depth=3, num_stages=2))
    stages = [event for event in events if isinstance(event, StageDone)]
    assert stages[0].model.config.depth == 6
    assert stages[-1].model.config.depth == 3
    for before, after in pairwise(stages):
        assert set(after.model.kept_blocks) <= set(before.model.kept_blocks)
    decided = [event.decision.record for event in events if isinstance(event, Decided)]
    assert all(record["candidates"][record["chosen"]]["num_dropped"] >= 0 for record in decided)
    first = decided[0]
    chosen = first["candidates"][first["chosen"]]
    assert sorted(chosen["dropped"]) == sorted(first["order"][: chosen["num_dropped"]])  # the least important go
    assert sum(isinstance(event, Trained) for event in events) == 3 * (len(stages) - 1)


def test_blocks_chosen_by_hand_go_in_one_stage(make_model, few):
    events = prune(make_model(), few, PruneConfig(drop=(1, 2)))
    stages = [event for event in events if isinstance(event, StageDone)]
    assert [stage.model.kept_blocks for stage in stages] == [(0, 1, 2, 3), (0, 3)]
    assert stages[1].decision.record["reason"] == "Blocks 1, 2 dropped as chosen beforehand."


def test_other_classes_get_their_table_before_anything_else(make_model):
    glyphs = bundled_data("glyphs")
    small = Data("glyphs", glyphs.images[::60], glyphs.labels[::60], glyphs.class_names, "few-glyphs")
    events = prune(make_model(), small, PruneConfig(drop=(0,)))
    stages = [event for event in events if isinstance(event, StageDone)]
    assert [stage.model.config.num_classes for stage in stages] == [26, 26]
    assert [stage.model.labels_trained for stage in stages] == [False, True]


@pytest.mark.parametrize("cut_at", [1, 5])
def test_going_on_after_an_interruption_ends_bit_identical(make_model, few, cut_at):
    config = PruneConfig(target_depth=2, num_stages=2)
    whole = [event for event in prune(make_model(), few, config) if isinstance(event, StageDone)]
    events = prune_progressively(make_model(), few, config, recovery=RECOVERY, ced=CED)
    trained, last = 0, None
    for event in events:
        if isinstance(event, StageDone):
            last = event
        if isinstance(event, Trained):
            trained += 1
            if trained == cut_at:
                break
    assert last is not None
    resume = Resume(
        after_stage=last.stage,
        model=last.model,
        trainer_state=last.trainer_state,
        decision=event.decision,
        ced=event.ced,
        partial_state={name: value.clone() for name, value in event.trainer.state_dict().items()},
    )
    rest = [event for event in prune(make_model(), few, config, resume=resume) if isinstance(event, StageDone)]
    assert rest[-1].model.kept_blocks == whole[-1].model.kept_blocks
    expected, found = whole[-1].model.network.state_dict(), rest[-1].model.network.state_dict()
    assert all(expected[name].equal(found[name]) for name in expected)
    assert all(whole[-1].trainer_state[name].equal(rest[-1].trainer_state[name]) for name in whole[-1].trainer_state)


def test_distillation_needs_no_extra_word(make_model, few):
    recovery = FinetuneConfig(num_steps=2, batch_size=8, distill_weight=1.0)
    with_teacher = prune(make_model(), few, PruneConfig(drop=(1,)), recovery=recovery)[-1].model
    without = prune(make_model(), few, PruneConfig(drop=(1,)), recovery=FinetuneConfig(num_steps=2, batch_size=8))[-1]
    name = "blocks.0.mlp.fc1.weight"
    assert not with_teacher.network.state_dict()[name].equal(without.model.network.state_dict()[name])
