"""Taking in a run that was packed elsewhere."""

import streamlit as st

from app import address, jobs
from app.access import rights, upload_gate
from app.errors import shown_as_one_line
from engine.runs.unpack import unpack_run


def button() -> None:
    if st.button(
        "Take in a run", **rights.guarded("Adds a run that was packed here or on another machine, from its one file.")
    ):
        _dialog()


@st.dialog("Take in a run")
def _dialog() -> None:
    with shown_as_one_line():
        contents()


def contents() -> None:
    upload_gate.admit()
    st.html(
        '<p class="ep-note">A run is packed with its Pack button, or with <code>python -m engine pack RUN</code>. It '
        "is looked through before it is taken in, and no run that is here is changed.</p>"
    )
    file = st.file_uploader(
        "Packed run", type=["zip"], key="packed_run",
        **rights.guarded("The .zip file. For one beyond 1 GB: python -m engine unpack FILE"),
    )  # fmt: skip
    if file is None:
        return
    run = unpack_run(jobs.writable(), file, name=file.name)
    st.session_state.pop("packed_run")
    st.toast(f"Taken in: {run.title}")
    address.remember(run=run.id)
    st.rerun()
