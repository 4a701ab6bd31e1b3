"""Who takes part in an arena: each names the blocks it would drop at once, or prunes step by step as it goes.

Free of torch, so that the app can list them.
"""

from dataclasses import dataclass
from typing import Any

from engine.importance.config import CRITERIA, ORDERS, VARIABLES, WEIGHTINGS, CedConfig


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """``ced``: settings of a CedConfig, for a reading of CED; ``prune``: settings of a PruneConfig, for one that prunes
    in stages; neither: a criterion of that name."""

    title: str
    meaning: str  # plain words
    ced: dict[str, Any] | None = None
    prune: dict[str, Any] | None = None

    @property
    def progressive(self) -> bool:
        return self.prune is not None

    @property
    def greedy(self) -> bool:
        return (self.ced or {}).get("order") == "greedy"

    def scoring(self, num_dropped: int, **sampling: Any) -> CedConfig:
        """The CED that it goes by; a greedy one looks no further than the blocks that go."""
        settings = {**(self.ced or {}), **({"num_candidates": num_dropped} if self.greedy else {})}
        return CedConfig(**settings, **sampling)


def _reading(variable: str, **settings: str) -> Entrant:
    title = " · ".join(["CED " + variable, *settings.values()])
    words = [VARIABLES[variable].title]
    words += [ORDERS[value] for name, value in settings.items() if name == "order"]
    words += [WEIGHTINGS[value] for name, value in settings.items() if name == "weighting"]
    return Entrant(
        title=title, meaning="; ".join(words) + ". All blocks go at once.", ced={"variable": variable, **settings}
    )


_READINGS = {
    "ced-target": _reading("target"),
    "ced-samples": _reading("samples"),
    "ced-prediction": _reading("prediction"),
    "ced-target-greedy": _reading("target", order="greedy"),
    "ced-samples-greedy": _reading("samples", order="greedy"),
    "ced-prediction-greedy": _reading("prediction", order="greedy"),
    "ced-target-noisy": _reading("target", weighting="noisy"),
    "ced-target-clean": _reading("target", weighting="clean"),
}


def _staged(title: str, meaning: str, *, ced: dict[str, str] | None = None, **prune: Any) -> Entrant:
    return Entrant(title=title, meaning=meaning, ced=ced, prune={"num_stages": 3, **prune})


_PROGRESSIVE = {
    "progressive": _staged(
        "Progressive · final",
        "Three stages: CED target measured afresh, the vote decides how many blocks go, recovery in between. Each "
        "stage gets four times the steps of the one before.",
        recovery_shares="final",
    ),
    "progressive-last-heavy": _staged(
        "Progressive · last-heavy", "The same; stage n gets n shares of the steps.", recovery_shares="last-heavy"
    ),
    "progressive-even": _staged(
        "Progressive · even", "The same, with as many steps for each stage.", recovery_shares="even"
    ),
    "progressive-samples": _staged(
        "Progressive · final · samples",
        "As the first, with the entropy of the pictures that the model draws (CED samples) at each stage.",
        ced={"variable": "samples"},
        recovery_shares="final",
    ),
    "progressive-samples-greedy": _staged(
        "Progressive · samples · greedy",
        "The same, scored again after each removal within a stage, so that joint effects count.",
        ced={"variable": "samples", "order": "greedy"},
        recovery_shares="final",
    ),
}

_CRITERIA = {
    name: Entrant(title=about.title, meaning=f"{about.meaning} All blocks go at once.")
    for name, about in CRITERIA.items()
    if name != "random"  # takes part as sets drawn by lot
}

ENTRANTS: dict[str, Entrant] = {**_PROGRESSIVE, **_READINGS, **_CRITERIA}
