"""The strip of blocks, the picture of a model that every page shares: kept or dropped, from input to output."""

import streamlit as st

from app import chosen
from engine.runs.store import Stage

_LEGEND = {
    "intact": "block of the intact model",
    "pruned": "kept in the pruned model",
    "dropped": "dropped",
    "gone": "dropped in an earlier stage",
}


def strip(states: list[str], *, names: list[int] | None = None, small: bool = False) -> str:
    """One box a block; a state is a key of the legend. ``names`` are the numbers written on the boxes."""
    names = list(range(len(states))) if names is None else names
    boxes = "".join(
        f'<span class="{state}" title="block {name}: {_LEGEND[state]}">{name}</span>'
        for name, state in zip(names, states, strict=True)
    )
    gone = [str(name) for name, state in zip(names, states, strict=True) if state in ("dropped", "gone")]
    words = f"{len(states)} blocks, " + (f"without {', '.join(gone)}" if gone else "none dropped")
    return f'<div class="ep-strip{" small" if small else ""}" role="img" aria-label="{words}">{boxes}</div>'


def legend(*strips: str) -> str:
    """Of the states that these strips show."""
    states = [state for state in _LEGEND if any(f'<span class="{state}"' in shown for shown in strips)]
    return '<p class="ep-legend">' + "".join(f'<span><i class="{s}"></i>{_LEGEND[s]}</span>' for s in states) + "</p>"


def pruning_strip(depth: int, drop: list[int]) -> str:
    """What a choice of blocks would leave."""
    return strip(["dropped" if block in drop else "intact" for block in range(depth)])


def stage_strip(first: Stage, stage: Stage, *, small: bool = False, next_drop: list[int] = ()) -> str:
    """A stage in the numbers of the loaded model: kept, dropped in this stage, gone before it.

    ``next_drop`` are about to go; then those already dropped are all gone."""
    whole, kept = first.kept_blocks, set(stage.kept_blocks) - set(next_drop)
    dropped = set(next_drop) or set(stage.info["dropped_blocks"])
    after = "pruned" if stage.depth < first.depth else "intact"
    states = [after if block in kept else "dropped" if block in dropped else "gone" for block in whole]
    return strip(states, names=list(whole), small=small)


def pick_blocks(depth: int, *, key: str, label: str, help: str) -> list[int]:
    """The strip to click on; blocks clicked are the ones dropped."""
    picked = chosen.drawn(st.pills, label, range(depth), selection_mode="multi", key=f"strip_{key}", help=help)
    return sorted(picked or [])
