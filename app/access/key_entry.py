"""Lecture mode at the foot of the page: what it means, and the place for the key."""

import streamlit as st

from app.access import rights


def draw() -> None:
    """Nothing outside of lecture mode."""
    if not rights.is_lecture():
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if rights.may_work():
            _say("this browser tab holds the key and may start work.")
            st.button(
                "Give the key back", type="tertiary", on_click=rights.give_key_back,
                help="This tab may only look from then on, as everybody else. The key can be entered again.",
            )  # fmt: skip
            return
        _say("look at everything, and try blocks of the bundled models. Starting and changing work needs the key.")
        with st.popover("Enter the key", type="tertiary", help="For who gives the lecture."):
            _form()


def _say(words: str) -> None:
    st.html(f'<p class="ep-note"><b>Lecture mode</b>: {words}</p>', width="content")


def _form() -> None:
    with st.form("lecture_key", border=False):
        key = st.text_input(
            "Key", type="password", max_chars=200, autocomplete="off",
            help="It was printed in the terminal when the studio was started. It counts for this tab, until that is "
            "closed or reloaded.",
        )  # fmt: skip
        pressed = st.form_submit_button("Take it", help="Buttons that start, stop and change work come alive.")
    if not pressed:
        return
    if rights.take_key(key):
        st.rerun()
    st.error("That key doesn't fit. It is the one printed in the terminal at the last start.")
