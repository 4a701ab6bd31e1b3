"""The lessons: every screen opens, the address says which, guesses are counted, numbers are what they say they are."""

import json
import math
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from scipy import stats
from streamlit.testing.v1 import AppTest

from app import glossary, jobs
from app.learn import drawing, entropy, fidelity, guessing, handout, quiz, readings, replaying, toys
from app.learn.contents import LESSONS
from app.learn.verdict import verdict
from engine.importance.config import CedConfig
from engine.learn import tally
from engine.pruning import vote
from engine.runs.queue import claim_next_preview, finish_preview
from engine.runs.store import create_run
from tests.app.conftest import words
from tests.app.fixtures import add_prune, arena_content, ced_result

PLACES = [(n, p) for n, lesson in enumerate(LESSONS, 1) for p in range(1, len(lesson.screens) + 1)]


def at_place(open_page, lesson: int, screen: int, **query: str) -> AppTest:
    return open_page("learn", lesson=str(lesson), screen=str(screen), **query)


@pytest.mark.parametrize(("lesson", "screen"), PLACES)
def test_every_screen_opens_without_the_engine(open_page, empty, lesson, screen):
    at = at_place(open_page, lesson, screen)
    title = LESSONS[lesson - 1].screens[screen - 1].title
    assert title in words(at).replace("&#x27;", "'")
    assert f"· {screen} of {len(LESSONS[lesson - 1].screens)}" in words(at)
    assert not at.error


@pytest.mark.parametrize("query", [{"lesson": "99"}, {"lesson": "x"}, {"lesson": "2", "screen": "0"}, {"screen": "-1"}])
def test_nonsense_in_the_address_costs_one_line(open_page, empty, query):
    at = open_page("learn", **query)
    assert len(at.warning) == 1
    assert "is left out" in at.warning[0].value


def button(at: AppTest, label: str):
    return next(button for button in at.button if button.label == label)


def test_next_goes_through_all_lessons_and_back_returns(open_page, empty):
    at = at_place(open_page, 1, 1)
    assert button(at, "Back").disabled
    seen = []
    while True:
        seen.append((int(at.query_params["lesson"]), int(at.query_params["screen"])))
        if button(at, "Next").disabled:
            break
        button(at, "Next").click().run()
        assert not at.exception
    assert seen == PLACES
    button(at, "Back").click().run()
    assert (int(at.query_params["lesson"]), int(at.query_params["screen"])) == PLACES[-2]


def test_a_lesson_is_chosen_by_its_name(open_page, empty):
    at = at_place(open_page, 1, 2)
    at.session_state["learn_lesson"] = 4
    at = at_place(open_page, 4, 1)
    assert at.session_state["learn_lesson"] == 4


def test_presenting_leaves_only_the_screen(open_page, empty):
    at = at_place(open_page, 2, 1)
    button(at, "Present").click().run()
    assert at.query_params["present"] == "1"
    assert "ep-present" in words(at)
    assert not at.title
    button(at, "Leave presenting").click().run()
    assert "present" not in at.query_params


def test_a_question_says_whether_the_answer_was_right(open_page, empty):
    question = LESSONS[1].screens[0].question
    at = at_place(open_page, 2, 1)
    at.radio(key="quiz_of_2_1").set_value(question.options[question.right]).run()
    assert "Right." in words(at)
    wrong = next(option for option in question.options if option != question.options[question.right])
    at.radio(key="quiz_of_2_1").set_value(wrong).run()
    assert "Not quite" in words(at)
    assert "log 2" in words(at)


# --- words ---


def test_every_marked_term_is_explained_and_every_formula_has_a_source():
    for lesson in LESSONS:
        for screen in lesson.screens:
            texts = [screen.words, screen.formula.words if screen.formula else ""]
            if screen.question and isinstance(screen.question.answer, str):
                texts.append(screen.question.answer)
            for text in texts:
                assert "[[" not in glossary.marked(text)
                assert all(glossary.term(name) for name in glossary.terms_in(text))
            if screen.formula:
                assert screen.formula.source
            assert screen.question
            assert screen.link
            assert (Path(handout.__file__).parents[1] / "views" / f"{screen.link.view}.py").exists()


