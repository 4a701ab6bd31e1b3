"""A first look at a dataset: counts, sizes, what is odd about it, and a few pictures of each class. Free of torch."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.dataset import Data, Findings
from engine.runs.workspace import write_bytes_atomically, writing

FEW = 50  # pictures of a class below which a warning is given
NUM_CLASSES_SHOWN, NUM_THUMBNAILS = 12, 4
_LISTED = 20  # unreadable files named
_THUMBNAIL_SIDE = 96  # pixels


@dataclass(frozen=True, kw_only=True)
class Look:
    name: str
    kind: str
    counts: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]  # all of them; facts() names the first few
    sizes: dict[str, list[int]]  # min, median, max -> [width, height]; empty for latents
    aspects: dict[str, float]  # width / height
    modes: dict[str, int]
    flip: bool
    has_latents: bool
    latent_shape: tuple[int, ...] | None
    duplicates: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    content_hash: str
    about: str
    thumbnails: dict[str, tuple[str, ...]]  # class -> names of PNG files in the folder given

    def facts(self) -> dict:
        """Plain values for JSON."""
        return {
            "ref": self.name,
            "kind": self.kind,
            "num_images": sum(self.counts.values()),
            "class_names": list(self.counts),
            "counts": self.counts,
            "unreadable": [{"file": file, "reason": reason} for file, reason in self.unreadable[:_LISTED]],
            "num_unreadable": len(self.unreadable),
            "sizes": self.sizes,
            "aspects": self.aspects,
            "modes": self.modes,
            "flip": self.flip,
            "has_latents": self.has_latents,
            "latent_shape": list(self.latent_shape) if self.latent_shape else None,
            "duplicates": self.duplicates,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "content_hash": self.content_hash,
            "about": self.about,
        }


def look_at(data: Data, *, pictures: Path | None = None, side: int | None = None) -> Look:
    """``pictures`` is a folder for the thumbnails; ``side`` is the model's, in pixels, to warn of smaller pictures.

    Raises AssetError where a picture can't be read any more, WorkspaceError where a thumbnail can't be written.
    """
    findings = data.findings or _findings_of_arrays(data)
    counts = data.class_counts()
    return Look(
        name=data.name,
        kind=findings.kind,
        counts=counts,
        unreadable=findings.unreadable,
        sizes=_sizes(findings.sizes),
        aspects=_aspects(findings.sizes),
        modes=findings.modes,
        flip=data.flip,
        has_latents=data.latents is not None,
        latent_shape=None if data.latents is None else tuple(data.latents.shape[1:]),
        duplicates=findings.duplicates,
        warnings=tuple(_warnings(data, findings, counts, side)),
        notes=findings.notes,
        content_hash=data.content_hash,
        about=data.about,
        thumbnails=_thumbnails(data, pictures) if pictures and data.images is not None else {},
    )


def _findings_of_arrays(data: Data) -> Findings:
    if data.images is None:
        return Findings(kind="latents")
    num, height, width, _ = data.images.shape
    return Findings(kind="bundled pictures", sizes=np.full((num, 2), (width, height)), modes={"RGB": num})


def _sizes(sizes: np.ndarray | None) -> dict[str, list[int]]:
    """By area, so that each is the size of a picture that is there."""
    if sizes is None:
        return {}
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    places = {"min": order[0], "median": order[len(order) // 2], "max": order[-1]}
    return {name: [int(side) for side in sizes[place]] for name, place in places.items()}


def _aspects(sizes: np.ndarray | None) -> dict[str, float]:
    if sizes is None:
        return {}
    aspects = sizes[:, 0] / sizes[:, 1]
    found = {"min": aspects.min(), "median": np.median(aspects), "max": aspects.max()}
    return {name: round(float(aspect), 3) for name, aspect in found.items()}


def _warnings(data: Data, findings: Findings, counts: dict[str, int], side: int | None) -> list[str]:
    found = []
    if findings.unreadable:
        number = len(findings.unreadable)
        found.append(f"{number:,} {'file is' if number == 1 else 'files are'} left out: unreadable")
    if len(counts) == 1:
        found.append("there is one class only: a model fine-tuned on it learns nothing about telling classes apart")
    small = [name for name, count in counts.items() if count < FEW]
    if small:
        which = ", ".join(small[:3]) + (" …" if len(small) > 3 else "")
        found.append(f"{len(small):,} of {len(counts):,} classes have fewer than {FEW} pictures ({which})")
    if findings.duplicates:
        found.append(f"{findings.duplicates:,} pictures lie in more than one class, byte for byte the same")
    if side and findings.sizes is not None:
        smaller = int((findings.sizes.min(axis=1) < side).sum())
        if smaller:
            found.append(
                f"{smaller:,} of {len(data):,} pictures are smaller than the model's {side} × {side} and are enlarged"
            )
    return found


def _thumbnails(data: Data, folder: Path) -> dict[str, tuple[str, ...]]:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    shown = {}
    images = data.at(min(_THUMBNAIL_SIDE, *data.images.shape[1:3])).images
    for label in np.unique(data.labels)[:NUM_CLASSES_SHOWN]:
        members = np.flatnonzero(data.labels == label)
        chosen = members[np.linspace(0, len(members) - 1, min(NUM_THUMBNAILS, len(members))).astype(int)]
        names = tuple(f"class{label}-{index}.png" for index in range(len(chosen)))
        for name, picture in zip(names, images[chosen], strict=True):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "PNG")
            write_bytes_atomically(folder / name, content.getvalue())
        shown[data.class_names[label]] = names
    return shown
