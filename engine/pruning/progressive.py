"""Progressive pruning (EntPruner): score, decide, drop, recover, and again; a generator that a person can drive.

Nothing here touches the disk. Whoever iterates writes stages and saves ``Trained.trainer``; a run that stopped goes on
from a ``Resume``.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from engine.data.dataset import Data
from engine.data.latents import EncodeProgress, Examples, encoding_examples
from engine.errors import InputError, TrainingDiverged
from engine.importance.ced import CedColumn, CedResult, ced_columns
from engine.importance.config import CedConfig
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.config import PruneConfig
from engine.pruning.decision import (
    CandidateScored,
    Decision,
    chosen_beforehand,
    decide,
    numbers_to_drop,
    target_depth_of,
)
from engine.pruning.surgery import keep_blocks, recovered, state_of_kept_blocks, with_classes_of
from engine.pruning.vote import is_finite
from engine.seeds import derived_seed
from engine.steps import told_as
from engine.training.config import FinetuneConfig, check_batch
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
    """Stage 0's model's loss on batches of this recovery: their mean, and one deviation to both sides."""

    stage: int
    mean: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A step of recovery, or in stage 0, where nothing was decided, of adaptation."""

    stage: int
    progress: TrainStep
    trainer: Trainer
    decision: Decision | None
    ced: CedResult | None


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """``model`` carries the averaged (EMA) weights; ``trainer_state`` what the next stage goes on from, empty for a
    stage 0 that wasn't adapted."""

    stage: int
    model: Model
    decision: Decision | None
    ced: CedResult | None
    trainer_state: dict[str, Tensor]