def test_a_term_that_isnt_explained_is_noticed():
    with pytest.raises(KeyError):
        glossary.marked("a [[thing nobody explained]]")
    shown = glossary.marked("see [[FID|the number]]")
    assert ">the number</span>" in shown
    assert 'tabindex="0"' in shown
    assert glossary.terms_in("[[nats]] and [[Nats]]") == ["nats"]


# --- lesson 1: answers of the engine ---


def answer_all(workspace) -> list[str]:
    """Answers every question that waits, as the engine would; returns their kinds."""
    kinds = []
    while (request := claim_next_preview(workspace, "worker")) is not None:
        kinds.append(request.kind)
        request.folder.mkdir(parents=True, exist_ok=True)
        finish_preview(workspace, request.key, _answer(request))
    return kinds


def _answer(request) -> dict:
    from PIL import Image

    rng = np.random.default_rng(0)
    protocol = {"num_steps": drawing.NUM_STEPS, "cfg_scale": 2.0}
    answer: dict = {"state": "done", "error": None, "seconds": 0.4, "protocol": protocol}

    def strip(name: str, num: int) -> str:
        Image.fromarray(rng.integers(0, 255, (32, 32 * num, 3), dtype=np.uint8)).save(request.folder / name)
        return name

    if request.kind == "trajectory":
        frames = [{"step": s, "time": s / 20, "noise_left": 1 - s / 20} for s in range(21)]
        return answer | {"frames": frames, "images": {n: strip(f"{n}.png", 21) for n in ("state", "estimate")}}
    if request.kind == "block_states":
        steps = [{"step": s, "time": 0.5, "noise_left": 0.5, "image": strip(f"{s}.png", 13),
                  "change": rng.random((12, 16)).tolist()} for s in request.params["steps"]]  # fmt: skip
        return answer | {"steps": steps}
    files = {name: [strip(f"{name}{i}.png", 1) for i in range(8)] for name in ("intact", "pruned")}
    return answer | {"images": files}


def test_pictures_are_drawn_once_the_engine_has_answered(open_page, empty):
    at = at_place(open_page, 1, 1)
    assert answer_all(empty) == ["trajectory", "trajectory"]
    at.run()
    assert words(at).count("what it takes the end to be") >= 4
    at.slider(key="learn_step").set_value(20).run()
    assert "0% of the way still to go" in words(at)
    at = at_place(open_page, 1, 2)
    assert sorted(answer_all(empty)) == ["block_states", "block_states"]
    at.run()
    assert words(at).count("<figcaption>11</figcaption>") == 2


def test_many_sessions_cost_one_computation(open_page, empty):
    for _ in range(3):
        at_place(open_page, 1, 1)
    assert answer_all(empty) == ["trajectory", "trajectory"]
    at_place(open_page, 1, 1)
    assert answer_all(empty) == []


def test_a_question_that_failed_says_why_and_can_be_asked_again(open_page, empty):
    at = at_place(open_page, 1, 1)
    while (request := claim_next_preview(empty, "worker")) is not None:
        finish_preview(empty, request.key, {"state": "failed", "error": "the disk is full"})
    at.run()
    assert "The disk is full" in words(at)
    button(at, "Try again").click().run()
    assert sorted(answer_all(empty)) == ["trajectory", "trajectory"]
    at.run()
    assert not at.error


# --- lesson 2 ---


