"""Runs: everything that was asked of the engine, newest first."""

import math
from datetime import datetime
from pathlib import Path

import pandas as pd
import streamlit as st

from app import address, jobs, run_details
from app.errors import one_line_errors
from app.keeping import bin_dialog, take_in
from app.keeping.wait_words import ordinal
from engine.runs.listing import RunSummary
from engine.runs.store import folder_bytes
from engine.runs.waiting import line_of_runs

_ROWS = 50
_KINDS = {
    "ced": "importance", "criteria": "criteria", "prune": "pruning", "evaluate": "evaluation", "arena": "arena",
    "export": "export", "": "unreadable",
}  # fmt: skip


def page() -> None:
    st.title("Runs", anchor=False)
    with st.container(horizontal=True):
        take_in.button()
        bin_dialog.button()
    found = jobs.summaries()
    if not found:
        st.html(
            '<div class="ep-empty"><b>No runs yet</b>Whatever you ask for is kept here and survives closing the '
            "browser. Begin with a heatmap.</div>"
        )
        st.page_link("views/start.py", label="Go to start", help="Pick a model to look inside.")
        return
    under_way = any(summary.state in jobs.WAITING_STATES for summary in found)
    st.fragment(_list, run_every=3.0 if under_way else None)(under_way)


@one_line_errors
def _list(under_way: bool) -> None:
    found = jobs.summaries()
    if under_way and not any(summary.state in jobs.WAITING_STATES for summary in found):
        st.rerun()  # stops the polling
    chosen = _table(found)
    if chosen is not None:
        address.remember(run=chosen.id)
        with st.container(border=True):
            run_details.draw(chosen)
    else:
        st.html(
            '<p class="ep-note">Select a row to open, cancel, resume, download or delete that run. By keyboard: go to '
            "it with the arrows, then press Shift and the space bar.</p>"
        )


def _table(found: list[RunSummary]) -> RunSummary | None:
    num_pages = math.ceil(len(found) / _ROWS)
    number = st.pagination(num_pages, key="runs_page") if num_pages > 1 else 1
    shown = found[(number - 1) * _ROWS : number * _ROWS]
    rows = pd.DataFrame(
        {
            "What": [_KINDS.get(s.kind, s.kind) for s in shown],
            "Title": [s.title for s in shown],
            "State": _state_words(shown),
            "Progress": [s.progress for s in shown],
            "When": [datetime.fromtimestamp(s.created) for s in shown],
            "Stages": [s.num_stages for s in shown],
            "Size": [_bytes(s) for s in shown],
        }
    )
    event = st.dataframe(
        rows, hide_index=True, on_select="rerun", selection_mode="single-row", key=f"runs_{number}",
        column_config={
            "Progress": st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent"),
            "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
            "Title": st.column_config.TextColumn(width="large"),
            "Size": st.column_config.NumberColumn(format="bytes"),
        },
        alt="All runs with their state and progress",
    )  # fmt: skip
    picked = event["selection"]["rows"]
    if picked:
        return shown[picked[0]]
    asked = address.asked("run")
    if asked and asked not in {s.id for s in found}:
        st.warning(f"There is no run named {asked!r} here; choose one from the table.")
        address.remember(run=None)
    return next((s for s in found if s.id == asked), None)


def _state_words(shown: list[RunSummary]) -> list[str]:
    """With the place in the line of those that wait."""
    if not any(s.state == "queued" for s in shown):
        return [s.state for s in shown]
    waiting, _ = line_of_runs(jobs.workspace())
    places = {run_id: ordinal(place) for place, run_id in enumerate(waiting, 1)}
    return [f"queued, {places[s.id]} in line" if s.id in places else s.state for s in shown]


def _bytes(summary: RunSummary) -> int:
    finished = summary.state in ("done", "cancelled")
    return _size(str(jobs.workspace().runs / summary.id), summary.state if finished else summary.progress)


@st.cache_data(max_entries=2000, ttl=600, show_spinner=False)
def _size(path: str, changes_with: object) -> int:
    return folder_bytes(Path(path))


page()
