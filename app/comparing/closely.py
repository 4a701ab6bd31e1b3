"""One seed of two stages, enlarged: one swiped over the other, and their difference amplified."""

import html
from collections.abc import Sequence

import numpy as np
import streamlit as st

from app import address, glossary, pictures
from app.comparing import difference, remembered, swipe
from app.comparing.picked import Picked
from app.comparing.shared_seeds import Kept, Shared

_FACTORS = [1, 2, 4, 8, 16]


def draw(pair: Sequence[Picked], sides: Sequence[Kept], shared: Shared, indexes: np.ndarray) -> None:
    """``shared`` is of these two; ``indexes`` are the pictures of the gallery in their order."""
    index, words = _seed(shared, indexes)
    images = [np.asarray(kept.images[row]) for kept, row in zip(sides, shared.rows[:, index], strict=True)]
    caption = f"{shared.classes[index]} · seed {shared.seeds[index]}"
    left, right = st.columns(2, gap="medium")
    with left:
        first, second = (pictures.data_uri(pictures.png(image)) for image in images)
        swipe.draw(first, second, names=(pair[0].label, pair[1].label), caption=caption,
                   smooth=min(images[0].shape[:2]) >= pictures.SMOOTH_FROM)  # fmt: skip
        st.html(f'<p class="ep-note"><b>{html.escape(caption)}</b>{words}<br>Drag the line, or press Tab and the arrow '
                "keys.</p>")  # fmt: skip
    with right:
        _difference(pair, images, caption)


def _seed(shared: Shared, indexes: np.ndarray) -> tuple[int, str]:
    """The picture that the address asks for, else the first of the gallery; and where it stands there, in words."""
    wanted = address.asked("seed")
    places = {str(shared.seeds[index]): place for place, index in enumerate(indexes.tolist())}
    if wanted is not None and wanted not in places:
        st.warning(_unknown(wanted, shared))
        address.remember(seed=None)
        wanted = None
    place = places.get(wanted, 0)
    seeds = [str(shared.seeds[index]) for index in indexes.tolist()]
    st.session_state["compare_seed"] = seeds[place]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.text_input(
            "Seed", key="compare_seed", width=140, on_change=_take_seed,
            help="Jump to a seed; a click on a picture below does it too. " + glossary.explain("seed"),
        )  # fmt: skip
        st.button("← Before", key="compare_before", disabled=place == 0, on_click=_go, args=(seeds[max(place - 1, 0)],),
                  help="The seed before this one, in the order of the gallery.")  # fmt: skip
        last = len(seeds) - 1
        after = seeds[min(place + 1, last)]
        st.button("Next →", key="compare_after", disabled=place == last, on_click=_go, args=(after,),
                  help="The next seed in the order of the gallery.")  # fmt: skip
    return int(indexes[place]), f" · {place + 1:,} of {len(seeds):,} in the order below"


def _unknown(wanted: str, shared: Shared) -> str:
    seeds = shared.seeds
    if wanted.lstrip("-").isdecimal() and int(wanted) in seeds:
        return f"Seed {wanted} is of another class than the one shown. Choose all classes to see it."
    return (f"There is no picture of seed {wanted[:24]!r} in all of the stages shown; the seeds are {min(seeds)} … "
            f"{max(seeds)}.")  # fmt: skip


def _take_seed() -> None:
    _go(st.session_state["compare_seed"].strip())


def _go(seed: str) -> None:
    address.remember(seed=seed)


def _difference(pair: Sequence[Picked], images: Sequence[np.ndarray], caption: str) -> None:
    names = f"{pair[0].label} and {pair[1].label}"
    if images[0].shape != images[1].shape:
        sizes = " and ".join(f"{image.shape[1]} × {image.shape[0]}" for image in images)
        st.info(f"{names} draw pictures of different sizes ({sizes} pixels), so one can't be taken from the other.")
        return
    picture = st.empty()
    factor = remembered.choose(
        st.segmented_control, "Amplified", _FACTORS, param="amplify", usual=4, format_func=lambda times: f"{times}×",
        required=True,
        help="How many times stronger than it is the difference is shown. What would be brighter than white is white.",
    )  # fmt: skip
    apart = difference.amplified(*images, factor=factor)
    shown = pictures.img(pictures.png(apart), f"difference of {names}, {caption}, {factor} times as strong")
    picture.html(f'<div class="ep-close">{shown}</div>')
    clipped = float(np.mean(difference.amplified(*images, factor=1).astype(int) * factor > 255))
    white = f"; {clipped:.0%} of it is clipped" if clipped >= 0.005 else ""
    st.html(f'<p class="ep-note">|{html.escape(pair[0].label)} − {html.escape(pair[1].label)}|, {factor}× as strong as '
            f"it is{white}. Black: no difference. <b>RMS {difference.rms(*images):.1f}</b> of 255 grey "
            "levels.</p>")  # fmt: skip