@pytest.mark.parametrize("spread", [0.1, 1.0, 2.7])
def test_the_toys_entropies_are_the_engines(spread):
    import torch

    from engine.importance import entropy as engine_entropy

    ones = torch.ones(1, toys.NUM, dtype=torch.float64)
    values = torch.from_numpy(spread * toys.two_bumps()).view(1, -1, 1, 1)
    assert toys.gaussian_entropy(spread**2) == pytest.approx(float(engine_entropy.gaussian(values, ones)), abs=1e-9)
    points = toys.cloud(1.4, spread)
    counts = torch.ones(1, len(points), dtype=torch.float64)
    stream = torch.from_numpy(points).view(1, -1, 1, 2)
    alone, together = toys.entropies_of_cloud(points)
    assert alone == pytest.approx(float(engine_entropy.gaussian(stream, counts)), abs=1e-9)
    assert together == pytest.approx(stats.multivariate_normal(cov=np.cov(points.T)).entropy() / 2, abs=1e-9)
    if spread >= 1:  # the engine's shrinkage makes a thin cloud rounder
        assert together == pytest.approx(float(engine_entropy.gaussian_full(stream, counts)), abs=0.02)
    pictures = np.random.default_rng(0).random((50, 4, 4, 3)) * spread
    flat = torch.from_numpy(pictures.reshape(50, 1, -1))[None]
    expected = engine_entropy.gaussian_scalar(flat, torch.ones(1, 50, dtype=torch.float64))
    assert toys.pooled_entropy(pictures) == pytest.approx(float(expected), abs=1e-9)


def test_a_line_is_noticed_by_both_together_alone():
    alone, together = toys.entropies_of_cloud(toys.cloud(math.sqrt(2), 0.01))
    round_alone, round_together = toys.entropies_of_cloud(toys.cloud(1.0, 1.0))
    assert alone == pytest.approx(round_alone, abs=0.01)
    assert together - round_together == pytest.approx(0.5 * math.log(math.sqrt(2) * 0.01), abs=1e-6)


def test_the_turned_pictures_go_the_way_the_slider_says():
    pictures = np.random.default_rng(1).random((60, 8, 8, 3))
    before = toys.pooled_entropy(pictures)
    assert toys.pooled_entropy(toys.turned(pictures, -0.5)) - before == pytest.approx(math.log(0.5), abs=1e-9)
    assert toys.pooled_entropy(toys.turned(pictures, 0.5)) > before
    assert np.array_equal(toys.turned(pictures, 0.0), pictures)


def test_true_entropies_are_the_known_ones():
    assert toys.true_entropy(0.0) == pytest.approx(stats.norm.entropy(), abs=1e-6)
    width = math.sqrt(1 - 0.995**2)  # two peaks that don't touch: one bit more than a single one
    assert toys.true_entropy(1.0) == pytest.approx(stats.norm.entropy(scale=width) + math.log(2), abs=1e-4)
    for shape in (0.0, 0.5, 1.0):
        assert toys.same_variance(shape, 100_000).var() == pytest.approx(1.0, abs=0.02)
        assert toys.true_entropy(shape) <= toys.gaussian_entropy(1.0) + 1e-9


def test_the_slider_moves_the_numbers(open_page, empty):
    at = at_place(open_page, 2, 1)
    at.slider(key="learn_spread").set_value(2.0).run()
    assert [metric.value for metric in at.metric] == ["2.11 nats", "+0.69 nats"]
    at.slider(key="learn_spread").set_value(0.5).run()
    assert at.metric[1].value == "−0.69 nats"


# --- lesson 3 ---


def measured_run(workspace):
    """The measurement that lesson 3 asks for, done."""
    params = jobs.ced_params(guessing.MODEL, guessing.DATA, CedConfig())
    run = create_run(workspace, kind="ced", title="CED", params=json.loads(json.dumps(params)))
    result = ced_result(CedConfig(), model=guessing.MODEL, data=guessing.DATA)
    (run.path / "ced.json").write_text(json.dumps(result))
    run.update(state="done", progress=1.0)
    return result


def test_a_guess_is_counted_and_judged(open_page, empty):
    result = measured_run(empty)
    at = at_place(open_page, 3, 1)
    at.session_state["strip_learn_guess"] = None
    block = result["order"][3]
    pills = next(group for group in at.button_group if group.key == "strip_learn_guess")
    pills.set_value(block).run()
    assert tally.tally(empty, guessing.QUESTION) == {block: 1}
    button(at, "Next").click().run()
    assert not at.exception
    assert answer_all(empty) == ["drop"]
    at.run()
    assert f"number 4 of {guessing.DEPTH}" in words(at)
    assert "seed 7" in words(at)
    button(at, "Next").click().run()
    assert "1 guess so far" in words(at)
    at.toggle(key="learn_reveal").set_value(True).run()
    assert "mean rank of 4.0" in words(at)
    assert not at.exception


