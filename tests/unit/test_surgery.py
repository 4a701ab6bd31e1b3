from dataclasses import replace

import pytest
import torch

from engine.data.bundled import bundled_data
from engine.errors import InputError
from engine.pruning.config import PruneConfig
from engine.pruning.surgery import drop_blocks, keep_blocks, recovered, state_of_kept_blocks, with_classes_of
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune


def forward(model, y: int = 3):
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.network(x, torch.tensor([0.2, 0.7]), torch.tensor([y, y]))


def test_keeping_blocks_equals_skipping_the_others_and_leaves_the_parent_alone(make_model):
    model = make_model()
    before = forward(model)
    pruned = keep_blocks(model, [0, 3])
    assert pruned.config.depth == 2
    assert pruned.kept_blocks == (0, 3)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    skipped = model.network(x, torch.tensor([0.2, 0.7]), torch.tensor([3, 3]), skip=[1, 2])
    assert torch.equal(forward(pruned), skipped)
    assert not torch.allclose(skipped, before, atol=1e-2)
    pruned.network.blocks[0].mlp.fc1.weight.data.zero_()
    assert torch.equal(forward(model), before)
    assert pruned.content_hash != model.content_hash


def test_kept_blocks_are_named_after_the_first_model_through_several_cuts(make_model):
    twice = drop_blocks(drop_blocks(make_model(), [1]), [1])
    assert twice.kept_blocks == (0, 3)


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        ([], "keep at least one"),
        ([0, 9], "blocks 0 … 3"),
        ([1, 1], "ascending"),
        ([2, 0], "ascending"),
        ([-1, 2], "blocks 0 … 3"),
    ],
)
def test_impossible_cuts_are_refused_in_one_line(make_model, kept, line):
    with pytest.raises(InputError, match=line):
        keep_blocks(make_model(), kept)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"drop": (1,), "target_depth": 2},
        {"target_depth": 0},
        {"drop": (0,), "num_stages": 0},
        {"drop": (0,), "weights": {"cost": 1.0}},
    ],
)
def test_a_pruning_must_say_what_it_wants(settings):
    with pytest.raises(InputError):
        PruneConfig(**settings)


@pytest.mark.parametrize(
    "config", [PruneConfig(drop=(0, 1, 2, 3)), PruneConfig(drop=(4,)), PruneConfig(target_depth=4)]
)
def test_a_pruning_must_fit_the_depth(config):
    with pytest.raises(InputError):
        config.check_against(4)


def test_other_classes_get_a_fresh_label_table_and_all_else_stays(make_model):
    model, glyphs = make_model(), bundled_data("glyphs")
    changed = with_classes_of(model, glyphs, seed=0)
    assert changed.config.num_classes == 26
    assert changed.class_names == glyphs.class_names
    assert not changed.knows_classes_of(glyphs)  # nothing has been learned about them yet
    null = torch.equal(forward(model, y=10), forward(changed, y=26))
    assert null  # the null class keeps its meaning
    assert not torch.allclose(forward(model), forward(changed), atol=1e-4)
    assert with_classes_of(model, bundled_data("digits"), seed=0) is model


def test_a_trained_model_is_known_by_its_weights_alone(make_model):
    """Not by a recipe: what else the training depended on would be another model of the same name in every cache."""
    model = make_model(seed=3)
    again = replace(model, content_hash="as read from a file")
    hashes = []
    for parent, shift in ((model, 0.0), (again, 0.0), (model, 1.0)):
        copy = keep_blocks(parent, [0, 2])
        latents = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0)) + shift
        config = FinetuneConfig(num_steps=1, batch_size=4)
        trainer = Trainer(copy.network, copy.process, latents=latents, labels=torch.zeros(8, dtype=int), config=config)
        list(finetune(trainer))
        hashes.append(recovered(copy, trainer).content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_optimizer_state_of_kept_blocks_moves_with_them():
    state = {"step": 1, "exp_avg.blocks.0.mlp.fc1.weight": 2, "exp_avg.blocks.2.mlp.fc1.weight": 3, "ema.pos": 4}
    state["weights.blocks.10.attn.qkv.bias"] = 5
    renamed = state_of_kept_blocks(state, [2, 10])
    assert renamed == {
        "step": 1,
        "exp_avg.blocks.0.mlp.fc1.weight": 3,
        "ema.pos": 4,
        "weights.blocks.1.attn.qkv.bias": 5,
    }
