"""What is chosen above the gallery: class, order, which two stages are compared closely, pictures on a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import streamlit as st

from app.comparing import remembered
from app.comparing.ordering import ORDERS, Order, by_doubt, by_features, by_pixels
from app.comparing.picked import Picked
from app.comparing.shared_seeds import Kept, Shared
from app.errors import sentence
from engine.errors import EngineError

_PAGE_SIZES = (10, 20, 50, 100)
_MOST_PIXELS = 6_000_000  # of all pictures on a page: about what a browser takes without a wait
_ALL = "all classes"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    pair: tuple[int, int] | None  # which two of the stages shown; None where there is one
    order: Order
    indexes: np.ndarray  # of the shared pictures that are shown, in their order
    page_size: int


def draw(shown: Sequence[Picked], sides: Sequence[Kept], shared: Shared) -> Chosen:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        class_name = remembered.choose(
            st.selectbox, "Class", [_ALL, *dict.fromkeys(shared.classes)], param="class", usual=_ALL, clears=("page",),
            help="Show the pictures of one class only.",
        )  # fmt: skip
        orders = [name for name in ORDERS if len(shown) > 1 or name in ("seed", "doubt")]
        name = remembered.choose(
            st.selectbox, "Order", orders, param="order", usual="seed", clears=("page", "seed"), format_func=ORDERS.get,
            help="Failures come first when the most different pairs do, or those whose class is most in doubt. Below "
            "each picture stands the number that it is ordered by.",
        )  # fmt: skip
        pair, of = _pair(shown, name), _stage_in_doubt(shown, name)
        page_size = _page_size(shown, sides)
    order = _order(name, shown, sides, shared, pair, of)
    matches = [class_name in (_ALL, known) for known in shared.classes]
    return Chosen(pair=pair, order=order, indexes=order.sorted(np.flatnonzero(matches)), page_size=page_size)


def _pair(shown: Sequence[Picked], order: str) -> tuple[int, int] | None:
    if len(shown) < 3:
        return (0, 1) if len(shown) == 2 else None
    pairs = {f"{a + 1}-{b + 1}": (a, b) for a, b in combinations(range(len(shown)), 2)}
    chosen = remembered.choose(
        st.selectbox, "Closely", list(pairs), param="pair", usual=f"1-{len(shown)}", clears=("page",),
        format_func=lambda name: " and ".join(shown[index].label for index in pairs[name]),
        help="Which two stages lie on top of each other, and whose difference orders the pictures.",
    )  # fmt: skip
    return pairs[chosen]


def _stage_in_doubt(shown: Sequence[Picked], order: str) -> int:
    if order != "doubt" or len(shown) == 1:
        return len(shown) - 1
    return remembered.choose(
        st.selectbox, "Doubted", list(range(1, len(shown) + 1)), param="of", usual=len(shown), clears=("page",),
        format_func=lambda number: shown[number - 1].label,
        help="The stage whose pictures the demo CNN judges.",
    ) - 1  # fmt: skip


def _page_size(shown: Sequence[Picked], sides: Sequence[Kept]) -> int:
    pixels = sum(kept.images.shape[1] * kept.images.shape[2] for kept in sides)
    sizes = [size for size in _PAGE_SIZES if size * pixels <= _MOST_PIXELS or size == _PAGE_SIZES[0]]
    return remembered.choose(
        st.selectbox, "On a page", sizes, param="size", usual=20 if 20 in sizes else sizes[-1], clears=("page",),
        help="Seeds on a page. Large pictures allow fewer, so that the page stays quick.",
    )  # fmt: skip


def _order(
    name: str, shown: Sequence[Picked], sides: Sequence[Kept], shared: Shared, pair: tuple[int, int] | None, of: int
) -> Order:
    """As they came where the numbers for the order asked for can't be had; says why."""
    try:
        if name == "doubt":
            return by_doubt(shown[of], shared.rows[of])
        if pair and name == "pixels":
            return by_pixels([sides[index] for index in pair], shared.rows[list(pair)])
        if pair and name == "features":
            return by_features([shown[index] for index in pair], shared.rows[list(pair)])
    except EngineError as error:
        st.info(f"{sentence(str(error))}. They are shown by seed.")
    return Order()