def test_the_lecturer_alone_can_forget_the_guesses(open_page, empty):
    measured_run(empty)
    tally.guess(empty, guessing.QUESTION, person="a", answer=2)
    at = at_place(open_page, 3, 3)
    assert "Forget them" not in [button.label for button in at.button]
    at = at_place(open_page, 3, 3, present="1")
    button(at, "Forget them").click().run()
    assert tally.tally(empty, guessing.QUESTION) == {}


def test_opening_the_lesson_many_times_starts_one_measurement(open_page, empty):
    for screen in (1, 3, 1):
        at_place(open_page, 3, screen)
    assert len([run for run in jobs.summaries("ced")]) == 1


@pytest.mark.parametrize(
    ("place", "low", "high", "expected"),
    [(1, 1, 1, "best guess"), (2, 1, 3, "within the noise"), (12, 11, 12, "beyond the noise")],
)
def test_the_verdict_on_a_guess_respects_the_noise(place, low, high, expected):
    result = ced_result(CedConfig())
    block, least = result["order"][place - 1], result["order"][0]
    result["rank_low"][least], result["rank_high"][least] = 1, 2
    result["rank_low"][block], result["rank_high"][block] = low, high if place > 1 else 2
    assert expected in guessing.verdict(result, block)


# --- lesson 4 ---


def test_the_verdict_on_a_block_is_welchs_interval():
    content = arena_content(gap=1.0)
    found = verdict(content, 0)
    outcomes: dict[tuple, list[float]] = {}
    for bout in content["bouts"]:
        if bout["dropped"] and not bout["strategy"]:
            outcomes.setdefault(tuple(bout["dropped"]), []).append(math.log(bout["fid"]))
    without = [np.mean(v) for k, v in outcomes.items() if 0 in k]
    kept = [np.mean(v) for k, v in outcomes.items() if 0 not in k]
    ends = stats.ttest_ind(without, kept, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((math.exp(ends.low), math.exp(ends.high)))
    assert found.ratio == pytest.approx(math.exp(np.mean(without) - np.mean(kept)))
    assert (found.num_without, found.num_with) == (len(without), len(kept))


def test_without_enough_sets_nothing_is_said():
    content = arena_content()
    content["bouts"] = content["bouts"][:3]
    assert any(verdict(content, block) is None for block in range(12))


def test_the_block_shown_first_is_the_most_disputed():
    content = arena_content()
    ranks = {name: stats.rankdata(content["scores"]["of"][name], method="ordinal")
             for name in readings._LOOKING if name in content["scores"]["of"]}  # fmt: skip
    spread = np.ptp(np.array(list(ranks.values())), axis=0)
    assert spread[readings.most_disputed(content)] == spread.max()


# --- lesson 5 ---


def test_the_vote_is_recounted_without_the_engine(open_page, empty):
    replay = replaying._default()
    record = replay["stages"][1]["decision"]
    at = at_place(open_page, 5, 2)
    slider = next(slider for slider in at.slider if slider.label == "Cost")
    slider.set_value(0.0).run()
    expected = vote.recount(record, {**record["weights"], "cost": 0.0})
    assert expected["reason"] in words(at)
    for slider in at.slider:
        slider.set_value(0.0)
    at.run()
    assert len(at.error) == 1  # one of the weights must be more than 0


def test_the_scrubber_shows_the_pictures_of_that_moment(open_page, empty):
    at = at_place(open_page, 5, 1)
    replay = replaying._default()
    slider = next(slider for slider in at.select_slider if slider.label == "Time")
    slider.set_value(0).run()
    first = replay["train"][0]
    assert f"step {first['step']} of {first['num_steps']}" in words(at)
    assert "Nothing was drawn yet" in words(at)


def test_a_finished_run_of_ones_own_can_be_chosen(open_page, empty):
    run = add_prune(empty)
    at = at_place(open_page, 5, 1)
    at.selectbox(key="learn_run").set_value(run.id).run()
    assert not at.exception
    assert not at.error
    assert "Stage 3" in words(at)
    at = at_place(open_page, 5, 3)
    at.selectbox(key="learn_run").set_value(run.id).run()
    assert "with 6" in words(at)


# --- lesson 6 ---


def test_other_pictures_give_another_number(open_page, empty):
    at = at_place(open_page, 6, 1)
    before = at.metric[0].value
    button(at, "Take other pictures").click().run()
    assert at.metric[0].value != before
    at.select_slider(key="learn_n").set_value(1000).run()
    assert float(at.metric[0].value) < float(before)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"learn_other_n": 1000}, "Same protocol"), ({"learn_other_n": 1000, "learn_other_steps": 50}, "sampling steps")],
)
def test_unlike_protocols_are_named(open_page, empty, change, expected):
    at = at_place(open_page, 6, 2)
    assert "Not comparable" in words(at)
    for key, value in change.items():
        at.select_slider(key=key).set_value(value).run()
    assert expected in words(at)


