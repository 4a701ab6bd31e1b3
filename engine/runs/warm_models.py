"""Models that the worker keeps open for previews, and the pictures that each drew intact."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.models.checkpoints import load_model
from engine.models.model import Model
from engine.runs.library import read_entry

_MOST_BYTES = 2 * 2**30  # of weights; the model in use may be larger, and is then the only one
_MOST_PICTURES = 16  # sets of intact pictures for each model


@dataclass(frozen=True, eq=False)
class WarmModel:
    model: Model
    _drawn: OrderedDict[tuple, np.ndarray] = field(default_factory=OrderedDict)

    @property
    def num_bytes(self) -> int:
        return sum(value.nbytes for value in self.model.network.state_dict().values())

    def intact_images(self, labels: tuple[int, ...], seeds: tuple[int, ...], protocol: Protocol) -> np.ndarray:
        """Kept: every block that a person clicks is shown beside the same intact pictures."""
        key = (labels, seeds, protocol)
        if key not in self._drawn:
            drawn = draw(self.model, labels=np.array(labels), seeds=np.array(seeds), protocol=protocol)
            self._drawn[key] = drawn.images
            if len(self._drawn) > _MOST_PICTURES:
                self._drawn.popitem(last=False)
        self._drawn.move_to_end(key)
        return self._drawn[key]


_warm: OrderedDict[tuple, WarmModel] = OrderedDict()  # least recently used first


def warm_model(ref: str, *, device: str, workspace: Path, options: dict[str, Any]) -> WarmModel:
    """Opened once, as long as its files and what the library says of it stay the same."""
    key = (ref, device, str(workspace), tuple(sorted(options.items())), _stamp(ref, workspace))
    if key not in _warm:
        for stale in [other for other in _warm if other[:4] == key[:4]]:
            del _warm[stale]
        model = WarmModel(load_model(ref, device=device, workspace=workspace, **options))
        _warm[key] = model
        room = _MOST_BYTES - model.num_bytes
        for other in [*_warm][-2::-1]:  # most recently used first: they may stay as long as there is room
            room -= _warm[other].num_bytes
            if room < 0:
                del _warm[other]
    _warm.move_to_end(key)
    return _warm[key]


def _stamp(ref: str, workspace: Path) -> str:
    entry = read_entry(workspace, "models", ref) or {}
    said = {name: value for name, value in entry.items() if name != "last_used"}
    try:
        changed = Path(entry.get("ref", ref)).expanduser().stat().st_mtime_ns
    except (OSError, ValueError):  # not a path
        changed = 0
    return f"{said} {changed}"
