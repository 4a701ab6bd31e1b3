"""Charts that many people ask for at once are made once, and stay what they were."""

import numpy as np
import plotly.graph_objects as go
import pytest

from app import remembered
from app.arena.arena_charts import Dot
from app.charts import importance_bars
from app.learn.chart import enlarged
from app.style import DARK, LIGHT
from engine.runs.workspace import Workspace, read_json
from tests.app.conftest import Open
from tests.app.fixtures import add_ced


@pytest.fixture
def counted():
    made = []

    @remembered.remembered
    def draw(values, *, name="a", dot=None):
        made.append(name)
        return go.Figure(go.Bar(y=list(values), name=name))

    return draw, made


def test_the_same_question_gets_the_same_figure_and_another_another(counted) -> None:
    draw, made = counted
    assert draw([1.0, 2.0]) is draw([1.0, 2.0]) and made == ["a"]
    assert draw([1.0, 3.0]) is not draw([1.0, 2.0])
    assert draw([1.0, 2.0], name="b").data[0].name == "b"
    assert draw([np.float64(1.0), 2.0]) is draw([1.0, 2.0])
    dots = [Dot(names=("x",), group="ced", value=value, low=None, high=None, about="") for value in (1.0, 2.0)]
    assert draw([0.0], dot=dots[0]) is not draw([0.0], dot=dots[1])
    with pytest.raises(TypeError, match="asked for with a ndarray"):
        draw([0.0], dot=np.zeros(2))


def test_what_was_not_asked_for_longest_is_forgotten(counted) -> None:
    draw, made = counted
    for number in range(remembered._MOST + 1):
        draw([0.0])  # again and again: it stays
        draw([1.0 + number])
    made.clear()
    draw([0.0])
    draw([1.0 + remembered._MOST])
    assert made == []
    draw([1.0])
    assert made == ["a"]


def test_a_page_and_a_lesson_leave_the_figure_as_it_was(empty: Workspace, open_page: Open) -> None:
    run = add_ced(empty)
    open_page("importance", model="demo-sit", data="shapes")
    result = read_json(run.path / "ced.json")
    settings = dict(rows=sorted(result["blocks"]), palette=LIGHT)
    figure = importance_bars(result, **settings)
    before = figure.to_json()
    enlarged(figure)
    open_page("importance", model="demo-sit", data="shapes")
    assert importance_bars(result, **settings) is figure
    assert figure.to_json() == before == importance_bars.__wrapped__(result, **settings).to_json()
    assert importance_bars(result, **{**settings, "palette": DARK}) is not figure
