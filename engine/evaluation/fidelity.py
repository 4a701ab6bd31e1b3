"""How close generated images are to the data: FID, KID and class accuracy, each with an interval, by torch-fidelity.

"demo-cnn" is a small CNN that ships with the product. Its numbers compare models here; they are not the Inception
numbers of papers, which is why they always carry the features' name. Images are uint8 (N, H, W, 3); features float64
(N, F).
"""

import io
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from engine.data.dataset import Data, Images
from engine.errors import InputError
from engine.evaluation.demo_cnn import SIDE
from engine.evaluation.features import extract, extract_all, load_features, weights_hash
from engine.evaluation.kernel import resampled_kernel_distances
from engine.runs.workspace import write_bytes_atomically

CONFIDENCE = 0.9
MIN_IMAGES = 8
MIN_PER_CLASS = 10  # images of a class that are resampled among themselves
NUM_SPLITS = 5  # random splits of the data that the noise floor is averaged over
_KID_SUBSETS, _KID_SUBSET_SIZE = 100, 100
_PICTURES_READ = 1024  # of the data at a time; a multiple of what the extractor takes
_Z = 1.6448536269514722  # 95th percentile of the normal distribution, for 90 % intervals


@dataclass(frozen=True, kw_only=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """``noise_floor`` is the FID that ``noise_floor_images`` real images score against the other real ones."""

    features: str
    num_images: int
    num_reference: int
    fid: Interval
    kid: Interval
    kid_deviation: float  # over torch-fidelity's subsets of kid_subset_size images
    kid_subset_size: int
    class_accuracy: Interval | None  # None where the features don't know the data's classes
    noise_floor: Interval  # mean, smallest and largest over random splits
    noise_floor_images: int
    warnings: tuple[str, ...]

    def as_dict(self) -> dict:
        """The parts "fidelity", "noise_floor" and "warnings" of metrics.json."""
        fid, kid = f"FID ({self.features})", f"KID ({self.features})"
        measured = {
            fid: asdict(self.fid),
            kid: asdict(self.kid) | {"deviation": self.kid_deviation, "subset_size": self.kid_subset_size},
        }
        if self.class_accuracy:
            measured[f"class accuracy ({self.features})"] = asdict(self.class_accuracy)
        return {
            "fidelity": measured,
            "noise_floor": {fid: asdict(self.noise_floor) | {"num_images": self.noise_floor_images}},
            "warnings": list(self.warnings),
        }


def class_accuracy(images: np.ndarray, labels: np.ndarray, data_name: str, *, device: str = "cpu") -> Interval:
    """Share of images that the demo CNN takes for what they should be, choosing among the classes of the dataset only;
    with Wilson's interval. Raises InputError for a dataset whose classes it doesn't know."""
    extractor = load_features("demo-cnn", device=device)
    known = extractor.cnn.config.class_names
    if data_name not in known:
        raise InputError(f"demo-cnn doesn't know the classes of {data_name!r}; it knows those of {', '.join(known)}")
    return _accuracy_from_logits(extract_all(extractor, images)[1], labels, extractor.cnn.config.logits_of(data_name))


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features (FID, arXiv 1706.08500)."""
    return _fid(_statistics(features_a), _statistics(features_b))


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """KID (arXiv 1801.01401): mean and deviation over 100 random subsets of min(100, N // 2) images."""
    found = kid_features_to_metric(
        torch.from_numpy(features_a).float(),  # as torch-fidelity has them; twice as fast
        torch.from_numpy(features_b).float(),
        kid_subsets=_KID_SUBSETS,
        kid_subset_size=_subset_size(len(features_a), len(features_b)),
        rng_seed=seed,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


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
) -> Fidelity:
    """Measures generated images against ``data``; ``cache`` is a folder for the features of the data.

    Raises InputError for too few images, labels that the data hasn't or data without pictures, AssetError where a
    picture can't be read.
    """
    _check(images, labels, data)
    extractor = load_features(features, device=device)
    generated, logits = extract_all(extractor, images)
    reference = _reference_features(extractor, data, images.shape[1], cache)
    rng = np.random.default_rng(seed)

    reference_statistics = _statistics(reference)
    fid = _fid(_statistics(generated), reference_statistics)
    kid, kid_deviation = kernel_distance(generated, reference, seed=seed)
    resamples = [_resample(labels, rng) for _ in range(num_bootstrap)]
    fids = np.array([_fid(_statistics(generated[chosen]), reference_statistics) for chosen in resamples])
    counts = np.stack([np.bincount(chosen, minlength=len(images)) for chosen in resamples], axis=1)
    kids = resampled_kernel_distances(generated, reference, counts)

    config = extractor.cnn.config
    known = data.name in config.class_names
    floor, floor_images = _noise_floor(reference, data.labels, labels, rng)
    return Fidelity(
        features=features,
        num_images=len(images),
        num_reference=len(data),
        fid=_bootstrap_interval(fid, fids, least=0.0),
        kid=_bootstrap_interval(kid, kids),
        kid_deviation=kid_deviation,
        kid_subset_size=_subset_size(len(generated), len(reference)),
        class_accuracy=_accuracy_from_logits(logits, labels, config.logits_of(data.name)) if known else None,
        noise_floor=floor,
        noise_floor_images=floor_images,
        warnings=tuple(_warnings(images, data, features, generated.shape[1], floor_images)),
    )


def _check(images: np.ndarray, labels: np.ndarray, data: Data) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(labels):
        raise InputError(
            f"expected uint8 images (N, H, W, 3) and N labels, found {images.dtype} {images.shape} and {len(labels)}"
        )
    if min(len(images), len(data)) < MIN_IMAGES:
        raise InputError(
            f"{len(images)} images against {len(data)} of {data.name} are too few; take at least {MIN_IMAGES} of each"
        )
    if data.images is None:
        raise InputError(
            f"{data.name} holds encoded pictures only; fidelity is measured against pictures: open these too"
        )
    if labels.min() < 0 or labels.max() >= len(data.class_names):
        raise InputError(
            f"labels go from {labels.min()} to {labels.max()}, but {data.name} has {len(data.class_names)} classes"
        )


def _reference_features(extractor: FeatureExtractorBase, data: Data, side: int, cache: Path | None) -> np.ndarray:
    """Features of the data's pictures: of an array as they are, of files as they look at the generated images' side."""
    pictures, at_side = data.images, ""
    if not isinstance(pictures, np.ndarray):
        pictures, at_side = data.at(side).images, f"-{side}"
    if cache is None:
        return _extract_in_parts(extractor, pictures)
    content_hash = data.pictures_hash or data.content_hash
    file = cache / f"features-{extractor.get_name()}-{weights_hash()}-{content_hash}{at_side}.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["features"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # not there yet, or damaged: made anew
        features = _extract_in_parts(extractor, pictures)
    cache.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, features=features)
    write_bytes_atomically(file, content.getvalue())
    return features


def _extract_in_parts(extractor: FeatureExtractorBase, pictures: np.ndarray | Images) -> np.ndarray:
    """Pictures may be more than the memory holds: so many at a time are read."""
    parts = [
        extract(extractor, pictures[start : start + _PICTURES_READ])
        for start in range(0, len(pictures), _PICTURES_READ)
    ]
    return np.concatenate(parts)


def _statistics(features: np.ndarray) -> dict[str, np.ndarray]:
    return fid_features_to_statistics(torch.from_numpy(features))


def _fid(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return fid_statistics_to_metric(a, b, False)[KEY_METRIC_FID]


def _subset_size(num_a: int, num_b: int) -> int:
    return min(_KID_SUBSET_SIZE, num_a // 2, num_b // 2)


def _resample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices (N,) with repeats: within each class, because images are drawn for the classes in turn and not at random
    (measured on real shapes, a resample that ignores this gives intervals four times too wide)."""
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if min(map(len, members)) < MIN_PER_CLASS:  # too few in a class to stand for it
        members = [np.arange(len(labels))]
    return np.concatenate([own[rng.integers(len(own), size=len(own))] for own in members])


def _bootstrap_interval(value: float, resampled: np.ndarray, *, least: float = -np.inf) -> Interval:
    """Percentiles of the bootstrap, moved to lie about ``value``: a resample repeats images, which raises every FID and
    KID alike, so that unmoved percentiles would often lie above the value itself."""
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)) - resampled.mean()
    return Interval(value=value, low=max(least, value + min(0.0, float(low))), high=value + max(0.0, float(high)))


def _accuracy_from_logits(logits: np.ndarray, labels: np.ndarray, own: slice) -> Interval:
    """Wilson's score interval."""
    n = len(labels)
    share = float((logits[:, own].argmax(1) == labels).mean())
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Interval(value=share, low=max(0.0, float(centre - half)), high=min(1.0, float(centre + half)))


def _noise_floor(
    reference: np.ndarray, data_labels: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[Interval, int]:
    """What a perfect generator would score: the FID of as many real images of each class as were generated (at most
    half of the class) against the other real ones. FID falls with the number of images and with even classes, so a
    floor measured on others would mislead. Where that leaves next to nothing, as with one image a class, the classes
    are left out of it."""
    members = [np.flatnonzero(data_labels == label) for label in range(data_labels.max() + 1)]
    counts = [min(len(own) // 2, int((labels == label).sum())) for label, own in enumerate(members)]
    if sum(counts) < MIN_IMAGES // 2:
        members, counts = [np.arange(len(reference))], [min(len(reference) // 2, len(labels))]
    values = []
    for _ in range(NUM_SPLITS):
        chosen = np.zeros(len(reference), dtype=bool)
        for own, count in zip(members, counts, strict=True):
            chosen[rng.permutation(own)[:count]] = True
        values.append(frechet_distance(reference[chosen], reference[~chosen]))
    return Interval(value=float(np.mean(values)), low=min(values), high=max(values)), sum(counts)


def _warnings(images: np.ndarray, data: Data, features: str, num_features: int, floor_images: int) -> list[str]:
    found = []
    if len(images) < 2 * num_features:
        found.append(
            f"FID at N={len(images)} is biased upwards ({num_features} features want {2 * num_features} or more); "
            "compare it only with FIDs at the same N"
        )
    if floor_images < len(images):
        found.append(
            f"the noise floor rests on {floor_images} real images, fewer than the {len(images)} generated ones"
        )
    if images.shape[1:3] != (SIDE, SIDE):
        found.append(
            f"{features} saw the images scaled from {images.shape[2]}×{images.shape[1]} to {SIDE}×{SIDE} pixels"
        )
    return found
