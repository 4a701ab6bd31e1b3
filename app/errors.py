"""How an error reaches the person: one line in the place where it happened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import streamlit as st

from app import jobs
from engine.errors import EngineError


@contextmanager
def shown_as_one_line() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        show(str(error))


def show(line: str) -> None:
    st.error(sentence(jobs.without_path(line)))


def sentence(words: str) -> str:
    """The engine's lines begin small, as parts of longer ones; the name of a file stays as it is."""
    first = words.split(" ", 1)[0].rstrip(",:;")
    return words[:1].upper() + words[1:] if first.isalpha() else words


def one_line_errors(draw: Callable) -> Callable:
    """For functions that rerun by themselves (fragments), where no caller of ours can catch."""

    @wraps(draw)
    def wrapped(*args, **kwargs):
        with shown_as_one_line():
            return draw(*args, **kwargs)

    return wrapped
