"""Where in the tree of stages a pruning run goes on, and with what."""

from dataclasses import dataclass, replace
from pathlib import Path

from engine.models.checkpoints import load_model
from engine.models.model import Model
from engine.pruning.decision import Decision
from engine.pruning.progressive import Resume
from engine.runs.drive import Drive, blocks_to_indices, last_number, path_to
from engine.runs.store import Run
from engine.runs.train_state import read_checkpoint, read_train_state


@dataclass(frozen=True, kw_only=True)
class Place:
    head: int | None  # number of the stage that the next one grows from; None while there is none
    level: int  # stages from the intact model to the head; −1 while there is none
    number: int  # of the next stage


def place_of(run: Run, drive: Drive) -> Place:
    if not run.stages():
        return Place(head=None, level=-1, number=0)
    last = last_number(run)
    head = last if drive.head is None else drive.head
    return Place(head=head, level=len(path_to(run, head)) - 1, number=last + 1)


def resume_of(run: Run, drive: Drive, place: Place, *, model: Model) -> Resume | None:
    """From the head and, where the next stage was begun or decided, from there; None where nothing was begun.

    ``model`` is the one that was loaded.
    """
    checkpoint = read_checkpoint(run.path, parent=place.head, number=place.number)
    if place.head is None:
        if checkpoint is None:
            return None
        return Resume(after_stage=place.level, model=model, trainer_state={}, partial_state=checkpoint.state)
    head = run.stage(place.head)
    resume = Resume(
        after_stage=place.level,
        model=_stage_model(head.path, model),
        trainer_state=read_train_state(head.path),
        intact=_adapted(run, model) if place.level else None,
    )
    if drive.decision is not None:
        record = drive.decision["record"]
        by_hand = Decision(drop=blocks_to_indices(drive.decision["drop"], head.kept_blocks), record=record)
        if checkpoint is None or checkpoint.pending or checkpoint.decision.record != record:
            return replace(resume, decision=by_hand, ced=checkpoint.ced if checkpoint else None)
    if checkpoint is None:
        return resume
    partial = None if checkpoint.pending else checkpoint.state or None
    return replace(resume, decision=checkpoint.decision, ced=checkpoint.ced, partial_state=partial)


def _adapted(run: Run, model: Model) -> Model | None:
    """Stage 0's model where it isn't the loaded one; a second copy of that would take its memory again."""
    stage = run.stage(0)
    return _stage_model(stage.path, model) if stage.info.get("train") else None


def _stage_model(folder: Path, model: Model) -> Model:
    """``model`` with the network of a stage: what else is known of it (its source, its licence, what was assumed) is
    the loaded model's, as in a run that never stopped."""
    stage = load_model(folder, device=model.device)
    of_stage = ("network", "class_names", "content_hash", "trained_on", "kept_blocks", "labels_trained")
    of_stage += ("depth_of_parent",)
    return replace(model, **{name: getattr(stage, name) for name in of_stage})
