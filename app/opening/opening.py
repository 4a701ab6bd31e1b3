"""What the two opening pages share: what is being opened, a question to the engine, and parts of a check."""

import html
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import streamlit as st

from app import address, jobs, known
from app.access import rights
from app.errors import one_line_errors, sentence, show
from engine.errors import InputError
from engine.runs import library

WORDS = {"models": "model", "data": "dataset"}
_AS_FOUND = "as found"
_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".npz")


def opening(kind: str) -> dict[str, Any] | None:
    """What is being opened on this page: ``{"ref", "asked", "entry": name of the entry it came from or None, "name":
    proposed}``."""
    return st.session_state.get(f"opening_{kind}")


def begin(kind: str, ref: str, *, entry: str | None = None, named_after: str | None = None) -> None:
    """Asks afresh: the files may have changed since the last time. What was kept of the same files is opened again."""
    if entry is None:
        entry = next((found["name"] for found in known.entries(kind) if found.get("ref") == ref), None)
    st.session_state[f"opening_{kind}"] = {
        "ref": ref, "asked": round(time.time(), 3), "entry": entry,
        "name": entry or default_name(kind, named_after or ref),
    }  # fmt: skip
    st.session_state.pop(f"kept_{kind}", None)
    address.remember(ref=ref)


def close(kind: str, *, kept: str | None = None) -> None:
    st.session_state.pop(f"opening_{kind}", None)
    st.session_state[f"kept_{kind}"] = kept
    address.remember(ref=None)


def kept(kind: str) -> str | None:
    return st.session_state.get(f"kept_{kind}")


# --- a question to the engine ---


def answer_to(
    place: str, kind: str, params: dict[str, Any], *, doing: str, opens: str | None = None
) -> dict[str, Any] | None:
    """The engine's answer; None while it is at it and after it failed, with that on screen.

    ``opens``: the kind whose opening rests on this answer, so that whoever won't wait gives it up with the question.
    """
    memory = f"asked_{place}"
    if st.session_state.get(memory, (None,))[0] != params:
        st.session_state[memory] = params, jobs.ask(kind, params, client=place), time.time()
    _, key, since = st.session_state[memory]
    answer = jobs.answer(key)
    if answer is None or answer["state"] == "stale":
        st.fragment(_wait, run_every=0.5)(place, kind, params, doing, since, opens)
        return None
    if answer["state"] == "failed":
        show(answer["error"])
        if st.button(
            "Try again",
            key=f"again_{place}",
            **rights.guarded("Asks the engine once more, for instance after the file was put in place."),
        ):
            st.session_state[memory] = params, jobs.ask(kind, params, client=place), time.time()
            st.rerun()
        return None
    return {**answer, "key": key}


@one_line_errors
def _wait(place: str, kind: str, params: dict[str, Any], doing: str, since: float, opens: str | None) -> None:
    key = st.session_state[f"asked_{place}"][1]
    answer = jobs.answer(key)
    if answer is not None and answer["state"] == "stale":
        jobs.ask(kind, params, client=place)
    elif answer is not None:
        st.rerun()
    said, seconds = jobs.progress_of(key), int(time.time() - since)
    words = {
        "starting": "The engine is starting, a few seconds.",
        "stopped": "The engine isn't running. Start it at the foot of the page; the question is kept.",
    }.get(jobs.engine_state().state, str(said.get("message") or doing))
    words += f" {seconds} s" if seconds > 3 else ""
    if opens and seconds > 3 and st.button("Cancel", key=f"cancel_{place}", help="Gives up opening this."):
        jobs.give_up(place)
        close(opens)
        st.rerun()
    share = said.get("progress")
    if isinstance(share, int | float):
        st.progress(min(1.0, max(0.0, float(share))), text=words)
    else:
        st.html(f'<p class="ep-wait" role="status"><i></i>{html.escape(words)}</p>')
        st.skeleton(height=120)


# --- parts of a check ---


