"""The engine on a GPU, where there is one: the same numbers as on a CPU, within what each precision leaves open.

Tolerances are relative to the largest value that is compared, unless they say otherwise: fp32 adds its terms in another
order (2^-24 each), TF32 keeps 10 bits of what is multiplied (2^-11), bf16 keeps 7 (2^-8).
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.compute import Compute
from engine.evaluation.features import extract_all, load_features
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.importance.ced import compute_ced
from engine.importance.config import CedConfig
from engine.models import compiled
from engine.models.arithmetic import working_in
from engine.models.checkpoints import load_model
from engine.models.model import Model
from engine.pruning.proxies import NoisedBatch, ntk_condition_number
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

GPU = torch.device("cuda")
#: nats, of any cell of CED
CED_TOLERANCE = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2}
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}
PRECISIONS = list(TOLERANCE)


def moved(model: Model, **compute) -> Model:
    network = copy.deepcopy(model.network).to(GPU)
    return replace(model, network=network, compute=Compute(**compute))


def usable(precision: str) -> None:
    if precision != "fp32" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip(f"this GPU has no {precision}")


@pytest.mark.parametrize("variable", ["target", "prediction", "samples"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_ced_is_that_of_the_cpu(make_model, digits, precision, variable):
    usable(precision)
    model, config = make_model(), CedConfig(variable=variable, samples=64, timesteps=4, num_bootstrap=20)
    exact = compute_ced(model, digits, config)
    found = compute_ced(moved(model, precision=precision), digits, config)
    assert found.protocol["precision"] == precision and found.protocol["device"].startswith("cuda")
    assert np.abs(np.array(found.delta) - np.array(exact.delta)).max() < CED_TOLERANCE[precision]


@pytest.mark.parametrize("process", ["flow", "diffusion"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_pictures_are_those_of_the_cpu(make_model, precision, process):
    usable(precision)
    model = make_model(process)
    given = dict(labels=np.arange(8), seeds=np.arange(8), protocol=Protocol(num_images=8, num_steps=5))
    exact = draw(model, **given).images.astype(int)
    found = draw(moved(model, precision=precision), **given).images.astype(int)
    assert np.abs(found - exact).mean() < {"fp32": 0.1, "tf32": 1.0, "bf16": 3.0}[precision]  # grey levels


def trainer_of(model: Model, **compute) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    return Trainer(
        model.network,
        model.process,
        latents=torch.randn(40, 4, 8, 8, generator=generator),
        labels=torch.randint(0, 10, (40,), generator=generator),
        config=FinetuneConfig(num_steps=4, batch_size=16, learning_rate=1e-3),
        compute=Compute(**compute),
    )


def trained(model: Model, *, recompute: bool = False, **compute) -> tuple[list[float], dict[str, torch.Tensor]]:
    trainer = trainer_of(model, **compute)
    trainer.recompute = recompute
    losses = [step.loss for step in finetune(trainer)]
    return losses, {name: value.cpu() for name, value in trainer.state_dict().items()}


@pytest.mark.parametrize("process", ["flow", "diffusion"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_is_that_of_the_cpu_with_batches_drawn_ahead(make_model, precision, process):
    usable(precision)
    losses, _ = trained(make_model(process, seed=1))
    found, state = trained(moved(make_model(process, seed=1)), precision=precision)
    assert found == pytest.approx(losses, rel=TOLERANCE[precision])
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_a_training_goes_on_from_a_state_that_lay_on_a_disk(make_model):
    whole, _ = trained(moved(make_model(seed=1)))
    model = moved(make_model(seed=1))
    first = trainer_of(model)
    steps = finetune(first)
    losses = [next(steps).loss for _ in range(2)]
    state = {name: value.cpu() for name, value in first.state_dict().items()}
    second = trainer_of(model)
    second.load_state_dict(state)
    assert losses + [step.loss for step in finetune(second)] == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("compile", [False, True])
def test_what_is_worked_out_again_gives_the_same_training(make_model, compile):
    usable("bf16")
    whole, again = (
        trained(moved(make_model(seed=2)), recompute=recompute, precision="bf16", compile=compile)[0]
        for recompute in (False, True)
    )
    assert again == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_blocks_give_the_same(make_model, digits, precision):
    usable(precision)
    model, config = make_model(), CedConfig(samples=64, timesteps=2, num_bootstrap=20)
    plain = compute_ced(moved(model, precision=precision), digits, config)
    fast = compute_ced(moved(model, precision=precision, compile=True), digits, config)
    if reason := compiled.why_not():
        pytest.skip(f"nothing is compiled here: {reason}")
    assert np.abs(np.array(fast.delta) - np.array(plain.delta)).max() < CED_TOLERANCE[precision]


def test_the_ntk_is_that_of_the_cpu(make_model):
    model, generator = make_model(), torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(8, 4, 8, 8, generator=generator) for _ in range(2))
    parts = dict(x0=x0, t=torch.rand(8, generator=generator), eps=eps, y=torch.arange(8))
    exact = ntk_condition_number(model.network, model.process, NoisedBatch(**parts))
    there = NoisedBatch(**{name: value.to(GPU) for name, value in parts.items()})
    assert ntk_condition_number(moved(model).network, model.process, there) == pytest.approx(exact, rel=1e-2)


def test_tf32_is_only_where_it_was_asked_for(make_model):
    load_model("demo-sit-digits", device=GPU)
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    with working_in(Compute(precision="tf32"), GPU):
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32


def test_features_are_those_of_the_cpu(digits):
    images = digits.images[:64]
    exact, _ = extract_all(load_features("demo-cnn"), images)
    found, _ = extract_all(load_features("demo-cnn", device="cuda"), images)
    assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max()


def test_memory_that_is_full_is_answered_by_keeping_less_and_then_by_pieces(make_model):
    """As much of the GPU as a small training needs is left to it, then less."""
    model = moved(make_model(seed=3, hidden_size=256, depth=8, input_size=32))
    generator = torch.Generator().manual_seed(0)
    config = FinetuneConfig(num_steps=3, batch_size=64, learning_rate=1e-4)
    latents, labels = torch.randn(64, 4, 32, 32, generator=generator), torch.arange(64) % 10
    total = torch.cuda.get_device_properties(GPU).total_memory
    steps = []
    for megabytes in (2**14, 1200, 500):
        torch.cuda.empty_cache()
        taken = torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction(min(1.0, (taken + megabytes * 2**20) / total))
        try:
            trainer = Trainer(
                copy.deepcopy(model.network), model.process, latents=latents, labels=labels, config=config
            )
            steps.append(list(finetune(trainer))[-1])
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        del trainer
    assert not steps[0].recompute
    assert steps[-1].recompute
    assert steps[-1].loss == pytest.approx(steps[0].loss, rel=1e-3)
