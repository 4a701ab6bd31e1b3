"""A replay from a file: shown in this tab only, and checked as any file from anywhere."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.access import rights, upload_gate
from app.errors import one_line_errors
from app.opening import uploads
from engine.errors import EngineError, InputError
from engine.learn.replay import MOST_BYTES, read_replay

_KEY = "learn_replay_file"
_REPLAY, _WRONG = "learn_replay", "learn_replay_wrong"


def uploaded() -> dict[str, Any] | None:
    """What was read last."""
    return st.session_state.get(_REPLAY)


def draw(on_read: Callable[[], None]) -> None:
    """The place for the file; ``on_read`` is called before the page is drawn with it."""
    with st.expander("Show a replay from a file"):
        _place(on_read)


@one_line_errors
def _place(on_read: Callable[[], None]) -> None:
    if rights.may_work():
        upload_gate.admit()
    st.file_uploader(
        "Replay file", type=["json"], key=_KEY, on_change=_take, args=(on_read,),
        **rights.guarded(
            f"Made by python -m engine replay RUN --out FILE, or by Download this replay; up to "
            f"{MOST_BYTES / 1e6:g} MB. It is shown in this tab and not kept."
        ),
    )  # fmt: skip
    if wrong := st.session_state.get(_WRONG):
        raise InputError(wrong)


def _take(on_read: Callable[[], None]) -> None:
    file = st.session_state[_KEY]
    st.session_state[_WRONG] = ""
    if file is None:
        return
    try:
        rights.require()
        uploads.check_kind([file], ["json"])
        count = st.session_state.get("num_uploads", 0)
        if count >= uploads.MOST_UPLOADS:
            raise InputError(f"{count} uploads in this session are enough; open a new tab for further ones")
        st.session_state["num_uploads"] = count + 1
        st.session_state[_REPLAY] = read_replay(bytes(file.getbuffer()), name=uploads.safe_name(file.name))
    except EngineError as error:
        st.session_state[_WRONG] = str(error)
        return
    on_read()
