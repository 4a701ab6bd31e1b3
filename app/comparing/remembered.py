"""Choices of the compare page: the address holds them, so that a link or a reload shows the same thing to a colleague.

Each widget is set to what the address says whenever the page is drawn, and writes there when it is changed.
"""

from collections.abc import Callable, Iterable
from typing import Any

import streamlit as st

from app import address


def choose(
    widget: Callable,
    label: str,
    options: list,
    *,
    param: str,
    usual: Any,
    help: str,
    clears: Iterable[str] = (),
    **more: Any,
) -> Any:
    """``usual`` isn't written; ``clears`` are other choices that this one makes meaningless."""
    key = f"compare_{param}"
    st.session_state[key] = _wanted(param, options, usual)
    return widget(label, options, key=key, help=help, on_change=_write, args=(param, usual, tuple(clears)), **more)


def _wanted(param: str, options: list, usual: Any) -> Any:
    text = address.asked(param)
    if text is None:
        return usual
    found = next((option for option in options if str(option) == text), None)
    if found is None:
        few = ", ".join(map(str, options[:8])) + (" …" if len(options) > 8 else "")
        st.warning(f"The address asks for {param} {text!r}; here there are {few}. It is left out.")
        address.remember(**{param: None})
        return usual
    return found


def _write(param: str, usual: Any, clears: tuple[str, ...], key: str | None = None) -> None:
    value = st.session_state[key or f"compare_{param}"]
    address.remember(**{param: None if value == usual else value}, **dict.fromkeys(clears))


def page(num_pages: int) -> int:
    """The page of the gallery, from 1 on."""
    options = list(range(1, num_pages + 1))
    wanted = _wanted("page", options, 1)
    if num_pages == 1:
        return 1
    key = f"compare_page_{st.session_state.get('compare_page_times', 0)}"
    if st.session_state.get(key, wanted) != wanted:  # changed elsewhere; this widget's value can't be set, so a new one
        st.session_state["compare_page_times"] = st.session_state.get("compare_page_times", 0) + 1
        key = f"compare_page_{st.session_state['compare_page_times']}"
    return st.pagination(num_pages, default=wanted, key=key, on_change=_write, args=("page", 1, (), key))