def facts(shown: dict[str, object], *, help: dict[str, str] | None = None) -> str:
    """Name and value pairs; ``help`` is what a pointer resting on a name is told."""
    help = help or {}
    return (
        '<dl class="ep-facts">'
        + "".join(
            f'<div title="{html.escape(help.get(name, ""), quote=True)}"><dt>{html.escape(name)}</dt>'
            f"<dd>{html.escape(str(value))}</dd></div>"
            for name, value in shown.items()
        )
        + "</dl>"
    )


def glossary(help: dict[str, str]) -> None:
    with st.popover("What do these words mean?", type="tertiary", help="Each of the facts above in one sentence."):
        st.html("".join(f'<p class="ep-note"><b>{html.escape(k)}</b>: {html.escape(v)}</p>' for k, v in help.items()))


def what(opened: dict[str, Any]) -> None:
    """The files that are being looked at."""
    again = f", opened before as <b>{html.escape(opened['entry'])}</b>" if opened["entry"] else ""
    st.html(f'<p class="ep-note"><code>{html.escape(opened["ref"])}</code>{again}</p>')


def notes(lines: list[str]) -> None:
    if lines:
        st.html(
            '<ul class="ep-list">' + "".join(f"<li>{html.escape(sentence(str(line)))}</li>" for line in lines) + "</ul>"
        )


def class_names_field(
    kind: str, found: list[str], *, offers: dict[str, tuple[str, ...]], key: str
) -> tuple[str, ...] | None:
    """The names, editable, one a line; None while they can't be used, with the reason on screen.

    ``offers``: names of other lists of the same length, which can be taken over."""
    if not found:
        return ()
    lists = {_AS_FOUND: found, **offers}
    st.html(f'<p class="ep-note">{html.escape(_few(found))}</p>')
    with st.expander("Class names"):
        taken = _AS_FOUND
        if offers:
            taken = st.selectbox(
                "Take the names of", list(lists), key=f"offer_{kind}_{key}",
                help="Lists of the same length that are known here. The order must be the same too: the first name is "
                "for class 0.",
            )  # fmt: skip
        text = st.text_area(
            "One a line, the first is class 0", "\n".join(lists[taken]), key=f"names_{kind}_{key}_{taken}", height=220,
            help="Names are for people: they appear in menus and under pictures, and tell whether a dataset has the "
            "classes that a model knows.",
        )  # fmt: skip
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != len(found):
        st.warning(f"There are {len(found)} classes and {len(names)} names. Write one line for each class.")
        return None
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        st.warning(f"The name {twice!r} stands there twice. Give every class a name of its own.")
        return None
    return names


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" … {names[-1]}" if len(names) > 4 else "")


def name_field(kind: str, opened: dict[str, Any]) -> str | None:
    """The name for the library; None while it can't be used, with the reason on screen."""
    name = st.text_input(
        "Name", opened["name"], key=f"name_{kind}_{opened['asked']}", max_chars=64,
        help="What it is called in the menus here: letters, digits, - _ and dots.",
    )  # fmt: skip
    problem = name_problem(kind, name.strip(), replacing=opened["entry"])
    if problem:
        st.warning(sentence(problem))
        return None
    return name.strip()


def default_name(kind: str, ref: str) -> str:
    """A free name made of the file's or folder's own."""
    stem = Path(ref).name
    while Path(stem).suffix.lower() in _ENDINGS:
        stem = Path(stem).stem
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._").lower()[:56] or WORDS[kind]
    for number in range(1, 1000):
        name = plain if number == 1 else f"{plain}-{number}"
        if name_problem(kind, name) is None:
            return name
    return plain


def name_problem(kind: str, name: str, *, replacing: str | None = None) -> str | None:
    """Why this can't be the name of a new entry, in one line."""
    try:
        library.check_name(kind, name)
    except InputError as error:
        return str(error)
    taken = {entry["name"].lower() for entry in known.entries(kind)}
    if name.lower() in taken and name != replacing:
        return f"there is a {WORDS[kind]} named {name!r} already; choose another name"
    return None
