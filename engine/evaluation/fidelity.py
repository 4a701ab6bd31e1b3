"""How close generated images are to the data: FID, KID, the Inception score, precision, recall and class accuracy, each
with an interval, as torch-fidelity computes them; one pass of the extractor over the images in memory serves all.

Numbers always carry the name of the features that they rest on. "demo-cnn" is a small CNN that ships with the product:
its numbers compare models here; they are not the Inception numbers of papers. Images are uint8 (N, H, W, 3); features
float64 (N, F).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import Data
from engine.errors import InputError
from engine.evaluation.class_fidelity import ClassFidelity, fidelity_per_class
from engine.evaluation.features import extract_all, load_features
from engine.evaluation.frechet import Gaussian, frechet_distances
from engine.evaluation.image_checks import MIN_IMAGES, check_images, classes_not_drawn, weaknesses
from engine.evaluation.inception_score import inception_score, resampled_scores
from engine.evaluation.interval import Interval, bootstrap_interval, share_interval
from engine.evaluation.kernel import kernel_distance, resampled_kernel_distances, subset_size
from engine.evaluation.neighbours import precision_and_recall
from engine.evaluation.noise_floor import NoiseFloor, noise_floor
from engine.evaluation.reference import Reference, reference_of
from engine.evaluation.resampling import halves, resample

__all__ = ["MIN_IMAGES", "Fidelity", "class_accuracy", "evaluate_fidelity", "frechet_distance", "kernel_distance"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What is None can't be said of these features or images; ``warnings`` says why."""

    features: str
    weights: str  # file name
    weights_sha256: str
    num_images: int
    reference: str  # name of the data
    reference_hash: str  # of its pictures
    num_reference: int
    num_compared: int  # of these, by KID, precision, recall and the noise floor; FID rests on all
    fid: Interval
    kid: Interval
    kid_deviation: float  # over torch-fidelity's subsets of kid_subset_size images
    kid_subset_size: int
    inception_score: Interval | None
    inception_deviation: float | None  # over torch-fidelity's splits
    inception_splits: int
    precision: Interval
    recall: Interval
    class_accuracy: Interval | None  # None where the features don't know the data's classes
    floor: NoiseFloor
    per_class: dict[str, ClassFidelity]
    warnings: tuple[str, ...]

    @property
    def noise_floor(self) -> Interval:
        """The FID that ``noise_floor_images`` real images score against the other real ones."""
        return self.floor.fid

    @property
    def noise_floor_images(self) -> int:
        return self.floor.num_images

    def as_dict(self) -> dict:
        """The parts "features", "reference", "fidelity", "noise_floor", "per_class" and "warnings" of metrics.json."""
        kid = {"deviation": self.kid_deviation, "subset_size": self.kid_subset_size}
        score = {"deviation": self.inception_deviation, "splits": self.inception_splits}
        measured = {
            "FID": asdict(self.fid),
            "KID": asdict(self.kid) | kid,
            "IS": asdict(self.inception_score) | score if self.inception_score else None,
            "precision": asdict(self.precision),
            "recall": asdict(self.recall),
            "class accuracy": asdict(self.class_accuracy) if self.class_accuracy else None,
        }
        some = {"num_compared": self.num_compared} if self.num_compared < self.num_reference else {}
        floor = {name: getattr(self.floor, name.lower()) for name in ("FID", "KID", "precision", "recall")}
        return {
            "features": {"name": self.features, "weights": self.weights, "sha256": self.weights_sha256},
            "reference": {"name": self.reference, "hash": self.reference_hash, "num_images": self.num_reference} | some,
            "fidelity": {self._named(name): value for name, value in measured.items() if value},
            "noise_floor": {
                self._named(name): asdict(value) | {"num_images": self.floor.num_images}
                for name, value in floor.items()
            },
            "per_class": {
                name: {self._named(metric): asdict(value) for metric, value in own.scores.items()}
                | {"num_images": own.num_images, "num_reference": own.num_reference, "left_out": own.left_out}
                for name, own in self.per_class.items()
            },
            "warnings": list(self.warnings),
        }

    def _named(self, metric: str) -> str:
        return f"{metric} ({self.features})"


