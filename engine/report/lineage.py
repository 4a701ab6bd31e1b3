"""Which stages lead to which: a pruning run is a tree, and a report tells the way to its last stage."""

from collections.abc import Sequence

import numpy as np

from engine.models.bundled import read_model_info
from engine.runs.stage import Stage


def parent_of(stage: Stage, stages: Sequence[Stage]) -> Stage | None:
    """Runs of before there were branches say nothing: each stage grew from the one before it."""
    before = [other for other in stages if other.number < stage.number]
    number = stage.info.get("parent")
    if number is None:
        return before[-1] if before else None
    return next((other for other in before if other.number == number), None)


def way_to_last(stages: Sequence[Stage]) -> list[Stage]:
    """The stages from the intact model to the one written last."""
    way: list[Stage] = []
    stage: Stage | None = stages[-1]
    while stage is not None:
        way.insert(0, stage)
        stage = parent_of(stage, stages)
    return way


def scored_blocks(stage: Stage, stages: Sequence[Stage]) -> list[int]:
    """For each row of the scores that ``stage`` rests on: the block, by the loaded model's numbers."""
    ced, parent = stage.ced() or {}, parent_of(stage, stages)
    kept = parent.kept_blocks if parent else stage.kept_blocks
    return [kept[block] if block < len(kept) else block for block in ced.get("blocks", [])]


def row_names(stage: Stage, stages: Sequence[Stage]) -> list[str]:
    """As ``scored_blocks``, with "attn" or "mlp" where branches were scored apart."""
    ced = stage.ced() or {}
    labels = ced.get("labels") or [str(block) for block in ced.get("blocks", [])]
    branches = [label.partition(" ")[2] for label in labels]
    return [f"{block} {part}".strip() for block, part in zip(scored_blocks(stage, stages), branches, strict=True)]


def class_names(stage: Stage) -> dict[int, str]:
    """Class id -> name, as far as the stage says. One without a model in it (of an evaluate run) names the classes that
    were drawn, in the order of their ids."""
    if (stage.path / "config.json").exists():
        return dict(enumerate(read_model_info(stage.path).class_names))
    named, samples = (stage.metrics() or {}).get("per_class") or {}, stage.samples()
    labels = np.unique(samples[1]).tolist() if samples else []
    return dict(zip(labels, named, strict=True)) if len(labels) == len(named) else {}
