"""Images drawn so far, as .npz files of a few seconds' work named ``<first>-<one after the last>.npz``."""

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from engine.errors import AssetError
from engine.evaluation.sampling import SampleSet
from engine.runs.workspace import write_bytes_atomically

_NAME = re.compile(r"(\d+)-(\d+)\.npz")


def write_kept(folder: Path, batch: SampleSet, *, start: int) -> None:
    content = BytesIO()
    np.savez(content, arr_0=batch.images, labels=batch.labels, seeds=batch.seeds)
    write_bytes_atomically(folder / f"{start:09d}-{start + len(batch.images):09d}.npz", content.getvalue())


def num_kept(folder: Path) -> int:
    """How many are there from the first on without a gap."""
    return max((stop for *_, stop in _spans(folder)), default=0)


def read_kept(folder: Path, num_images: int) -> Iterator[SampleSet]:
    """The first ``num_images``, one by one. Raises AssetError for a damaged file."""
    left = num_images
    for path, first, _ in _spans(folder):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                images, labels, seeds = (arrays[name] for name in ("arr_0", "labels", "seeds"))
        except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
            raise AssetError(f"{path} is damaged ({error}); delete it and repeat the command") from error
        for k in range(first, min(len(images), first + left)):
            yield SampleSet(images[k : k + 1], labels[k : k + 1], seeds[k : k + 1])
            left -= 1


def _spans(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """(file, how many of its images were in the one before, image after its last), in order, up to the first gap."""
    paths = folder.iterdir() if folder.is_dir() else []
    found = [(int(match[1]), int(match[2]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
    done = 0
    for start, stop, path in sorted(found):
        if start <= done < stop:
            yield path, done - start, stop
            done = stop
