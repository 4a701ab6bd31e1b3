"""What goes into ``stages/<n>/``: the description, the samples and the metrics of a model."""

import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from engine.data.dataset import Data
from engine.data.latents import with_pictures
from engine.errors import AssetError, InputError
from engine.evaluation.comparing import UNTRAINED_LABELS
from engine.evaluation.efficiency import compare_efficiency
from engine.evaluation.features import extract_all, load_features
from engine.evaluation.fidelity import MIN_IMAGES, evaluate_fidelity
from engine.evaluation.image_checks import check_data
from engine.evaluation.picture_scores import score_pictures
from engine.evaluation.protocol import Protocol
from engine.evaluation.reference import ReferenceProgress, reading_reference
from engine.evaluation.sample_files import num_left, sample_into, where_kept
from engine.evaluation.sampling import SampleSet, joined, sample_batches
from engine.evaluation.timing import Timing
from engine.models.model import Model
from engine.runs.provenance import write_provenance
from engine.runs.run_compute import compute_of, protocol_in
from engine.runs.workspace import write_json
from engine.steps import told_as

_SHARE_OF_DRAWING = 0.9  # of an evaluation's time; what is left are the features of data not seen before


def evaluation_protocol(params: dict) -> Protocol:
    """The protocol of a job's params. Raises InputError for one that no metric could rest on."""
    protocol = protocol_in(compute_of(params), params.get("protocol", {}))
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
        "depth_of_parent": model.depth_of_parent,
        "dropped_blocks": dropped or [],
        "depth": model.config.depth,
        "decision": decision,
        "finetune": finetune,
        "train": train,
        "created": time.time(),
    }


def write_stage_json(folder: Path, info: dict) -> None:
    write_json(folder / "stage.json", info)


@dataclass(frozen=True, kw_only=True)
class EvaluateProgress:
    message: str  # such as "8 of 16 images"
    share: float  # done of all, 0 … 1


def evaluate_into(
    folder: Path,
    model: Model,
    data: Data,
    protocol: Protocol,
    *,
    cache: Path,
    intact: Model | None = None,
    timing: Timing | None = None,
    kept: Path | None = None,
) -> Iterator[EvaluateProgress]:
    """Writes samples.npz and metrics.json, yielding progress. ``intact`` is timed in turns with
    ``model``, so that a busy machine slows both alike. ``kept``: a folder that keeps what was drawn of this model, for
    the same call to go on with where this one is stopped."""
    device = str(model.device)
    data = with_pictures(model, data)
    check_data(data, protocol.num_images)
    sampler, precision = protocol.sampler or model.process.default_sampler, model.compute.precision
    protocol = replace(protocol, sampler=sampler, device=model.device.type, precision=precision)
    extractor = load_features(protocol.features, device=device, workspace=cache.parent)  # if missing, said at once
    drawing = _drawn_and_kept(kept / "samples.npz", model, protocol) if kept else _drawn(model, protocol)
    samples = yield from told_as(drawing, _tell_images)
    seen = extract_all(load_features("demo-cnn", device=device), samples.images)
    same_classes = model.has_classes_of(data)
    told_apart = data.name if same_classes else ""
    scores = score_pictures(samples.images, samples.labels, told_apart, device=device, extracted=seen)
    # not compressed: whoever looks at some of the pictures has the others stay on the disk
    np.savez(folder / "samples.npz", arr_0=samples.images, labels=samples.labels, seeds=samples.seeds, **scores)
    reading = reading_reference(extractor, data, samples.images.shape[1], cache)
    reference = yield from told_as(reading, lambda step: _tell_pictures(step, data))
    fidelity = evaluate_fidelity(
        samples.images,
        samples.labels,
        data,
        features=protocol.features,
        seed=protocol.seed,
        device=device,
        cache=cache,
        extracted=seen if protocol.features == "demo-cnn" else None,
        same_classes=same_classes,
        reference=reference,
    )
    *before, efficiency = compare_efficiency([intact, model] if intact else [model], timing, sampling=protocol)
    metrics = {"protocol": asdict(protocol), **fidelity.as_dict(), "efficiency": efficiency.as_dict()}
    metrics["labels_trained"] = model.labels_trained
    if not model.labels_trained:
        metrics["warnings"] = [UNTRAINED_LABELS, *metrics["warnings"]]
    if before:
        metrics["efficiency_of_intact"] = before[0].as_dict()
    write_json(folder / "metrics.json", metrics)
    loaded = intact is None or not (folder / "weights.safetensors").exists()
    write_provenance(folder, source=model.source, loaded=loaded)
    if kept:
        _forget(kept / "samples.npz")


def _tell_images(step: tuple[int, int]) -> EvaluateProgress:
    done, total = step
    return EvaluateProgress(message=f"{done} of {total} images", share=_SHARE_OF_DRAWING * done / total)


def _tell_pictures(step: ReferenceProgress, data: Data) -> EvaluateProgress:
    share = _SHARE_OF_DRAWING + (1 - _SHARE_OF_DRAWING) * step.done / step.total
    message = f"features of {step.done:,} of {step.total:,} pictures of {data.name}"
    return EvaluateProgress(message=message, share=share)


def _drawn(model: Model, protocol: Protocol) -> Generator[tuple[int, int], None, SampleSet]:
    batches = []
    for batch in sample_batches(model, protocol):
        batches.append(batch)
        yield sum(len(b.images) for b in batches), protocol.num_images
    return joined(batches)


def _drawn_and_kept(out: Path, model: Model, protocol: Protocol) -> Generator[tuple[int, int], None, SampleSet]:
    try:
        num_left(out, model, protocol)
    except (InputError, AssetError):  # drawn by a model that went by this name before, or damaged
        _forget(out)
    for done in sample_into(out, model, protocol):
        yield done.num_done, done.num_images
    with np.load(out, allow_pickle=False) as arrays:
        return SampleSet(arrays["arr_0"], arrays["labels"], arrays["seeds"])


def _forget(out: Path) -> None:
    out.unlink(missing_ok=True)
    shutil.rmtree(where_kept(out), ignore_errors=True)
