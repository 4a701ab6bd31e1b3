"""Draws images from a model and measures them against a dataset, in one call."""

from pathlib import Path

from engine.data.dataset import Data
from engine.data.latents import with_pictures
from engine.evaluation.features import load_features
from engine.evaluation.fidelity import Fidelity, evaluate_fidelity
from engine.evaluation.image_checks import check_data
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import sample
from engine.models.model import Model


def evaluate(
    model: Model,
    data: Data,
    protocol: Protocol | None = None,
    *,
    cache: Path | None = None,
    num_bootstrap: int = 50,
) -> Fidelity:
    """``num_bootstrap``: resamples that the intervals rest on; few where intervals come from elsewhere.

    Raises InputError for too few images, a sampler of the other process or unknown features.
    """
    protocol, data, device = protocol or Protocol(), with_pictures(model, data), str(model.device)
    check_data(data, protocol.num_images)
    load_features(protocol.features, device=device, workspace=cache.parent if cache else None)  # if missing, said now
    drawn = sample(model, protocol)
    return evaluate_fidelity(
        drawn.images,
        drawn.labels,
        data,
        features=protocol.features,
        seed=protocol.seed,
        device=device,
        cache=cache,
        num_bootstrap=num_bootstrap,
        same_classes=model.has_classes_of(data),
    )
