"""Training shared out with Ray Train: every worker holds the whole model and computes the gradient of its share of each
batch; the average of these is the batch's gradient, up to rounding.

The process that asked stays in the lead: after each step the workers wait until it asks for the next, so that it can
save, preview and stop between steps as if it trained itself. The state comes over only when it is looked at.
"""

import asyncio
import tempfile
import threading
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
import torch
import torch.distributed as dist
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor

from engine.errors import ClusterError, EngineError, InputError, OutOfMemory
from engine.training.finetune import Trainer, TrainStep

if TYPE_CHECKING:
    from engine.cluster.ray_cluster import RayCluster

_GO, _STOP, _STATE = "go", "stop", "state"
_STOP_SECONDS = 20.0


class SharingTrainer(Trainer):
    """One of several that train the same model; every rank calls the same methods."""

    def _backward(self, rate: float) -> Tensor:
        world, rank = dist.get_world_size(), dist.get_rank()
        # every rank draws the whole batch, so that images, noise and timesteps are those of one trainer alone
        x0, t, eps, y = (each.tensor_split(world)[rank] for each in self._draw(self.step))
        try:
            loss = self._loss(x0, t, eps, y) * (len(x0) * world / self.config.batch_size)
            mean = _averaged(loss.detach())
            self._check_finite("loss", mean, rate)
            loss.backward()
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"a worker's memory doesn't hold {len(x0)} images at step {self.step + 1}; take more --train-workers, "
                "or a smaller batch"
            ) from error
        gradients = [parameter.grad for _, parameter in self._named if parameter.grad is not None]
        averaged = _averaged(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, averaged.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return mean


def _averaged(value: Tensor) -> Tensor:
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def train_together(cluster: "RayCluster", trainer: Trainer) -> Generator[TrainStep, None, None]:
    """The steps that are left. Raises InputError for more workers than images in a batch, ClusterError where one was
    lost; then ``trainer`` stands where its state was last looked at."""
    num_workers = cluster.train_workers
    if num_workers > trainer.config.batch_size:
        raise InputError(f"--train-workers is {num_workers}, but a batch has {trainer.config.batch_size} images")
    if trainer.step >= trainer.config.num_steps:
        return
    mailbox = ray.remote(_Mailbox).options(num_cpus=0).remote()
    folder = tempfile.TemporaryDirectory(prefix="entpruner-train-", ignore_cleanup_errors=True)  # Ray Train wants one
    fitting = _Fitting(_trainer_of(cluster, trainer, mailbox, folder.name))
    try:
        while trainer.step < trainer.config.num_steps:
            step = fitting.answer(cluster, mailbox.next_step.remote())
            trainer.step = step.step
            trainer.ahead = lambda: fitting.answer(cluster, mailbox.state.remote())
            yield step
            if step.step == trainer.config.num_steps:
                trainer.ema_state_dict()  # looks at the state, while there is somebody to give it
            mailbox.order.remote(_GO)
    finally:
        trainer.ahead = None
        fitting.stop(mailbox)
        folder.cleanup()


class _Mailbox:
    """An actor between the one who asks and the first worker."""

    def __init__(self) -> None:
        self.steps, self.states, self.orders = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()

    async def next_step(self) -> Any:
        return await self.steps.get()

    async def state(self) -> Any:
        await self.orders.put(_STATE)
        return await self.states.get()

    async def order(self, order: str) -> None:
        await self.orders.put(order)

    async def tell_step(self, step: Any) -> str:
        await self.steps.put(step)
        return await self.orders.get()

    async def tell_state(self, state: Any) -> str:
        await self.states.put(state)
        return await self.orders.get()


def _trainer_of(cluster: "RayCluster", trainer: Trainer, mailbox: Any, folder: str) -> TorchTrainer:
    given = {
        "network": trainer.network,
        "process": trainer.process,
        "teacher": trainer.teacher,
        "latents": trainer.latents,
        "labels": trainer.labels,
        "flipped": trainer.flipped,
        "config": trainer.config,
        "compute": trainer.compute,
        "state": trainer.state_dict(),
        "threads": 1,
    }
    return TorchTrainer(
        _train_loop,
        train_loop_config={"given": [ray.put(given)], "mailbox": mailbox},
        torch_config=TorchConfig(backend="nccl" if cluster.gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=cluster.train_workers, use_gpu=cluster.gpus),
        run_config=RunConfig(storage_path=folder, name="recovery"),
    )


def _train_loop(asked: dict[str, Any]) -> None:
    """What each worker does."""
    given, mailbox = ray.get(asked["given"][0]), asked["mailbox"]
    state, threads = given.pop("state"), given.pop("threads")
    torch.set_num_threads(threads)
    trainer = SharingTrainer(given.pop("network"), given.pop("process"), **given)
    trainer.load_state_dict(state)
    first = dist.get_rank() == 0
    while trainer.step < trainer.config.num_steps:
        try:
            step: Any = trainer.train_step()
        except EngineError as error:
            if first:
                ray.get(mailbox.tell_step.remote(error))
            if isinstance(error, OutOfMemory):
                raise  # maybe here alone: the others wait for this one's part, and only Ray Train can end them
            return  # on every rank alike: the loss is the average
        goes_on = torch.tensor([_goes_on(trainer, mailbox, step) if first else 0], device=trainer.labels.device)
        dist.broadcast(goes_on, src=0)
        if not goes_on.item():
            return


def _goes_on(trainer: Trainer, mailbox: Any, step: TrainStep) -> int:
    order = ray.get(mailbox.tell_step.remote(step))
    while order == _STATE:
        state = {name: value.detach().cpu() for name, value in trainer.state_dict().items()}
        order = ray.get(mailbox.tell_state.remote(state))
    return int(order == _GO)


class _Fitting:
    """Ray Train's loop, which doesn't return before the training has ended, in a thread."""

    def __init__(self, trainer: TorchTrainer) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._fit, args=(trainer,), name="ray train", daemon=True)
        self._thread.start()

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - told to whoever waits for an answer
            self._error = error

    def answer(self, cluster: "RayCluster", reference: Any) -> Any:
        """Raises what the workers raised, ClusterError where they were lost."""
        while not cluster.ready([reference]):
            if not self._thread.is_alive():
                raise ClusterError(
                    "a worker of the training was lost, or ran out of memory; the last checkpoint is kept: go on from "
                    "there"
                ) from self._error
        answer = cluster.result(reference)
        if isinstance(answer, EngineError):
            raise answer
        return answer

    def stop(self, mailbox: Any) -> None:
        with suppress(Exception):
            mailbox.order.remote(_STOP)
        self._thread.join(_STOP_SECONDS)
        with suppress(Exception):
            ray.kill(mailbox)
