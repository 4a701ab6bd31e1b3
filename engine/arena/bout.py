"""One bout of an arena: blocks dropped, the rest recovered and measured, with one seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.data.dataset import Data
from engine.data.latents import Examples
from engine.evaluation.efficiency import count_macs
from engine.evaluation.evaluate import evaluate
from engine.models.model import Model
from engine.pruning.config import PruneConfig
from engine.pruning.progressive import StageDone, Trained, prune_progressively
from engine.pruning.surgery import keep_blocks, recovered
from engine.training.finetune import Trainer, finetune

_LOSS_SAMPLES = 1024
_LOSS_TIMESTEPS = 10
_SECOND_SEED = 1_000_003  # far enough that no two seeds of an arena share an image's noise


@dataclass(frozen=True, kw_only=True)
class Bout:
    """``dropped`` empty: the intact model with the same training."""

    dropped: tuple[int, ...]
    seed: int
    fid: float
    kid: float
    accuracy: float | None  # None where the features don't know the classes
    loss: float  # mean training loss over a fixed grid of timesteps, on the data
    strategy: str = ""  # an entrant that prunes in stages; "" where all blocks went at once
    stages: tuple[dict[str, Any], ...] = ()  # of such a one: {"dropped", "num_steps", "reason"}
    train_macs: float | None = None  # multiply-adds of all forwards in training, distillation's included
    seconds: float | None = None  # of recovery on the machine that it ran on

    @property
    def key(self) -> tuple:
        return key_of(self.strategy, self.dropped, self.seed)


def key_of(strategy: str, dropped: tuple[int, ...], seed: int) -> tuple:
    """What is computed once: a set, whoever chose it, or a strategy, whatever it comes to."""
    return (strategy or dropped, seed)


@dataclass(frozen=True, kw_only=True)
class Step:
    done: int
    total: int


def hold_bout(
    start: Model,
    data: Data,
    config: ArenaConfig,
    *,
    strategy: str = "",
    dropped: tuple[int, ...] = (),
    seed: int,
    examples: Examples,
    cache: Path | None,
) -> Iterator[Step | Bout]:
    """Yields Steps of recovery, and the Bout at the end."""
    begun = perf_counter()
    if strategy:
        model, stages, macs = yield from _in_stages(start, data, config, strategy, seed, cache)
    else:
        model, stages, macs = yield from _at_once(start, config, dropped, seed, examples)
    seconds = perf_counter() - begun
    protocol = replace(config.protocol, seed=config.protocol.seed + seed * _SECOND_SEED)
    found = evaluate(model, data, protocol, cache=cache, num_bootstrap=2)  # the spread of interest is over seeds
    yield Bout(
        dropped=tuple(block for block in range(start.config.depth) if block not in _places(start, model)),
        seed=seed,
        fid=found.fid.value,
        kid=found.kid.value,
        accuracy=found.class_accuracy.value if found.class_accuracy else None,
        loss=mean_loss(model, examples.latents, examples.labels, seed=config.seed),
        strategy=strategy,
        stages=stages,
        train_macs=macs,
        seconds=seconds,
    )


def _places(start: Model, model: Model) -> list[int]:
    """Of the blocks that are left, in the model that everybody started from."""
    return [start.kept_blocks.index(block) for block in model.kept_blocks]


def _at_once(
    start: Model, config: ArenaConfig, dropped: tuple[int, ...], seed: int, examples: Examples
) -> Iterator[Step]:
    """Returns (recovered model, (), multiply-adds)."""
    pruned = keep_blocks(start, [block for block in range(start.config.depth) if block not in dropped])
    recovery = replace(config.finetune, seed=config.finetune.seed + seed)
    # as in the stage loop: classes that were never trained teach nothing
    teacher = start.network if recovery.distill_weight and start.labels_trained else None
    trainer = Trainer(
        pruned.network,
        start.process,
        **examples._asdict(),
        config=recovery,
        teacher=teacher,
        compute=start.compute,
    )
    for step in finetune(trainer):
        yield Step(done=step.step, total=recovery.num_steps)
    return recovered(pruned, trainer), (), _macs(trainer)


def _in_stages(
    start: Model, data: Data, config: ArenaConfig, strategy: str, seed: int, cache: Path | None
) -> Iterator[Step]:
    """The studio's stage loop; its steps are as many as everybody's in all (less what the number of stages doesn't
    divide), shared out between the stages."""
    entrant = ENTRANTS[strategy]
    num_stages = min(entrant.prune["num_stages"], config.num_dropped)
    prune = PruneConfig(
        target_depth=start.config.depth - config.num_dropped, **{**entrant.prune, "num_stages": num_stages}
    )
    total = config.finetune.num_steps
    recovery = replace(config.finetune, num_steps=total // num_stages, seed=config.finetune.seed + seed)
    scoring = entrant.scoring(
        config.num_dropped, samples=min(config.samples, len(data)), timesteps=config.timesteps, seed=seed
    )
    stages, macs, done, model = [], 0.0, 0, start  # ``model`` is the one that a decision is about
    for event in prune_progressively(start, data, prune, recovery=recovery, ced=scoring, cache=cache):
        if isinstance(event, Trained):
            yield Step(done=done + event.progress.step, total=total)
            trainer = event.trainer
        elif isinstance(event, StageDone):
            if event.decision is not None:
                gone = [start.kept_blocks.index(model.kept_blocks[place]) for place in event.decision.drop]
                reason = event.decision.record["reason"]
                stages.append({"dropped": gone, "num_steps": trainer.step, "reason": reason})
                done, macs = done + trainer.step, macs + _macs(trainer)
            model = event.model
    return model, tuple(stages), macs


def _macs(trainer: Trainer) -> float:
    forward = count_macs(trainer.network)
    if trainer.teacher is not None and trainer.config.distill_weight:
        forward += count_macs(trainer.teacher) / 3  # a forward without a backward, which costs two more
    return float(forward) * trainer.config.batch_size * trainer.step


@torch.inference_mode()
def mean_loss(model: Model, latents: torch.Tensor, labels: torch.Tensor, *, seed: int) -> float:
    """Squared error of the prediction (without a variance term) over a grid of timesteps, the same samples and noise
    for every model that is asked with the same seed."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(latents), generator=generator)[:_LOSS_SAMPLES]
    x0, y = latents[chosen], labels[chosen]
    losses = []
    for t in model.process.timestep_grid(_LOSS_TIMESTEPS).tolist():
        eps = torch.randn(x0.shape, generator=generator)
        times = torch.full((len(x0),), t)
        target = model.process.target(x0, times, eps)
        x_t = model.process.noise(x0, times, eps)
        for part in torch.arange(len(x0)).split(256):
            inputs = (value[part].to(model.device) for value in (x_t, times, y))
            predicted = model.forward(*inputs)[:, : x0.shape[1]].cpu()
            losses.append((predicted - target[part]).square().flatten(1).mean(1))
    return torch.cat(losses).double().mean().item()
