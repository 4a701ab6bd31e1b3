"""In which order the pairs of pictures are shown, so that failures come first; each order with its number and what that
number means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.comparing.difference import rms_of_all
from app.comparing.picked import Picked
from app.comparing.shared_seeds import Kept, class_names, named, scores_of
from engine.errors import InputError

ORDERS = {
    "seed": "by seed",
    "pixels": "most different first, pixel by pixel",
    "features": "most different first, as the demo CNN sees them",
    "doubt": "class most in doubt first",
}
AGAIN = "measure it again, below on this page or with: python -m engine evaluate {ref} {data}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """``values`` of all shared pairs, or none where they stand as they came; ``say`` puts one under its pictures."""

    values: np.ndarray | None = None
    largest_first: bool = True
    say: Callable[[int], str] = lambda index: ""
    meaning: str = ""

    def sorted(self, indexes: np.ndarray) -> np.ndarray:
        """Pairs that are equal stay as they came."""
        if self.values is None:
            return indexes
        values = self.values[indexes]
        return indexes[np.argsort(-values if self.largest_first else values, kind="stable")]


def by_pixels(pair: Sequence[Kept], rows: np.ndarray) -> Order:
    """``rows`` (2, num_shared). Raises InputError for pictures of different sizes."""
    sides = [kept.images.shape[1:3] for kept in pair]
    if sides[0] != sides[1]:
        sizes = " and ".join(f"{width} × {height}" for height, width in sides)
        raise InputError(f"these two draw pictures of different sizes ({sizes}), so one can't be taken from the other")
    values = rms_of_all(pair[0].images, pair[1].images, rows)
    return Order(
        values=values,
        say=lambda index: f"RMS {values[index]:.1f}",
        meaning="RMS: the typical difference of a pixel between the two pictures of a seed, in grey levels of 0 … 255. "
        f"0 is the same picture; half of the {len(values):,} pairs differ by more than {np.median(values):.1f}.",
    )


def by_features(pair: Sequence[Picked], rows: np.ndarray) -> Order:
    """Raises InputError where the features weren't kept, or are of different weights."""
    found = [_scores(one) for one in pair]
    if found[0].weights != found[1].weights:
        raise InputError("these two were looked at with different weights of the demo CNN, whose features have no "
                         "distance; evaluate both again")  # fmt: skip
    mine, theirs = (scores.features[one].astype(np.float64) for scores, one in zip(found, rows, strict=True))
    usual = np.sqrt(2 * mine.var(axis=0).sum())  # RMS distance of two of the first's pictures, drawn at random
    values = np.sqrt(np.square(mine - theirs).sum(1)) / max(usual, 1e-12)
    return Order(
        values=values,
        say=lambda index: f"{values[index]:.2f} apart",
        meaning="How far apart the demo CNN sees the two pictures of a seed: 0 is the same, 1 as far as two pictures "
        f"of {pair[0].label} taken at random. Half of the {len(values):,} pairs are more than {np.median(values):.2f} "
        f"apart. Distance of {mine.shape[1]} features, {_weights(found[0].weights)}.",
    )


def by_doubt(of: Picked, rows: np.ndarray) -> Order:
    """``rows`` (num_shared,) of this stage. Raises InputError where the numbers weren't kept, or can't be had."""
    found, names = _scores(of), class_names(of.stage)
    if found.confidence is None or found.seen_class is None:
        data = of.stage.info.get("data")
        raise InputError(
            f"the demo CNN doesn't know the classes of {data}, so it can't doubt them; choose another order"
        )
    values, seen = found.confidence[rows], found.seen_class[rows]
    return Order(
        values=values,
        largest_first=False,
        say=lambda index: f"{values[index]:.0%} sure, sees {named(names, int(seen[index]))}",
        meaning=f"How sure the demo CNN is that a picture of {of.label} shows the class that was asked for: its "
        f"softmax over the {len(names)} classes of {of.stage.info.get('data')}. It is a small network and errs too, so "
        f"look at the picture before you believe it ({_weights(found.weights)}).",
    )


def _scores(picked: Picked):
    found = scores_of(picked)
    if found is None:
        again = AGAIN.format(ref=picked.ref, data=picked.stage.info.get("data"))
        raise InputError(f"{picked.label} was evaluated before these numbers were kept; {again}")
    return found


def _weights(sha256: str) -> str:
    return f"demo-cnn {sha256[:8]}"
