"""Features of what three models draw, kept in a small file for the lesson on FID: a pruning run's first and last one,
and the first without some blocks and without any training since.

``write_kept_features`` draws and looks; whoever resamples reads engine/learn/fid_by_number.py and needs no torch.
"""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.data import load_data
from engine.errors import AssetError
from engine.evaluation.features import extract_all, load_features
from engine.evaluation.protocol import Protocol
from engine.evaluation.reference import reference_of
from engine.evaluation.sampling import sample
from engine.models.checkpoints import load_model
from engine.models.model import Model
from engine.pruning.config import check_blocks
from engine.runs.progress import config_from
from engine.runs.store import Run, Stage

NUM_IMAGES = 1000
PICTURES_PER_CLASS = 6
_SHOWN = ("intact", "cut")


def write_kept_features(run: Run, out: Path, *, cut: list[int], num_images: int = NUM_IMAGES) -> int:
    """``cut``: blocks of the first model that the third goes without. Returns the number of bytes.

    Raises AssetError for a dataset whose classes the demo CNN doesn't know.
    """
    data, stages = load_data(run.params["data"]), run.stages()
    extractor = load_features("demo-cnn")
    if extractor.classes is None or data.name not in extractor.classes.class_names:
        raise AssetError(f"the demo CNN doesn't know the classes of {data.name}; take a run on bundled data")
    protocol = replace(config_from(Protocol, run.params.get("protocol", {})), num_images=num_images)
    arrays: dict[str, np.ndarray] = {}
    for who, model in _models(stages, cut).items():
        drawn = sample(model, protocol)
        features, logits = extract_all(extractor, drawn.images)
        arrays |= {f"{who}_features": features.astype(np.float16), "labels": drawn.labels.astype(np.uint8)}
        arrays[f"{who}_seen"] = logits[:, extractor.classes.logits_of(data.name)].argmax(1).astype(np.uint8)
        if who in _SHOWN:
            arrays[f"{who}_pictures"] = _pictures(drawn.images, drawn.labels, len(data.class_names))
    reference = reference_of(extractor, data, drawn.images.shape[1], None)
    arrays["real_mean"] = reference.gaussian.mean.astype(np.float32)
    arrays["real_cov"] = reference.gaussian.cov.astype(np.float32)
    arrays["num_real"] = np.array(len(data))
    arrays["about"] = np.array(json.dumps(_about(run, stages, cut, protocol, data.class_names)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    out.write_bytes(buffer.getvalue())
    return buffer.tell()


def _models(stages: list[Stage], cut: list[int]) -> dict[str, Model]:
    intact = load_model(str(stages[0].path))
    check_blocks(cut, intact.config.depth)
    kept = [block for block in range(intact.config.depth) if block not in cut]
    without = intact.with_network(intact.network.with_blocks(kept), change=f"keep {kept}", kept=kept)
    return {"intact": intact, "pruned": load_model(str(stages[-1].path)), "cut": without}


def _pictures(images: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The bytes of a PNG, a row for each class: the first of the class, not the best."""
    first = [np.flatnonzero(labels == label)[:PICTURES_PER_CLASS] for label in range(num_classes)]
    rows = [np.concatenate(list(images[chosen]), axis=1) for chosen in first]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, format="PNG", optimize=True)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _about(
    run: Run, stages: list[Stage], cut: list[int], protocol: Protocol, class_names: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "model": run.params["model"],
        "data": run.params["data"],
        "depth": {"intact": stages[0].depth, "pruned": stages[-1].depth},
        "cut": cut,
        "protocol": asdict(protocol),
        "class_names": list(class_names),
        "command": "python assets/record_replay.py",
    }
