"""Settings of a measurement of importance: each choice of the method, in plain words."""

from typing import Any

import streamlit as st

from app import chosen, measuring
from app.number_boxes import NumberBoxes
from engine.importance.config import ESTIMATORS, GRANULARITIES, METHODS, NOISED_VARIABLES, ORDERS, WEIGHTINGS, CedConfig

_CONDITION_WORDS = {"none": "all classes together", "class": "within each class, then averaged"}
_NAMES = (
    "samples", "timesteps", "estimator", "condition", "weighting", "granularity", "order", "method", "num_candidates",
    "seed",
)  # fmt: skip


def draw(variable: str, boxes: NumberBoxes) -> dict[str, Any]:
    """Arguments of a CedConfig of this variable."""
    return {**_what_is_looked_at(variable), **_how_rows_are_ordered(boxes), **_how_much_is_spent(boxes)}


def take(config: dict[str, Any]) -> None:
    """Puts the settings of an earlier measurement into the widgets, before they are drawn."""
    usual = CedConfig()
    for name in _NAMES:
        value = config.get(name, getattr(usual, name))
        st.session_state[f"ced_{name}"] = (value or 0) if name == "num_candidates" else value


def _what_is_looked_at(variable: str) -> dict[str, Any]:
    noised = variable in NOISED_VARIABLES
    settings = {
        "variable": variable,
        "granularity": _choose(
            "Rows", GRANULARITIES, "granularity",
            "What one row leaves out. Branches show whether attention or the MLP of a block is the part that counts; "
            "twice the rows, about four times the work.",
        ),
        "condition": _choose(
            "Classes", _CONDITION_WORDS, "condition",
            "Whether entropy is taken over all images or inside each class. Inside each class a block that only "
            "tells classes apart counts less; it needs more images. Target doesn't depend on it much.",
        ),
        "estimator": _choose(
            "Estimator", ESTIMATORS, "estimator",
            "How entropy is computed from samples; used by Samples and Prediction. A Gaussian is steady and fast, but "
            "blind to changes that keep the spread. Nearest neighbours see any shape and need more images.",
        ),
    }  # fmt: skip
    weighting = _choose(
        "Noise levels", WEIGHTINGS, "weighting",
        "How much each noise level counts in a block's score. The cells of the heatmap stay as they are; bars and "
        "ranks follow." + ("" if noised else " Samples has none to weigh: the finished pictures alone decide."),
        disabled=not noised,
    )  # fmt: skip
    return {**settings, "weighting": weighting if noised else "even"}


def _how_rows_are_ordered(boxes: NumberBoxes) -> dict[str, Any]:
    order = _choose(
        "Order of removal", ORDERS, "order",
        "Two blocks that are harmless alone may do the same work and miss each other. Greedy notices; it costs about "
        "a third of the number of blocks times as much.",
    )  # fmt: skip
    greedy = order == "greedy"
    method = _choose(
        "Samples spent", METHODS, "method",
        "Racing stops measuring a block as soon as it is clear whether it is among the least important ones. It gives "
        "the same set for less work; numbers of blocks settled early rest on fewer images."
        + (" Greedy has no race." if greedy else ""),
        disabled=greedy,
    )  # fmt: skip
    method = "exact" if greedy else method
    settings = {"order": order, "method": method, "num_candidates": None}
    if greedy or method == "racing":
        what = "Blocks to remove" if greedy else "Least important to find"
        settings["num_candidates"] = (
            _number(
                boxes, st, what, "num_candidates", 0, 1000, 1,
                "0 is the usual number: all of them for greedy, half for racing.",
            )
            or None
        )  # fmt: skip
    return settings


def _how_much_is_spent(boxes: NumberBoxes) -> dict[str, Any]:
    first, second, third = st.columns(3, gap="small")
    samples = _number(
        boxes, first, "Images", "samples", 8, 100_000, 64,
        "How many the entropies are estimated from. More is slower and steadier.",
    )  # fmt: skip
    timesteps = _number(
        boxes, second, "Columns", "timesteps", 1, 1000, 1,
        "Noise levels, spread evenly, or sampling steps. 4 is a quick look, 10 is usual, 50 is fine and slow.",
    )  # fmt: skip
    seed = _number(
        boxes, third, "Seed", "seed", 0, 2**31 - 1, 1,
        "Which images and which noise. The same seed gives the same numbers.",
    )  # fmt: skip
    return {"samples": samples, "timesteps": timesteps, "seed": seed}


def _choose(label: str, options: dict[str, str], name: str, help: str, **more: Any) -> str:
    key = f"ced_{name}"
    return chosen.drawn(
        st.selectbox, label, list(options), format_func=options.get, key=key, on_change=measuring.want,
        persist_state="session", help=help, **more,
    )  # fmt: skip


def _number(boxes: NumberBoxes, place: Any, label: str, name: str, low: int, high: int, step: int, help: str) -> int:
    key = f"ced_{name}"
    value = st.session_state.get(key, getattr(CedConfig(), name) or 0)
    return boxes.draw(
        place, label, low, high, value, step, key=key, on_change=measuring.want, persist_state="session", help=help
    )
