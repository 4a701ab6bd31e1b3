"""A question with an answer to check or to reveal."""

import html

import streamlit as st

from app import glossary
from app.learn.lesson import Question


def draw(question: Question, *, key: str) -> None:
    with st.container(border=True, key=f"quiz_{key}"):
        st.html(f'<p class="ep-question">{html.escape(question.text)}</p>')
        if not question.options:
            with st.expander("Show the answer"):
                st.html(f'<p class="ep-say">{answer_of(question)}</p>')
            return
        chosen = st.radio(
            "Your answer", question.options, index=None, key=f"quiz_of_{key}", label_visibility="collapsed",
            persist_state="session", help="Choose one; whether it is right is said at once.",
        )  # fmt: skip
        if chosen is not None:
            right = chosen == question.options[question.right]
            verdict = "Right." if right else f"Not quite: “{html.escape(question.options[question.right])}”."
            st.html(f'<p class="ep-say"><b>{verdict}</b> {answer_of(question)}</p>')


def answer_of(question: Question) -> str:
    return glossary.marked(question.answer() if callable(question.answer) else question.answer)
