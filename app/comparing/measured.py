"""Picked stages with their metrics, in groups that were measured alike, and in words what keeps two groups apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.comparing.picked import Picked
from engine.evaluation.comparing import differences, labels_untrained, num_compared
from engine.report.protocols import protocol_of

_SHOWN_OF_A_HASH = 8


@dataclass(frozen=True, kw_only=True)
class Measured:
    picked: Picked
    metrics: dict[str, Any]  # metrics.json

    @property
    def label(self) -> str:
        return self.picked.label

    @property
    def untrained(self) -> bool:
        """Drawn with a label table that wasn't trained: compared with nothing."""
        return labels_untrained(self.metrics)

    @property
    def protocol(self) -> str:
        return protocol_of(self.metrics).label()

    def score(self, name: str) -> dict | None:
        return self.metrics["fidelity"].get(name)


def measured(picked: Sequence[Picked]) -> list[Measured]:
    """Of the stages that were evaluated. Raises AssetError for damaged metrics."""
    found = [(one, one.stage.metrics()) for one in picked]
    return [Measured(picked=one, metrics=metrics) for one, metrics in found if metrics]


def groups_alike(stages: Sequence[Measured]) -> list[list[Measured]]:
    """Each stage joins the first group whose every number it may stand beside."""
    groups: list[list[Measured]] = []
    for stage in stages:
        for group in groups:
            if not any(differences(member.metrics, stage.metrics) for member in group):
                group.append(stage)
                break
        else:
            groups.append([stage])
    return groups


def apart_in_words(first: Measured, second: Measured) -> str:
    """Such as: cfg_scale (2.0 against 4.0), data (digits, 3f9a… against shapes, 77b0…). Empty where measured alike."""
    sides = first.metrics, second.metrics
    return ", ".join(_difference(name, *sides) for name in differences(*sides))


def _difference(name: str, first: dict, second: dict) -> str:
    if name == "weights of the features":
        sides = [f"{m['features']['weights']}, {_short(m['features']['sha256'])}" for m in (first, second)]
    elif name == "label table":
        sides = ["not trained" if labels_untrained(metrics) else "trained" for metrics in (first, second)]
    elif name == "data":
        sides = [f"{m['reference']['name']}, {_short(m['reference']['hash'])}" for m in (first, second)]
    elif name == "real pictures compared":
        sides = [f"{num_compared(m['reference']):,}" for m in (first, second)]
    else:
        sides = [_plain(metrics["protocol"].get(name)) for metrics in (first, second)]
    return f"{name} ({sides[0]} against {sides[1]})"


def _plain(value: Any) -> str:
    return "all" if value is None else str(value) or "the usual one"


def _short(digest: str) -> str:
    return digest[:_SHOWN_OF_A_HASH] + ("…" if len(digest) > _SHOWN_OF_A_HASH else "")


def fid_of(stages: Sequence[Measured]) -> str | None:
    """The name of the FID that all of them have, with its features."""
    names = [name for name in stages[0].metrics["fidelity"] if name.startswith("FID")] if stages else []
    return next((name for name in names if all(stage.score(name) for stage in stages)), None)


def floor_of(name: str, group: Sequence[Measured]) -> dict | None:
    """The noise floor with the widest range: the same pictures make it, so that they are hardly different. Older files
    have its value alone, which says nothing of a range."""
    floors = [(one.metrics.get("noise_floor") or {}).get(name) for one in group]
    floors = [floor for floor in floors if isinstance(floor, dict)]
    return max(floors, key=lambda floor: floor["high"] - floor["low"]) if floors else None