def test_the_failing_class_is_shown_first(open_page, empty):
    at = at_place(open_page, 6, 3)
    kept = fidelity._kept()
    worst = min(range(10), key=lambda label: kept.accuracy("cut", label).value)
    assert kept.accuracy("cut", worst).high < float(np.mean(kept.seen["cut"] == kept.labels))
    assert f"Of class {worst} it is" in words(at)


def test_the_block_of_lesson_6_is_the_one_that_a_reading_of_lesson_4_calls_least_needed(empty):
    ranks = readings._ranks(readings._first())
    assert [1] in [[values[block] for block in fidelity._kept().about["cut"]] for values in ranks.values()]


def test_marks_of_terms_stand_only_where_they_are_read():
    for lesson in LESSONS:
        for screen in lesson.screens:
            plain = [screen.title, screen.formula.source if screen.formula else ""]
            plain += [screen.question.text, *screen.question.options]
            assert not any("[[" in text for text in plain)


# --- handout ---


def test_the_handout_holds_every_screen_and_asks_nothing_of_the_net(empty):
    stills = [[[f"<p>still {n}.{p}</p>", go.Figure(go.Scatter(y=[1, 2]))] for p, _ in enumerate(lesson.screens)]
              for n, lesson in enumerate(LESSONS)]  # fmt: skip
    stills[0][0] = []
    page = handout.page(stills)
    for lesson, papers in zip(LESSONS, stills, strict=True):
        for screen, still in zip(lesson.screens, papers, strict=True):
            assert handout.html.escape(screen.title) in page
            assert all(part in page for part in still if isinstance(part, str))
    assert page.count("Not computed when this file was made") == 1
    assert page.count('<figure role="img"') == sum(len(lesson.screens) for lesson in LESSONS) - 1
    own = page.replace(get_plotlyjs(), "")  # which names addresses that it doesn't ask unless a map is drawn
    assert len(own) < len(page)
    assert "http" not in own
    assert "[[" not in page.partition("<body>")[2].partition("Plotly.newPlot")[0]


def test_what_goes_on_paper_needs_no_engine_where_nothing_is_computed(empty):
    for screen in (*entropy.LESSON.screens, *readings.LESSON.screens, *replaying.LESSON.screens):
        assert screen.still()
        assert quiz.answer_of(screen.question)
    for screen in fidelity.LESSON.screens:
        assert screen.still()


def test_damaged_recordings_cost_one_line(open_page, empty, tmp_path, monkeypatch):
    monkeypatch.setattr(replaying, "_FOLDER", tmp_path)
    at = at_place(open_page, 5, 1)
    assert len(at.error) == 1
    assert "No recorded run is there" in at.error[0].value
