"""The small line under every page: is the engine there, on which device, and where the results are."""

import html

import streamlit as st

from app import jobs
from app.access import announcement, key_entry, rights, sign_in
from app.errors import one_line_errors

_DOTS = {"ready": "#2E9E6B", "busy": "#2F66A9", "starting": "#D29A2A", "stopped": "#C0483F"}


def draw() -> None:
    st.space("medium")
    settled = jobs.engine_state().state in ("ready", "busy")
    st.fragment(_line, run_every=15 if settled else 5)()  # with forty visitors every look counts
    key_entry.draw()
    sign_in.draw_person()


@one_line_errors
def _line() -> None:
    engine = jobs.engine_state()
    st.html(
        f'<p class="ep-foot"><span class="ep-dot" style="background:{_DOTS[engine.state]}"></span>'
        f"Engine {html.escape(engine.words)}{_where()}{_reach()}</p>"
    )
    if engine.state == "stopped" and st.button(
        "Start the engine", **rights.guarded("Starts the process that does the computing. Waiting work then goes on.")
    ):
        jobs.start_engine()
        st.rerun()


def _where() -> str:
    """Not for who may only look: a path tells about the machine."""
    return f" · results in <code>{html.escape(str(jobs.workspace().root))}</code>" if rights.may_work() else ""


def _reach() -> str:
    words = announcement.reach_in_words(st.get_option("server.address"), sign_in=sign_in.is_on())
    return f" · <b>{html.escape(words)}</b>" if words else ""