def class_accuracy(images: np.ndarray, labels: np.ndarray, data_name: str, *, device: str = "cpu") -> Interval:
    """Share of images that the demo CNN takes for what they should be, choosing among the classes of the dataset only;
    with Wilson's interval. Raises InputError for a dataset whose classes it doesn't know."""
    features = load_features("demo-cnn", device=device)
    assert features.classes is not None
    known = features.classes.class_names
    if data_name not in known:
        raise InputError(f"demo-cnn doesn't know the classes of {data_name!r}; it knows those of {', '.join(known)}")
    return _accuracy_from_logits(extract_all(features, images)[1], labels, features.classes.logits_of(data_name))


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features (FID, arXiv 1706.08500)."""
    return _fid(features_a, Gaussian.of(features_b))


def evaluate_fidelity(
    images: np.ndarray,
    labels: np.ndarray,
    data: Data,
    *,
    features: str = "demo-cnn",
    seed: int,
    num_bootstrap: int = 50,
    device: str = "cpu",
    cache: Path | None = None,
    extracted: tuple[np.ndarray, np.ndarray | None] | None = None,
    same_classes: bool = True,
    reference: Reference | None = None,
) -> Fidelity:
    """Measures generated images against ``data``; ``cache`` is a folder for what is known of the data, and lies in the
    workspace where published weights are looked for. ``extracted``: what ``extract_all`` of these features gave for the
    images, where that is known. ``same_classes``: whether ``labels`` are those of the data; where the images' classes
    are other ones, none is held against a class of the data. ``reference``: what ``reference_of`` these features, data
    and images' side gave, where it is known.

    Raises InputError for too few images, labels that the data hasn't or data without pictures, AssetError where a
    picture can't be read or the features' weights can't be had.
    """
    check_images(images, labels, data, same_classes=same_classes)
    extractor = load_features(features, device=device, workspace=cache.parent if cache else None)
    generated, logits = extracted or extract_all(extractor, images)
    reference = reference or reference_of(extractor, data, images.shape[1], cache)
    rng = np.random.default_rng(seed)

    resamples = [resample(labels, rng) for _ in range(num_bootstrap)]
    counts = np.stack([np.bincount(chosen, minlength=len(images)) for chosen in resamples], axis=1)
    fid, *fids = frechet_distances(generated, [np.arange(len(images)), *resamples], reference.gaussian)
    kid, kid_deviation = kernel_distance(generated, reference.features, seed=seed)
    kids = resampled_kernel_distances(generated, reference.features, counts, reference_pairs=reference.pairs)
    score, score_deviation, splits = _inception_score(logits, counts, seed)
    precision, recall = precision_and_recall(
        generated, reference.features, reference.neighbours.radii(), halves(labels, num_bootstrap, rng)
    )
    known = same_classes and extractor.classes is not None and data.name in extractor.classes.class_names
    right = _right(logits, labels, extractor.classes.logits_of(data.name)) if known else None
    there = labels.max() < len(data.class_names)  # numbers beyond those of the data have no real pictures
    floor = noise_floor(reference, labels, seed=seed, cache=cache, by_class=there)
    per_class, warnings = {}, weaknesses(images, data, extractor, generated.shape[1], floor.num_images, logits, score)
    if same_classes:
        warnings += classes_not_drawn(labels, data)
        per_class = fidelity_per_class(generated, labels, right, reference, data.class_names, rng, seed, num_bootstrap)
    else:
        warnings.append(
            f"the images' classes aren't those of {data.name}: nothing is said of single classes, and no class accuracy"
        )
    return Fidelity(
        features=features,
        weights=extractor.weights,
        weights_sha256=extractor.sha256,
        num_images=len(images),
        reference=data.name,
        reference_hash=data.pictures_hash or data.content_hash,
        num_reference=len(data),
        num_compared=len(reference),
        fid=bootstrap_interval(max(0.0, float(fid)), np.array(fids), least=0.0),
        kid=bootstrap_interval(kid, kids),
        kid_deviation=kid_deviation,
        kid_subset_size=subset_size(len(generated), len(reference)),
        inception_score=score,
        inception_deviation=score_deviation,
        inception_splits=splits,
        precision=precision,
        recall=recall,
        class_accuracy=share_interval(float(right.mean()), len(right)) if right is not None else None,
        floor=floor,
        per_class=per_class,
        warnings=tuple(warnings),
    )


def _fid(features: np.ndarray, reference: Gaussian) -> float:
    return float(frechet_distances(features, [np.arange(len(features))], reference)[0])


def _right(logits: np.ndarray, labels: np.ndarray, own: slice) -> np.ndarray:
    return logits[:, own].argmax(1) == labels


def _accuracy_from_logits(logits: np.ndarray, labels: np.ndarray, own: slice) -> Interval:
    return share_interval(float(_right(logits, labels, own).mean()), len(labels))


def _inception_score(
    logits: np.ndarray | None, counts: np.ndarray, seed: int
) -> tuple[Interval | None, float | None, int]:
    if logits is None:
        return None, None, 0
    score, deviation, splits = inception_score(logits, seed=seed)
    if not np.isfinite(score):
        return None, None, splits
    return bootstrap_interval(score, resampled_scores(logits, counts), least=1.0), deviation, splits
