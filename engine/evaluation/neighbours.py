"""Precision and recall (arXiv 1904.06991) as torch-fidelity counts them: the share of generated images that lie in the
ball of a real one, and the share of real ones that lie in the ball of a generated one; a ball reaches to the third
nearest of its own kind. Distances are float32, as torch-fidelity has them; N generated, M real.
"""

from dataclasses import dataclass

import numpy as np
import torch

from engine.evaluation.interval import Interval, halves_interval, share_interval

NEIGHBOURHOOD = 3
LEAST = NEIGHBOURHOOD + 1  # images that have a third neighbour
_KEPT = 32  # nearest of each image, enough to know the third nearest within a random half
_ROWS = 1024  # of the distances at a time


@dataclass(frozen=True)
class Neighbours:
    """Of each image the nearest of its own kind, itself among them, nearest first."""

    distances: np.ndarray  # float32 (N, K)
    indices: np.ndarray  # int32 (N, K)

    def radii(self, among: np.ndarray | None = None) -> np.ndarray:
        """(N,): distance to the third nearest, of those ``among`` (bool (N,)) only; −1 for an image not among them.

        Where fewer than three are left of the nearest that were kept, the last distance stands for it.
        """
        if among is None:
            return self.distances[:, NEIGHBOURHOOD]
        there = among[self.indices]  # (N, K)
        place = (there.cumsum(axis=1) == LEAST).argmax(axis=1)
        place[there.sum(axis=1) < LEAST] = there.shape[1] - 1
        found = np.take_along_axis(self.distances, place[:, None], axis=1)[:, 0]
        return np.where(among, found, -1).astype(np.float32)


def nearest(features: np.ndarray) -> Neighbours:
    points = torch.from_numpy(features).float()
    kept = min(_KEPT, len(points))
    found = [torch.cdist(rows, points).topk(kept, largest=False) for rows in points.split(_ROWS)]
    return Neighbours(
        torch.cat([part.values for part in found]).numpy(),
        torch.cat([part.indices for part in found]).to(torch.int32).numpy(),
    )


def inside(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """points (P, F), centres (C, F), radii (R, C): bool (R, P), whether a point lies in a ball of that row of radii."""
    reach, around = torch.from_numpy(radii), torch.from_numpy(centres).float()
    parts = []
    for rows in torch.from_numpy(points).float().split(_ROWS):
        distances = torch.cdist(rows, around)
        parts.append(torch.stack([(distances <= own).any(dim=1) for own in reach]))
    return torch.cat(parts, dim=1).numpy()


def precision_and_recall(
    generated: np.ndarray, reference: np.ndarray, reach: np.ndarray, halves: list[np.ndarray]
) -> tuple[Interval, Interval]:
    """``reach`` (M,): radii of the reference's balls. Precision rests on one yes or no for each generated image;
    recall on all of them together, so its interval comes from halves of them."""
    own = nearest(generated)
    precise = inside(generated, reference, reach[None])[0]
    recalled = inside(reference, generated, np.stack([own.radii(), *(own.radii(half) for half in halves)])).mean(axis=1)
    return (
        share_interval(float(precise.mean()), len(precise)),
        halves_interval(float(recalled[0]), len(reference), recalled[1:]),
    )
