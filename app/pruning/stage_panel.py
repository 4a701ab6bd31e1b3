"""One stage of a run: why these blocks went, what would have gone under other weights, and the way back to it."""

import streamlit as st

from app import address, chosen
from app.access import rights
from app.comparing import metrics_table
from app.comparing.measured import measured
from app.comparing.picked import Picked
from app.errors import one_line_errors
from app.number_boxes import NumberBoxes
from app.pruning import decision, driving, vote_table
from engine.runs.drive import path_to
from engine.runs.store import Run, Stage
from engine.training.config import FinetuneConfig

_AFRESH, _OTHERWISE = "Score and vote afresh", "Decide now"


def pick(run: Run, stages: list[Stage]) -> Stage:
    """The stage looked at, in the address too. Whoever looks at the newest follows the run to the next one."""
    numbers, key, newest = [stage.number for stage in stages], f"stage_{run.id}", f"newest_{run.id}"
    if st.session_state.get(key) not in numbers:
        wanted = address.asked_number("stage", numbers)
        st.session_state[key] = numbers[-1] if wanted is None else wanted
    elif st.session_state[key] == st.session_state.get(newest):
        st.session_state[key] = numbers[-1]
    st.session_state[newest] = numbers[-1]
    number = chosen.drawn(
        st.pills, "Look at stage", numbers, key=key, required=True,
        help="Shows why its blocks went, and lets you go back to it and branch.",
    )  # fmt: skip
    address.remember(stage=number)
    return next(stage for stage in stages if stage.number == number)


def draw(run: Run, stages: list[Stage], stage: Stage, *, asked: dict | None) -> None:
    """``asked``: the decision at which the run rests; what grows from its stage is decided there."""
    if asked is None or asked["parent"] != stage.number:
        st.fragment(_branch)(run, stages, stage)
    if stage.info.get("decision"):
        st.fragment(_why)(run, stage)


def draw_numbers(run: Run, stages: list[Stage], stage: Stage) -> None:
    """Beside those of the intact model; then the way to any two stages."""
    first = stages[0]
    if stage is not first:
        intact = "intact, adapted" if first.info.get("train") else "intact"
        before = Picked(run=run, stage=first, intact=True, label=intact)
        after = Picked(run=run, stage=stage, intact=False, label=f"stage {stage.number}")
        pair = measured([before, after])
        if len(pair) == 2:
            st.header("Before and after", anchor=False)
            metrics_table.tables(pair)
    _compare(run, stages, stage)


@one_line_errors
def _why(run: Run, stage: Stage) -> None:
    record, parent = stage.info["decision"], stage.info["parent"]
    st.header(f"Stage {stage.number}: why these blocks went", anchor=False)
    st.html(vote_table.sentence(record))
    if not record["candidates"]:
        return
    again = decision.counted(record, key=f"if_{run.id}_{stage.number}", done=True)
    choice = driving.choice_of(again)
    if again is record:
        return
    if sorted(choice["drop"]) == sorted(stage.info["dropped_blocks"]):
        st.html('<p class="ep-note">With these weights the same blocks would have gone.</p>')
    elif st.button(
        f"Branch from stage {parent} with this vote",
        key=f"if_go_{run.id}_{stage.number}",
        **rights.guarded(
            "Grows another stage beside this one; this one stays. Possible while the run rests.",
            disabled=not driving.at_rest(run,
        )),
    ):  # fmt: skip
        driving.carry_out(run, choice, head=parent, step=driving.stepping(run))
        _follow(run, stage)
        st.rerun()


