"""A pruning run: the stage loop, with every stage, checkpoint, decision and preview written as it happens."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.dataset import Data
from engine.errors import Paused
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.importance.config import CedConfig
from engine.models.checkpoints import load_model, save_model
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.config import PruneConfig
from engine.pruning.decision import Decision
from engine.pruning.progressive import (
    Decided,
    Encoding,
    IntactLoss,
    Resume,
    Scoring,
    StageDone,
    Trained,
    Weighing,
    prune_progressively,
)
from engine.runs.drive import (
    Drive,
    blocks_to_indices,
    clear_pause,
    last_number,
    path_to,
    pause_requested,
    read_drive,
)
from engine.runs.progress import Progress, config_from
from engine.runs.run_model import load_run_model, opened_run_data
from engine.runs.stage_files import evaluate_into, evaluation_protocol, stage_info, write_stage_json
from engine.runs.store import Run
from engine.runs.train_state import (
    Checkpoint,
    read_checkpoint,
    read_train_state,
    remove_checkpoint,
    write_checkpoint,
    write_train_state,
)
from engine.runs.workspace import Workspace, write_json, writing
from engine.training.config import FinetuneConfig

#: params that are not PruneConfig's
_OF_OTHERS = ("model", "process", "autoencoder", "data", "finetune", "protocol", "ced", "step")
_EVENT_EVERY_STEPS = 5
_PREVIEWS_PER_STAGE = 6
_PREVIEW_IMAGES = 16
_CHECKPOINT_EVERY_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    prune: PruneConfig
    recovery: FinetuneConfig
    ced: CedConfig
    protocol: Protocol

    @property
    def num_stages(self) -> int:
        return 1 if self.prune.drop else self.prune.num_stages


def plan_of(params: dict) -> _Plan:
    """The configs of a prune run's params. Raises InputError for what they can't be."""
    prune = {key: value for key, value in params.items() if key not in _OF_OTHERS}
    return _Plan(
        prune=config_from(PruneConfig, prune),
        recovery=config_from(FinetuneConfig, params.get("finetune", {})),
        ced=config_from(CedConfig, params.get("ced", {})),
        protocol=evaluation_protocol(params.get("protocol", {})),
    )


def prune_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    drive = read_drive(run)
    clear_pause(run)
    plan = plan_of({**run.params, **drive.changes})
    model = load_run_model(run, workspace, device)
    data = yield from opened_run_data(run, workspace)
    place = _place(run, drive)
    job = _PruneJob(run, workspace, plan, model, data, place, step=drive.step)
    events = prune_progressively(
        model,
        data,
        plan.prune,
        recovery=plan.recovery,
        ced=plan.ced,
        cache=workspace.cache,
        resume=_resume(run, drive, place, device) if place else None,
    )
    for event in events:
        yield from job.handle(event)
    remove_checkpoint(run.path)


@dataclass(frozen=True)
class _Place:
    """Where in the tree of stages the run goes on."""

    head: int  # number of the stage that the next one grows from
    level: int  # stages from the intact model to the head
    number: int  # of the next stage


def _place(run: Run, drive: Drive) -> _Place | None:
    if not run.stages():
        return None
    last = last_number(run)
    head = last if drive.head is None else drive.head
    return _Place(head=head, level=len(path_to(run, head)) - 1, number=last + 1)


class _PruneJob:
    """Writes what the stage loop yields; counts work in forwards of one image, for progress and time left."""

    def __init__(
        self, run: Run, workspace: Workspace, plan: _Plan, model: Model, data: Data, place: _Place | None, *, step: bool
    ) -> None:
        self.run, self.workspace, self.plan, self.model, self.data = run, workspace, plan, model, data
        self.step = step
        self.head = place.head if place else None
        self.number = place.number if place else 0  # of the stage under way
        self.saved = time.monotonic()
        self.stage_seconds = 0.0
        self.losses: list[float] = []  # of this stage, as far as this process has seen it
        self.steps_done = 0  # of this stage, before an interruption too
        guidance = 1 if plan.protocol.cfg_scale == 1 else 2
        self.evaluation_work = plan.protocol.num_images * plan.protocol.num_steps * guidance
        self.num_steps = plan.recovery.num_steps  # of the stage under way
        self.training_work = plan.recovery.num_steps * plan.recovery.batch_size * 3
        self.scoring_work = 0 if plan.prune.drop else plan.ced.samples * plan.ced.timesteps * model.config.depth / 2
        self.work_of_stage = self.scoring_work + self.training_work + self.evaluation_work
        self.total = self.evaluation_work + plan.num_stages * self.work_of_stage

    def handle(self, event) -> Iterator[Progress]:
        match event:
            case Encoding():
                yield self._encoded(event)
            case Scoring():
                yield self._scored(event)
            case Weighing():
                message = f"candidate {event.progress.done} of {event.progress.total}"
                yield self._progress("deciding", message, event.stage, self.scoring_work)
            case Decided():
                self._decided(event)
            case IntactLoss():
                low, high = event.mean - event.deviation, event.mean + event.deviation
                self.run.append("band", stage=self.number, mean=event.mean, low=low, high=high)
            case Trained():
                yield self._trained(event)
            case StageDone():
                yield from self._finish_stage(event)

    def _encoded(self, event: Encoding) -> Progress:
        done, total = event.progress.done, event.progress.total
        what = "mirrored pictures" if event.progress.mirrored else "pictures"
        before = self.evaluation_work if self.head is None else 0.0
        message = f"{done:,} of {total:,} {what} become latents, once"
        return Progress(phase="encoding", message=message, done=before, total=self.total)

    def _decided(self, event: Decided) -> None:
        self.losses, self.steps_done, self.stage_seconds = [], 0, 0.0
        self.run.append("decision", stage=self.number, parent=self.head, decision=event.decision.record)
        if event.fresh and self.step:
            write_checkpoint(self.run.path, replace(self._checkpoint(event, state={}), pending=True))
            raise Paused("the vote is in; go on with it, or decide otherwise")

    @property
    def _pausing(self) -> bool:
        return pause_requested(self.run) and not self.run.cancel_requested

    def _scored(self, event: Scoring) -> Progress:
        if self._pausing:
            raise Paused("paused while the blocks were scored")
        done, total = event.progress.column, event.progress.num_columns
        write_json(self.run.progress_folder / "ced.json", event.progress.result.as_dict())
        self.run.append("column", stage=self.number, column=done, num_columns=total)
        message = f"stage {self.number}: column {done} of {total}"
        return self._progress("scoring", message, event.stage, self.scoring_work * done / total)

    def _trained(self, event: Trained) -> Progress:
        step, num_steps = event.progress, event.trainer.config.num_steps
        self.num_steps = num_steps
        self.losses.append(step.loss)
        self.steps_done = step.step
        self.stage_seconds += step.seconds
        if step.step % _EVENT_EVERY_STEPS == 0 or step.step in (1, num_steps):
            recent = self.losses[-_EVENT_EVERY_STEPS:]
            self.run.append(
                "train",
                stage=self.number,
                step=step.step,
                num_steps=num_steps,
                loss=float(np.mean(recent)),
                learning_rate=step.learning_rate,
                images_per_second=self.plan.recovery.batch_size / step.seconds,
            )
        if step.step % max(1, num_steps // _PREVIEWS_PER_STAGE) == 0:
            self._preview(event)
        pausing = self._pausing
        if (pausing or time.monotonic() - self.saved > _CHECKPOINT_EVERY_SECONDS) and step.step < num_steps:
            write_checkpoint(self.run.path, self._checkpoint(event, state=event.trainer.state_dict()))
            self.saved = time.monotonic()
        if pausing:
            raise Paused(f"paused at step {step.step} of {num_steps}")
        message = f"stage {self.number}: step {step.step} of {num_steps}, loss {step.loss:.3f}"
        work = self.scoring_work + self.training_work * step.step / max(1, num_steps)
        return self._progress("recovery", message, event.stage, work)

    def _preview(self, event: Trained) -> None:
        """The same seeds drawn with the averaged weights as they stand."""
        trainer = event.trainer
        network = DiT.holding(trainer.network.config, trainer.ema_state_dict())
        model = Model(**{**vars(self.model), "network": network.eval(), "class_names": self.data.class_names})
        labels = np.arange(_PREVIEW_IMAGES) % len(self.data.class_names)
        seeds = self.plan.protocol.seed + np.arange(_PREVIEW_IMAGES)
        drawn = draw(model, labels=labels, seeds=seeds, protocol=self.plan.protocol)
        name = f"stage{self.number}-step{event.progress.step:06d}.png"
        with writing(self.run.progress_folder / name):
            Image.fromarray(np.concatenate(list(drawn.images), axis=1)).save(self.run.progress_folder / name)
        self.run.append("samples", stage=self.number, step=event.progress.step, picture=f"progress/{name}")

    def _checkpoint(self, event: Trained | Decided, *, state: dict) -> Checkpoint:
        assert self.head is not None
        return Checkpoint(parent=self.head, number=self.number, decision=event.decision, ced=event.ced, state=state)

    def _finish_stage(self, event: StageDone) -> Iterator[Progress]:
        before = self.run.stage(self.head).kept_blocks if event.decision else ()
        dropped = [before[index] for index in event.decision.drop] if event.decision else []
        train = None
        if self.losses:
            final_loss = float(np.mean(self.losses[-20:]))
            train = {"num_steps": self.steps_done, "final_loss": final_loss, "seconds": self.stage_seconds}
        info = stage_info(
            number=self.number,
            title="intact" if event.stage == 0 else f"{event.model.config.depth} of {self.model.config.depth} blocks",
            model=self.model,
            data=self.data,
            parent=self.head,
            dropped=dropped,
            decision=event.decision.record if event.decision else None,
            finetune=asdict(replace(self.plan.recovery, num_steps=self.num_steps)) if event.decision else None,
            train=train,
        )
        info |= {"kept_blocks": list(event.model.kept_blocks), "depth": event.model.config.depth}
        with self.run.new_stage(self.number) as folder:
            write_stage_json(folder, info)
            save_model(event.model, folder)
            if event.trainer_state:
                write_train_state(folder, event.trainer_state)
            if event.ced:
                write_json(folder / "ced.json", event.ced.as_dict())
            intact = self.model if event.stage else None
            images = evaluate_into(
                folder, event.model, self.data, self.plan.protocol, cache=self.workspace.cache, intact=intact
            )
            for done, total in images:
                work = self.scoring_work + self.training_work + self.evaluation_work * done / total
                message = f"stage {self.number}: {done} of {total} images"
                yield self._progress("evaluating", message, event.stage, work)
        self.run.append("stage", stage=self.number)
        self.head, self.number = self.number, self.number + 1
        if self._pausing:
            raise Paused(f"paused after stage {self.head}")

    def _progress(self, phase: str, message: str, stage: int, work_in_stage: float) -> Progress:
        before = self.evaluation_work + (stage - 1) * self.work_of_stage if stage else 0.0
        done = before + work_in_stage if stage else work_in_stage - self.scoring_work - self.training_work
        return Progress(phase=phase, message=message, done=done, total=self.total)


def _resume(run: Run, drive: Drive, place: _Place, device: str) -> Resume:
    """From the head and, where the next stage was begun or decided, from there."""
    head = run.stage(place.head)
    resume = Resume(
        after_stage=place.level, model=_stage_model(run, head.path, device), trainer_state=read_train_state(head.path)
    )
    checkpoint = read_checkpoint(run.path, parent=place.head, number=place.number)
    if drive.decision is not None:
        record = drive.decision["record"]
        by_hand = Decision(drop=blocks_to_indices(drive.decision["drop"], head.kept_blocks), record=record)
        if checkpoint is None or checkpoint.pending or checkpoint.decision.record != record:
            return replace(resume, decision=by_hand, ced=checkpoint.ced if checkpoint else None)
    if checkpoint is None:
        return resume
    partial = None if checkpoint.pending else checkpoint.state
    return replace(resume, decision=checkpoint.decision, ced=checkpoint.ced, partial_state=partial)


def _stage_model(run: Run, folder: Path, device: str) -> Model:
    model = load_model(folder, device=device)
    return Model(**{**vars(model), "ref": run.params["model"]})
