"""Progressive pruning (EntPruner): score, decide, drop, recover, and again; a generator that a person can drive.

Nothing here touches the disk. Whoever iterates writes stages and saves ``Trained.trainer``; a run that stopped goes on
from a ``Resume``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.data.latents import EncodeProgress, encoding
from engine.errors import InputError
from engine.importance.ced import CedColumn, CedResult, ced_columns
from engine.importance.config import CedConfig
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.config import PruneConfig
from engine.pruning.decision import CandidateScored, Decision, chosen_beforehand, decide, target_depth_of
from engine.pruning.surgery import keep_blocks, state_of_kept_blocks, with_classes_of
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, TrainStep, finetune

_INTACT_LOSSES = 12  # batches that the intact model's loss is shown for


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Before anything else, where the data's latents aren't in the cache yet."""

    progress: EncodeProgress


@dataclass(frozen=True, kw_only=True)
class Scoring:
    stage: int
    progress: CedColumn


@dataclass(frozen=True, kw_only=True)
class Weighing:
    stage: int
    progress: CandidateScored


@dataclass(frozen=True, kw_only=True)
class Decided:
    """``fresh``: just taken; else it was taken before (by hand, or before an interruption) and is carried out now."""

    stage: int
    decision: Decision
    ced: CedResult | None
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class IntactLoss:
    """The intact model's loss on batches of this recovery: their mean, and one deviation to both sides."""

    stage: int
    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    stage: int
    progress: TrainStep
    trainer: Trainer
    decision: Decision
    ced: CedResult | None


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """``model`` carries the averaged (EMA) weights; ``trainer_state`` what the next stage goes on from."""

    stage: int
    model: Model
    decision: Decision | None
    ced: CedResult | None
    trainer_state: dict[str, Tensor]


Event = Encoding | Scoring | IntactLoss | Weighing | Decided | Trained | StageDone


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Where to go on: after finished stage ``after_stage``, perhaps in the middle of the next one's recovery.

    Stages are counted along the branch, from the intact model, which is 0.
    """

    after_stage: int
    model: Model  # of that stage, averaged weights
    trainer_state: dict[str, Tensor]  # at that stage's end
    decision: Decision | None = None  # of the next stage, where it was taken
    ced: CedResult | None = None
    partial_state: dict[str, Tensor] | None = None  # of the next stage's recovery


def prune_progressively(
    model: Model,
    data: Data,
    config: PruneConfig,
    *,
    recovery: FinetuneConfig | None = None,
    ced: CedConfig | None = None,
    cache: Path | None = None,
    resume: Resume | None = None,
) -> Iterator[Event]:
    """Yields what happens. Stage 0 is the intact model with the data's classes; each further stage drops and recovers.

    ``recovery`` holds for every stage (``num_steps`` are the steps of one stage). With ``config.drop`` there is one
    stage. Raises InputError before anything runs where the model can't be pruned so.
    """
    recovery, ced = recovery or FinetuneConfig(), ced or CedConfig()
    config.check_against(model.config.depth)
    if ced.granularity != "block":
        raise InputError("pruning removes whole blocks, and scores of branches don't say which; use granularity block")
    target = target_depth_of(model.network, config)
    teacher = model.network if recovery.distill_weight and model.knows_classes_of(data) else None
    if resume is None:
        start = with_classes_of(model, data, seed=recovery.seed)
        resume = Resume(after_stage=0, model=start, trainer_state={})
        yield StageDone(stage=0, model=start, decision=None, ced=None, trainer_state={})
    latents = yield from _encode(model, data, cache, mirrored=False)
    flipped = (yield from _encode(model, data, cache, mirrored=True)) if data.flip and data.latents is None else None
    labels = torch.from_numpy(data.labels)
    current, state = resume.model, resume.trainer_state
    planned = num_stages = 1 if config.drop else config.num_stages
    if resume.decision is not None:  # taken by hand, perhaps beyond the stages that were planned
        num_stages = max(num_stages, resume.after_stage + 1)
    for stage in range(resume.after_stage + 1, num_stages + 1):
        if target is not None and current.config.depth <= target and resume.decision is None:
            return
        scores, decision = resume.ced, resume.decision
        if decision is None:
            scores, decision = yield from _choose(
                current, data, config, ced, cache, stage=stage, stages_left=num_stages - stage + 1, target=target
            )
        yield Decided(stage=stage, decision=decision, ced=scores, fresh=resume.decision is None)
        kept = [block for block in range(current.config.depth) if block not in decision.drop]
        pruned = keep_blocks(current, kept)
        reached = stage >= planned or (target is not None and len(kept) <= target)
        beyond = stage > planned  # by hand: it gets what an even share would be
        steps = recovery.num_steps if beyond else config.recovery_steps(stage, recovery.num_steps, last=reached)
        trainer = Trainer(
            pruned.network,
            model.process,
            latents=latents,
            flipped=flipped,
            labels=labels,
            config=replace(recovery, seed=recovery.seed + stage, num_steps=steps),
            teacher=teacher,
        )
        if resume.partial_state is not None:
            trainer.load_state_dict(resume.partial_state)
        elif state:
            trainer.load_state_dict(state_of_kept_blocks(state, kept), restart=True)
        if trainer.step == 0 and steps and model.knows_classes_of(data):
            yield _intact_loss(model.network, trainer, stage)
        for step in finetune(trainer):
            yield Trained(stage=stage, progress=step, trainer=trainer, decision=decision, ced=scores)
        state = trainer.state_dict()  # shared with the trainer, which has done its work
        current = _averaged(pruned, trainer, stage)
        del trainer, pruned
        resume = Resume(after_stage=stage, model=current, trainer_state=state)
        yield StageDone(stage=stage, model=current, decision=decision, ced=scores, trainer_state=state)


def _encode(model: Model, data: Data, cache: Path | None, *, mirrored: bool) -> Iterator[Event]:
    steps = encoding(model, data, cache=cache, mirrored=mirrored)
    while True:
        try:
            yield Encoding(progress=next(steps))
        except StopIteration as stop:
            return stop.value


def _choose(
    model: Model,
    data: Data,
    config: PruneConfig,
    ced: CedConfig,
    cache: Path | None,
    *,
    stage: int,
    stages_left: int,
    target: int | None,
) -> Iterator[Event]:
    """Scores the blocks afresh and returns (scores, decision); by hand, the scores are skipped."""
    if config.drop:
        return None, chosen_beforehand(model, list(config.drop))
    for column in ced_columns(model, data, ced, cache=cache):
        yield Scoring(stage=stage, progress=column)
    scores = column.result
    decision = None
    for item in decide(model, data, scores, config, stages_left=stages_left, seed=ced.seed, target_depth=target):
        if isinstance(item, Decision):
            decision = item
        else:
            yield Weighing(stage=stage, progress=item)
    assert decision is not None
    return scores, decision


def _intact_loss(network: DiT, trainer: Trainer, stage: int) -> IntactLoss:
    num = min(_INTACT_LOSSES, trainer.config.num_steps)
    losses = np.array([trainer.loss_of(network, step=step) for step in range(num)])
    return IntactLoss(stage=stage, mean=losses.mean().item(), deviation=losses.std().item())


def _averaged(pruned: Model, trainer: Trainer, stage: int) -> Model:
    network = DiT.holding(pruned.config, trainer.ema_state_dict())
    change = f"stage {stage}: {trainer.step} steps, {trainer.config}"
    averaged = pruned.with_network(network.eval().requires_grad_(False), change=change)
    return replace(averaged, labels_trained=pruned.labels_trained or trainer.step > 0)
