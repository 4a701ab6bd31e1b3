"""What the people in a room guessed: one anonymous guess a person and question, in a small table of the workspace.

Many sessions write at once; each call opens and closes its own connection. Nothing in it names a person: who guesses
is a random word of the browser's. Free of torch.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from engine.errors import InputError, WorkspaceError
from engine.runs.workspace import Workspace, writing

MOST_GUESSES = 1000  # a question; the oldest make room
MOST_QUESTIONS = 100
_TABLE = """CREATE TABLE IF NOT EXISTS guesses (
    question TEXT, person TEXT, answer INTEGER, time REAL, PRIMARY KEY (question, person))"""
_DAMAGED = ("file is not a database", "malformed", "no such column", "has no column")

T = TypeVar("T")


def guess(workspace: Workspace, question: str, *, person: str, answer: int) -> None:
    """A person's second guess replaces the first. Raises WorkspaceError, as all calls here do."""
    if not 0 < len(question) <= 300 or not 0 < len(person) <= 64:
        raise InputError("a guess needs a question of at most 300 letters and a person of at most 64")

    def write(table: sqlite3.Connection) -> None:
        table.execute("REPLACE INTO guesses VALUES (?, ?, ?, ?)", (question, person, int(answer), time.time()))
        table.execute(
            "DELETE FROM guesses WHERE question = ? AND person NOT IN "
            "(SELECT person FROM guesses WHERE question = ? ORDER BY time DESC LIMIT ?)",
            (question, question, MOST_GUESSES),
        )
        table.execute(
            "DELETE FROM guesses WHERE question NOT IN "
            "(SELECT question FROM guesses GROUP BY question ORDER BY MAX(time) DESC LIMIT ?)",
            (MOST_QUESTIONS,),
        )

    _attempt(workspace, write)


def tally(workspace: Workspace, question: str) -> dict[int, int]:
    """answer -> how many people gave it."""

    def count(table: sqlite3.Connection) -> dict[int, int]:
        return dict(
            table.execute("SELECT answer, COUNT(*) FROM guesses WHERE question = ? GROUP BY answer", (question,))
        )

    return _attempt(workspace, count)


def answer_of(workspace: Workspace, question: str, *, person: str) -> int | None:
    """What this person answered last; None where they didn't."""

    def find(table: sqlite3.Connection) -> int | None:
        query = "SELECT answer FROM guesses WHERE question = ? AND person = ?"
        found = table.execute(query, (question, person)).fetchone()
        return found[0] if found else None

    return _attempt(workspace, find) if _file(workspace).exists() else None


def reset(workspace: Workspace, question: str) -> None:
    """Forgets all guesses at this question."""
    _attempt(workspace, lambda table: table.execute("DELETE FROM guesses WHERE question = ?", (question,)))


def _attempt(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    """Within one transaction. A damaged table is made anew: guesses can be made again."""
    try:
        return _within(workspace, work)
    except sqlite3.DatabaseError as error:
        if not any(words in str(error) for words in _DAMAGED):
            raise _explain(workspace, error) from error
    with writing(_file(workspace)):
        _file(workspace).unlink(missing_ok=True)
    try:
        return _within(workspace, work)
    except sqlite3.DatabaseError as error:
        raise _explain(workspace, error) from error


def _within(workspace: Workspace, work: Callable[[sqlite3.Connection], T]) -> T:
    # a rollback journal: nothing but the one file stays behind, and forty people guess once each
    with closing(sqlite3.connect(_file(workspace), timeout=10, isolation_level=None)) as table, table:
        table.execute("BEGIN IMMEDIATE")  # ``with table`` commits, or takes all back
        table.execute(_TABLE)
        return work(table)


def _file(workspace: Workspace) -> Path:
    return workspace.root / "guesses.sqlite"


def _explain(workspace: Workspace, error: sqlite3.DatabaseError) -> WorkspaceError:
    return WorkspaceError(f"the room's guesses in {_file(workspace)} can't be used ({error}); try again in a moment")