Event = Encoding | Scoring | IntactLoss | Weighing | Decided | Trained | StageDone


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Where to go on: after finished stage ``after_stage``, perhaps in the middle of the next one's recovery.

    Stages are counted along the branch, from the intact model, which is 0. −1 is the middle of stage 0: ``model`` is
    the one that was loaded then, ``partial_state`` that of its adaptation.
    """

    after_stage: int
    model: Model  # of that stage, averaged weights
    trainer_state: dict[str, Tensor]  # at that stage's end
    intact: Model | None = None  # stage 0's model; can be left out after stage 0 itself, and where it wasn't adapted
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
    """Yields what happens. Stage 0 is the intact model with the data's classes, adapted to the data where
    ``config.adapt_steps`` says so; each further stage drops and recovers.

    ``recovery`` holds for every stage (``num_steps`` are the steps of one stage). With ``config.drop`` there is one
    stage. Raises InputError before anything runs where the model can't be pruned so, TrainingDiverged where numbers
    are no longer finite.
    """
    recovery, ced = recovery or FinetuneConfig(), ced or CedConfig()
    target = _checked(model, data, config, recovery, ced, begun=resume is not None)
    examples = yield from told_as(encoding_examples(model, data, cache=cache), lambda step: Encoding(progress=step))
    start = with_classes_of(model, data, seed=recovery.seed)
    if resume is None or resume.after_stage < 0:
        resume = yield from _stage_0(start, examples, config, recovery, resume and resume.partial_state)
        state = resume.trainer_state
        yield StageDone(stage=0, model=resume.model, decision=None, ced=None, trainer_state=state)
    intact = resume.intact or (resume.model if resume.after_stage == 0 else start)
    teacher = intact.network if recovery.distill_weight and intact.knows_classes_of(data) else None
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
        training = _recovery_of(stage, config, recovery, last=reached, planned=planned)
        trainer = Trainer(
            pruned.network,
            model.process,
            **examples._asdict(),
            config=training,
            teacher=teacher,
            compute=model.compute,
        )
        if resume.partial_state is not None:
            trainer.load_state_dict(resume.partial_state)
        elif state:
            trainer.load_state_dict(state_of_kept_blocks(state, kept), restart=True)
        if trainer.step == 0 and training.num_steps and intact.knows_classes_of(data):
            yield _intact_loss(intact.network, trainer, stage)
        resume = yield from _train(pruned, trainer, stage=stage, decision=decision, ced=scores)
        del trainer, pruned
        current, state = resume.model, resume.trainer_state
        yield StageDone(stage=stage, model=current, decision=decision, ced=scores, trainer_state=state)


def _recovery_of(
    stage: int, config: PruneConfig, recovery: FinetuneConfig, *, last: bool, planned: int
) -> FinetuneConfig:
    """One learning rate schedule goes over all stages: its end is for the final depth. Starting it again in each stage
    would undo what the one before had settled. A stage that was added by hand gets a whole one of its own, and as many
    steps as an even share."""
    own = replace(recovery, seed=derived_seed(recovery.seed, stage))
    if config.drop or stage > planned:
        return own
    return replace(
        own,
        num_steps=config.recovery_steps(stage, recovery.num_steps, last=last),
        schedule_start=config.steps_before(stage, recovery.num_steps),
        schedule_steps=recovery.num_steps * config.num_stages,
    )


def _checked(
    model: Model, data: Data, config: PruneConfig, recovery: FinetuneConfig, ced: CedConfig, *, begun: bool
) -> int | None:
    """The target depth; raises InputError for what can't be. What has ``begun`` goes on though it would be refused
    today: a part of it was done already."""
    config.check_against(model.config.depth, begun=begun)
    if ced.granularity != "block":
        raise InputError("pruning removes whole blocks, and scores of branches don't say which; use granularity block")
    target = target_depth_of(model.network, config)
    if begun:
        return target
    if target is not None:
        config.check_stages(model.config.depth - target)
        _check_num_images(len(data), "samples (of CED)", ced.samples)
        _check_num_images(len(data), "num_proxy_samples (of NTK and ZiCo)", config.num_proxy_samples)
    check_batch(replace(recovery, num_steps=max(recovery.num_steps, config.adapt_steps)), len(data))
    return target


def _check_num_images(num_images: int, name: str, wanted: int) -> None:
    if wanted > num_images:
        raise InputError(f"{name} is {wanted}, but the data has only {num_images} images; choose at most {num_images}")


def adaptation(start: Model, examples: Examples, recovery: FinetuneConfig, *, num_steps: int) -> tuple[Model, Trainer]:
    """Of the intact model to the data: a copy of ``start`` with all its blocks, and what trains it in ``num_steps``."""
    copy = keep_blocks(start, list(range(start.config.depth)))
    config = replace(recovery, num_steps=num_steps)
    return copy, Trainer(copy.network, start.process, **examples._asdict(), config=config, compute=start.compute)


def _stage_0(
    start: Model,
    examples: Examples,
    config: PruneConfig,
    recovery: FinetuneConfig,
    partial_state: dict[str, Tensor] | None,
) -> Generator[Event, None, Resume]:
    """The intact model, adapted to the data where that is asked for: trained as a later stage is, all blocks kept."""
    if not config.adapt_steps:
        return Resume(after_stage=0, model=start, trainer_state={})
    adapted, trainer = adaptation(start, examples, recovery, num_steps=config.adapt_steps)
    if partial_state is not None:
        trainer.load_state_dict(partial_state)
    return (yield from _train(adapted, trainer, stage=0, decision=None, ced=None))


def _train(
    model: Model, trainer: Trainer, *, stage: int, decision: Decision | None, ced: CedResult | None
) -> Generator[Event, None, Resume]:
    """Trains ``model`` to the end of its stage; returns where the next one goes on."""
    for step in finetune(trainer):
        yield Trained(stage=stage, progress=step, trainer=trainer, decision=decision, ced=ced)
    averaged = recovered(model, trainer)
    # the state is shared with the trainer, which has done its work
    return Resume(after_stage=stage, model=averaged, trainer_state=trainer.state_dict())


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
    for column in ced_columns(model, data, _scoring_of(model, ced, config, stages_left, target), cache=cache):
        _check_scores(column.result, model)
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


def _scoring_of(model: Model, ced: CedConfig, config: PruneConfig, stages_left: int, target: int | None) -> CedConfig:
    """Where the order is worked out block by block, no further than to what this stage may drop."""
    if ced.num_candidates is not None or (ced.order == "independent" and ced.method == "exact"):
        return ced
    assert target is not None, "blocks chosen beforehand aren't scored"
    most = numbers_to_drop(model.config.depth, target, stages_left=stages_left, max_per_stage=config.max_per_stage)[-1]
    return replace(ced, num_candidates=most) if most else ced


def _check_scores(scores: CedResult, model: Model) -> None:
    """Raises TrainingDiverged where a score isn't finite, naming the block of the loaded model and the column."""
    for column, timestep in enumerate(scores.timesteps):
        if timestep is None:  # not done yet
            continue
        bad = [row for row, deltas in enumerate(scores.delta) if not is_finite(deltas[column])]
        if bad:
            # where the intact model fails as well, the block is at fault without which it doesn't
            healing = [row for row in bad if is_finite(scores.entropy_without[row][column])]
            block = model.kept_blocks[healing[0] if len(healing) == 1 else bad[0]]
            where = "sampling step" if scores.variable == "samples" else "noise level"
            raise TrainingDiverged(
                f"the score of block {block} at {where} {timestep:.3g} isn't finite: the model's weights hold NaN, "
                "or numbers too large to compute with"
            )


def _intact_loss(network: DiT, trainer: Trainer, stage: int) -> IntactLoss:
    num = min(_INTACT_LOSSES, trainer.config.num_steps)
    losses = np.array([trainer.loss_of(network, step=step) for step in range(num)])
    return IntactLoss(stage=stage, mean=losses.mean().item(), deviation=losses.std().item())
