"""Arena: which way of pruning should I believe? Each one carried out, recovered and measured, over seeds."""

import streamlit as st

from app import address, jobs, measuring
from app.access import rights
from app.arena import arena_form, arena_result, arena_runs
from app.errors import one_line_errors
from engine.runs.store import Run


def page() -> None:
    st.title("Arena", anchor=False)
    st.html(
        '<p class="ep-lead">Which way of pruning should you believe? Each criterion names the blocks it would drop, '
        "and exactly those are dropped; others prune in stages. All get the same training, and what the model draws "
        "then is measured, once per seed. Sets drawn by lot take part: what doesn't beat them is worth nothing.</p>"
    )
    recorded = {arena.name: arena for arena in arena_runs.recorded()}
    own = {run.id: run for run in arena_runs.own()}
    chosen = _choose(recorded, own)
    if chosen in recorded:
        content = recorded[chosen].content
        arena_result.draw(content, chosen, depth=_depth(content))
    elif chosen in own:
        _own(own[chosen])
    else:
        st.html(
            '<div class="ep-empty"><b>No arena has been held yet</b>Start one below. It trains many small models, so '
            "it takes from minutes to hours, and shows its results as they come.</div>"
        )
    with st.expander("Hold an arena of your own", expanded=chosen is None):
        arena_form.draw()


def _choose(recorded: dict[str, arena_runs.Recorded], own: dict[str, Run]) -> str | None:
    titles = {name: f"Recorded: {arena.title}" for name, arena in recorded.items()}
    titles |= {run_id: f"Yours: {_title(run)}" for run_id, run in own.items()}
    if not titles:
        address.remember(arena=None)
        return None
    return address.choose(
        "Which arena", list(titles), param="arena", page="arena", format_func=titles.get,
        help="Recorded ones ship with the studio, with the command that made them; yours are runs of this workspace.",
    )  # fmt: skip


def _title(run: Run) -> str:
    """Says nothing that changes: a choice is known by these words."""
    config = run.params.get("config", {})
    return (
        f"{run.params.get('model')} on {run.params.get('data')}, {config.get('num_dropped', '?')} blocks dropped, "
        f"{config.get('num_seeds', '?')} seeds ({run.id})"
    )


def _own(run: Run) -> None:
    waiting = run.status().state in jobs.WAITING_STATES
    st.fragment(_watch, run_every=2.0 if waiting else None)(run.id, waiting)


@one_line_errors
def _watch(run_id: str, waiting: bool) -> None:
    """Progress while it goes on, and whatever is measured by then."""
    run = jobs.open_run(jobs.workspace(), run_id)
    status = run.status()
    if waiting and status.state not in jobs.WAITING_STATES:
        st.rerun()  # stops the polling
    if status.state in jobs.WAITING_STATES:
        measuring.progress_of(run)
        if status.eta_seconds:
            st.html(f'<p class="ep-note">About {arena_runs.duration(status.eta_seconds)} to go.</p>')
    elif status.state in jobs.RESUMABLE_STATES:
        st.error(measuring.stopped_line("This arena", status))
        if st.button("Resume", **rights.guarded("Goes on with the next set; what is measured already is kept.")):
            jobs.resume(run.id)
            st.rerun()
    content = arena_runs.content_of(run)
    if content is not None:
        arena_result.draw(content, run.id, depth=_depth(content))


def _depth(content: dict) -> int:
    """Blocks of the model: each criterion scored all of them."""
    scores = content["scores"]["of"]
    if scores:
        return len(next(iter(scores.values())))
    return 1 + max(block for bout in content["bouts"] for block in [*bout["dropped"], 0])


page()
