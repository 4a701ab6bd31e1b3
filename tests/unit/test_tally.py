"""The room's guesses: one a person, many at once, bounded, forgotten when asked, made anew when damaged."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import InputError, WorkspaceError
from engine.learn import tally
from engine.runs.workspace import open_workspace

WHICH = "which block?"


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


def test_a_second_guess_replaces_the_first(workspace):
    assert tally.tally(workspace, WHICH) == {}
    tally.guess(workspace, WHICH, person="a", answer=3)
    tally.guess(workspace, WHICH, person="b", answer=3)
    tally.guess(workspace, WHICH, person="a", answer=5)
    tally.guess(workspace, "another?", person="a", answer=1)
    assert tally.tally(workspace, WHICH) == {3: 1, 5: 1}


def test_a_person_finds_their_guess_again(workspace):
    assert tally.answer_of(workspace, WHICH, person="a") is None
    tally.guess(workspace, WHICH, person="a", answer=3)
    tally.guess(workspace, WHICH, person="a", answer=0)
    assert tally.answer_of(workspace, WHICH, person="a") == 0
    assert tally.answer_of(workspace, WHICH, person="b") is None
    assert tally.answer_of(workspace, "another?", person="a") is None


def test_forty_people_at_once_lose_no_guess(workspace):
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: tally.guess(workspace, WHICH, person=f"p{n}", answer=n % 12), range(200)))
    found = tally.tally(workspace, WHICH)
    assert sum(found.values()) == 200
    assert found == {block: len(range(block, 200, 12)) for block in range(12)}


def test_it_stays_small(workspace, monkeypatch):
    monkeypatch.setattr(tally, "MOST_GUESSES", 5)
    monkeypatch.setattr(tally, "MOST_QUESTIONS", 2)
    for n in range(9):
        tally.guess(workspace, WHICH, person=f"p{n}", answer=n)
    assert tally.tally(workspace, WHICH) == {n: 1 for n in range(4, 9)}
    for question in ("two", "three"):
        tally.guess(workspace, question, person="a", answer=0)
    assert tally.tally(workspace, WHICH) == {}
    assert tally.tally(workspace, "two") == tally.tally(workspace, "three") == {0: 1}


def test_reset_forgets_one_question_alone(workspace):
    for question in (WHICH, "another?"):
        tally.guess(workspace, question, person="a", answer=1)
    tally.reset(workspace, WHICH)
    assert tally.tally(workspace, WHICH) == {}
    assert tally.tally(workspace, "another?") == {1: 1}


def test_a_damaged_table_is_made_anew(workspace):
    tally.guess(workspace, WHICH, person="a", answer=1)
    (workspace.root / "guesses.sqlite").write_bytes(b"this is no table, " * 100)
    assert tally.tally(workspace, WHICH) == {}
    tally.guess(workspace, WHICH, person="a", answer=2)
    assert tally.tally(workspace, WHICH) == {2: 1}


def test_what_cant_be_written_costs_one_line(workspace):
    (workspace.root / "guesses.sqlite").mkdir()
    with pytest.raises(WorkspaceError, match="guesses") as caught:
        tally.guess(workspace, WHICH, person="a", answer=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"question": ""}, {"question": "x" * 301}, {"person": ""}, {"person": "x" * 65}])
def test_names_without_end_are_refused(workspace, wrong):
    asked = {"question": WHICH, "person": "a", **wrong}
    with pytest.raises(InputError):
        tally.guess(workspace, asked["question"], person=asked["person"], answer=1)
