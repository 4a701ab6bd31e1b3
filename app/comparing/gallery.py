"""Pictures of one to four stages, matched by seed: filtered by class, ordered, page by page. Only those on the page are
encoded."""

import html
import math
from collections.abc import Sequence

import numpy as np
import streamlit as st

from app import address, jobs, pictures
from app.comparing import closely, conditions, gallery_choices, picture_clicks, remembered
from app.comparing.gallery_choices import Chosen
from app.comparing.picked import Picked
from app.comparing.shared_seeds import Kept, Shared, kept_by, shared_by
from app.errors import one_line_errors, sentence, shown_as_one_line


def draw(picked: list[Picked]) -> None:
    """Redraws by itself, without the rest of the page."""
    st.header("In pictures, seed by seed", anchor=False)
    st.fragment(one_line_errors(_draw))(picked)


def _draw(picked: list[Picked]) -> None:
    found = [(one, kept) for one in picked if (kept := _kept(one))]
    if not found:
        return
    shown, sides = [one for one, _ in found], [kept for _, kept in found]
    shared = shared_by(shown)
    if not shared.seeds:
        st.info(f"{sentence(_listed(shown))} share no picture. {_left_out(shown, shared)} Evaluate them on the same "
                "data with the same seed to see them side by side.")  # fmt: skip
        return
    chosen = gallery_choices.draw(shown, sides, shared)
    if chosen.pair:
        a, b = chosen.pair
        with st.container(key="compare_closely"):
            closely.draw((shown[a], shown[b]), (sides[a], sides[b]), shared.of(a, b), chosen.indexes)
        picture_clicks.listen(lambda seed: address.remember(seed=seed))
    for line in [chosen.order.meaning, conditions.drawn_differently(shown), _left_out(shown, shared)]:
        if line:
            st.html(f'<p class="ep-note">{html.escape(line)}</p>')
    _page(shown, sides, shared, chosen)


def _kept(one: Picked) -> Kept | None:
    """Says why there is none."""
    found = None
    with shown_as_one_line():
        jobs.open_run(jobs.workspace(), one.run.id)  # somebody may have deleted it meanwhile
        found = kept_by(one)
        if found is None or not found.seeds:
            st.info(f"{sentence(one.label)} kept no pictures. Measure it to draw some, below or with: python -m engine "
                    f"evaluate {one.ref} {one.stage.info.get('data')}")  # fmt: skip
    return found if found and found.seeds else None


def _left_out(shown: Sequence[Picked], shared: Shared) -> str:
    """How many pictures have no counterpart, and why; empty where all have."""
    parts = []
    for one, (other_seed, other_class) in zip(shown, shared.left_out, strict=True):
        reasons = [f"{other_seed:,} with seeds that not all of them drew"] if other_seed else []
        reasons += [f"{other_class:,} whose seed drew another class elsewhere"] if other_class else []
        parts += [f"{one.label}: {' and '.join(reasons)}"] if reasons else []
    return f"{len(shared.seeds):,} are in all of them. Left out of {'; of '.join(parts)}." if parts else ""


def _listed(shown: Sequence[Picked]) -> str:
    labels = [one.label for one in shown]
    return ", ".join(labels[:-1]) + f" and {labels[-1]}"


def _page(shown: list[Picked], sides: list[Kept], shared: Shared, chosen: Chosen) -> None:
    legend, turn = st.columns([3, 2], vertical_alignment="center", gap="medium")
    num_pages = math.ceil(len(chosen.indexes) / chosen.page_size)
    with turn:
        number = remembered.page(num_pages)
    marks = "".join(f'<span><i class="{one.look}"></i>{html.escape(one.label)}</span>' for one in shown)
    order = ", from top to bottom" if len(shown) > 1 else ""
    legend.html(f'<p class="ep-legend"><span>{len(chosen.indexes):,} seeds{order}:</span>{marks}</p>')
    indexes = chosen.indexes[(number - 1) * chosen.page_size : number * chosen.page_size]
    figures = "".join(_figure(shown, sides, shared, index, chosen.order.say(index)) for index in indexes.tolist())
    hint = "Point at a picture, or go to it with Tab: it is enlarged here."
    if chosen.pair:
        hint += " A click, or Enter, compares it closely above."
    st.html(f'<div class="ep-gallery"><div class="ep-cells">{figures}</div>'
            f'<div class="ep-loupe"><p>{hint}</p></div></div>')  # fmt: skip


def _figure(shown: list[Picked], sides: list[Kept], shared: Shared, index: int, say: str) -> str:
    """One seed: its picture from each stage above each other."""
    seed, caption = shared.seeds[index], f"{shared.classes[index]} · seed {shared.seeds[index]}"
    cells = ""
    for one, kept, row in zip(shown, sides, shared.rows[:, index].tolist(), strict=True):
        words = " · ".join(filter(None, (one.label, caption, say)))
        cells += pictures.cell(np.asarray(kept.images[row]), words, look=one.look, seed=seed, pick=len(shown) > 1)
    below = f"<b>{html.escape(say)}</b>" if say else ""
    return f"<figure>{cells}<figcaption>{html.escape(caption)}{below}</figcaption></figure>"
