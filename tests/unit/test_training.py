from dataclasses import replace

import pytest
import torch

from engine.errors import InputError, TrainingDiverged
from engine.process import make_process
from engine.seeds import derived_seed
from engine.training.config import SMALL_MODEL, FinetuneConfig, check_batch, usual_recovery
from engine.training.finetune import Trainer, finetune
from tests.conftest import make_network

CONFIG = FinetuneConfig(num_steps=6, batch_size=8, learning_rate=1e-3, ema_decay=0.9)


def make_trainer(
    config: FinetuneConfig = CONFIG, *, process: str = "flow", teacher=None, scale: float = 1.0
) -> Trainer:
    generator = torch.Generator().manual_seed(7)
    return Trainer(
        make_network(drop_sigma=process == "flow", gate_std=0.05),
        make_process(process),
        latents=scale * torch.randn(40, 4, 8, 8, generator=generator),
        labels=torch.randint(0, 10, (40,), generator=generator),
        config=config,
        teacher=teacher,
    )


@pytest.mark.parametrize("process", ["flow", "diffusion"])
def test_training_lowers_the_loss(process):
    trainer = make_trainer(replace(CONFIG, num_steps=60, batch_size=32, learning_rate=3e-3), process=process)
    losses = [step.loss for step in finetune(trainer)]
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])


def test_going_on_from_saved_state_repeats_the_unbroken_run_bit_for_bit():
    whole = make_trainer()
    list(finetune(whole))
    first = make_trainer()
    steps = finetune(first)
    for _ in range(3):
        next(steps)
    saved = {name: value.clone() for name, value in first.state_dict().items()}
    second = make_trainer()
    second.load_state_dict(saved)
    assert [step.step for step in finetune(second)] == [4, 5, 6]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert any(name.startswith("exp_avg_sq.") for name in saved)


def test_restart_keeps_weights_and_moments_but_counts_from_zero():
    first = make_trainer()
    list(finetune(first))
    second = make_trainer()
    second.load_state_dict(first.state_dict(), restart=True)
    assert second.step == 0
    name = "exp_avg.blocks.0.attn.qkv.weight"
    assert torch.equal(second.state_dict()[name], first.state_dict()[name])
    assert len(list(finetune(second))) == 6


def test_the_average_lags_behind_and_has_all_of_the_networks_names():
    trainer = make_trainer()
    start = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    list(finetune(trainer))
    averaged, now = trainer.ema_state_dict(), trainer.network.state_dict()
    assert averaged.keys() == now.keys()
    name = "blocks.0.mlp.fc1.weight"
    assert 0 < (averaged[name] - start[name]).norm() < (now[name] - start[name]).norm() * 1.5
    assert not torch.equal(averaged[name], now[name])
    assert torch.equal(now["pos_embed"], start["pos_embed"])  # fixed


def test_labels_are_dropped_at_the_configured_rate():
    trainer = make_trainer(replace(CONFIG, batch_size=4000, label_dropout=0.1))
    _, _, _, y = trainer._draw(0)
    assert (y == 10).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_distillation_pulls_the_output_towards_the_teachers():
    teacher = make_network(seed=5, gate_std=0.3, drop_sigma=True)
    x, t, y = torch.randn(8, 4, 8, 8), torch.rand(8), torch.zeros(8, dtype=torch.long)
    distances = []
    for weight in (0.0, 50.0):
        config = replace(CONFIG, num_steps=40, learning_rate=3e-3, distill_weight=weight)
        trainer = make_trainer(config, teacher=teacher)
        list(finetune(trainer))
        with torch.no_grad():
            distances.append((trainer.network(x, t, y) - teacher(x, t, y)).square().mean().item())
    assert distances[1] < distances[0]


def test_a_loss_that_is_not_finite_stops_with_one_line_and_keeps_the_weights():
    trainer = make_trainer(scale=float("inf"))
    before = trainer.network.blocks[0].attn.qkv.weight.clone()
    with pytest.raises(TrainingDiverged, match="learning rate"):
        trainer.train_step()
    assert torch.equal(trainer.network.blocks[0].attn.qkv.weight, before)


def test_a_gradient_that_is_not_finite_stops_before_anything_changes():
    trainer, untouched = make_trainer(), make_trainer()
    for each in (trainer, untouched):
        each.train_step()
    before = {name: value.clone() for name, value in trainer.state_dict().items()}
    handle = trainer.network.blocks[1].mlp.fc1.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingDiverged, match=r"gradient's norm is nan at step 2 with learning rate 0\.001"):
        trainer.train_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.state_dict().items())
    handle.remove()
    trainer.train_step()  # nothing of the failed step is left in the gradients either
    untouched.train_step()
    for name, value in untouched.state_dict().items():
        assert torch.equal(value, trainer.state_dict()[name]), name


