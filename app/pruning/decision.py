"""What a stage takes out, as a person decides it: the vote with other weights, another number, or blocks by hand."""

from typing import Any

import streamlit as st

from app.access import rights
from app.errors import one_line_errors
from app.pruning import driving, vote_table
from app.pruning.stage_tree import strip_of
from engine.pruning import vote
from engine.runs.store import Run, Stage

_WAYS = {
    "vote": ("The vote", "Change what counts and see at once what the vote would take."),
    "number": ("Another number", "So many of the least important blocks go, whatever the vote says."),
    "hand": ("Blocks by hand", "Exactly the blocks you click go."),
}


def choose(record: dict[str, Any] | None, head: Stage, first: Stage, *, key: str) -> dict[str, Any] | None:
    """{"drop", "record"} of what shall grow from ``head``; None while nothing is chosen. ``record``: a vote on it."""
    way = "hand"
    if record:
        way = st.segmented_control(
            "Who decides", list(_WAYS), default="vote", key=f"way_{key}", format_func=lambda name: _WAYS[name][0],
            help=" ".join(f"{label}: {about}" for label, about in _WAYS.values()), required=True,
        )  # fmt: skip
    if way == "vote":
        choice = driving.choice_of(counted(record, key=key))
        st.html(strip_of(first, head, next_drop=choice["drop"]))
        return choice
    choice = _by_number(record, key=key) if way == "number" else _by_hand(record, head, key=key)
    if choice:
        st.html(vote_table.sentence(choice["record"]) + strip_of(first, head, next_drop=choice["drop"]))
    return choice


def counted(record: dict[str, Any], *, key: str, done: bool = False) -> dict[str, Any]:
    """The record under the weights of the sliders, with its table; itself while they stand where they stood.

    ``done``: it was carried out already, so this asks what would have been.
    """
    weights = record["weights"]
    if len(record["candidates"]) > 1:
        st.html(f'<p class="ep-question">{"What if something else counted?" if done else "What counts?"}</p>')
        weights = vote_table.weight_sliders(weights, key=f"weight_{key}")
    again = record if weights == record["weights"] else vote.recount(record, weights)
    if again is not record:
        st.html(vote_table.sentence(again, lead="With these weights: "))
    word = "goes" if not done else "went" if again is record else "would go"
    shown = vote_table.table(again, word=word, before=record if done and again is not record else None)
    st.html(shown + vote_table.note(again))
    return again


def draw_pending(run: Run, stages: list[Stage], asked: dict[str, Any]) -> None:
    """The decision at which the run rests."""
    st.fragment(_pending)(run, stages, asked)


@one_line_errors
def _pending(run: Run, stages: list[Stage], asked: dict[str, Any]) -> None:
    number, head = asked["number"], next(stage for stage in stages if stage.number == asked["parent"])
    st.header(f"Stage {number}: what goes?", anchor=False)
    st.html(
        vote_table.sentence(asked["record"])
        + '<p class="ep-note">The run rests until you say go. Nothing has been dropped for this stage yet.</p>'
    )
    choice = choose(asked["record"], head, stages[0], key=f"{run.id}_{number}_{head.number}")
    with st.container(horizontal=True):
        on = st.button(
            "Go on with this", type="primary", key=f"accept_{run.id}_{number}",
            **rights.guarded(
                "Drops these blocks, recovers, and goes on as before: stopping at the next decision, or not.",
                disabled=choice is None,
            ),
        )  # fmt: skip
        through = st.button(
            "Go on and run to the target", key=f"through_{run.id}_{number}",
            **rights.guarded(
                "Drops these blocks and lets the engine decide the stages that follow by itself.",
                disabled=choice is None,
            ),
        )  # fmt: skip
    if not (on or through):
        return
    now = driving.pending(run)
    if now is None or (now["number"], now["parent"]) != (number, head.number):
        st.rerun()  # somebody else was faster: show what holds now
    step = driving.stepping(run) and not through
    if choice["record"] == asked["record"]:
        driving.go_on(run, step=step)
    else:
        driving.carry_out(run, choice, head=head.number, step=step)
    st.rerun()


def _by_number(record: dict[str, Any], *, key: str) -> dict[str, Any]:
    usual = len(vote.blocks_going(record) or [])
    number = st.slider(
        "Blocks to drop", 0, len(record["order"]) - 1, usual, key=f"number_{key}", persist_state="page",
        help="The least important go first, in the order measured for this stage.",
    )  # fmt: skip
    if number == usual:
        return driving.choice_of(record)
    return driving.choice_of(vote.override(record, num_dropped=number))


def _by_hand(record: dict[str, Any] | None, head: Stage, *, key: str) -> dict[str, Any] | None:
    clicked = st.pills(
        "Blocks to drop", head.kept_blocks, selection_mode="multi", key=f"strip_{key}", persist_state="page",
        help="Click a block to drop it, click again to keep it. Numbers are those of the model that was loaded.",
    )  # fmt: skip
    drop = sorted(clicked or [])
    if not drop:
        st.html('<p class="ep-note">Choose at least one block.</p>')
        return None
    return driving.choice_of(vote.override(record, drop=drop)) if record else driving.by_hand(drop)