@one_line_errors
def _branch(run: Run, stages: list[Stage], stage: Stage) -> None:
    times = st.session_state.get(f"times_{run.id}", 0)  # a new name after each branch, so that it is closed again
    with st.expander(f"Go back to stage {stage.number} and branch", key=f"branch_{run.id}_{stage.number}_{times}"):
        if stage.depth < 2:
            st.html('<p class="ep-note">One block is left: nothing more can go.</p>')
            return
        key = f"{run.id}_from{stage.number}"
        st.html(
            f'<p class="ep-note">Another stage grows from the model as it was after stage {stage.number}, with '
            f"{stage.depth} blocks. Stages that exist stay as they are, so you can compare both ways.</p>"
        )
        how = st.segmented_control(
            "What goes next", [_OTHERWISE, _AFRESH], default=_OTHERWISE, key=f"how_{key}", required=True,
            help=f"{_OTHERWISE}: choose the blocks here. {_AFRESH}: the engine measures this stage and holds a vote.",
        )  # fmt: skip
        afresh = how == _AFRESH
        boxes = NumberBoxes()
        plan = _rounds(stage, key, boxes) if afresh else None
        choice = None if afresh else decision.choose(
            driving.record_after(stages, stage.number), stage, stages[0], key=key
        )  # fmt: skip
        num_steps, step = _recovery(run, key, boxes)
        resting = driving.at_rest(run)
        if not resting:
            st.html('<p class="ep-note">The run is at work. Pause it first; then it can go on from here.</p>')
        ready = not boxes.say(then="then it can go on") and resting and (afresh or choice is not None)
        if st.button(
            f"Branch from stage {stage.number}", type="primary",
            key=f"go_{key}",
            **rights.guarded(
                "Queues the run again, from this stage. Nothing that is finished is lost.",
                disabled=not ready,
            ),
        ):  # fmt: skip
            if plan:
                level = len(path_to(run, stage.number)) - 1
                driving.choose_anew(
                    run, head=stage.number, level=level, depth=plan[0], rounds=plan[1], step=step, num_steps=num_steps
                )
            else:
                driving.carry_out(run, choice, head=stage.number, step=step, num_steps=num_steps)
            _follow(run, stage)
            st.rerun()


def _rounds(stage: Stage, key: str, boxes: NumberBoxes) -> tuple[int, int]:
    """(blocks to keep, in how many stages)"""
    left, right = st.columns(2, gap="medium")
    depth = boxes.draw(
        left, "Blocks to keep", 1, stage.depth - 1, max(1, stage.depth - 2), 1, key=f"depth_{key}",
        help="The depth to end at. It becomes the target of this run.",
    )  # fmt: skip
    rounds = boxes.draw(
        right, "Stages", 1, stage.depth - int(depth), 1, 1, key=f"rounds_{key}_{depth}",
        help="In so many rounds, at most one for each block that goes; importance is measured afresh before each.",
    )  # fmt: skip
    return int(depth), int(rounds)


def _recovery(run: Run, key: str, boxes: NumberBoxes) -> tuple[int, bool]:
    """(steps of recovery, stop at each decision)"""
    usual = driving.params_now(run).get("finetune", {}).get("num_steps", FinetuneConfig().num_steps)
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    num_steps = boxes.draw(
        left, "Recovery steps of a stage", 0, 1_000_000, int(usual), 50,
        key=f"steps_{key}", help="Training steps after blocks went; holds for this run's later stages too.",
    )  # fmt: skip
    step = right.toggle(
        "Stop at each decision and ask me",
        driving.stepping(run),
        key=f"step_{key}",
        help="The run rests after each vote that follows until you say go.",
    )
    return int(num_steps), step


def _compare(run: Run, stages: list[Stage], stage: Stage) -> None:
    """Links to the pictures and numbers of two stages."""
    others = [other for other in stages if other.number != stage.number]
    if not others:
        return
    names = {other.number: f"stage {other.number}, {other.depth} blocks" for other in others}
    left, right = st.columns([2, 3], gap="medium", vertical_alignment="bottom")
    numbers = list(names)
    other = left.selectbox(
        f"Compare stage {stage.number} with", numbers, key=f"with_{run.id}_{stage.number}",
        index=numbers.index(_sister(stages, stage)), format_func=names.get,
        help="The same seeds drawn by both, and their numbers side by side.",
    )  # fmt: skip
    pair = sorted((other, stage.number))
    right.page_link(
        "views/compare.py", label=f"Compare stages {pair[0]} and {pair[1]} →",
        query_params={"run": run.id, "left": str(pair[0]), "stage": str(pair[1])},
        help="Opens the pictures, seed by seed, and the numbers of these two stages.",
    )  # fmt: skip


def _sister(stages: list[Stage], stage: Stage) -> int:
    """The stage it is most natural to compare with: the end of another branch, else the intact model."""
    parents = {other.info.get("parent") for other in stages}
    ends = [other.number for other in stages if other.number not in parents and other is not stage]
    if ends and (stage.number not in parents or stage is stages[0]):
        return ends[-1]
    return stages[0].number


def _follow(run: Run, stage: Stage) -> None:
    """Once a branch grows, its newest stage is the one to look at."""
    st.session_state[f"newest_{run.id}"] = stage.number
    st.session_state[f"times_{run.id}"] = st.session_state.get(f"times_{run.id}", 0) + 1
