"""Takes blocks out of a model, and gives a model another set of classes."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.errors import InputError
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.config import check_blocks

_LABEL_TABLE = "y_embedder.embedding_table.weight"


def keep_blocks(model: Model, kept: list[int]) -> Model:
    """A copy of ``model`` with only these blocks, in order; the config's depth changes with them.

    ``kept`` are indices into the model as it stands. Raises InputError for blocks that don't exist, for repeats, for a
    wrong order and for none at all.
    """
    kept = list(kept)
    depth = model.config.depth
    if not kept:
        raise InputError(f"all {depth} blocks would be dropped; keep at least one")
    if kept != sorted(set(kept)):
        raise InputError(f"kept blocks {kept} must be different and ascending")
    check_blocks([block for block in kept if not 0 <= block < depth], depth)
    network = copy.deepcopy(model.network.with_blocks(kept))
    return model.with_network(network, change=f"keep {kept}", kept=kept)


def drop_blocks(model: Model, drop: list[int]) -> Model:
    check_blocks(drop, model.config.depth)
    return keep_blocks(model, [block for block in range(model.config.depth) if block not in drop])


def with_classes_of(model: Model, data: Data, *, seed: int) -> Model:
    """``model`` itself where the classes agree, else a copy with a fresh label table; the null class keeps its row."""
    if model.class_names == data.class_names:
        return model
    old = model.network
    null_row = old.y_embedder.embedding_table.weight[model.null_class_or_raise()]
    network = DiT(replace(old.config, num_classes=len(data.class_names))).to(model.device)
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(len(data.class_names) + 1, old.config.hidden_size, generator=generator) * 0.02
    table[-1] = null_row
    network.load_state_dict({**old.state_dict(), _LABEL_TABLE: table})
    changed = model.with_network(network.eval().requires_grad_(False), change=f"classes {data.class_names} {seed}")
    return replace(changed, class_names=data.class_names, labels_trained=False)


def state_of_kept_blocks(state: dict[str, Tensor], kept: list[int]) -> dict[str, Tensor]:
    """A trainer's flat state with the dropped blocks' entries gone and the others renumbered."""
    new_index = {str(old): str(new) for new, old in enumerate(kept)}
    renamed = {}
    for key, value in state.items():
        head, found, rest = key.partition(".blocks.")
        if not found:
            renamed[key] = value
            continue
        index, _, name = rest.partition(".")
        if index in new_index:
            renamed[f"{head}.blocks.{new_index[index]}.{name}"] = value
    return renamed
