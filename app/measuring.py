"""Questions that are runs: found when they were asked before, asked, watched, and repeated."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import streamlit as st

from app import jobs
from app.access import rights
from app.errors import one_line_errors
from engine.importance.config import CedConfig
from engine.runs.store import Run, RunStatus
from engine.runs.workspace import read_json

_TITLES = {"ced": "CED", "criteria": "Criteria", "arena": "Arena"}
_FILES = {"ced": "ced.json", "criteria": "criteria.json", "arena": "arena.json"}


def want() -> None:
    """A changed choice asks for its answer at once."""
    st.session_state["wanted"] = True


def wanted() -> bool:
    """Whether a choice was changed since this was asked last."""
    return st.session_state.pop("wanted", False)


def find(kind: str, params: dict[str, Any]) -> Run | None:
    """The newest run that was asked exactly this: done if there is one, else under way, else stopped."""
    wanted = _comparable(kind, params)
    since = jobs.opened_at(params["model"], params["data"])
    same = [
        found
        for found in jobs.summaries(kind)
        if found.created >= since and _comparable(kind, jobs.params_of(found)) == wanted
    ]
    for states in (("done",), jobs.WAITING_STATES, jobs.RESUMABLE_STATES):
        for found in same:
            if found.state in states:
                return jobs.open_run(jobs.workspace(), found.id)
    return None


def _comparable(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back; runs of before a setting existed had its usual value."""
    params = json.loads(json.dumps(params))
    if kind == "ced":
        params["config"] = asdict(CedConfig()) | params.get("config", {})
    return params


def start(kind: str, params: dict[str, Any]) -> Run:
    return jobs.start_run(kind, title=f"{_TITLES[kind]} of {params['model']} on {params['data']}", params=params)


def result(run: Run) -> dict | None:
    """The finished result, else as far as it is, else None."""
    name = _FILES[run.kind]
    for file in (run.path / name, run.path / "progress" / name):
        if file.exists():
            return _read(str(file), file.stat().st_mtime_ns)
    return None


@st.cache_data(max_entries=128, show_spinner=False)
def _read(path: str, changed: int) -> dict:
    return read_json(Path(path))


def answers(
    kind: str,
    questions: list[dict[str, Any]],
    *,
    wanted: bool,
    ask: str,
    draw_partial: Callable[[list[dict | None]], None] | None = None,
) -> list[dict] | None:
    """The result of each question, in order, or None after drawing what there is instead: a button named ``ask``, the
    progress so far, or why it stopped."""
    runs = [find(kind, params) for params in questions]
    if wanted and rights.may_work():
        runs = [run or start(kind, params) for run, params in zip(runs, questions, strict=True)]
    states = [run.status().state if run else "" for run in runs]
    if any(state in jobs.WAITING_STATES for state in states):
        _watch([run.id for run in runs if run], draw_partial)
        return None
    missing = [params for params, state in zip(questions, states, strict=True) if state != "done"]
    if missing:
        for run in runs:
            if run is not None and run.status().state != "done":
                st.error(stopped_line("The measurement", run.status()))
        unasked = runs.count(None)
        if unasked:
            _say_unasked(many=unasked > 1)
        _ask_button(
            kind, missing, ask if not any(state in jobs.RESUMABLE_STATES for state in states) else "Measure again"
        )
        return None
    found = [result(run) for run in runs]
    if any(answer is None for answer in found):
        st.error(f"This run is done but its {_FILES[kind]} is missing; delete it on the runs page and measure again.")
        return None
    return found


def _say_unasked(*, many: bool) -> None:
    what = "These questions haven't" if many else "This question hasn't"
    st.html(
        f'<div class="ep-empty"><b>{what} been asked yet</b>'
        "Measuring takes seconds on the bundled models and stays for next time.</div>"
    )


def _ask_button(kind: str, missing: list[dict[str, Any]], label: str) -> None:
    if st.button(label, type="primary", **rights.guarded("Runs the measurement with the choices above.")):
        for params in missing:
            start(kind, params)
        st.rerun()


@st.fragment(run_every=1.0)
@one_line_errors
def _watch(run_ids: list[str], draw_partial: Callable[[list[dict | None]], None] | None) -> None:
    runs = [jobs.open_run(jobs.workspace(), run_id) for run_id in run_ids]
    waiting = [run for run in runs if run.status().state in jobs.WAITING_STATES]
    if not waiting:
        st.rerun()
    for run in waiting:
        progress_of(run)
    if draw_partial is not None:
        draw_partial([result(run) for run in runs])


def stopped_line(what: str, status: RunStatus) -> str:
    """What became of a run that ended before its time, and why."""
    verb = "failed" if status.state == "failed" else f"was {status.state}"
    reason = (status.error or status.message).strip()
    return f"{what} {verb}" + (f": {reason}" if reason and reason != status.state else ".")


def progress_of(run: Run) -> None:
    """One line for a run under way, with a way to stop it."""
    status = run.status()
    if status.state == "queued":
        st.info(jobs.waiting_line(run))
    elif jobs.stalled(status):
        st.warning(jobs.STALLED_LINE)
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(min(1.0, max(0.0, status.progress)), text=status.message or "waiting")
    if right.button("Cancel", width="stretch", key=f"cancel_{run.id}", **rights.guarded("Stops at the next step.")):
        jobs.cancel(run.id)
