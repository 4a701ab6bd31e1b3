"""The stages of a run as a tree: one lane a branch, one card a stage, the strip of blocks one below the other."""

import html
from dataclasses import dataclass
from typing import Any

from app import blocks
from app.numbers import interval, ranged
from app.pruning import driving
from app.wide import wide
from engine.errors import AssetError
from engine.evaluation.comparing import labels_untrained, speedup
from engine.runs.store import Stage


@dataclass(frozen=True)
class Place:
    """In the grid of cards; both from 0."""

    level: int  # stages from the intact model
    lane: int
    parent_lane: int


def places(parents: dict[int, int | None]) -> dict[int, Place]:
    """Where the stages stand: the first that grows from a stage goes on in its lane, each other opens a new one.

    ``parents``: number -> number of the stage that it grew from; a parent comes before its children.
    """
    found: dict[int, Place] = {}
    continued: set[int] = set()
    lanes = 0
    for number, parent in sorted(parents.items()):
        above = found.get(parent) if parent is not None else None
        if above is None:
            found[number] = Place(0, lanes, lanes)
            lanes += 1
        elif parent in continued:
            found[number] = Place(above.level + 1, lanes, above.lane)
            lanes += 1
        else:
            continued.add(parent)
            found[number] = Place(above.level + 1, above.lane, above.lane)
    return found


def tree(stages: list[Stage], *, chosen: int | None, coming: dict[str, Any] | None = None) -> str:
    """``coming``: the stage under way, {"number", "parent", "drop" (blocks of the loaded model), "words"}."""
    parents = {stage.number: stage.info.get("parent") for stage in stages}
    if coming:
        parents[coming["number"]] = coming["parent"]
    where = places(parents)
    cards = [_card(stages, stage, where[stage.number], chosen=stage.number == chosen) for stage in stages]
    if coming:
        cards.append(_coming(stages, coming, where[coming["number"]]))
    lanes = 1 + max(place.lane for place in where.values())
    css = f'class="ep-tree{" one" if lanes == 1 else ""}" style="--lanes: {lanes}"'
    return wide(f"<div {css}>{''.join(cards)}</div>", label="Stages of this run")


def strip_of(first: Stage, stage: Stage, *, next_drop: list[int] = ()) -> str:
    """Boxes that share the width, so that strips one below the other line up."""
    shown = blocks.stage_strip(first, stage, small=True, next_drop=next_drop)
    return f'<div class="ep-row-strip" style="--blocks: {len(first.kept_blocks)}">{shown}</div>'


def facts(stage: Stage) -> list[str]:
    """What came of a stage, each in half a line of HTML."""
    found = []
    try:
        metrics = stage.metrics() or {}
    except AssetError:  # below the tree the whole line is said
        metrics, found = {}, ["its numbers can't be read"]
    name = next((name for name in metrics.get("fidelity", {}) if name.startswith("FID")), None)
    if name:
        fid = metrics["fidelity"][name]
        found.append(f"{html.escape(name)} <b>{ranged(fid)}</b> ({interval(fid)})")
        if labels_untrained(metrics):
            found.append("of pictures of no class: its label table wasn't trained yet")
    if speed := speedup(metrics):
        found.append(f"<b>{speed['value']:.2f}×</b> as fast ({speed['low']:.2f} … {speed['high']:.2f})")
    train = stage.info.get("train")
    if train and stage.number:
        found.append(driving.steps_of(train["num_steps"], "recovery"))
    return found


def name_of_intact(stage: Stage) -> str:
    """Of stage 0: was it trained on the data before anything was dropped?"""
    train = stage.info.get("train")
    return f"intact, adapted {train['num_steps']:,} steps" if train else "intact"


def _card(stages: list[Stage], stage: Stage, place: Place, *, chosen: bool) -> str:
    dropped = stage.info.get("dropped_blocks") or []
    title = name_of_intact(stage) if stage is stages[0] else f"{stage.depth} of {stages[0].depth} blocks"
    origin = "" if place.lane == place.parent_lane else f" · from stage {stage.info['parent']}"
    words = [f"without {', '.join(map(str, dropped))}"] if dropped else []
    return _box(
        f"<b>Stage {stage.number}</b> {title}{origin}", strip_of(stages[0], stage), [*words, *facts(stage)], place,
        css="chosen" if chosen else "",
    )  # fmt: skip


def _coming(stages: list[Stage], coming: dict[str, Any], place: Place) -> str:
    parent = next(stage for stage in stages if stage.number == coming["parent"])
    origin = "" if place.lane == place.parent_lane else f" · from stage {parent.number}"
    shown = strip_of(stages[0], parent, next_drop=coming["drop"])
    return _box(
        f"<b>Stage {coming['number']}</b> {html.escape(coming['words'])}{origin}", shown, [], place, css="coming"
    )


def _box(head: str, strip: str, words: list[str], place: Place, *, css: str) -> str:
    start = place.level == 0
    span = place.lane - place.parent_lane
    css += "" if start else " branch" if span else " next"
    style = f"grid-row: {place.level + 1}; grid-column: {place.lane + 1}; --span: {span}"
    said = "".join(f"<span>{word}</span>" for word in words)
    body = f'<p class="head">{head}</p>{strip}<p class="facts">{said}</p>'
    return f'<div class="ep-stage {css}" style="{style}">{body}</div>'
