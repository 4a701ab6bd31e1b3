"""The stages on screen, each with its pickers and its strip of blocks; more can be added, and left out again."""

import html
from collections.abc import Mapping

import streamlit as st

from app import address, blocks
from app.comparing.asked_stages import MOST, Choice, Ref, asked_stages, open_choice, remember
from app.comparing.picked import Picked
from engine.runs.listing import RunSummary
from engine.runs.store import Stage

_LETTERS = "ABCD"


def draw(found: Mapping[str, RunSummary]) -> list[Picked]:
    """What was picked, each stage once; empty where no run can be read."""
    refs = asked_stages(found)
    choices = {run_id: choice for run_id, _ in refs if (choice := open_choice(run_id))}
    remember(refs)
    strips = []
    for index, place in enumerate(st.columns(max(2, len(refs)), gap="medium")[: len(refs)]):
        with place:
            strips.append(_picker(index, refs, found, choices[refs[index][0]]))
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        _add_button(refs, found)
        st.html(blocks.legend(*strips), width="content")
    if len(set(refs)) < len(refs):
        st.info("Two columns show the same stage. It is shown once; choose another one to compare it with.")
    return _picked(refs, choices)


def _picked(refs: list[Ref], choices: Mapping[str, Choice]) -> list[Picked]:
    several = len({run_id for run_id, _ in refs}) > 1
    picked = []
    for ref in dict.fromkeys(refs):
        choice, stage = choices[ref[0]], choices[ref[0]].stages[ref[1]]
        what = f"stage {stage.number}" if choice.run.kind == "prune" else f"{stage.depth} blocks"
        label = f"{_LETTERS[refs.index(ref)]}: {what}" if several else what
        picked.append(Picked(run=choice.run, stage=stage, label=label, intact=_is_intact(choice, stage)))
    return picked


def _is_intact(choice: Choice, stage: Stage) -> bool:
    """A model that was evaluated as it is may have been pruned before: then it hasn't all of its blocks."""
    if choice.run.kind == "prune":
        return stage is choice.first
    if list(stage.kept_blocks) != list(range(stage.depth)) or _whole(choice, stage).depth != stage.depth:
        return False
    return stage.info.get("depth_of_parent") in (None, stage.depth)  # its last blocks may be gone


def _picker(index: int, refs: list[Ref], found: Mapping[str, RunSummary], choice: Choice) -> str:
    """Draws one column; returns its strip."""
    letter, (run_id, number) = _LETTERS[index], refs[index]
    st.session_state[f"compare_run_{index}"], st.session_state[f"compare_stage_{index}"] = run_id, number
    st.selectbox(
        f"{letter}: run", list(found), key=f"compare_run_{index}", on_change=_take_run, args=(index, refs),
        format_func=lambda other: f"{found[other].title} · {other}",
        help="Runs that finished a stage, newest first: prunings, and models that were evaluated as they are.",
    )  # fmt: skip
    names = {other.number: f"stage {other.number} · {other.title} · {other.depth} blocks"
             for other in choice.stages.values()}  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.selectbox(
            f"{letter}: stage", list(names), key=f"compare_stage_{index}", on_change=_take_stage, args=(index, refs),
            format_func=names.get,
            help="Stage 0 is the model before anything was dropped; the last one is what became of it.",
        )  # fmt: skip
        if len(refs) > 1:
            st.button(f"Leave {letter} out", key=f"compare_remove_{index}", on_click=_leave_out, args=(index, refs),
                      help=f"Leaves {letter} out of the comparison. The run stays as it is.")  # fmt: skip
    stage = choice.stages[number]
    strip = blocks.stage_strip(_whole(choice, stage), stage)
    about = html.escape(f"{stage.info.get('model', '')} on {stage.info.get('data', '')}")
    st.html(f'{strip}<p class="ep-note">{about} · <code>{html.escape(f"{run_id}@{number}")}</code></p>')
    return strip


def _whole(choice: Choice, stage: Stage) -> Stage:
    """The stage whose blocks this one's are a part of: for a stage that was evaluated by itself, in its own run."""
    run_id, _, number = str(stage.info.get("model")).partition("@")
    other = open_choice(run_id) if choice.run.kind == "evaluate" and number else None
    return other.first if other and set(stage.kept_blocks) <= set(other.first.kept_blocks) else choice.first


def _add_button(refs: list[Ref], found: Mapping[str, RunSummary]) -> None:
    another = _another(refs, found) if len(refs) < MOST else None
    if another:
        words = f"Up to {MOST} stages, of the same run or of others."
    elif len(refs) == MOST:
        words = f"{MOST} stages are the most that fit on the screen; leave one out first."
    else:
        words = "No other stage is finished; a pruning run leaves one after each step."
    st.button("Add a stage", key="compare_add", disabled=another is None, on_click=_write, args=([*refs, another],),
              help=words)  # fmt: skip


def _another(refs: list[Ref], found: Mapping[str, RunSummary]) -> Ref | None:
    """A stage that isn't shown yet: the latest of the runs on screen, else of the newest other run."""
    shown = [run_id for run_id, _ in reversed(refs)]
    for run_id in dict.fromkeys([*shown, *found]):
        choice = open_choice(run_id)
        free = [number for number in choice.stages if (run_id, number) not in refs] if choice else []
        if free:
            return run_id, max(free)
    return None


def _take_run(index: int, refs: list[Ref]) -> None:
    run_id = st.session_state[f"compare_run_{index}"]
    if choice := open_choice(run_id):
        _write([*refs[:index], (run_id, max(choice.stages)), *refs[index + 1 :]])


def _take_stage(index: int, refs: list[Ref]) -> None:
    _write([*refs[:index], (refs[index][0], st.session_state[f"compare_stage_{index}"]), *refs[index + 1 :]])


def _leave_out(index: int, refs: list[Ref]) -> None:
    _write([*refs[:index], *refs[index + 1 :]])


def _write(refs: list[Ref]) -> None:
    """Into the address; what was chosen among the columns as they were goes."""
    remember(refs)
    address.remember(page=None, pair=None, of=None)
