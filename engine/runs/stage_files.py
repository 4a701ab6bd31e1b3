"""What goes into ``stages/<n>/``: the description, the samples and the metrics of a model."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from engine.data.dataset import Data
from engine.data.latents import with_pictures
from engine.errors import InputError
from engine.evaluation.efficiency import compare_efficiency
from engine.evaluation.features import load_features
from engine.evaluation.fidelity import MIN_IMAGES, evaluate_fidelity
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import SampleSet, sample_batches
from engine.models.model import Model
from engine.runs.progress import config_from
from engine.runs.workspace import write_json


def evaluation_protocol(values: dict) -> Protocol:
    """The protocol of a job's params. Raises InputError for one that no metric could rest on."""
    protocol = config_from(Protocol, values)
    if protocol.num_images < MIN_IMAGES:
        raise InputError(f"{protocol.num_images} images are too few to measure with; take at least {MIN_IMAGES}")
    return protocol


def stage_info(
    *,
    number: int,
    title: str,
    model: Model,
    data: Data,
    parent: int | None = None,
    dropped: list[int] | None = None,
    decision: dict | None = None,
    finetune: dict | None = None,
    train: dict | None = None,
) -> dict:
    return {
        "stage": number,
        "parent": parent,
        "title": title,
        "model": model.ref,
        "data": data.name,
        "process": model.process.name,
        "kept_blocks": list(model.kept_blocks),
        "dropped_blocks": dropped or [],
        "depth": model.config.depth,
        "decision": decision,
        "finetune": finetune,
        "train": train,
        "created": time.time(),
    }


def write_stage_json(folder: Path, info: dict) -> None:
    write_json(folder / "stage.json", info)


def evaluate_into(
    folder: Path, model: Model, data: Data, protocol: Protocol, *, cache: Path, intact: Model | None = None
) -> Iterator[tuple[int, int]]:
    """Writes samples.npz and metrics.json, yielding (images done, of all). ``intact`` is timed in turns with
    ``model``, so that a busy machine slows both alike."""
    device = model.device.type
    data = with_pictures(model, data)
    protocol = replace(protocol, sampler=protocol.sampler or model.process.default_sampler, device=device)
    load_features(protocol.features, device=device, workspace=cache.parent)  # if missing, said at once
    batches = []
    for batch in sample_batches(model, protocol):
        batches.append(batch)
        yield sum(len(b.images) for b in batches), protocol.num_images
    samples = SampleSet(
        *(np.concatenate([getattr(b, name) for b in batches]) for name in ("images", "labels", "seeds"))
    )
    np.savez_compressed(folder / "samples.npz", arr_0=samples.images, labels=samples.labels, seeds=samples.seeds)
    fidelity = evaluate_fidelity(
        samples.images, samples.labels, data, features=protocol.features, seed=protocol.seed, device=device, cache=cache
    )
    *before, efficiency = compare_efficiency([intact, model] if intact else [model])
    metrics = {"protocol": asdict(protocol), **fidelity.as_dict(), "efficiency": efficiency.as_dict()}
    if before:
        metrics["efficiency_of_intact"] = before[0].as_dict()
    write_json(folder / "metrics.json", metrics)
