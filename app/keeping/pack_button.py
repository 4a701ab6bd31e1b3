"""A run as one file, through the browser where that is reasonable."""

import io

import streamlit as st

from app.access import rights
from engine.byte_size import byte_size
from engine.errors import EngineError
from engine.runs.pack import pack_run, packed_size
from engine.runs.store import ACTIVE_STATES, Run

LARGEST_BYTES = 200 * 2**20  # made in the page's memory; of more, the command line writes a file


def draw(run: Run, state: str) -> None:
    """Nothing for an export, which is a file to take away already, and for a run at work."""
    if run.kind == "export" or state in ACTIVE_STATES:
        return
    try:
        size = packed_size(run)
    except EngineError as error:
        st.button("Pack", disabled=True, help=str(error))
        return
    if size > LARGEST_BYTES:
        st.button(
            "Pack", disabled=True,
            help=f"{byte_size(size)} are too many for the browser. In a terminal: python -m engine pack {run.id}",
        )  # fmt: skip
        return
    st.download_button(
        "Pack", lambda: _packed(run), file_name=f"{run.id}.zip", mime="application/zip", on_click="ignore",
        **rights.guarded(
            f"The whole run as one file of at most {byte_size(size)}, to keep or to send. It can be taken in again on "
            "any machine, and goes on there where it stopped."
        ),
    )  # fmt: skip


def _packed(run: Run) -> bytes:
    content = io.BytesIO()
    pack_run(run, content)
    return content.getvalue()
