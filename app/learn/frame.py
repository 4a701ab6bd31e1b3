"""The frame around a lesson: which screen is on, the way to the next one, and the view for presenting."""

import html

import streamlit as st

from app import address, glossary
from app.errors import shown_as_one_line
from app.learn import handout, quiz, top
from app.learn.contents import LESSONS
from app.learn.lesson import Lesson, Screen


def draw() -> None:
    number = address.asked_number("lesson", range(1, len(LESSONS) + 1)) or 1
    lesson = LESSONS[number - 1]
    place = address.asked_number("screen", range(1, len(lesson.screens) + 1)) or 1
    presenting = address.asked("present") == "1"
    address.remember(lesson=number, screen=place)
    if presenting:
        st.html('<div class="ep-present"></div>')  # style.css hides everything else where this is
    else:
        _head(number)
    _screen(lesson, number, place)
    _steps(lesson, number, place, presenting)
    if not presenting:
        handout.offer()


def _head(number: int) -> None:
    st.title("Learn", anchor=False)
    st.session_state["learn_lesson"] = number
    st.pills(
        "Lesson", range(1, len(LESSONS) + 1), key="learn_lesson", required=True, on_change=_go_to_lesson,
        format_func=lambda n: f"{n} · {LESSONS[n - 1].short}", help="Six lessons of two to three minutes each.",
        label_visibility="collapsed",
    )  # fmt: skip


def _screen(lesson: Lesson, number: int, place: int) -> None:
    screen = lesson.screens[place - 1]
    st.html(
        f'<p class="ep-eyebrow">Lesson {number}: {html.escape(lesson.title)} · {place} of {len(lesson.screens)}</p>'
        f'<h2 class="ep-idea">{html.escape(screen.title)}</h2><p class="ep-lead '
        f'ep-learn">{glossary.marked(screen.words)}</p>'
    )
    with shown_as_one_line(), st.container(key=f"learn_{number}_{place}"):
        screen.draw()
    _below(screen, f"{number}_{place}")


def _below(screen: Screen, key: str) -> None:
    if screen.question is not None:
        quiz.draw(screen.question, key=key)
    if screen.formula is not None:
        with st.expander("The formula"):
            st.latex(screen.formula.latex)
            st.html(
                f'<p class="ep-note">{glossary.marked(screen.formula.words)}<br>'
                f"Source: {html.escape(screen.formula.source)}.</p>"
            )
    if screen.link is not None:
        st.page_link(
            f"views/{screen.link.view}.py", label=screen.link.label, help=screen.link.help,
            query_params=screen.link.query or None,
        )  # fmt: skip


def _steps(lesson: Lesson, number: int, place: int, presenting: bool) -> None:
    first, last = _neighbour(number, place, -1) is None, _neighbour(number, place, 1) is None
    with st.container(horizontal=True, key="learn_steps"):
        st.button(
            "Back", disabled=first, on_click=_step, args=(-1,), shortcut="Left",
            help="The screen before this one. Keys: left arrow or Page Up; click beside a slider first.",
        )  # fmt: skip
        st.button(
            "Next", type="primary", disabled=last, on_click=_step, args=(1,), shortcut="Right",
            help="The next screen, and after the last one the next lesson. Keys: right arrow or Page Down; click "
            "beside a slider first, which takes them.",
        )  # fmt: skip
        st.button(
            "Leave presenting" if presenting else "Present", on_click=_present, args=(not presenting,),
            shortcut="Esc" if presenting else None,
            help="Back to the page with its menu; the Escape key does the same." if presenting
            else "Large type and nothing else on the screen; arrow keys go on and back.",
        )  # fmt: skip
    with st.container(key="learn_keys"):  # unseen: a button has but one key, and presenters send these two
        st.button("PageUp", disabled=first, on_click=_step, args=(-1,), shortcut="PageUp", key="learn_up")
        st.button("PageDown", disabled=last, on_click=_step, args=(1,), shortcut="PageDown", key="learn_down")
        top.go_there(f"{number} {place} {presenting}")


def _neighbour(number: int, place: int, by: int) -> tuple[int, int] | None:
    every = [(n, p) for n, lesson in enumerate(LESSONS, 1) for p in range(1, len(lesson.screens) + 1)]
    index = every.index((number, place)) + by
    return every[index] if 0 <= index < len(every) else None


def _step(by: int) -> None:
    """From where the address is now: a second key may come before the page of the first is drawn."""
    number, place = (int(address.asked(name) or 1) for name in ("lesson", "screen"))
    to = _neighbour(number, place, by)
    if to is not None:
        address.remember(lesson=to[0], screen=to[1])


def _go_to_lesson() -> None:
    address.remember(lesson=st.session_state["learn_lesson"], screen=1)


def _present(on: bool) -> None:
    address.remember(present=1 if on else None)
