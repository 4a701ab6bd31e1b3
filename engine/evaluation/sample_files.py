"""Any number of images into one .npz or a folder of PNG files, going on where it was stopped.

While it is made, ``<out>.partial/`` holds ``request.json`` (model, protocol, classes) and what was drawn, see
``kept_samples``. An image depends on its seed and class alone, so what was stopped ends with the same bits as what
wasn't. The result appears in one rename and the partial folder goes.
"""

import json
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import InputError
from engine.evaluation.class_order import in_turn
from engine.evaluation.kept_samples import num_kept, write_kept
from engine.evaluation.protocol import Protocol
from engine.evaluation.sample_formats import about_result, read_result, write_result
from engine.evaluation.sampling import SampleSet, chosen_classes, images_at_a_time, joined, sample_batches, trajectory
from engine.models.model import Model
from engine.runs.workspace import read_json, write_json, writing

_SECONDS_AT_RISK = 5.0  # of work that a killed process loses; a stopped one loses none
_IMAGES_AT_RISK = 256  # and of memory
_IMAGES_ON_GPU = 64
_SECONDS_OF_ESTIMATE = 0.3
_REQUEST = "request.json"


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """How far it is. ``num_new``: images drawn in ``seconds`` since this call began; the others were there."""

    num_done: int
    num_images: int
    num_new: int
    seconds: float

    @property
    def seconds_left(self) -> float:
        return self.seconds / self.num_new * (self.num_images - self.num_done)


def sample_into(
    out: Path, model: Model, protocol: Protocol, *, classes: list[int] | None = None, flat: bool = False
) -> Generator[Sampled, None, Path]:
    """Yields after each group of images and returns ``out``: an .npz in ADM's layout (``arr_0`` uint8 (N, H, W, 3),
    ``labels``, ``seeds``), else a folder of ``<class>/<seed>.png``, with ``flat`` of ``<seed>.png``.

    Stopped, it is gone on with by the same call; asked for more images than ``out`` has, it draws the others. Raises
    InputError where ``out`` or the partial folder holds something else.
    """
    num_left(out, model, protocol, classes=classes, flat=flat)  # raises where it can't be
    classes, partial = chosen_classes(model, classes), where_kept(out)
    request = _request(model, protocol, classes, flat=flat and out.suffix != ".npz")
    num_there = _num_finished(out, request)
    if num_there == protocol.num_images:
        return out
    with writing(partial):
        partial.mkdir(exist_ok=True)
    write_json(partial / _REQUEST, request)
    if num_kept(partial) < num_there:
        for start, batch in read_result(out, model=model, classes=classes):
            write_kept(partial, batch, start=start)
    try:
        yield from _draw_others(partial, model, protocol, classes)
    finally:
        if not num_kept(partial):
            shutil.rmtree(partial, ignore_errors=True)
    write_result(out, partial, model=model, num_images=protocol.num_images, request=request)
    with writing(partial):
        shutil.rmtree(partial)
    return out


def num_left(
    out: Path, model: Model, protocol: Protocol, *, classes: list[int] | None = None, flat: bool = False
) -> int:
    """Images that ``sample_into`` would draw. Raises InputError where it would because of what is there."""
    request = _request(model, protocol, chosen_classes(model, classes), flat=flat and out.suffix != ".npz")
    partial, num_there = where_kept(out), _num_finished(out, request)
    if num_there > protocol.num_images:
        raise InputError(f"{out} has {num_there:,} images already; ask for at least as many, or choose another --out")
    if (partial / _REQUEST).exists() and (other := _difference(read_json(partial / _REQUEST), request)) is not None:
        raise InputError(
            f"{partial} was begun with {other}; repeat that command to go on, delete the folder or choose another --out"
        )
    return max(0, protocol.num_images - max(num_kept(partial), num_there))


def num_sampled(out: Path) -> int:
    """Images that are there already: in ``out`` or, from a ``sample_into`` that was stopped, beside it."""
    about = about_result(out)
    return max(num_kept(where_kept(out)), about["num_images"] if about else 0)


def where_kept(out: Path) -> Path:
    """The folder that a stopped ``sample_into`` leaves."""
    return out.with_name(f"{out.name}.partial")


def estimate_seconds(model: Model, protocol: Protocol, num_images: int) -> float:
    """For ``num_images``, from the first steps of a group that isn't kept. 0.0 for one group: soon done."""
    size = images_at_a_time(model, protocol) or _IMAGES_ON_GPU
    if num_images <= size:
        return 0.0
    stamps = []  # (share of the way, time)
    for t, _ in trajectory(model, labels=np.zeros(size, dtype=int), seeds=np.arange(size), protocol=protocol):
        stamps.append((model.process.progress(t), time.perf_counter()))
        if len(stamps) > 2 and stamps[-1][1] - stamps[0][1] > _SECONDS_OF_ESTIMATE:
            break
    if len(stamps) == 1:  # one step is the whole way
        begun = time.perf_counter()
        next(trajectory(model, labels=np.zeros(size, dtype=int), seeds=np.arange(size), protocol=protocol))
        stamps = [(0.0, begun), (1.0, time.perf_counter())]
    (share, begun), (more, ended) = stamps[0], stamps[-1]
    return (ended - begun) / max(more - share, 1e-3) * -(-num_images // size)


def _draw_others(partial: Path, model: Model, protocol: Protocol, classes: list[int]) -> Iterator[Sampled]:
    num_before = num_done = num_written = min(num_kept(partial), protocol.num_images)
    begun = written = time.monotonic()
    waiting: list[SampleSet] = []
    size = images_at_a_time(model, protocol) or _IMAGES_ON_GPU
    try:
        for batch in sample_batches(model, protocol, classes=classes, batch_size=size, start=num_before):
            waiting.append(batch)
            num_done += len(batch.images)
            now = time.monotonic()
            if now - written > _SECONDS_AT_RISK or num_done - num_written >= _IMAGES_AT_RISK:
                write_kept(partial, joined(waiting), start=num_written)
                waiting, written, num_written = [], now, num_done
            yield Sampled(
                num_done=num_done, num_images=protocol.num_images, num_new=num_done - num_before, seconds=now - begun
            )
    finally:  # Ctrl-C, too, keeps all that was drawn
        if waiting:
            write_kept(partial, joined(waiting), start=num_written)


def _request(model: Model, protocol: Protocol, classes: list[int], *, flat: bool) -> dict[str, Any]:
    """All that an image depends on, as JSON."""
    values = asdict(protocol)
    del values["num_images"], values["features"]
    values["sampler"] = protocol.sampler or model.process.default_sampler
    about = {"model": model.ref, "weights": model.content_hash, "autoencoder": model.autoencoder.content_hash}
    # of many classes the order was another one once, and what was begun so isn't gone on with
    order = {} if in_turn(len(classes)) else {"class_order": "spread"}
    return json.loads(json.dumps({**about, **values, "classes": classes, **order, "flat": flat}))


def _difference(found: Any, request: dict[str, Any]) -> str | None:
    """In words, the first of what is different; the model's name doesn't count, its weights do."""
    if not isinstance(found, dict):
        return "unknown settings"
    for key, wanted in request.items():
        if key != "model" and found.get(key) != wanted:
            return f"{key} {found.get(key)}, not {wanted}"
    return None


def _num_finished(out: Path, request: dict[str, Any]) -> int:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return 0
    about = about_result(out)
    if about is None:
        raise InputError(f"{out} is there already and wasn't made by this command; delete it or choose another --out")
    if (other := _difference(about["request"], request)) is not None:
        raise InputError(f"{out} was made with {other}; delete it or choose another --out")
    return about["num_images"]
