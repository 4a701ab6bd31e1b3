"""What a perfect generator would score: real images measured against the other real ones, as many as were generated."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import hash_of
from engine.errors import AssetError
from engine.evaluation.frechet import Gaussian, frechet_distances
from engine.evaluation.interval import Interval, range_of
from engine.evaluation.kernel import split_kernel_distance
from engine.evaluation.neighbours import LEAST, inside, nearest
from engine.evaluation.reference import Reference
from engine.runs.workspace import read_json, write_json

NUM_SPLITS = 5  # random splits of the data that the noise floor is averaged over


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """Mean, smallest and largest over random splits; ``num_images`` real images against the others."""

    fid: Interval
    kid: Interval
    precision: Interval
    recall: Interval
    num_images: int


def noise_floor(
    reference: Reference, labels: np.ndarray, *, seed: int, cache: Path | None, by_class: bool = True
) -> NoiseFloor:
    """Of as many real images of each class as ``labels`` (N,) hold, at most half of the class.

    FID falls with the number of images, FID and KID with even classes, so a floor measured on others would mislead.
    Where that leaves next to nothing, as with one image a class, the classes are left out of it, and without
    ``by_class``: labels that the data hasn't.
    """
    members = [np.flatnonzero(reference.labels == label) for label in range(reference.labels.max() + 1)]
    counts = [min(len(own) // 2, int((labels == label).sum())) for label, own in enumerate(members)]
    if not by_class or sum(counts) < LEAST:
        members, counts = [np.arange(len(reference))], [min(len(reference) // 2, len(labels))]
    file = cache / f"floor-{reference.key}-{hash_of(counts, seed, NUM_SPLITS)}.json" if cache else None
    found = _read(file)
    if found is None:
        found = _measured(reference, members, counts, np.random.default_rng(seed))
        if file:
            write_json(file, asdict(found))
    return found


def _measured(
    reference: Reference, members: list[np.ndarray], counts: list[int], rng: np.random.Generator
) -> NoiseFloor:
    scores = []
    for _ in range(NUM_SPLITS):
        chosen = np.zeros(len(reference), dtype=bool)
        for own, count in zip(members, counts, strict=True):
            chosen[rng.permutation(own)[:count]] = True
        scores.append(_scores(reference, chosen))
    fid, kid, precision, recall = (range_of(list(column)) for column in zip(*scores, strict=True))
    return NoiseFloor(fid=fid, kid=kid, precision=precision, recall=recall, num_images=sum(counts))


def _scores(reference: Reference, chosen: np.ndarray) -> tuple[float, float, float, float]:
    """FID, KID, precision and recall of the chosen (M,) against the others."""
    drawn, others = reference.features[chosen], reference.features[~chosen]
    (fid,) = frechet_distances(drawn, [np.arange(len(drawn))], Gaussian.of(others))
    kid = split_kernel_distance(reference.features, chosen, reference.pairs)
    reach = reference.neighbours.radii(~chosen)[~chosen]
    precision = inside(drawn, others, reach[None]).mean()
    recall = inside(others, drawn, nearest(drawn).radii()[None]).mean()
    return float(fid), kid, float(precision), float(recall)


def _read(file: Path | None) -> NoiseFloor | None:
    """None where it isn't there yet, or is damaged: it is then measured anew."""
    if file is None:
        return None
    try:
        found = read_json(file)
        ranges = {name: Interval(**found[name]) for name in ("fid", "kid", "precision", "recall")}
        return NoiseFloor(**ranges, num_images=found["num_images"])
    except (AssetError, KeyError, TypeError):
        return None
