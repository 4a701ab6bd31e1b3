"""How an error reaches the person: one line in the place where it happened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import streamlit as st

from engine.errors import EngineError


@contextmanager
def shown_as_one_line() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        show(str(error))


def show(line: str) -> None:
    st.error(line[:1].upper() + line[1:])


def one_line_errors(draw: Callable) -> Callable:
    """For functions that rerun by themselves (fragments), where no caller of ours can catch."""

    @wraps(draw)
    def wrapped(*args, **kwargs):
        with shown_as_one_line():
            return draw(*args, **kwargs)

    return wrapped
