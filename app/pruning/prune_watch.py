"""A pruning run on screen: where it is, what it rests at, its stages, its loss and its pictures."""

from typing import Any

import streamlit as st

from app import address, blocks, jobs, measuring
from app.access import rights
from app.address import model_info
from app.errors import one_line_errors, shown_as_one_line
from app.pruning import decision, driving, recovery, stage_panel, stage_tree
from engine.runs.store import Run, RunStatus, Stage

_MOVING_STATES = ("queued", "running")
_LOOK_SECONDS = {True: 1.0, False: 4.0}  # at a run that moves, at one that rests: another tab may drive it


def draw(run: Run) -> None:
    head, new = st.columns([5, 1], vertical_alignment="center")
    head.header(run.title, anchor=False)
    if new.button(
        "New pruning", width="stretch", help="Back to the form. This run goes on and stays on the runs page."
    ):
        address.remember(run="new", stage=None)
        st.rerun()
    with shown_as_one_line():
        st.html(f'<p class="ep-note">{driving.plan_in_words(run)}</p>')
    moving = run.status().state in _MOVING_STATES
    st.fragment(_watch, run_every=_LOOK_SECONDS[moving])(run.id, _signature(run))
    stages = run.stages()
    asked = driving.pending(run)
    if asked:
        decision.draw_pending(run, stages, asked)
    stage = _stages(run, stages, asked)
    if stage is not None:
        stage_panel.draw(run, stages, stage, asked=asked)
    if not moving:
        with shown_as_one_line():
            recovery.draw(run, jobs.train_events(run), stages)
    if len(stages) > 1:
        with shown_as_one_line():
            stage_panel.draw_numbers(run, stages, stage or stages[-1])


def _signature(run: Run) -> tuple:
    """Changes when more of the page must be drawn again than where the run is."""
    decided = sum(event["event"] == "decision" for event in jobs.train_events(run))
    return run.status().state, tuple(stage.number for stage in run.stages()), decided


@one_line_errors
def _watch(run_id: str, seen: tuple) -> None:
    run = jobs.open_run(jobs.workspace(), run_id)
    status = run.status()
    if status.state in _MOVING_STATES:
        _moving(run, status)
        recovery.draw(run, jobs.train_events(run), run.stages())
    elif status.state == "paused":
        _paused(run, status)
    elif status.state == "done":
        _done(run)
    else:
        _stopped(run, status)
    if _signature(run) != seen:  # last: a click that came with this very look was heard by its button
        st.rerun()


def _moving(run: Run, status: RunStatus) -> None:
    if status.state == "queued":
        st.info(jobs.waiting_line(run))
    elif jobs.stalled(status):
        st.warning(jobs.STALLED_LINE)
    left, right = st.columns([4, 2], vertical_alignment="center")
    stopping = "cancelling" if run.cancel_requested else "pausing" if driving.pausing(run) else ""
    waiting = "waiting" if status.state == "queued" else ""
    parts = (status.phase, status.message, _eta(status.eta_seconds), waiting, stopping)
    left.progress(_share(status), text=" · ".join(dict.fromkeys(part for part in parts if part)))
    with right.container(horizontal=True, horizontal_alignment="right"):
        if st.button(
            "Pause",
            **rights.guarded(
                "Saves where it is at the next step and rests; goes on exactly there.", disabled=bool(stopping)
            ),
        ):
            driving.pause(run.id)
            st.rerun()
        _cancel(run, disabled=run.cancel_requested)


def _paused(run: Run, status: RunStatus) -> None:
    asked = driving.pending(run)
    left, right = st.columns([3, 3], vertical_alignment="center")
    words = "paused · the vote is in: go on with it, or decide otherwise"
    left.progress(_share(status), text=words if asked else status.message or "paused")
    with right.container(horizontal=True, horizontal_alignment="right"):
        if not asked:
            _go_on_buttons(run)
        _cancel(run)


def _go_on_buttons(run: Run) -> None:
    stepping = driving.stepping(run)
    after = "and stops at the next decision." if stepping else "and decides by itself, down to the target."
    if st.button("Go on", type="primary", **rights.guarded(f"Goes on exactly where it rests, {after}")):
        driving.go_on(run)
        st.rerun()
    if not driving.decides_by_itself(run):
        return
    if stepping and st.button("Run to the target", **rights.guarded("Goes on and doesn't stop at decisions any more.")):
        driving.go_on(run, step=False)
        st.rerun()
    if not stepping and st.button(
        "Step", **rights.guarded("Goes on to the next decision, and stops at each one from now on.")
    ):
        driving.go_on(run, step=True)
        st.rerun()


def _done(run: Run) -> None:
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.success("Finished. Every stage is kept and survives closing the browser.")
    if right.button(
        "Compare", type="primary", width="stretch", help="Opens the pictures and numbers, before and after."
    ):
        st.switch_page("views/compare.py", query_params={"run": run.id})


def _stopped(run: Run, status: RunStatus) -> None:
    (st.error if status.state == "failed" else st.warning)(measuring.stopped_line("This run", status))
    cooler = status.state == "failed" and "learning rate" in (status.error or "")
    if cooler and st.button(
        "Resume with a quarter of the learning rate", type="primary",
        **rights.guarded("Goes on from the last good state. With the same rate the same would happen again."),
    ):  # fmt: skip
        driving.go_on_cooler(run)
        st.rerun()
    if not cooler and st.button(
        "Resume", type="primary", **rights.guarded("Goes on from the last step saved, with the same result.")
    ):
        driving.go_on(run)
        st.rerun()


def _cancel(run: Run, *, disabled: bool = False) -> None:
    if st.button(
        "Cancel",
        **rights.guarded("Stops at the next step. Finished stages are kept, and it can be resumed.", disabled=disabled),
    ):
        jobs.cancel(run.id)
        st.rerun()


def _share(status: RunStatus) -> float:
    return min(1.0, max(0.0, status.progress))


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def _stages(run: Run, stages: list[Stage], asked: dict[str, Any] | None) -> Stage | None:
    """The tree; returns the stage that is looked at, None while there is nothing to choose from."""
    if not stages:
        depth = model_info(run.params["model"]).depth
        shown = blocks.pruning_strip(depth, run.params.get("drop", []))
        st.html(shown + blocks.legend(shown))
        return None
    st.header("Stages", anchor=False)
    room = st.container()
    stage = None if len(stages) == 1 and not driving.at_rest(run) else stage_panel.pick(run, stages)
    coming = _coming(run, stages, asked)
    shown = stage_tree.tree(stages, chosen=stage.number if stage else None, coming=coming)
    room.html(shown + blocks.legend(shown))
    return stage


def _coming(run: Run, stages: list[Stage], asked: dict[str, Any] | None) -> dict[str, Any] | None:
    """The stage that isn't written yet, with what becomes of it in words."""
    state = run.status().state
    if asked:
        drop = driving.choice_of(asked["record"])["drop"]
        return {"number": asked["number"], "parent": asked["parent"], "drop": drop, "words": "waits for your decision"}
    coming = None if state == "done" else driving.coming(run, stages, jobs.train_events(run))
    return coming and coming | {"words": {"queued": "waits", "running": "under way"}.get(state, state)}
