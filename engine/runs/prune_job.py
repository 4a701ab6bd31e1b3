"""A pruning run: the stage loop, with every stage, checkpoint, decision and preview written as it happens."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
from PIL import Image

from engine.data.dataset import Data
from engine.data.shared_classes import knows_all
from engine.errors import Paused, TrainingDiverged
from engine.evaluation.class_order import class_labels
from engine.evaluation.sampling import draw
from engine.models.checkpoints import save_model
from engine.models.dit import DiT
from engine.models.model import Model
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
from engine.pruning.surgery import tell_classes
from engine.runs.drive import clear_pause, pause_requested, read_drive
from engine.runs.feature_files import features_at_hand
from engine.runs.progress import Progress
from engine.runs.prune_plan import PrunePlan, PruneWork, plan_of
from engine.runs.prune_resume import Place, place_of, resume_of
from engine.runs.run_model import load_run_model, opened_run_data
from engine.runs.stage_files import evaluate_into, stage_info, write_stage_json
from engine.runs.store import Run
from engine.runs.train_state import (
    Checkpoint,
    SoFar,
    remove_checkpoint,
    so_far_in,
    write_checkpoint,
    write_train_state,
)
from engine.runs.workspace import Workspace, replacing, write_json
from engine.training.config import USUAL_ADAPTATION
from engine.training.finetune import Trainer, TrainStep

logger = logging.getLogger("engine.prune")

_UNADAPTED = (
    "{model} doesn't know all classes of {data}, and isn't adapted to them: stage 0 draws pictures of no class, its "
    "numbers say nothing about the intact model, and nothing can be learned from it; --adapt-steps (Adapt first in the "
    "form) is recommended, {steps} for a small model"
)
_EVENT_EVERY_STEPS = 5
_PREVIEWS_PER_STAGE = 6
_PREVIEW_IMAGES = 16
_CHECKPOINT_EVERY_SECONDS = 20.0  # and twenty times what the last one took, if that is more: 5 % of the time at most
_FINAL_STEPS = 20  # whose mean loss is a stage's final one
_ASTRAY = 10  # times the loss that a training began with


def prune_job(run: Run, workspace: Workspace, device: str) -> Iterator[Progress]:
    drive = read_drive(run)
    clear_pause(run)
    plan = plan_of({**run.params, **drive.changes})
    yield from features_at_hand(plan.protocol.features, workspace, path=run.params.get("features_weights"))
    model = load_run_model(run, workspace, device)
    data = yield from opened_run_data(run, workspace)
    place = place_of(run, drive)
    resume = resume_of(run, drive, place, model=model)
    if resume is None:
        tell_classes(model, data)
        knows = model.labels_trained and knows_all(model.class_names, data.class_names)
        if not plan.prune.adapt_steps and not knows:
            logger.warning(_UNADAPTED.format(model=model.ref, data=data.name, steps=USUAL_ADAPTATION))
    job = _PruneJob(run, workspace, plan, model, data, place, resume=resume, step=drive.step)
    events = prune_progressively(
        model, data, plan.prune, recovery=plan.recovery, ced=plan.ced, cache=workspace.cache, resume=resume
    )
    del resume  # its tensors are many times the model's: the loop lets go of them when it can
    try:
        for event in events:
            yield from job.handle(event)
    except TrainingDiverged as error:
        raise job.with_what_is_kept(error) from error
    remove_checkpoint(run.path)


class _PruneJob:
    """Writes what the stage loop yields."""

    def __init__(
        self,
        run: Run,
        workspace: Workspace,
        plan: PrunePlan,
        model: Model,
        data: Data,
        place: Place,
        *,
        resume: Resume | None,
        step: bool,
    ) -> None:
        self.run, self.workspace, self.plan, self.model, self.data = run, workspace, plan, model, data
        self.step = step
        self.head, self.number = place.head, place.number  # the stage under way is ``number``, and grows from ``head``
        self.level = place.level + 1  # of the stage under way, along the branch
        self.work = PruneWork(plan, model.config.depth)
        self.saved = time.monotonic()
        self.write_seconds = 0.0  # of the last checkpoint: for a large model longer than the usual time between two
        self._begin_stage()
        if resume and resume.partial_state:
            self.steps_done = self.saved_step = int(resume.partial_state["step"])
            self.so_far = so_far_in(resume.partial_state)

    def _begin_stage(self) -> None:
        self.decided: Decided | None = None
        self.so_far = SoFar()  # of this stage, before an interruption too
        self.micro_batch = self.plan.recovery.batch_size  # images at a time, as far as was said
        self.recompute = False  # likewise
        self.steps_done = 0  # of this stage, before an interruption too
        self.saved_step: int | None = None  # of the checkpoint, where it is in the middle of this stage's training

    def handle(self, event) -> Iterator[Progress]:
        match event:
            case Encoding():
                yield self._encoded(event)
            case Scoring():
                yield self._scored(event)
            case Weighing():
                message = f"candidate {event.progress.done} of {event.progress.total}"
                yield self._progress("deciding", message, scored=1)
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
        return self._progress("encoding", f"{done:,} of {total:,} {what} become latents, once")

    def _decided(self, event: Decided) -> None:
        self.decided = event
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
        return self._progress("scoring", message, scored=done / total)

    def _trained(self, event: Trained) -> Progress:
        step, num_steps = event.progress, event.trainer.config.num_steps
        self.so_far = _further(self.so_far, step)
        self.steps_done = step.step
        self._tell_shortage(step)
        if step.step % _EVENT_EVERY_STEPS == 0 or step.step in (1, num_steps):
            recent = self.so_far.losses[1:][-_EVENT_EVERY_STEPS:]
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
        pausing, began = self._pausing, time.monotonic()
        if pausing or self._checkpoint_due(event.trainer, last=step.step == num_steps):
            self.run.sync_events()  # the steps before a checkpoint aren't repeated: nor are their events
            write_checkpoint(self.run.path, self._checkpoint(event, state=event.trainer.state_dict()))
            self.saved, self.saved_step = time.monotonic(), step.step
            self.write_seconds = self.saved - began
        if pausing:
            raise Paused(f"paused at step {step.step} of {num_steps}")
        message = f"stage {self.number}: step {step.step} of {num_steps}, loss {step.loss:.3f}"
        if step.micro_batch < self.plan.recovery.batch_size:
            message += f", {step.micro_batch} images at a time"
        phase = "recovery" if event.stage else "adapting"
        return self._progress(phase, message, scored=1, trained=step.step / max(1, num_steps))

    def _tell_shortage(self, step: TrainStep) -> None:
        batch_size, micro_batch = self.plan.recovery.batch_size, step.micro_batch
        if step.recompute and not self.recompute:
            self.run.log(
                f"stage {self.number}: a batch of {batch_size} doesn't fit the device's memory; the backward pass "
                "works out again what was to be kept for it (gradient checkpointing): the same gradient, for another "
                "forward"
            )
        if micro_batch < self.micro_batch:
            self.run.log(
                f"stage {self.number}: a batch of {batch_size} doesn't fit the device's memory; each step takes "
                f"{micro_batch} images at a time and adds up their gradients, which are the batch's"
            )
        self.micro_batch, self.recompute = micro_batch, step.recompute

    def _checkpoint_due(self, trainer: Trainer, *, last: bool) -> bool:
        """Also after the ``last`` step: what follows is the evaluation, which may take longer than the training. Never
        where the next step's loss has gone astray: that would be nowhere to go back to."""
        if not last and time.monotonic() - self.saved <= _CHECKPOINT_EVERY_SECONDS * max(1.0, self.write_seconds):
            return False
        self.saved = time.monotonic()
        return trainer.loss_of(trainer.network, step=trainer.step) <= _ASTRAY * self.so_far.losses[0]

    def _preview(self, event: Trained) -> None:
        """The same seeds drawn with the averaged weights as they stand."""
        trainer = event.trainer
        network = DiT.holding(trainer.network.config, trainer.ema_state_dict())
        model = Model(**{**vars(self.model), "network": network.eval(), "class_names": self.data.class_names})
        index = np.arange(_PREVIEW_IMAGES)
        labels, seeds = class_labels(index, range(len(self.data.class_names))), self.plan.protocol.seed + index
        drawn = draw(model, labels=labels, seeds=seeds, protocol=self.plan.protocol)
        name = f"stage{self.number}-step{event.progress.step:06d}.png"
        with replacing(self.run.progress_folder / name) as temporary:
            Image.fromarray(np.concatenate(list(drawn.images), axis=1)).save(temporary, format="PNG")
        self.run.append("samples", stage=self.number, step=event.progress.step, picture=f"progress/{name}")

    def _checkpoint(self, event: Trained | Decided, *, state: dict) -> Checkpoint:
        return Checkpoint(
            parent=self.head,
            number=self.number,
            decision=event.decision,
            ced=event.ced,
            state=state,
            so_far=self.so_far if state else SoFar(),
        )

    def _finish_stage(self, event: StageDone) -> Iterator[Progress]:
        before = self.run.stage(self.head).kept_blocks if event.decision else ()
        dropped = [before[index] for index in event.decision.drop] if event.decision else []
        train = finetune = None
        if event.trainer_state:
            finetune = asdict(replace(self.plan.recovery, num_steps=int(event.trainer_state["step"])))
        if self.so_far.losses:
            final_loss = float(np.mean(self.so_far.losses[1:]))
            train = {"num_steps": self.steps_done, "final_loss": final_loss, "seconds": self.so_far.seconds}
        info = stage_info(
            number=self.number,
            title=self._title(event),
            model=self.model,
            data=self.data,
            parent=self.head,
            dropped=dropped,
            decision=event.decision.record if event.decision else None,
            finetune=finetune,
            train=train,
        )
        info |= {"kept_blocks": list(event.model.kept_blocks), "depth": event.model.config.depth}
        info |= {"depth_of_parent": event.model.depth_of_parent}
        self.run.sync_events()
        with self.run.new_stage(self.number) as folder:
            write_stage_json(folder, info)
            save_model(event.model, folder)
            if event.trainer_state:
                write_train_state(folder, event.trainer_state)
            if event.ced:
                write_json(folder / "ced.json", event.ced.as_dict())
            intact = self.model if event.stage else None
            steps = evaluate_into(
                folder, event.model, self.data, self.plan.protocol,
                cache=self.workspace.cache, intact=intact, timing=self.plan.timing, kept=self.run.progress_folder,
            )  # fmt: skip
            for step in steps:
                if self._pausing and step.share < 1:  # what was drawn is kept
                    raise Paused(f"paused after {step.message} of stage {self.number}")
                message = f"stage {self.number}: {step.message}"
                yield self._progress("evaluating", message, scored=1, trained=1, evaluated=step.share)
        self.run.append("stage", stage=self.number)
        self.head, self.number, self.level = self.number, self.number + 1, self.level + 1
        self._begin_stage()
        if self._pausing:
            raise Paused(f"paused after stage {self.head}")

    def _title(self, event: StageDone) -> str:
        if event.stage == 0:
            return "intact, adapted" if event.trainer_state else "intact"
        return f"{event.model.config.depth} of {self.model.config.depth} blocks"

    def with_what_is_kept(self, error: TrainingDiverged) -> TrainingDiverged:
        """Makes sure that the run goes on from a good state, and says which.

        The state at which a step failed is none, though its numbers are finite: the same step fails again there,
        whatever the learning rate. Good are the last checkpoint before it and, without one, the stage's beginning.
        """
        if self.number and self.decided is None:
            return TrainingDiverged(f"{error}; stage {self.head} of run {self.run.id} is kept")
        kept = f"step {self.saved_step}"
        if self.saved_step in (None, self.steps_done):
            kept = "step 0 (the beginning)"
            remove_checkpoint(self.run.path)
            if self.decided:  # stays as it was taken
                write_checkpoint(self.run.path, self._checkpoint(self.decided, state={}))
        return TrainingDiverged(
            f"{error} and go on from the last good state, which is kept: {kept} of stage {self.number} in "
            f"{self.run.path}"
        )

    def _progress(self, phase: str, message: str, **shares: float) -> Progress:
        """``shares`` of the stage under way that are done: scored, trained, evaluated."""
        return Progress(phase=phase, message=message, done=self.work.done(self.level, **shares), total=self.work.total)


def _further(so_far: SoFar, step: TrainStep) -> SoFar:
    first, *last = so_far.losses or (step.loss,)
    return SoFar(seconds=so_far.seconds + step.seconds, losses=(first, *[*last, step.loss][-_FINAL_STEPS:]))
