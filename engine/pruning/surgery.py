"""Takes blocks out of a model, and gives a model another set of classes."""

import copy
import logging
from dataclasses import replace

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.data.shared_classes import about_classes, rows_kept_by_name
from engine.errors import InputError
from engine.models.content_hash import hash_tensors, hash_words
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.config import check_blocks
from engine.training.finetune import Trainer

logger = logging.getLogger("engine.classes")


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
    """``model`` itself where it knows the data's classes, else one with a fresh label table.

    A class that the model has under the same name keeps its row, and so does the null class; every other weight is
    shared with ``model``, not copied. ``labels_trained`` is False where a row is new.
    """
    if model.has_classes_of(data):
        return model
    network = model.network.with_num_classes(len(data.class_names))
    table = network.y_embedder.embedding_table.weight
    generator = torch.Generator().manual_seed(seed)
    fresh = torch.randn(table.shape, generator=generator) * 0.02
    old = model.network.y_embedder.embedding_table.weight
    fresh[-1] = old[model.null_class_or_raise()]
    kept = rows_kept_by_name(model.class_names, data.class_names)
    for row, old_row in kept.items():
        fresh[row] = old[old_row]
    with torch.no_grad():
        table.copy_(fresh)
    changed = model.with_network(network, change=f"classes {data.class_names} {seed}")
    trained = model.labels_trained and len(kept) == len(data.class_names)
    return replace(changed, class_names=data.class_names, labels_trained=trained)


def tell_classes(model: Model, data: Data) -> None:
    """Says what ``with_classes_of`` does, where there is something to say."""
    for note in about_classes(model.class_names, data.class_names, model=model.ref, data=data.name):
        logger.warning(note)


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


def recovered(pruned: Model, trainer: Trainer) -> Model:
    """``pruned`` with the averaged (EMA) weights of its recovery. Its content hash is that of these weights: no recipe
    says all that they depend on, and a run that goes on from its files comes to the same one."""
    state = trainer.ema_state_dict()
    network = DiT.holding(pruned.config, state).eval().requires_grad_(False)
    context = (pruned.config, pruned.process.name, pruned.autoencoder.content_hash, pruned.class_names)
    return replace(
        pruned,
        network=network,
        content_hash=hash_words(hash_tensors(state), *context),
        labels_trained=pruned.labels_trained or trainer.step > 0,
    )
