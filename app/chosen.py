"""Widgets whose value the page chose itself, before anybody touched them."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st


def drawn(widget: Callable, label: str, options: Sequence, *, key: str, **more: Any) -> Any:
    """A selectbox or a row of buttons that stands at ``st.session_state[key]``.

    Streamlit's front end hears of such a value once. Where the page is drawn again before the widget was loaded, it
    would begin at the usual value and report that as chosen; so the value is told as the usual one too.
    """
    value = st.session_state.get(key)
    if widget.__name__ != "selectbox":
        return widget(label, options, default=value, key=key, **more)
    index = options.index(value) if value in options else 0
    return widget(label, options, index, key=key, **more)
