"""Pictures of two stages, paired by seed: filtered by class, turned page by page."""

import math

import numpy as np
import streamlit as st

from app import pictures
from engine.models.bundled import read_model_info
from engine.runs.store import Stage

PAIRS_ON_A_PAGE = 20
_ALL = "all classes"


def draw(first: Stage, second: Stage) -> None:
    st.subheader("In pictures, seed by seed", anchor=False)
    sides = first.samples(), second.samples()
    if sides[0] is None or sides[1] is None:
        st.info("One of these stages kept no pictures; evaluate it to draw some.")
        return
    class_names = read_model_info(second.path).class_names
    (left, labels, seeds), (right, other_labels, other_seeds) = sides
    where = {key: i for i, key in enumerate(zip(other_seeds.tolist(), other_labels.tolist(), strict=True))}
    keys = list(zip(seeds.tolist(), labels.tolist(), strict=True))
    shown = [i for i, key in enumerate(keys) if key in where]
    pick, turn = st.columns([1, 2], vertical_alignment="bottom", gap="medium")
    chosen = pick.selectbox(
        "Class", [_ALL, *class_names], help="Show the pictures of one class only.", key="compare_class"
    )
    if chosen != _ALL:
        shown = [i for i in shown if labels[i] == class_names.index(chosen)]
    if not shown:
        st.info("These two stages share no seed of this class; choose another class or other stages.")
        return
    num_pages = math.ceil(len(shown) / PAIRS_ON_A_PAGE)
    number = turn.pagination(num_pages, key=f"gallery_{chosen}") if num_pages > 1 else 1
    names = f"stage {first.number}", f"stage {second.number}"
    st.html(f'<p class="ep-legend"><span><i class="{_look(first)}"></i>{names[0]}, above</span>'
            f'<span><i class="{_look(second)}"></i>{names[1]}, below, from the same seed</span></p>')  # fmt: skip
    page = shown[(number - 1) * PAIRS_ON_A_PAGE : number * PAIRS_ON_A_PAGE]
    st.html(pictures.pairs(
        [_pair(left[i], right[where[keys[i]]], f"{class_names[labels[i]]} · seed {seeds[i]}") for i in page],
        names=names, looks=(_look(first), _look(second)),
    ))  # fmt: skip


def _look(stage: Stage) -> str:
    """A stage counts as intact until something was dropped."""
    return "pruned" if stage.number else "intact"


def _pair(left: np.ndarray, right: np.ndarray, caption: str) -> pictures.Pair:
    return pictures.Pair(pictures.png(left), pictures.png(right), caption)
