"""One run in the list: where to look at it, what can be done with it, and what became of its blocks."""

import html

import streamlit as st

from app import address, blocks, jobs, measuring
from app.access import rights
from app.errors import sentence
from app.importance import heatmap
from app.keeping import pack_button, report_button, states
from engine.runs.bin import delete_run
from engine.runs.listing import RunSummary
from engine.runs.store import Run

_PAGES = {
    "ced": ("views/importance.py", "Open the heatmap"),
    "prune": ("views/prune.py", "Open the run"),
    "evaluate": ("views/compare.py", "Open in compare"),
    "export": ("views/compare.py", "Download it in compare"),
    "criteria": ("views/importance.py", "Open the criteria"),
    "arena": ("views/arena.py", "Open in the arena"),
}


def draw(summary: RunSummary) -> None:
    st.header(summary.title, anchor=False)
    run, meaning = jobs.readable(summary.id), states.MEANINGS[summary.state]
    st.badge(summary.state, color=meaning.colour, help=meaning.words)
    if line := states.line_of(summary, run):
        st.html(f'<p class="ep-say">{html.escape(sentence(jobs.without_path(line)))}</p>')
    st.html(f'<p class="ep-note">{meaning.words}</p>')
    with st.container(horizontal=True, vertical_alignment="center"):
        if run is not None:
            _links(run)
            report_button.draw(run)
            pack_button.draw(run, summary.state)
        _actions(summary)
    if run is not None:
        _strip(run)
        with st.expander("What was asked"):
            st.json(run.params)


def _links(run: Run) -> None:
    if run.kind not in _PAGES:
        st.html('<p class="ep-note">Its kind is unknown to this version, so that no page can show it.</p>')
        return
    file, label = _PAGES[run.kind]
    where = {"run": run.id}
    if run.kind == "arena":
        where = {"arena": run.id}
    elif run.kind == "export":
        parent, _, number = str(run.params["model"]).partition("@")
        where = {"run": parent, "stage": number}
    st.page_link(file, label=label, query_params=where, help="Opens the page that shows this run.")
    if run.kind == "prune" and run.stages():
        st.page_link("views/compare.py", label="Compare", query_params=where, help="Before and after, same seeds.")
    result = jobs.ced_result(run)
    if result is not None:
        st.download_button(
            "CSV", lambda: heatmap.table(result).to_csv(index=False), file_name=f"{run.id}.csv", mime="text/csv",
            on_click="ignore", help="Every cell of the heatmap as one row.",
        )  # fmt: skip
    st.download_button(
        "JSON", lambda: jobs.as_json(_content(run)), file_name=f"{run.id}.json", mime="application/json",
        on_click="ignore", help="What was asked and every number that came of it.",
    )  # fmt: skip


def _content(run: Run) -> dict:
    stages = [{**stage.info, "metrics": stage.metrics()} for stage in run.stages()]
    about = {"id": run.id, "kind": run.kind, "params": run.params, "stages": stages}
    return about if run.kind in ("prune", "evaluate", "export") else {**about, run.kind: measuring.result(run)}


def _actions(summary: RunSummary) -> None:
    if summary.state in jobs.WAITING_STATES:
        if st.button("Cancel", **rights.guarded("Stops at the next step; what is finished is kept.")):
            jobs.cancel(summary.id)
            st.rerun()
        return
    if summary.state in jobs.RESUMABLE_STATES and st.button(
        "Resume", **rights.guarded("Goes on from the last step saved.")
    ):
        jobs.resume(summary.id)
        st.rerun()
    if st.button(
        "Delete", **rights.guarded("Moves the run to the bin. It can be taken out again until the bin is emptied.")
    ):
        delete_run(jobs.writable(), summary.id)
        address.remember(run=None)
        st.toast("It is in the bin now, and can be taken out again.")
        st.rerun()


def _strip(run: Run) -> None:
    stages = run.stages()
    for stage in stages:
        st.html(f'<p class="ep-note">Stage {stage.number} · {html.escape(stage.title)}</p>'
                + blocks.stage_strip(stages[0], stage, small=True))  # fmt: skip
