"""Questions to the engine on a screen: put once, drawn when all are answered, the same for everybody who asks."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import jobs
from app.errors import one_line_errors, show

Params = dict[str, Any]
#: name -> (kind of preview, its params)
Questions = dict[str, tuple[str, Params]]
#: name -> (answer, folder of its pictures)
Answers = dict[str, tuple[dict[str, Any], Any]]


def answered(questions: Questions, draw: Callable[[Answers], None], *, waiting: str) -> None:
    """Draws as soon as all answers are there; until then says ``waiting`` and looks again."""
    keys = {name: _ask(name, *question) for name, question in questions.items()}
    found = {name: jobs.answer(key) for name, key in keys.items()}
    open_still = any(answer is None or answer["state"] == "stale" for answer in found.values())
    st.fragment(_show, run_every=0.3 if open_still else None)(keys, questions, open_still, draw, waiting)


def ask_all(questions: Questions) -> Answers | None:
    """For the handout: the answers once all are there."""
    keys = {name: _ask(f"paper {name}", *question) for name, question in questions.items()}
    found = {name: jobs.answer(key) for name, key in keys.items()}
    if any(answer is None or answer["state"] != "done" for answer in found.values()):
        return None
    return {name: (found[name], jobs.preview_folder(key)) for name, key in keys.items()}


def _ask(name: str, kind: str, params: Params) -> str:
    """Once for each session: asking again would repeat what failed, and what is answered stays on the disk."""
    known = st.session_state.setdefault("learn_asked", {})
    if name not in known or known[name][0] != (kind, params):
        known[name] = ((kind, params), jobs.ask(kind, params, client=f" learn {name}"))
    key = known[name][1]
    answer = jobs.answer(key)
    if answer is not None and answer["state"] == "stale":
        jobs.ask(kind, params, client=f" learn {name}")
    return key


@one_line_errors
def _show(
    keys: dict[str, str], questions: Questions, open_still: bool, draw: Callable[[Answers], None], waiting: str
) -> None:
    found = {name: jobs.answer(key) for name, key in keys.items()}
    failed = {name: answer for name, answer in found.items() if answer is not None and answer["state"] == "failed"}
    if failed:
        show(next(iter(failed.values()))["error"])
        if st.button("Try again", help="Asks the engine for this once more."):
            for name in failed:
                jobs.ask(*questions[name], client=f" learn {name}")
            st.rerun()
        return
    missing = [name for name, answer in found.items() if answer is None or answer["state"] != "done"]
    if missing:
        for name in missing:
            if found[name] is not None:
                jobs.ask(*questions[name], client=f" learn {name}")
        _say_waiting(waiting)
        return
    if open_still:
        st.rerun()  # stops the looking
    draw({name: (found[name], jobs.preview_folder(keys[name])) for name in keys})


def _say_waiting(waiting: str) -> None:
    words = {
        "starting": "The engine is starting; this takes a few seconds the first time.",
        "stopped": "The engine isn't running. Start it at the foot of the page.",
    }.get(jobs.engine_state().state, waiting)
    st.html(f'<p class="ep-wait"><i></i>{words}</p>')
