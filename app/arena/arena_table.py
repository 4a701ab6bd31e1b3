"""The table of an arena: everyone with blocks, measures, cost; for those that prune in stages, their stages."""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from app import blocks
from app.arena.arena_entries import GROUPS, Entry
from app.arena.arena_reading import Reading, decimals, unsettled
from app.style import Palette
from app.wide import wide

_UNDER = {"intact": "nothing dropped, the same extra training", "chance": "drawn by lot"}


def table(
    found: Sequence[Entry], reading: Reading | None, *, metric: str, depth: int, num_seeds: int, palette: Palette
) -> str:
    with_accuracy = any(entry.row["accuracy"] for entry in found)
    at_once = _cost_at_once(found)
    features = metric.removeprefix("FID").strip()
    heads = ["way of pruning", metric, "× intact", "blocks dropped", f"KID {features}, × 10⁻³", "loss"]
    heads += [f"class accuracy {features}"] if with_accuracy else []
    heads += ["seeds"] + (["training cost"] if at_once else [])
    fid, kid, loss, accuracy = (_column(found, *about) for about in _COLUMNS)
    rows = []
    for entry in found:
        best, row = reading is not None and reading.wins and entry == reading.best, entry.row
        cells = [
            _name(entry, palette),
            f'<span class="{"best" if best else ""}">{fid(row["fid"])}</span>' + fid.ends(row["fid"])
            + _level(entry, reading),
            _RATIO(row["against_intact"]) + _RATIO.ends(row["against_intact"]),
            _strip(entry, depth),
            kid(row["kid"]) + kid.ends(row["kid"]),
            loss(row["loss"]) + loss.ends(row["loss"]),
        ]  # fmt: skip
        cells += [accuracy(row["accuracy"]) + accuracy.ends(row["accuracy"])] if with_accuracy else []
        cells.append(f"{row['num_seeds']}" + (f"<small>of {num_seeds}</small>" if row["num_seeds"] < num_seeds else ""))
        if at_once:
            cells.append("–" if row["train_macs"] is None else f"{row['train_macs'] / at_once:.2f}×")
        css = ' class="chosen"' if best else ' class="aside"' if entry.kind in _UNDER else ""
        rows.append(f"<tr{css}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    shown = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    table = f'<table class="ep-table ep-arena"><tr>{shown}</tr>{"".join(rows)}</table>'
    return wide(table, label="What became of each entrant")


def note(*, with_cost: bool) -> str:
    return (
        '<p class="ep-note">Joined by =: those that chose the same blocks, which were trained once. × intact: the FID '
        "over that of the intact model with the same training, seed by seed. KID, the loss over a fixed grid of noise "
        "levels, and class accuracy stand beside as a check of the FID."
        + (" Training cost: multiply-adds of all steps, over those of a set that went at once." if with_cost else "")
        + "</p>"
    )


def with_cost(found: Sequence[Entry]) -> bool:
    return _cost_at_once(found) is not None


def _cost_at_once(found: Sequence[Entry]) -> float | None:
    """Multiply-adds of one training of a set that went at once; None where nobody counted them."""
    known = [e.row["train_macs"] for e in found if e.kind in ("criterion", "chance") and e.row["train_macs"]]
    return sum(known) / len(known) if known else None


def _name(entry: Entry, palette: Palette) -> str:
    group = GROUPS[entry.group]
    colour = getattr(palette, group.colour)
    mark = f'<span class="ep-mark" style="color:{colour}" title="{group.title}">{group.mark}</span>'
    under = f"<small>{_UNDER[entry.kind]}</small>" if entry.kind in _UNDER else ""
    return f"{mark}{html.escape(entry.title)}{under}{_stages(entry) if entry.kind == 'progressive' else ''}"


def _stages(entry: Entry) -> str:
    """To unfold: of each seed, what went in which stage and how long it was trained then."""
    lines = [
        f"<li>seed {bout['seed']}: " + " → ".join(_stage(stage) for stage in bout["stages"]) + "</li>"
        for bout in entry.bouts
        if bout.get("stages")
    ]
    if not lines:
        return ""
    most = max(len(bout.get("stages", ())) for bout in entry.bouts)
    words = "1 stage" if most == 1 else f"{most} stages"
    return f"<details><summary>{words}</summary><ul>{''.join(lines)}</ul></details>"


def _stage(stage: dict[str, Any]) -> str:
    num = len(stage["dropped"])
    which = f" ({', '.join(map(str, sorted(stage['dropped'])))})" if num else ""
    words = f"{'1 block' if num == 1 else f'{num} blocks'}{which}, {stage['num_steps']:,} steps"
    return f'<span title="{html.escape(stage.get("reason", ""), quote=True)}">{words}</span>'


def _strip(entry: Entry, depth: int) -> str:
    states = ["dropped" if block in entry.dropped else "intact" for block in range(depth)]
    several = ""
    if entry.row["num_sets"] > 1:
        several = f"<small>one of {entry.row['num_sets']} sets that it came to, by seed</small>"
    return f'<div class="ep-row-strip" style="--blocks:{depth}">{blocks.strip(states, small=True)}</div>{several}'


def _level(entry: Entry, reading: Reading | None) -> str:
    """Who can't be told from the best."""
    if reading and reading.worse and entry in reading.level:
        return "<small>within noise of the best</small>"
    if reading and entry in reading.unsettled and entry.row["num_seeds"] > 1:
        return f"<small>{unsettled(entry.row['num_seeds'])} it</small>"
    return ""


@dataclass(frozen=True, kw_only=True)
class _Number:
    """How the numbers of one column are written: all with as many decimals."""

    decimals: int
    times: float = 1.0
    least: float = 0.0  # what the measure can be
    most: float = math.inf

    def __call__(self, value: dict[str, float | None] | None) -> str:
        return "–" if value is None else self._written(value["mean"])

    def ends(self, value: dict[str, float | None] | None) -> str:
        """The interval, within what the measure can be."""
        if value is None:
            return ""
        if value["low"] is None:
            return "<small>one seed</small>"
        low, high = max(value["low"], self.least), min(value["high"], self.most)
        return f'<small class="ends">{self._written(low)} … {self._written(high)}</small>'

    def _written(self, number: float) -> str:
        return f"{self.times * number:z.{self.decimals}f}".replace("-", "−")


_RATIO = _Number(decimals=2)
#: measure, times, the least and the most that it can be
_COLUMNS = (
    ("fid", 1.0, 0.0, math.inf), ("kid", 1000.0, -math.inf, math.inf), ("loss", 1.0, 0.0, math.inf),
    ("accuracy", 1.0, 0.0, 1.0),
)  # fmt: skip


def _column(found: Sequence[Entry], measure: str, times: float, least: float, most: float) -> _Number:
    known = [entry.row[measure] for entry in found if entry.row[measure]]
    return _Number(decimals=decimals(known, times=times) if known else 0, times=times, least=least, most=most)


def frame_of_entrants(content: dict[str, Any]) -> pd.DataFrame:
    """One row for each entrant."""
    rows = []
    for row in content["result"]["table"]:
        flat = {"entrant": row["entrant"], "kind": row["kind"], "dropped": " ".join(map(str, row["dropped"])),
                "num_sets": row["num_sets"], "num_seeds": row["num_seeds"]}  # fmt: skip
        for measure in ("fid", "against_intact", "kid", "loss", "accuracy"):
            value = row[measure] or {}
            flat |= {f"{measure}_{end}": value.get(end) for end in ("mean", "low", "high")}
        rows.append({**flat, "train_macs": row["train_macs"]})
    return pd.DataFrame(rows)


def frame_of_bouts(content: dict[str, Any]) -> pd.DataFrame:
    """One row for each training; what has parts of its own as JSON."""
    rows = [{**bout, "dropped": " ".join(map(str, bout["dropped"]))} for bout in content["bouts"]]
    return pd.DataFrame([{**row, "stages": json.dumps(row["stages"])} if row.get("stages") else row for row in rows])
