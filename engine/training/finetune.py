"""Training of a DiT/SiT on encoded images: the same steps pre-train the demo models and recover pruned ones.

Every step draws its batch, timesteps, noise and dropped labels from a generator seeded by (seed, step), so that
weights + optimizer moments + EMA + step are all there is to save, and a resumed run repeats an unbroken one
exactly (bit for bit on CPU with the same number of threads).

Where a batch doesn't fit the device's memory, the step is done again keeping less for the backward pass, which works
the rest out again (gradient checkpointing): the same gradient, for another forward. Where that isn't enough, in pieces
of half the size, whose gradients add up to the batch's: what is learned stays the same but for rounding.

In bf16 the networks' products are; weights and their gradients, moments, average and loss stay in fp32.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from engine.cluster.executor import executor
from engine.compute import USUAL, Compute
from engine.errors import InputError, OutOfMemory, TrainingDiverged
from engine.models.arithmetic import called_in, products_in
from engine.models.dit import DiT
from engine.process import Process
from engine.training.batches import Batch, Batches
from engine.training.config import FinetuneConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MOST_ON_DEVICE = 2 * 2**30  # bytes of latents; of more, each step moves its batch only


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    step: int  # steps done, 1 … num_steps
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float  # of this step
    micro_batch: int  # images at a time; fewer than the batch where that didn't fit the memory
    recompute: bool  # whether the backward pass works out again what didn't fit the memory to be kept


class Trainer:
    """Holds what changes while training: the network's weights, their moving average, the optimizer's moments."""

    def __init__(
        self,
        network: DiT,
        process: Process,
        *,
        latents: Tensor,  # (n, C, H, W), scaled
        labels: Tensor,  # (n,)
        config: FinetuneConfig,
        teacher: DiT | None = None,
        flipped: Tensor | None = None,  # like latents: the same images mirrored, each drawn half of the time
        compute: Compute | None = None,  # in which numbers the networks work; None: fp32, not compiled
    ) -> None:
        if len(latents) == 0:
            raise InputError("there are no images to train on")
        if flipped is not None and flipped.shape != latents.shape:
            raise InputError(f"mirrored latents are {tuple(flipped.shape)}, the latents {tuple(latents.shape)}")
        self.network, self.process, self.config, self.teacher = network, process, config, teacher
        self.compute = compute or USUAL
        self._device = network.pos_embed.device
        self.latents, self.flipped = (_moved(each, self._device) for each in (latents, flipped))
        self.labels = labels.to(self._device)
        self.step = 0
        self.ahead: Callable[[], dict[str, Tensor]] | None = None  # gives the state of those who train it elsewhere
        self.micro_batch, self.recompute = config.batch_size, False  # images at a time, see the top
        self._batches = Batches(
            process,
            config,
            latents=self.latents,
            labels=self.labels,
            flipped=self.flipped,
            null_class=network.config.null_class,
        )
        network.requires_grad_(True).train()
        network.pos_embed.requires_grad_(False)  # fixed in the official models
        self._named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        parameters = [p for _, p in self._named]
        self._optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0, fused=True)
        self._ema = EMAModel(parameters, decay=config.ema_decay, foreach=True)

    def train_step(self) -> TrainStep:
        """Raises TrainingDiverged where the loss or its gradient isn't finite, OutOfMemory where not even one image
        fits; then nothing has changed."""
        started = time.perf_counter()
        rate = self.config.learning_rate_at(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with products_in(self.compute, self._device):
            loss = self._backward(rate)
        parameters = [p for _, p in self._named]
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        self._check_finite("gradient's norm", grad_norm, rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.step(parameters)
        self.step += 1
        return TrainStep(
            step=self.step,
            loss=loss.item(),
            learning_rate=rate,
            grad_norm=grad_norm.item(),
            seconds=time.perf_counter() - started,
            micro_batch=self.micro_batch,
            recompute=self.recompute,
        )

    def _backward(self, rate: float) -> Tensor:
        """The mean loss of this step's batch, its gradient left in the parameters. Where that doesn't fit, turns
        ``recompute`` on, and then halves ``micro_batch`` until it does; the batch is the same one each time."""
        while True:
            try:
                return self._backward_in_pieces(rate)
            except torch.OutOfMemoryError as error:
                reason = str(error).split(". ")[0]
            # outside of the handler: its traceback holds on to the tensors that have to go
            self._optimizer.zero_grad(set_to_none=True)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if not self.recompute:
                self.recompute = True
                continue
            if self.micro_batch == 1:
                raise OutOfMemory(
                    f"the device's memory doesn't hold the training of even one image at step {self.step + 1} "
                    f"({reason}); use a device with more memory, or close what else uses it, and resume"
                )
            self.micro_batch = -(-self.micro_batch // 2)

    def _backward_in_pieces(self, rate: float) -> Tensor:
        batch = self._draw(self.step)
        if self.micro_batch >= self.config.batch_size:
            loss = self._loss(*batch)
            self._batches.prepare(self.step + 1)  # while the device is at work: what follows waits for it
            self._check_finite("loss", loss, rate)
            loss.backward()
            return loss.detach()
        losses = []
        for *piece, share in self._pieces(batch):
            loss = self._loss(*piece) * share
            self._batches.prepare(self.step + 1)
            self._check_finite("loss", loss, rate)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _pieces(self, batch: Batch) -> Iterator[tuple]:
        """(x0, t, eps, y, share of the batch) of ``micro_batch`` images at a time."""
        for piece in zip(*(each.split(self.micro_batch) for each in batch), strict=True):
            yield *piece, len(piece[0]) / self.config.batch_size

    def _check_finite(self, what: str, value: Tensor, rate: float) -> None:
        if not torch.isfinite(value):
            self._optimizer.zero_grad(set_to_none=True)
            raise TrainingDiverged(
                f"the {what} is {value.item()} at step {self.step + 1} with learning rate {rate:g}; lower the learning "
                "rate"
            )

    @torch.no_grad()
    def loss_of(self, network: DiT, *, step: int) -> float:
        """What another network's loss is on the very batch of a step, without distillation's term."""
        if network is self.network:
            self._catch_up()
        batch = self._draw(step)
        if self.micro_batch >= self.config.batch_size:
            return self._mean_loss(network, *batch).item()
        return sum(self._mean_loss(network, *piece).item() * share for *piece, share in self._pieces(batch))

    def _mean_loss(self, network: DiT, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        output = called_in(network, self.compute, self._device)(self.process.noise(x0, t, eps), t, y)
        return self.process.loss(output, x0, t, eps).mean()

    def _draw(self, step: int) -> Batch:
        return self._batches.of(step)

    def _loss(self, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        x_t = self.process.noise(x0, t, eps)
        output = called_in(self.network, self.compute, self._device)(x_t, t, y, recompute=self.recompute)
        loss = self.process.loss(output, x0, t, eps).mean()
        if self.teacher is not None and self.config.distill_weight:
            with torch.no_grad():
                wanted = called_in(self.teacher, self.compute, self._device)(x_t, t, y)
            C = x0.shape[1]
            loss = loss + self.config.distill_weight * (output[:, :C] - wanted[:, :C]).square().mean()
        return loss

    def ema_state_dict(self) -> dict[str, Tensor]:
        """The averaged weights under the network's own names, fixed position table included."""
        self._catch_up()
        averaged = {name: shadow for (name, _), shadow in zip(self._named, self._ema.shadow_params, strict=True)}
        return {**self.network.state_dict(), **averaged}

    def _catch_up(self) -> None:
        if self.ahead is not None:
            state, self.ahead = self.ahead, None
            self.load_state_dict(state())

    def state_dict(self) -> dict[str, Tensor]:
        """Flat tensors, enough to go on exactly: ``weights.*``, ``ema.*``, ``exp_avg.*``, ``exp_avg_sq.*``, steps, and
        ``recompute`` and ``micro_batch`` where the batch didn't fit the memory at once."""
        self._catch_up()
        state = {"step": torch.tensor(self.step), "ema_step": torch.tensor(self._ema.optimization_step)}
        if self.micro_batch < self.config.batch_size:
            state["micro_batch"] = torch.tensor(self.micro_batch)
        if self.recompute:
            state["recompute"] = torch.tensor(True)
        for (name, parameter), shadow in zip(self._named, self._ema.shadow_params, strict=True):
            state[f"weights.{name}"], state[f"ema.{name}"] = parameter.detach(), shadow
            moments = self._optimizer.state.get(parameter)
            if moments:
                state[f"adam_step.{name}"] = moments["step"]
                for moment in _MOMENTS:
                    state[f"{moment}.{name}"] = moments[moment]
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], *, restart: bool = False) -> None:
        """``restart`` keeps weights, average and moments but counts the steps from 0: a new stage of pruning."""
        for (name, parameter), shadow in zip(self._named, self._ema.shadow_params, strict=True):
            parameter.copy_(state[f"weights.{name}"])
            shadow.copy_(state[f"ema.{name}"])
            if f"adam_step.{name}" in state:
                self._optimizer.state[parameter] = {
                    # where the parameter is, too: the fused update takes nothing from another device
                    "step": state[f"adam_step.{name}"].to(parameter.device, torch.float32, copy=True),
                    **{moment: state[f"{moment}.{name}"].to(parameter).clone() for moment in _MOMENTS},
                }
        self.micro_batch = min(int(state.get("micro_batch", self.config.batch_size)), self.config.batch_size)
        self.recompute = bool(state.get("recompute", False))
        self._ema.optimization_step = 0 if restart else int(state["ema_step"])
        self.step = 0 if restart else int(state["step"])


def _moved(latents: Tensor | None, device: torch.device) -> Tensor | None:
    return latents if latents is None or latents.nbytes > _MOST_ON_DEVICE else latents.to(device)


def finetune(trainer: Trainer) -> Iterator[TrainStep]:
    """Trains to the configured number of steps, yielding after each; stop by not asking for the next."""
    yield from executor().train(trainer)
