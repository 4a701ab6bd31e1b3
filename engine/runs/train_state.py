"""Where a pruning run goes on from: a trainer's flat tensors, and in the middle of a stage what the stage had decided.

Written tensor by tensor: the state of a large model is four times its weights, and a second copy wouldn't fit.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engine.errors import AssetError
from engine.importance.ced_result import CedResult
from engine.models.tensor_writing import write_tensors
from engine.pruning.decision import Decision
from engine.runs.workspace import read_json, write_json

TENSORS, ABOUT = "train_state.safetensors", "train_state.json"


@dataclass(frozen=True, kw_only=True)
class SoFar:
    """What a stage's training came to before a checkpoint, for the figures that are told of it. In one file with the
    weights: of two, one may be a step older where the disk was full, or the power went, in between."""

    seconds: float = 0.0
    losses: tuple[float, ...] = ()  # the first, then the last ones

    def as_tensors(self) -> dict[str, Tensor]:
        values = {"seconds": [self.seconds], "losses": list(self.losses)}
        return {f"so_far.{name}": torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def so_far_in(state: dict[str, Tensor]) -> SoFar:
    """Of a checkpoint's tensors; nothing where they are of before this was noted."""
    if "so_far.seconds" not in state:
        return SoFar()
    return SoFar(seconds=state["so_far.seconds"].item(), losses=tuple(state["so_far.losses"].tolist()))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A stage under way. ``pending``: its decision waits for a person's word, nothing is dropped yet.

    Stage 0 has neither parent nor decision. ``state`` is empty at the beginning of a stage's training.
    """

    parent: int | None
    number: int
    decision: Decision | None
    ced: CedResult | None
    state: dict[str, Tensor]
    pending: bool = False
    so_far: SoFar = SoFar()


def write_train_state(folder: Path, state: dict[str, Tensor]) -> None:
    write_tensors(folder / TENSORS, state)


def read_train_state(folder: Path) -> dict[str, Tensor]:
    """Empty where the stage has none. Raises AssetError for a damaged one."""
    file = folder / TENSORS
    try:
        return load_file(file) if file.exists() else {}
    except (SafetensorError, OSError) as error:
        raise AssetError(f"the training state {file} is damaged ({error}); start a new run") from error


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Weights first, then the description that points to them."""
    if checkpoint.state:
        write_train_state(folder, {**checkpoint.state, **checkpoint.so_far.as_tensors()})
    else:
        (folder / TENSORS).unlink(missing_ok=True)
    about = {
        "parent": checkpoint.parent,
        "number": checkpoint.number,
        "pending": checkpoint.pending,
        "drop": checkpoint.decision.drop if checkpoint.decision else [],
        "record": checkpoint.decision.record if checkpoint.decision else None,
        "ced": checkpoint.ced.as_dict() if checkpoint.ced else None,
    }
    write_json(folder / ABOUT, about)


def read_checkpoint(folder: Path, *, parent: int | None, number: int) -> Checkpoint | None:
    """None where there is none of stage ``number`` growing from stage ``parent`` (None: from nothing, stage 0)."""
    if not (folder / ABOUT).exists():
        return None
    about = read_json(folder / ABOUT)
    if (about.get("parent"), about.get("number")) != (parent, number):
        return None
    return Checkpoint(
        parent=parent,
        number=number,
        pending=about["pending"],
        decision=Decision(drop=about["drop"], record=about["record"]) if about["record"] else None,
        ced=CedResult(**about["ced"]) if about["ced"] else None,
        state=read_train_state(folder),
    )


def remove_checkpoint(folder: Path) -> None:
    for name in (ABOUT, TENSORS):
        (folder / name).unlink(missing_ok=True)
