"""Who may start, stop and change work: everybody, or in lecture mode who holds the key.

``guarded`` is for buttons, ``require`` for the functions behind them, which don't trust that a button was drawn.
"""

import time
from typing import Any

import streamlit as st

from app.access import lecture_key
from engine.errors import EngineError

_HOLDS = "holds_lecture_key"
_WRONG_KEY_SECONDS = 1.0  # that a wrong key costs who tries it
REASON = "Lecture mode: only who holds the key starts, stops or changes work. It is entered at the foot of the page."


class NotAllowed(EngineError):
    """Who asked may look, but not do this."""


def is_lecture() -> bool:
    return lecture_key.switched_on()


def may_work() -> bool:
    return not is_lecture() or bool(st.session_state.get(_HOLDS))


def require() -> None:
    """Raises NotAllowed."""
    if not may_work():
        raise NotAllowed(REASON)


def guarded(help: str, *, disabled: bool = False, light: bool = False) -> dict[str, Any]:
    """``st.button("Delete", **guarded("Moves it to the bin."))``: grey, with the reason, for who may only look.

    ``light``: what anybody may ask, see ``jobs.is_light``."""
    return {"help": help, "disabled": disabled} if light or may_work() else {"help": REASON, "disabled": True}


def take_key(key: str) -> bool:
    """Whether it was the right one; from then on this session holds it, and no other does."""
    if not lecture_key.fits(key, lecture_key.expected_fingerprint()):
        time.sleep(_WRONG_KEY_SECONDS)
        return False
    st.session_state[_HOLDS] = True
    return True


def give_key_back() -> None:
    st.session_state.pop(_HOLDS, None)


def take_key_from_address() -> None:
    """``?key=…``: taken and removed before anything else is drawn, so that the address can be shown and copied."""
    if "key" not in st.query_params:
        return
    key = st.query_params["key"]
    del st.query_params["key"]
    if is_lecture() and not may_work() and not take_key(key):
        st.warning("The key in this link doesn't fit. Ask who started the studio for the link that it printed.")
