"""Which stages are compared: one to four, of any runs, in the address as ``?compare=RUN@0,RUN@3``."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from app import address, jobs
from app.errors import show
from engine.errors import EngineError
from engine.runs.listing import RunSummary
from engine.runs.store import Run, Stage

MOST = 4
Ref = tuple[str, int]  # run, number of a stage


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A run that can be chosen from, with its finished stages; at least one."""

    run: Run
    stages: Mapping[int, Stage]

    @property
    def first(self) -> Stage:
        return self.stages[min(self.stages)]


def comparable_runs() -> dict[str, RunSummary]:
    """Newest first."""
    return {found.id: found for found in jobs.summaries() if found.kind in ("prune", "evaluate") and found.num_stages}


def open_choice(run_id: str, *, quiet: bool = True) -> Choice | None:
    """None for a run that can't be read; says why unless ``quiet``."""
    try:
        run = jobs.open_run(jobs.workspace(), run_id)
        stages = {stage.number: stage for stage in run.stages()}
    except EngineError as error:
        if not quiet:
            show(str(error))
        return None
    return Choice(run=run, stages=stages) if stages else None


def asked_stages(found: Mapping[str, RunSummary]) -> list[Ref]:
    """What the address asks for, as far as it is there; else what was compared last; else the two ends of the newest
    run. Empty where no run can be read."""
    text = address.asked("compare")
    if text is not None:
        refs = _parsed(text, found)
    elif any(address.asked(name) for name in ("run", "left", "stage")):
        refs = _asked_by_old_link(found)
    else:
        refs = [ref for ref in st.session_state.get("last_compare", []) if _exists(ref, found)]
    address.remember(run=None, left=None, stage=None)
    if refs:
        return refs
    return next((ends for run_id in found if (ends := _ends(run_id))), [])


def remember(refs: list[Ref]) -> None:
    """As what is on screen now, for a reload, a colleague and the next visit."""
    st.session_state["last_compare"] = refs
    if refs:
        st.session_state["last_run"] = refs[-1][0]  # other pages open on it
    address.remember(compare=",".join(f"{run_id}@{number}" for run_id, number in refs))


def _parsed(text: str, found: Mapping[str, RunSummary]) -> list[Ref]:
    parts = [part.strip() for part in text.split(",")]
    split = [part.rpartition("@") for part in parts]
    refs = [(run_id, int(number)) for run_id, _, number in split if number.isdecimal() and len(number) < 9]
    refs = [ref for ref in refs if _exists(ref, found)]
    wrong = [part for part in parts if part not in {f"{run_id}@{number}" for run_id, number in refs}]
    for run_id in dict.fromkeys(run_id for run_id, _, _ in split if run_id not in found):
        if jobs.is_deleted(run_id):
            open_choice(run_id, quiet=False)  # says so, and where it is
            wrong = [part for part in wrong if part.rpartition("@")[0] != run_id]
    if wrong:
        st.warning(f"There is no finished stage {', '.join(map(repr, wrong[:MOST]))}. The address names stages as "
                   "RUN@NUMBER, with commas between; the runs page lists the runs there are.")  # fmt: skip
    if len(refs) > MOST:
        st.warning(f"The address names {len(refs)} stages; the first {MOST} are compared.")
    return refs[:MOST]


def _exists(ref: Ref, found: Mapping[str, RunSummary]) -> bool:
    choice = open_choice(ref[0]) if ref[0] in found else None
    return choice is not None and ref[1] in choice.stages


def _asked_by_old_link(found: Mapping[str, RunSummary]) -> list[Ref]:
    """``?run=&left=&stage=``, as other pages link here."""
    run_id = address.asked("run") or next(iter(found))
    if run_id not in found:
        names = ", ".join(list(found)[:MOST])
        st.warning(f"There is no run named {run_id!r} with a finished stage. Those there are: {names}.")
        return []
    choice = open_choice(run_id, quiet=False)
    if choice is None:
        return []
    numbers = list(choice.stages)
    left, right = address.asked_number("left", numbers), address.asked_number("stage", numbers)
    left = min(numbers) if left is None else left
    right = max(numbers) if right is None else right
    return [(run_id, number) for number in dict.fromkeys((left, right))]


def _ends(run_id: str) -> list[Ref]:
    """First and last stage; one if that is the same."""
    choice = open_choice(run_id)
    return [(run_id, number) for number in dict.fromkeys((min(choice.stages), max(choice.stages)))] if choice else []
