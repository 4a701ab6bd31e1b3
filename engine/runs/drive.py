"""How a person drives a pruning run: where it goes on, whether it stops at each decision, what was decided by hand.

``drive.json`` in the run's folder says so; whoever asks writes it and queues the run again, the run's process reads it
when it begins. An empty file ``pause`` asks a run at work to save where it is and rest. Free of torch.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.errors import AssetError, InputError
from engine.runs.store import Run
from engine.runs.workspace import read_json, write_bytes_atomically, write_json, writing

_FILE = "drive.json"
_PENDING = "train_state.json"


@dataclass(frozen=True, kw_only=True)
class Drive:
    """``head`` and ``decision`` are for stage ``number`` and spent as soon as it is written."""

    number: int | None = None
    head: int | None = None  # the stage to go on from; None: the last one written
    decision: dict[str, Any] | None = None  # {"drop": [blocks of the loaded model], "record": see stage.json}
    step: bool = False  # rest at each decision until a person says go
    changes: dict[str, Any] = field(default_factory=dict)  # the run's params that hold from now on, e.g. weights


def read_drive(run: Run) -> Drive:
    """What holds now: a decision that was carried out already is gone from it."""
    file = run.path / _FILE
    if not file.exists():
        return Drive(step=bool(run.params.get("step")))
    try:
        drive = Drive(**read_json(file))
    except TypeError as error:
        raise AssetError(f"{file} isn't what a run is driven by ({error}); delete it") from error
    if drive.number is not None and any(stage.number == drive.number for stage in run.stages()):
        return replace(drive, number=None, head=None, decision=None)
    return drive


def write_drive(run: Run, drive: Drive) -> None:
    """Raises InputError for a head that doesn't exist or blocks that it hasn't."""
    if drive.head is not None or drive.decision is not None:
        head = run.stage(drive.head if drive.head is not None else last_number(run))
        if drive.decision is not None:
            blocks_to_indices(drive.decision["drop"], head.kept_blocks)
        drive = replace(drive, number=last_number(run) + 1, head=head.number)
    write_json(run.path / _FILE, asdict(drive))


def last_number(run: Run) -> int:
    stages = run.stages()
    if not stages:
        raise InputError(f"run {run.id} has no finished stage yet; wait for the first one")
    return stages[-1].number


def blocks_to_indices(blocks: list[int], kept_blocks: tuple[int, ...]) -> list[int]:
    """Blocks by the loaded model's numbers -> places in a model that kept only these. Raises InputError."""
    gone = [block for block in blocks if block not in kept_blocks]
    if gone:
        raise InputError(f"block {gone[0]} isn't there to drop; the stage has {', '.join(map(str, kept_blocks))}")
    if len(set(blocks)) >= len(kept_blocks):
        raise InputError("at least one block must stay")
    return sorted({kept_blocks.index(block) for block in blocks})


def path_to(run: Run, number: int) -> list[int]:
    """The branch that leads to a stage: numbers from the intact model (0) to it."""
    parents = {stage.number: stage.info["parent"] for stage in run.stages()}
    branch: list[int] = []
    current: int | None = number
    while current is not None:
        if current not in parents or current in branch:
            raise AssetError(f"run {run.id}: stage {number} leads back to stage {current}, which isn't there")
        branch.append(current)
        current = parents[current]
    return branch[::-1]


def pending_decision(run: Run) -> dict[str, Any] | None:
    """Of a run that rests at a decision: {"parent", "number", "drop" (places in the parent), "record", "ced"}."""
    file = run.path / _PENDING
    if run.status().state != "paused" or not file.exists():
        return None
    about = read_json(file)
    return about if about.get("pending") else None


def request_pause(run: Run) -> None:
    write_bytes_atomically(run.path / "pause", b"")


def pause_requested(run: Run) -> bool:
    return (run.path / "pause").exists()


def clear_pause(run: Run) -> None:
    with writing(run.path / "pause"):
        (run.path / "pause").unlink(missing_ok=True)
