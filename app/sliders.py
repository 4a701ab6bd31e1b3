"""Sliders over whole numbers, for ends that may fall together."""

from typing import Any

import streamlit as st


def whole_number(place: Any, label: str, low: int, high: int, value: int, *, key: str, help: str, **more: Any) -> int:
    """Where ``low`` is ``high`` it stands there and can't be moved: Streamlit refuses such a slider."""
    if low >= high:
        place.slider(label, low, low + 1, low, key=f"{key}_only", help=help, disabled=True)
        return low
    return place.slider(label, low, high, min(max(value, low), high), key=key, help=help, **more)


def wanted(key: str, usual: int) -> int:
    """What was chosen on the slider ``key``, which may have had other ends then, else the usual number."""
    return st.session_state.get(f"{key}_wanted", usual)


def want(key: str) -> None:
    """To be called when the slider ``key`` was moved."""
    st.session_state[f"{key}_wanted"] = st.session_state[key]
