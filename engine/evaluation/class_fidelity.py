"""Fidelity class by class: each class's generated images against its real ones, where there are enough of both."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from engine.evaluation.frechet import Gaussian, frechet_distances
from engine.evaluation.interval import Interval, bootstrap_interval, share_interval
from engine.evaluation.kernel import kernel_distance, resampled_kernel_distances
from engine.evaluation.neighbours import nearest, precision_and_recall
from engine.evaluation.reference import Reference
from engine.evaluation.resampling import MIN_PER_CLASS, halves, resample


@dataclass(frozen=True, kw_only=True)
class ClassFidelity:
    """``left_out`` says in one line which numbers the class lacks, and why."""

    num_images: int
    num_reference: int
    scores: dict[str, Interval] = field(default_factory=dict)
    left_out: str = ""


def fidelity_per_class(
    generated: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray | None,
    reference: Reference,
    class_names: tuple[str, ...],
    rng: np.random.Generator,
    seed: int,
    num_bootstrap: int,
) -> dict[str, ClassFidelity]:
    """Of the classes that were generated."""
    same_name = Counter(class_names)
    found = {}
    for label in np.unique(labels):
        name = class_names[label] if same_name[class_names[label]] == 1 else f"{class_names[label]} ({label})"
        chosen, real = labels == label, reference.of_class(label)
        own_right = right[chosen] if right is not None else None
        found[name] = _of_class(generated[chosen], real, own_right, rng, seed, num_bootstrap)
    return found


def _of_class(
    generated: np.ndarray,
    real: np.ndarray,
    right: np.ndarray | None,
    rng: np.random.Generator,
    seed: int,
    num_bootstrap: int,
) -> ClassFidelity:
    fewest, num_features = min(len(generated), len(real)), generated.shape[1]
    sizes = {"num_images": len(generated), "num_reference": len(real)}
    numbers = f"{len(generated)} generated and {len(real)} real images"
    if fewest < MIN_PER_CLASS:
        return ClassFidelity(**sizes, left_out=f"all: {numbers} are too few, {MIN_PER_CLASS} of each are needed")
    labels = np.zeros(len(generated), dtype=int)
    resamples = [resample(labels, rng) for _ in range(num_bootstrap)]
    scores, left_out = {}, f"FID: {num_features} features need more than {num_features} of each, not {numbers}"
    if fewest > num_features:
        every = np.arange(len(generated))
        fid, *fids = frechet_distances(generated, [every, *resamples], Gaussian.of(real))
        scores["FID"] = bootstrap_interval(max(0.0, float(fid)), np.array(fids), least=0.0)
        left_out = ""
    counts = np.stack([np.bincount(chosen, minlength=len(generated)) for chosen in resamples], axis=1)
    scores["KID"] = bootstrap_interval(
        kernel_distance(generated, real, seed=seed)[0], resampled_kernel_distances(generated, real, counts)
    )
    masks = halves(labels, num_bootstrap, rng)
    scores["precision"], scores["recall"] = precision_and_recall(generated, real, nearest(real).radii(), masks)
    if right is not None:
        scores["class accuracy"] = share_interval(float(right.mean()), len(right))
    return ClassFidelity(**sizes, scores=scores, left_out=left_out)
