"""The lessons as one printable HTML file that needs no network: words, figures as computed, questions, answers."""

import html
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st
from plotly.offline import get_plotlyjs

from app import glossary, jobs
from app.errors import one_line_errors
from app.learn import quiz
from app.learn.contents import LESSONS
from app.learn.lesson import Screen

_CSS = Path(__file__).with_suffix(".css")
_WAITING = "waiting"


def offer() -> None:
    with st.expander("Handout: all lessons on paper"):
        st.html(
            '<p class="ep-note">One file with every screen, its figures as computed here, the questions, and the '
            "answers at the end. It opens without a network and prints well. Making it takes a few seconds.</p>"
        )
        if st.button("Make the handout", help="Computes what isn’t there yet, then offers the file."):
            st.session_state["learn_paper"] = _WAITING
        if st.session_state.get("learn_paper") == _WAITING:
            st.fragment(_make, run_every=1.0)()
        elif "learn_paper" in st.session_state:
            st.download_button(
                "Download the handout", st.session_state["learn_paper"], "entpruner-lessons.html", "text/html",
                type="primary", help="One HTML file of about 5 MB.", on_click="ignore",
            )  # fmt: skip


@one_line_errors
def _make() -> None:
    stills = [[screen.still() for screen in lesson.screens] for lesson in LESSONS]
    missing = [
        f"{number}.{place}"
        for number, lesson in enumerate(stills, 1)
        for place, still in enumerate(lesson, 1)
        if not still
    ]
    if missing and jobs.engine_state().state != "stopped":
        st.html(f'<p class="ep-wait"><i></i>Computing the figures of {", ".join(missing)} …</p>')
        return
    st.session_state["learn_paper"] = page(stills)
    st.rerun()


def page(stills: list[list[list]]) -> str:
    """``stills``: of each lesson, of each screen; an empty one is said to be missing."""
    parts, terms, answers = [], [], []
    for number, (lesson, papers) in enumerate(zip(LESSONS, stills, strict=True), 1):
        parts.append(f"<h2>{number}. {html.escape(lesson.title)}</h2>")
        for place, (screen, still) in enumerate(zip(lesson.screens, papers, strict=True), 1):
            name = f"{number}.{place}"
            parts.append(_screen(screen, still, name))
            terms += glossary.terms_in(screen.words)
            if screen.question is not None:
                answers.append(f"<p><b>{name}</b> {_plain(_answer(screen))}</p>")
    words = "".join(
        f"<dt>{term}</dt><dd>{html.escape(glossary.TERMS[term])}</dd>" for term in sorted(set(terms), key=str.lower)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>EntPruner Studio: lessons</title><style>{_CSS.read_text()}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>Which blocks can a diffusion transformer do without?</h1>"
        f"{''.join(parts)}<h2>Words</h2><dl>{words}</dl><h2>Answers</h2>{''.join(answers)}</body></html>"
    )


def _answer(screen: Screen) -> str:
    question = screen.question
    right = f"“{html.escape(question.options[question.right])}” " if question.options else ""
    return right + quiz.answer_of(question)


def _screen(screen: Screen, still: list, name: str) -> str:
    body = "".join(_figure(part) if isinstance(part, go.Figure) else part for part in still)
    body = body or "<p class='note'>Not computed when this file was made: the engine wasn’t running.</p>"
    question = formula = ""
    if screen.question is not None:
        options = "".join(f"<li>{html.escape(option)}</li>" for option in screen.question.options)
        question = f"<div class='ask'><b>Question.</b> {html.escape(screen.question.text)}<ul>{options}</ul></div>"
    if screen.formula is not None:
        formula = (
            f"<div class='formula'><code>{html.escape(screen.formula.latex)}</code>"
            f"<p class='note'>{_plain(glossary.marked(screen.formula.words))} Source: "
            f"{html.escape(screen.formula.source)}.</p></div>"
        )
    words = _plain(glossary.marked(screen.words))
    return f"<section><h3>{name} {html.escape(screen.title)}</h3><p>{words}</p>{body}{question}{formula}</section>"


def _plain(words: str) -> str:
    """Marked terms as emphasis: on paper nothing opens under the pointer."""
    return words.replace('<span class="ep-term"', "<i").replace("</span>", "</i>") if "ep-term" in words else words


def _figure(figure: go.Figure) -> str:
    paper = go.Figure(figure).update_layout(template="plotly_white", width=680)
    alt = html.escape(str(figure.layout.title.text or "figure"), quote=True)
    shown = paper.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "staticPlot": True})
    return f'<figure role="img" aria-label="{alt}">{shown}</figure>'
