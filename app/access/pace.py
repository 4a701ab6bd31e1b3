"""How often one session may ask for a preview in lecture mode: enough to click around, not to keep others out."""

import time

import streamlit as st

from app.access.rights import NotAllowed

AT_ONCE = 20  # questions that a session may put one after the other
SECONDS_EACH = 3.0  # after which it may put one more
_TOKENS = "preview_tokens"


def spend() -> None:
    """One question of this session. Raises NotAllowed where it asked too much."""
    now = time.monotonic()
    tokens, last = st.session_state.get(_TOKENS, (float(AT_ONCE), now))
    tokens = min(float(AT_ONCE), tokens + (now - last) / SECONDS_EACH)
    if tokens < 1:
        st.session_state[_TOKENS] = tokens, now
        raise NotAllowed(
            f"{AT_ONCE} previews in quick succession: in lecture mode one more is free every {SECONDS_EACH:g} s; "
            "click again in a moment"
        )
    st.session_state[_TOKENS] = tokens - 1, now
