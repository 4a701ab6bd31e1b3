"""The bin: deleted runs with their sizes, to be taken out again or emptied for good."""

import html
from datetime import datetime

import streamlit as st

from app import address, jobs
from app.access import rights
from app.errors import shown_as_one_line
from engine.byte_size import byte_size
from engine.runs.bin import BinnedRun, empty_bin, list_bin, restore_run

_SHOWN = 30


def button() -> None:
    """With the number of runs in it; nothing where it is empty."""
    found = list_bin(jobs.workspace())
    if not found:
        return
    label = f"Bin: {len(found)} {_runs(len(found))}, {byte_size(_total(found))}"
    if st.button(label, help="Deleted runs stay there until you take them out again or empty it."):
        _dialog()


@st.dialog("Bin", width="medium")
def _dialog() -> None:
    with shown_as_one_line():
        contents()


def contents() -> None:
    found = list_bin(jobs.workspace())
    if not found:
        st.html('<div class="ep-empty"><b>The bin is empty</b>Runs that you delete are kept here.</div>')
        return
    for run in found[:_SHOWN]:
        _row(run)
    if len(found) > _SHOWN:
        st.html(f'<p class="ep-note">and {len(found) - _SHOWN} more, deleted earlier.</p>')
    st.divider()
    _empty(found)


def _row(run: BinnedRun) -> None:
    words, action = st.columns([5, 1], vertical_alignment="center")
    deleted = f"{datetime.fromtimestamp(run.deleted):%Y-%m-%d %H:%M}"
    words.html(
        f'<p class="ep-say">{html.escape(run.title)}</p>'
        f'<p class="ep-note">{html.escape(run.id)} · {byte_size(run.num_bytes)} · deleted {deleted}</p>'
    )
    if action.button("Restore", key=f"restore_{run.id}", **rights.guarded("Puts it back among the runs, as it was.")):
        address.remember(run=restore_run(jobs.writable(), run.id))
        st.rerun()


def _empty(found: list[BinnedRun]) -> None:
    size = byte_size(_total(found))
    sure = st.checkbox(
        f"Delete {len(found)} {_runs(len(found))} for good: {size} are free then",
        key="empty_bin_sure",
        **rights.guarded("There is no way back from this. Pack a run first where you may want it again."),
    )
    if st.button("Empty the bin", type="primary", **rights.guarded("Only after the box above.", disabled=not sure)):
        freed = empty_bin(jobs.writable())
        st.toast(f"{byte_size(freed)} are free again.")
        st.rerun()


def _total(found: list[BinnedRun]) -> int:
    return sum(run.num_bytes for run in found)


def _runs(number: int) -> str:
    return "run" if number == 1 else "runs"
