"""A batch that doesn't fit the memory: less is kept for the backward pass, then it is trained in pieces whose gradients
add up, and where that fails one line says so."""

import math
from dataclasses import replace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from engine.compute import Compute
from engine.errors import OutOfMemory
from engine.process import make_process
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune
from tests.conftest import make_network

CONFIG = FinetuneConfig(num_steps=4, batch_size=10, learning_rate=1e-3, ema_decay=0.9)


def make_trainer(
    process: str = "flow", *, config: FinetuneConfig = CONFIG, teacher=None, double: bool = False, compute=None
):
    generator = torch.Generator().manual_seed(0)
    network = make_network(drop_sigma=process == "flow", gate_std=0.05)
    latents = torch.randn(40, 4, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (40,), generator=generator)
    more = dict(labels=labels, config=config, teacher=teacher, compute=compute)
    if not double:
        return Trainer(network, make_process(process), latents=latents, **more)
    trainer = Trainer(network.double(), make_process(process), latents=latents.double(), **more)
    batch = [each.double() if each.is_floating_point() else each for each in trainer._draw(0)]
    trainer._draw = lambda step: batch
    return trainer


class Full:
    """A device whose memory holds the training of ``most`` images: a forward of more raises what CUDA does."""

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        self.most, self.sizes = most, []
        self.handle = network.register_forward_pre_hook(self.look)

    def look(self, module: torch.nn.Module, inputs: tuple) -> None:
        if not torch.is_grad_enabled():
            return
        self.sizes.append(len(inputs[0]))
        if len(inputs[0]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 is full")


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    loss = trainer._backward(1e-3)
    found = {name: parameter.grad.clone() for name, parameter in trainer._named if parameter.grad is not None}
    return found | {"loss": loss}


@pytest.mark.parametrize("process", ["flow", "diffusion"])
@pytest.mark.parametrize("most", [1, 3, 5, 9])
@pytest.mark.parametrize("distill_weight", [0.0, 0.7])
def test_pieces_give_the_gradient_of_the_whole_batch(process, most, distill_weight):
    """In float64, so that only a wrong sum could show; 10 images in pieces of 5, 3 or 1, the last one smaller."""
    config = replace(CONFIG, distill_weight=distill_weight)
    teacher = make_network(seed=3, drop_sigma=process == "flow").double() if distill_weight else None
    whole = gradients(make_trainer(process, config=config, teacher=teacher, double=True))
    trainer = make_trainer(process, config=config, teacher=teacher, double=True)
    full = Full(trainer.network, most)
    pieces = gradients(trainer)
    assert trainer.micro_batch == {9: 5, 5: 5, 3: 3, 1: 1}[most]
    assert full.sizes[:2] == [10, 10] and max(full.sizes[2:]) <= 5  # again with less kept, then in pieces
    assert sum(full.sizes[-math.ceil(10 / trainer.micro_batch) :]) == 10
    assert whole.keys() == pieces.keys() and len(whole) > 20
    for name, value in whole.items():
        scale = value.abs().max().clamp_min(1e-12)
        assert (value - pieces[name]).abs().max() <= 1e-10 * scale, name
    assert whole["loss"].abs() > 0 and whole["blocks.1.mlp.fc1.weight"].abs().max() > 1e-6


def test_a_step_that_fits_is_the_same_bit_for_bit_as_without_any_of_this():
    """The reference: the step written out as it was before batches could be split."""
    trainer, plain = make_trainer(), make_trainer()
    step = trainer.train_step()
    for group in plain._optimizer.param_groups:
        group["lr"] = CONFIG.learning_rate
    loss = plain._loss(*plain._draw(0))
    loss.backward()
    parameters = [p for _, p in plain._named]
    torch.nn.utils.clip_grad_norm_(parameters, CONFIG.max_grad_norm)
    plain._optimizer.step()
    plain._ema.step(parameters)
    assert step.loss == loss.item() and step.micro_batch == 10 and not step.recompute
    for (name, found), (_, expected) in zip(trainer._named, plain._named, strict=True):
        assert torch.equal(found, expected), name
    assert not {"micro_batch", "recompute"} & trainer.state_dict().keys()


class Narrow:
    """A device whose memory holds the hidden layer of one block at a time: not those of all that a backward pass wants,
    unless each is worked out again when its turn comes."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.calls, self.kept = 0, []
        for block in network.blocks:
            block.mlp.fc1.register_forward_hook(self.look)

    def look(self, layer: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        self.calls += 1
        self.kept = [each for each in self.kept if not each.expired()]
        if self.kept:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 is full")
        self.kept.append(StorageWeakRef(output.untyped_storage()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_worked_out_again_gives_the_same_gradient_bit_for_bit(precision):
    compute = Compute(precision=precision)
    whole, trainer = make_trainer(compute=compute), make_trainer(compute=compute)
    narrow = Narrow(trainer.network)
    expected, found = gradients(whole), gradients(trainer)
    assert trainer.recompute and trainer.micro_batch == 10 and not whole.recompute
    assert narrow.calls == 2 + 2 * 4  # until it didn't fit; then each of four blocks forward and once more
    assert expected.keys() == found.keys() and len(found) > 20
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_working_out_again_is_part_of_what_a_run_goes_on_from():
    whole, first, second = make_trainer(), make_trainer(), make_trainer()
    for trainer in (whole, first):
        Narrow(trainer.network)
    list(finetune(whole))
    steps = finetune(first)
    assert next(steps).recompute
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    assert second.recompute and second.micro_batch == 10
    list(finetune(second))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_step_that_did_not_fit_is_done_again_and_training_goes_on():
    whole, trainer = make_trainer(), make_trainer()
    expected = [step.loss for step in finetune(whole)]
    steps = finetune(trainer)
    first = next(steps)
    Full(trainer.network, 4)
    found = [first, *steps]
    assert [step.step for step in found] == [1, 2, 3, 4]
    assert [step.micro_batch for step in found] == [10, 3, 3, 3]
    assert [step.loss for step in found] == pytest.approx(expected, rel=1e-4)
    assert trainer.loss_of(trainer.network, step=0) == pytest.approx(whole.loss_of(whole.network, step=0), rel=1e-3)


def test_the_choice_is_part_of_what_a_run_goes_on_from():
    whole = make_trainer()
    Full(whole.network, 4)
    list(finetune(whole))
    first, second = make_trainer(), make_trainer()
    Full(first.network, 4)
    steps = finetune(first)
    next(steps), next(steps)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    full = Full(second.network, 4)
    assert second.micro_batch == 3 and second.recompute
    list(finetune(second))
    assert max(full.sizes) == 3  # nothing is tried again that failed before
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    third = make_trainer(config=replace(CONFIG, batch_size=2))
    third.load_state_dict(first.state_dict(), restart=True)
    assert third.micro_batch == 2


def test_not_even_one_image_is_one_line_and_changes_nothing():
    trainer = make_trainer()
    before = {name: value.clone() for name, value in trainer.state_dict().items()}
    full = Full(trainer.network, 0)
    with pytest.raises(OutOfMemory, match=r"even one image at step 1 \(CUDA out of memory\)") as stopped:
        trainer.train_step()
    assert "\n" not in str(stopped.value)
    assert full.sizes == [10, 10, 5, 3, 2, 1]
    after = trainer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for _, parameter in trainer._named)
