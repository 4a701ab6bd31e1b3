"""What a lesson is made of: screens, one idea each, with a formula, a question and a way to try it alone."""

from collections.abc import Callable
from dataclasses import dataclass, field

import plotly.graph_objects as go

#: what a screen leaves on paper: HTML, and figures as computed
Still = list[str | go.Figure]


@dataclass(frozen=True, kw_only=True)
class Formula:
    latex: str
    words: str  # what its letters mean
    source: str  # paper and equation, or "our reading"


@dataclass(frozen=True, kw_only=True)
class Question:
    """With ``options`` the answer can be checked, without it is there to be revealed. ``answer``: why, in words; a
    function where it rests on what was computed."""

    text: str
    answer: str | Callable[[], str]
    options: tuple[str, ...] = ()
    right: int = 0


@dataclass(frozen=True, kw_only=True)
class Link:
    """To the page where the same is done with one's own model."""

    view: str  # file below views/, without .py
    label: str
    help: str
    query: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Screen:
    title: str  # the idea, in one line
    words: str  # two or three plain sentences; [[term]] is explained where it stands
    draw: Callable[[], None]
    still: Callable[[], Still]
    formula: Formula | None = None
    question: Question | None = None
    link: Link | None = None


@dataclass(frozen=True, kw_only=True)
class Lesson:
    title: str
    short: str  # for the row of lessons
    screens: tuple[Screen, ...]
