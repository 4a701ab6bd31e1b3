"""Where a pruning run goes on from: a trainer's flat tensors, and in the middle of a stage what the stage had decided.

Written tensor by tensor: the state of a large model is four times its weights, and a second copy wouldn't fit.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import AssetError
from engine.importance.ced_result import CedResult
from engine.pruning.decision import Decision
from engine.runs.workspace import read_json, replacing, write_json

TENSORS, ABOUT = "train_state.safetensors", "train_state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A stage under way. ``pending``: its decision waits for a person's word, nothing is dropped yet."""

    parent: int
    number: int
    decision: Decision
    ced: CedResult | None
    state: dict[str, Tensor]
    pending: bool = False


def write_train_state(folder: Path, state: dict[str, Tensor]) -> None:
    with replacing(folder / TENSORS) as temporary:
        try:
            save_file({name: value.detach().contiguous().cpu() for name, value in state.items()}, temporary)
        except SafetensorError as error:  # its word for a disk that is full
            raise _as_os_error(error) from error


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
        write_train_state(folder, checkpoint.state)
    else:
        (folder / TENSORS).unlink(missing_ok=True)
    about = {
        "parent": checkpoint.parent,
        "number": checkpoint.number,
        "pending": checkpoint.pending,
        "drop": checkpoint.decision.drop,
        "record": checkpoint.decision.record,
        "ced": checkpoint.ced.as_dict() if checkpoint.ced else None,
    }
    write_json(folder / ABOUT, about)


def read_checkpoint(folder: Path, *, parent: int, number: int) -> Checkpoint | None:
    """None where there is none of stage ``number`` growing from stage ``parent``."""
    if not (folder / ABOUT).exists():
        return None
    about = read_json(folder / ABOUT)
    if (about.get("parent"), about.get("number")) != (parent, number):
        return None
    return Checkpoint(
        parent=parent,
        number=number,
        pending=about["pending"],
        decision=Decision(drop=about["drop"], record=about["record"]),
        ced=CedResult(**about["ced"]) if about["ced"] else None,
        state=read_train_state(folder),
    )


def remove_checkpoint(folder: Path) -> None:
    for name in (ABOUT, TENSORS):
        (folder / name).unlink(missing_ok=True)


def _as_os_error(error: SafetensorError) -> OSError:
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else 0
    return OSError(number, os.strerror(number) if number else str(error))
