"""FID, KID, IS, precision and recall from images in memory, against torch-fidelity on folders of PNG files.

Ours: one pass of the extractor over the array; beside the five numbers it gives their intervals, the noise floor and
each class's own. "Again" is the next model measured against the same data, whose statistics are then in the cache.
Theirs: the images written as PNG files, and torch-fidelity's metrics on the two folders with the same extractor, in
this process: its command knows its own extractors only, and would import torch as well. "Again" writes the generated
images only.

One thread, and time on the processor, that of torch-fidelity's readers included, so that other programs count as little
as can be; ways take turns, and the best turn of each counts.

    python bench/fidelity.py [--generated 500] [--real 2000] [--turns 2]
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.data.bundled import bundled_data
from engine.data.dataset import Data
from engine.evaluation.features import load_features
from engine.evaluation.fidelity import Fidelity, evaluate_fidelity

NAMES = {  # ours -> torch-fidelity's
    "FID": "frechet_inception_distance",
    "KID": "kernel_inception_distance_mean",
    "KID deviation": "kernel_inception_distance_std",
    "IS": "inception_score_mean",
    "precision": "precision",
    "recall": "recall",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=int, default=500)
    parser.add_argument("--real", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=2)
    args = parser.parse_args()
    images, labels, data = pictures(args.generated, args.real)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torch-fidelity, about the number of its readers
    load_features("demo-cnn")
    with tempfile.TemporaryDirectory() as folder:
        compare(images, labels, data, Path(folder), args.turns)


def pictures(num_generated: int, num_real: int) -> tuple[np.ndarray, np.ndarray, Data]:
    """Real shapes with a little noise stand for generated ones, others for the data."""
    every = bundled_data("shapes")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(every))[: num_generated + num_real]
    drawn, rest = chosen[:num_generated], chosen[num_generated:]
    noise = rng.normal(0, 12, (num_generated, *every.images.shape[1:]))
    images = np.clip(every.images[drawn] + noise, 0, 255).astype(np.uint8)
    data = replace(every, images=every.images[rest], labels=every.labels[rest], content_hash=f"bench-{num_real}")
    return images, every.labels[drawn], data


def compare(images: np.ndarray, labels: np.ndarray, data: Data, folder: Path, turns: int) -> None:
    real = folder / "real"

    def ours(cache: Path | None = None) -> Fidelity:
        return evaluate_fidelity(images, labels, data, seed=0, cache=cache)

    def theirs(turn: int, *, write_real: bool) -> dict[str, Any]:
        generated = write(images, folder / f"generated-{turn}-{write_real}")
        if write_real:
            write(data.images, folder / f"real-{turn}")
        return by_hand(generated, folder / f"real-{turn}" if write_real else real)

    ours(folder / "cache")  # fills it, and warms up
    write(data.images, real)
    seconds: dict[str, list[float]] = {}
    for turn in range(turns):
        ways: dict[str, Callable[[], Any]] = {
            "ours": ours,
            "theirs": lambda turn=turn: theirs(turn, write_real=True),
            "ours again": lambda: ours(folder / "cache"),
            "theirs again": lambda turn=turn: theirs(turn, write_real=False),
        }
        found = {}
        for name, way in ways.items():
            started = on_the_processor()
            found[name] = way()
            seconds.setdefault(name, []).append(on_the_processor() - started)
    best = {name: min(times) for name, times in seconds.items()}
    print(f"{len(images)} generated and {len(data)} real images of {images.shape[2]}×{images.shape[1]}, demo-cnn, CPU")
    for mine, other, what in (("ours", "theirs", "first"), ("ours again", "theirs again", "again")):
        print(
            f"  {what:6} in memory {best[mine]:6.2f} s   PNG files {best[other]:6.2f} s   "
            f"ratio {best[other] / best[mine]:.1f}×"
        )
    values, expected = numbers(found["ours"]), found["theirs"]
    for name, key in NAMES.items():
        apart = abs(values[name] - expected[key]) / max(abs(expected[key]), 1e-12)
        print(f"  {name:14} {values[name]:12.6g} {expected[key]:12.6g}   apart {apart:.0e}")
        if apart > 1e-3 and abs(values[name] - expected[key]) > 1e-6:
            sys.exit(f"{name} differs by more than 1e-3")


def on_the_processor() -> float:
    """Seconds of this process and of those that it started and that ended."""
    return sum(os.times()[:4])


def write(pictures: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:06d}.png")
    return folder


def by_hand(generated: Path, real: Path) -> dict[str, Any]:
    return torch_fidelity.calculate_metrics(
        input1=str(generated),
        input2=str(real),
        feature_extractor="demo-cnn",
        fid=True,
        kid=True,
        kid_subset_size=100,
        isc=True,
        prc=True,
        rng_seed=0,
        batch_size=128,
        cuda=False,
        cache=False,
        verbose=False,
    )


def numbers(found: Fidelity) -> dict[str, float]:
    assert found.inception_score is not None
    return {
        "FID": found.fid.value,
        "KID": found.kid.value,
        "KID deviation": found.kid_deviation,
        "IS": found.inception_score.value,
        "precision": found.precision.value,
        "recall": found.recall.value,
    }


if __name__ == "__main__":
    main()
