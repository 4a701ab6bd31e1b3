"""Who stands in an arena: one entry for each set of blocks that went at once and for each way of pruning in stages.

Plain data in and out.
"""

from dataclasses import dataclass
from typing import Any

from app.importance.criteria import short
from engine.arena.entrants import ENTRANTS

_KINDS = ("intact", "progressive", "criterion", "chance")


@dataclass(frozen=True, kw_only=True)
class Group:
    """``mark`` and ``colour`` (a field of the palette) tell its members apart in every picture and table."""

    title: str
    mark: str
    symbol: str  # the mark, as plotly calls it
    colour: str


GROUPS = {
    "intact": Group(title="intact model, same training", mark="◆", symbol="diamond", colour="intact"),
    "progressive": Group(title="pruned in stages", mark="■", symbol="square", colour="pruned"),
    "ced": Group(title="a reading of CED, all at once", mark="●", symbol="circle", colour="reading"),
    "criterion": Group(title="another criterion, all at once", mark="○", symbol="circle-open", colour="text"),
    "chance": Group(title="drawn by lot", mark="×", symbol="x-thin-open", colour="muted"),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A set of blocks and everyone who chose it, or one way of pruning in stages."""

    names: tuple[str, ...]
    kind: str  # "intact", "progressive", "criterion" or "chance"; a set of a criterion and the lot is a criterion's
    dropped: tuple[int, ...]  # of a strategy the set that it came to most often
    row: dict[str, Any]  # of the arena's table
    bouts: tuple[dict[str, Any], ...]

    @property
    def title(self) -> str:
        return " = ".join(short(name) for name in self.names)

    @property
    def label(self) -> str:
        """Where there is little room."""
        others = len(self.names) - 1
        return short(self.names[0]) + (f" (and {others} with the same blocks)" if others else "")

    @property
    def group(self) -> str:
        if self.kind == "criterion" and any(_is_reading(name) for name in self.names):
            return "ced"
        return self.kind

    @property
    def fids(self) -> dict[int, float]:
        """By seed."""
        return {bout["seed"]: bout["fid"] for bout in self.bouts}


def entries(content: dict[str, Any]) -> list[Entry]:
    """Best mean first. Entrants with the same set are one entry, as what they got is one measurement; a strategy is
    one by itself, whatever set it came to."""
    rows: dict[Any, list[dict]] = {}
    for row in content["result"]["table"]:
        rows.setdefault(row["entrant"] if row["kind"] == "progressive" else tuple(row["dropped"]), []).append(row)
    bouts: dict[Any, list[dict]] = {}
    for bout in content["bouts"]:
        bouts.setdefault(bout.get("strategy") or tuple(bout["dropped"]), []).append(bout)
    return [
        Entry(
            names=tuple(sorted((row["entrant"] for row in found), key=place)),
            kind=min((row["kind"] for row in found), key=_KINDS.index),
            dropped=tuple(found[0]["dropped"]),
            row=found[0],
            bouts=tuple(bouts.get(key, ())),
        )
        for key, found in sorted(rows.items(), key=lambda item: item[1][0]["fid"]["mean"])
    ]


def num_planned(content: dict[str, Any]) -> int:
    """Trainings of the whole arena: the intact model, each set and each strategy, once a seed."""
    if content.get("planned"):
        return content["planned"]
    sets = {tuple(blocks) for blocks in content["scores"]["dropped"].values()}
    return (1 + len(sets) + len(_strategies(content))) * content["result"]["num_seeds"]


def unmeasured(content: dict[str, Any]) -> list[str]:
    """Entrants that no training is measured of yet."""
    known = {row["entrant"] for row in content["result"]["table"]}
    return [name for name in [*_strategies(content), *content["scores"]["dropped"]] if name not in known]


def _strategies(content: dict[str, Any]) -> list[str]:
    """Entrants that named no blocks beforehand."""
    return [name for name in content["config"].get("entrants", ()) if name not in content["scores"]["dropped"]]


def _is_reading(name: str) -> bool:
    return name.startswith("ced-")


def place(name: str) -> tuple[int, str]:
    """To sort by: in the order in which they are listed everywhere; those drawn by lot come last."""
    known = list(ENTRANTS)
    return (known.index(name) if name in known else len(known), name)
