from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from engine.data.bundled import bundled_data
from engine.data.dataset import Data
from engine.errors import InputError, TrainingDiverged
from engine.importance.config import CedConfig
from engine.pruning import progressive
from engine.pruning.config import PruneConfig
from engine.pruning.decision import chosen_beforehand
from engine.pruning.progressive import Decided, IntactLoss, Resume, StageDone, Trained, prune_progressively
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer

CED = CedConfig(samples=16, timesteps=2, num_bootstrap=20)
RECOVERY = FinetuneConfig(num_steps=3, batch_size=8, learning_rate=1e-3)
DISTILLED = replace(RECOVERY, distill_weight=1.0)
ADAPTED = PruneConfig(target_depth=2, num_stages=2, adapt_steps=4, recovery_shares="even")


@pytest.fixture(scope="module")
def few() -> Data:
    digits = bundled_data("digits")
    return Data("digits", digits.images[:64], digits.labels[:64], digits.class_names, "few")


@pytest.fixture(scope="module")
def few_glyphs() -> Data:
    glyphs = bundled_data("glyphs")
    return Data("glyphs", glyphs.images[::60], glyphs.labels[::60], glyphs.class_names, "few-glyphs")


def prune(model, data, config, **options):
    options = {"recovery": RECOVERY, "ced": CED, **options}
    return list(prune_progressively(model, data, config, **options))


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def weights(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


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


def test_other_classes_get_their_table_before_anything_else(make_model, few_glyphs):
    events = prune(make_model(), few_glyphs, PruneConfig(drop=(0,)))
    stages = [event for event in events if isinstance(event, StageDone)]
    assert [stage.model.config.num_classes for stage in stages] == [26, 26]
    assert [stage.model.labels_trained for stage in stages] == [False, True]


@pytest.mark.parametrize(
    ("config", "recovery", "cut_at"),
    [
        (PruneConfig(target_depth=2, num_stages=2), RECOVERY, 1),
        (PruneConfig(target_depth=2, num_stages=2), RECOVERY, 5),
        (ADAPTED, DISTILLED, 2),  # in the middle of stage 0
        (ADAPTED, DISTILLED, 5),  # stage 1
        (ADAPTED, DISTILLED, 8),  # stage 2, whose teacher isn't what it grows from
    ],
)
def test_going_on_after_an_interruption_ends_bit_identical(make_model, few_glyphs, config, recovery, cut_at):
    """The data has other classes than the model: untrained they leave no teacher, adapted they do."""
    whole = of_kind(prune(make_model(), few_glyphs, config, recovery=recovery), StageDone)
    events = prune_progressively(make_model(), few_glyphs, config, recovery=recovery, ced=CED)
    trained, done = 0, []
    for event in events:
        if isinstance(event, StageDone):
            done.append(event)
        if isinstance(event, Trained):
            trained += 1
            if trained == cut_at:
                break
    last = done[-1] if done else None
    resume = Resume(
        after_stage=last.stage if last else -1,
        model=last.model if last else make_model(),
        trainer_state=last.trainer_state if last else {},
        intact=done[0].model if done and config.adapt_steps else None,
        decision=event.decision,
        ced=event.ced,
        partial_state={name: value.clone() for name, value in event.trainer.state_dict().items()},
    )
    assert event.stage == resume.after_stage + 1
    rest = of_kind(prune(make_model(), few_glyphs, config, recovery=recovery, resume=resume), StageDone)
    assert [stage.stage for stage in done + rest] == [stage.stage for stage in whole]
    assert rest[-1].model.kept_blocks == whole[-1].model.kept_blocks
    assert same(weights(whole[-1].model), weights(rest[-1].model))
    assert same(whole[-1].trainer_state, rest[-1].trainer_state)


def test_stage_0_is_the_intact_model_adapted_to_the_data(make_model, few_glyphs):
    model = make_model()
    before = weights(model)
    events = prune(model, few_glyphs, ADAPTED)
    first = next(event for event in events if isinstance(event, StageDone))
    steps = [event for event in events if isinstance(event, Trained) and event.stage == 0]
    assert [event.progress.step for event in steps] == [1, 2, 3, 4]
    assert {(event.decision, event.ced) for event in steps} == {(None, None)}
    assert steps[0].trainer.config == replace(RECOVERY, num_steps=4)  # its own seed is the recovery's
    assert same(before, weights(model))  # the loaded model stays as it is
    assert not same(before, weights(first.model))
    assert first.model.kept_blocks == (0, 1, 2, 3) and first.model.labels_trained
    ema = {name: value for name, value in first.trainer_state.items() if name.startswith("ema.")}
    assert ema and all(first.model.network.state_dict()[name[4:]].equal(value) for name, value in ema.items())
    untouched = of_kind(prune(make_model(), few_glyphs, replace(ADAPTED, adapt_steps=0)), StageDone)[0]
    assert untouched.trainer_state == {} and not untouched.model.labels_trained


def test_later_stages_go_on_from_the_adapted_model_and_know_the_classes(make_model, few_glyphs):
    adapted = prune(make_model(), few_glyphs, ADAPTED)
    scores, without = (
        of_kind(events, Decided)[0].ced
        for events in (adapted, prune(make_model(), few_glyphs, replace(ADAPTED, adapt_steps=0)))
    )
    assert (scores.protocol["given_class"], scores.note) == ("own", "")
    assert without.protocol["given_class"] == "null"
    assert scores.ced != without.ced
    first, second = of_kind(adapted, StageDone)[:2]
    assert int(first.trainer_state["step"]) == 4 and int(second.trainer_state["step"]) == 3
    name = "adam_step.blocks.0.attn.qkv.weight"
    assert int(second.trainer_state[name]) == 4 + 3  # the moments of a block that stayed were kept


def test_the_band_and_the_teacher_are_the_model_of_stage_0(make_model, few_glyphs, monkeypatch):
    """Of a fresh label table that nothing was trained on there is neither."""
    teachers = []

    def trainer_of(*given, **more):
        teachers.append(more.get("teacher"))
        return Trainer(*given, **more)

    monkeypatch.setattr(progressive, "Trainer", trainer_of)
    events = prune(make_model(), few_glyphs, ADAPTED, recovery=DISTILLED)
    intact = of_kind(events, StageDone)[0].model
    assert teachers[0] is None and all(teacher is intact.network for teacher in teachers[1:])
    band = next(event for event in events if isinstance(event, IntactLoss))
    trainer = next(event.trainer for event in events if isinstance(event, Trained) and event.stage == 1)
    losses = [trainer.loss_of(intact.network, step=step) for step in range(3)]
    assert band.mean == pytest.approx(np.mean(losses), rel=1e-6)
    teachers.clear()
    untrained = prune(make_model(), few_glyphs, replace(ADAPTED, adapt_steps=0), recovery=DISTILLED)
    assert set(teachers) == {None} and not of_kind(untrained, IntactLoss)


@pytest.mark.parametrize(
    ("config", "changes", "line"),
    [
        (PruneConfig(target_depth=2, num_stages=3), {}, "3 stages for 2 blocks to drop: .* choose at most 2"),
        (PruneConfig(target_speedup=1.1, num_stages=2), {}, "2 stages for 1 block to drop: .* choose at most 1"),
        (PruneConfig(target_depth=4), {}, "target depth 4 is not below the model's 4 blocks"),
        (ADAPTED, {"recovery": replace(RECOVERY, batch_size=65)}, "batch_size is 65, .* only 64 images; .* at most 64"),
        (ADAPTED, {"recovery": replace(RECOVERY, batch_size=65, num_steps=0)}, "batch_size is 65"),  # stage 0 trains
        (PruneConfig(drop=(1,)), {"recovery": replace(RECOVERY, batch_size=65)}, "batch_size is 65"),
        (
            replace(ADAPTED, num_proxy_samples=65),
            {},
            r"num_proxy_samples \(.*\) is 65, .* only 64 images; .* at most 64",
        ),
        (ADAPTED, {"ced": replace(CED, samples=65)}, r"samples \(of CED\) is 65, .* only 64 images; .* at most 64"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(make_model, few, config, changes, line):
    with pytest.raises(InputError, match=line) as refused:
        next(prune_progressively(make_model(), few, config, **{"recovery": RECOVERY, "ced": CED, **changes}))
    assert "\n" not in str(refused.value)


def test_blocks_chosen_by_hand_need_no_images_for_scores_that_nobody_takes(make_model, few):
    config = PruneConfig(drop=(1,), num_proxy_samples=65)
    nothing = replace(RECOVERY, num_steps=0, batch_size=65)
    assert len(of_kind(prune(make_model(), few, config, ced=CedConfig(), recovery=nothing), StageDone)) == 2


def test_what_has_begun_goes_on_though_it_would_be_refused_today(make_model, few):
    resume = Resume(after_stage=0, model=make_model(), trainer_state={})
    config = PruneConfig(target_depth=3, num_stages=2, num_proxy_samples=65)
    events = prune(make_model(), few, config, resume=resume, recovery=replace(RECOVERY, batch_size=65))
    assert of_kind(events, StageDone)[-1].model.config.depth == 3


@pytest.mark.parametrize("variable", ["target", "prediction", "samples"])
def test_scores_of_weights_that_hold_nan_stop_with_the_block_and_the_noise_level(make_model, few, variable):
    model = make_model()
    model.network.blocks[2].mlp.fc1.weight.data[0, 0] = float("nan")
    events = prune_progressively(
        model, few, PruneConfig(target_depth=2, num_stages=1), recovery=RECOVERY, ced=replace(CED, variable=variable)
    )
    place = "sampling step 1" if variable == "samples" else r"noise level 0\.75"
    with pytest.raises(TrainingDiverged, match=f"^the score of block 2 at {place} isn't finite"):
        list(events)


def test_scores_of_numbers_that_overflow_stop_as_well(make_model, few):
    model = make_model(depth=5)
    model = model.with_network(model.network.with_blocks([0, 2, 4]), change="keep", kept=[0, 2, 4])
    model.network.x_embedder.proj.weight.data[0, 0] = torch.inf  # no block is at fault: the first stands for all
    with pytest.raises(TrainingDiverged, match="block 0 at noise level"):
        prune(model, few, PruneConfig(target_depth=2, num_stages=1))


def test_distillation_needs_no_extra_word(make_model, few):
    recovery = FinetuneConfig(num_steps=2, batch_size=8, distill_weight=1.0)
    with_teacher = prune(make_model(), few, PruneConfig(drop=(1,)), recovery=recovery)[-1].model
    without = prune(make_model(), few, PruneConfig(drop=(1,)), recovery=FinetuneConfig(num_steps=2, batch_size=8))[-1]
    name = "blocks.0.mlp.fc1.weight"
    assert not with_teacher.network.state_dict()[name].equal(without.model.network.state_dict()[name])


@pytest.mark.parametrize("shares", ["even", "last-heavy", "final"])
def test_one_learning_rate_schedule_goes_over_all_stages(make_model, few, shares):
    config = PruneConfig(target_depth=2, num_stages=2, recovery_shares=shares)
    recovery = replace(RECOVERY, num_steps=5, schedule="cosine", warmup_steps=2)
    rates = [
        event.progress.learning_rate for event in of_kind(prune(make_model(), few, config, recovery=recovery), Trained)
    ]
    whole = replace(recovery, num_steps=10)
    assert rates == [whole.learning_rate_at(step) for step in range(10)]


def test_a_stage_added_by_hand_has_a_schedule_of_its_own(make_model, few):
    recovery = replace(RECOVERY, schedule="cosine")
    first = of_kind(prune(make_model(), few, PruneConfig(drop=(3,)), recovery=recovery), StageDone)[-1]
    decision = chosen_beforehand(first.model, [0])
    resume = Resume(
        after_stage=1, model=first.model, trainer_state=first.trainer_state, intact=make_model(), decision=decision
    )
    events = prune(make_model(), few, PruneConfig(target_depth=3, num_stages=1), recovery=recovery, resume=resume)
    rates = [event.progress.learning_rate for event in of_kind(events, Trained)]
    assert rates == [recovery.learning_rate_at(step) for step in range(3)] and rates[0] > 0
