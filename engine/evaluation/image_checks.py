"""What can't be measured, and why measured numbers are weak: one line each."""

import numpy as np

from engine.data.dataset import Data
from engine.errors import InputError
from engine.evaluation.features import Features
from engine.evaluation.interval import Interval
from engine.evaluation.protocol import MIN_IMAGES


def check_data(data: Data, num_images: int) -> None:
    """What can be said before ``num_images`` images are drawn to be measured against ``data``."""
    if min(num_images, len(data)) < MIN_IMAGES:
        raise InputError(
            f"{num_images} images against {len(data)} of {data.name} are too few; take at least {MIN_IMAGES} of each"
        )
    if data.images is None:
        raise InputError(
            f"{data.name} holds encoded pictures only; fidelity is measured against pictures: open these too"
        )


def check_images(images: np.ndarray, labels: np.ndarray, data: Data, *, same_classes: bool) -> None:
    """``same_classes``: whether the labels are those of the data; others may be any number."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(labels):
        raise InputError(
            f"expected uint8 images (N, H, W, 3) and N labels, found {images.dtype} {images.shape} and {len(labels)}"
            f"{_other_mode(images)}"
        )
    check_data(data, len(images))
    if labels.min() < 0 or (same_classes and labels.max() >= len(data.class_names)):
        raise InputError(
            f"labels go from {labels.min()} to {labels.max()}, but {data.name} has {len(data.class_names)} classes"
        )


def _other_mode(images: np.ndarray) -> str:
    if images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 1):
        return "; grey images have to be repeated in three channels"
    if images.ndim == 4 and images.shape[-1] == 4:
        return "; images with transparency have to be laid on a background first"
    if images.ndim == 4 and images.shape[1] == 3:
        return "; the channels have to come last"
    return ""


def weaknesses(
    images: np.ndarray,
    data: Data,
    features: Features,
    num_features: int,
    floor_images: int,
    logits: np.ndarray | None,
    score: Interval | None,
) -> list[str]:
    found = []
    if len(images) <= num_features:
        found.append(
            f"{len(images)} images for {num_features} features are too few to know how these vary together: this FID "
            f"tells mostly how few images there are; compare it only with FIDs at the same N, or take more than "
            f"{2 * num_features} images"
        )
    elif len(images) < 2 * num_features:
        found.append(
            f"FID at N={len(images)} is biased upwards ({num_features} features want {2 * num_features} or more); "
            "compare it only with FIDs at the same N"
        )
    if len(data) <= num_features:
        found.append(
            f"{data.name} has {len(data)} pictures for {num_features} features, too few to know how these vary together"
        )
    if floor_images < len(images):
        found.append(
            f"the noise floor rests on {floor_images} real images, fewer than the {len(images)} generated ones"
        )
    if images.shape[1:3] != (features.side, features.side):
        found.append(
            f"{features.name} saw the images scaled from {_size(images)} to {features.side}×{features.side} pixels"
        )
    if isinstance(data.images, np.ndarray) and data.images.shape[1:3] != images.shape[1:3]:
        found.append(f"generated images of {_size(images)} pixels are compared with {data.name}'s {_size(data.images)}")
    found += _sameness(images)
    if logits is None:
        found.append(f"there is no Inception score: {features.name} doesn't tell classes apart")
    elif score is None:
        found.append(f"there is no Inception score: {features.name}'s classes of these images have no finite one")
    return found


def classes_not_drawn(labels: np.ndarray, data: Data) -> list[str]:
    """One line where images are fewer than the classes that have real pictures, so that some have no image at all."""
    real = np.unique(data.labels)
    if len(labels) >= len(real):
        return []
    missing, at_most = len(np.setdiff1d(real, labels)), np.bincount(labels).max()
    often = "each class at most once; " if at_most == 1 else ""
    return [
        f"{len(labels):,} images of {len(real):,} classes: {often}{missing:,} of {data.name} have no image, but "
        f"their pictures count in FID, KID and recall; take at least {len(real):,} images for every class to have one"
    ]


def _sameness(images: np.ndarray) -> list[str]:
    """Of images that can't be what was wanted, whatever they score."""
    first = images[:1]
    if all((images[start : start + 256] == first).all() for start in range(0, len(images), 256)):
        return [f"all {len(images)} generated images are the same"]
    flat = sum(
        int((part == part[:, :1, :1]).all(axis=(1, 2, 3)).sum())
        for part in (images[start : start + 256] for start in range(0, len(images), 256))
    )
    return [f"{flat} of the {len(images)} generated images are of one colour"] if flat else []


def _size(images: np.ndarray) -> str:
    return f"{images.shape[2]}×{images.shape[1]}"