def test_learning_rate_warms_up_and_decays():
    config = FinetuneConfig(num_steps=110, warmup_steps=10, learning_rate=1e-3, schedule="cosine")
    assert config.learning_rate_at(0) == pytest.approx(1e-4)
    assert config.learning_rate_at(10) == pytest.approx(1e-3)
    assert config.learning_rate_at(60) == pytest.approx(5e-4)
    assert config.learning_rate_at(110) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_parts_of_a_longer_training_follow_its_one_schedule(schedule):
    whole = FinetuneConfig(num_steps=100, warmup_steps=10, schedule=schedule)
    parts = [
        FinetuneConfig(num_steps=num, warmup_steps=10, schedule=schedule, schedule_start=start, schedule_steps=100)
        for start, num in ((0, 5), (5, 20), (25, 75))
    ]
    rates = [part.learning_rate_at(step) for part in parts for step in range(part.num_steps)]
    assert rates == [whole.learning_rate_at(step) for step in range(100)]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("num_steps", [0, 1, 4, 20])
def test_a_warm_up_as_long_as_the_training_or_longer_ends_at_the_full_rate(schedule, num_steps):
    config = FinetuneConfig(num_steps=num_steps, warmup_steps=20, learning_rate=1e-3, schedule=schedule)
    rates = [config.learning_rate_at(step) for step in range(num_steps)]
    assert rates == pytest.approx([1e-3 * (step + 1) / num_steps for step in range(num_steps)])
    assert all(0 <= config.learning_rate_at(step) <= 1e-3 for step in range(50))


def test_a_small_model_recovers_with_a_larger_rate_that_decays():
    small = usual_recovery(SMALL_MODEL - 1, num_steps=50)
    changed = dict(batch_size=64, learning_rate=4e-3, schedule="cosine", warmup_steps=20, distill_weight=4.0)
    assert small == FinetuneConfig(num_steps=50, **changed)
    assert usual_recovery(SMALL_MODEL) == usual_recovery(None) == FinetuneConfig()
    back = dict(batch_size=128, learning_rate=1e-4, schedule="constant", warmup_steps=0, distill_weight=0.0)
    plain = usual_recovery(10, **back)
    assert plain == FinetuneConfig()


def test_data_smaller_than_a_batch_is_refused_where_anything_is_trained():
    check_batch(FinetuneConfig(batch_size=64), 64)
    check_batch(FinetuneConfig(batch_size=64, num_steps=0), 63)
    with pytest.raises(InputError, match=r"batch_size is 64, .* only 63 images; choose a batch_size of at most 63"):
        check_batch(FinetuneConfig(batch_size=64), 63)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": -1},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"schedule": "x"},
        {"label_dropout": 1.0},
        {"distill_weight": -1},
        {"warmup_steps": -1},
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(InputError):
        FinetuneConfig(**changes)


def make_flipping(config: FinetuneConfig = CONFIG, *, flipped: bool) -> Trainer:
    """Latents are +1 as they are and −1 mirrored, so that a batch says which it took."""
    return Trainer(
        make_network(drop_sigma=True, gate_std=0.05),
        make_process("flow"),
        latents=torch.ones(40, 4, 8, 8),
        labels=torch.arange(40) % 10,
        config=config,
        flipped=-torch.ones(40, 4, 8, 8) if flipped else None,
    )


def test_mirrored_images_are_drawn_half_of_the_time_whole_and_change_no_other_draw():
    config = replace(CONFIG, batch_size=4000)
    plain, flipping = make_flipping(config, flipped=False)._draw(0), make_flipping(config, flipped=True)._draw(0)
    x0 = flipping[0]
    assert (x0 == x0[:, :1, :1, :1]).all()
    assert (x0[:, 0, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (plain[0] == 1).all()
    for without, with_mirrored in zip(plain[1:], flipping[1:], strict=True):
        assert torch.equal(without, with_mirrored)


def test_a_resumed_run_with_mirrored_images_repeats_the_unbroken_one():
    whole, first, second = (make_flipping(flipped=True) for _ in range(3))
    list(finetune(whole))
    steps = finetune(first)
    for _ in range(3):
        next(steps)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    list(finetune(second))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_mirrored_latents_of_another_shape_are_refused():
    with pytest.raises(InputError, match="mirrored"):
        Trainer(
            make_network(drop_sigma=True),
            make_process("flow"),
            latents=torch.ones(4, 4, 8, 8),
            labels=torch.zeros(4, dtype=torch.long),
            config=CONFIG,
            flipped=torch.ones(3, 4, 8, 8),
        )


def test_latents_too_large_for_the_device_stay_where_they_are_and_train_alike(monkeypatch):
    moved = make_trainer()
    list(finetune(moved))
    monkeypatch.setattr("engine.training.finetune._MOST_ON_DEVICE", 0)
    stayed = make_trainer()
    list(finetune(stayed))
    assert torch.equal(moved.latents, stayed.latents)
    for name, value in moved.state_dict().items():
        assert torch.equal(value, stayed.state_dict()[name]), name


def test_no_two_stages_of_neighbouring_seeds_share_a_batch():
    seeds = {(seed, part): derived_seed(seed, part) for seed in range(20) for part in range(20)}
    assert len(set(seeds.values())) == 400
    assert all(0 <= value < 2**39 for value in seeds.values())
    assert derived_seed(3, 2) == derived_seed(3, 2)
