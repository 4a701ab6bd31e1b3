"""Lesson 3: take a block out. Guess first, then look, then see what the room guessed."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import charts, glossary, jobs, measuring, pictures
from app.access import rights
from app.errors import one_line_errors
from app.learn import chart, guessing
from app.learn.asking import Answers, Questions, answered, ask_all
from app.learn.lesson import Formula, Lesson, Link, Question, Screen, Still
from app.style import palette
from engine.importance.config import VARIABLES, CedConfig

_CLASSES, _SEEDS = [0, 1, 2, 3, 4, 5, 7, 9], list(range(8))
_FIRST = 5  # shown in the handout


def _ranks() -> dict[str, Any]:
    return jobs.ced_params(guessing.MODEL, guessing.DATA, CedConfig())


@st.cache_resource(show_spinner=False)
def _starting() -> threading.Lock:
    return threading.Lock()


def measured(*, start: bool) -> dict[str, Any] | None:
    """The measurement that ranks all blocks: one run, whoever comes first and may work starts it. None while it isn't
    done."""
    with _starting():
        run = measuring.find("ced", _ranks())
        if run is None and start and rights.may_work():
            run = measuring.start("ced", _ranks())
    return measuring.result(run) if run is not None and run.status().state == "done" else None


def _with_ranks(draw: Callable[[dict], None]) -> None:
    """Draws with the ranks; while they are measured, says how far that is."""
    result = measured(start=True)
    if result is not None:
        draw(result)
        return
    st.fragment(_wait, run_every=1.0)()


@one_line_errors
def _wait() -> None:
    run = measuring.find("ced", _ranks())
    if run is None and not rights.may_work():
        st.html(
            '<p class="ep-wait"><i></i>The ranks appear here as soon as who gives the lecture opens this lesson: '
            "measuring all blocks needs the key.</p>"
        )
        return
    state = run.status().state if run else "gone"
    if state in jobs.RESUMABLE_STATES:
        st.error(measuring.stopped_line("The measurement", run.status()))
        if st.button("Measure again", **rights.guarded("Puts the measurement of all blocks to the engine once more.")):
            measuring.start("ced", _ranks())
            st.rerun()
        return
    if state not in jobs.WAITING_STATES:
        st.rerun()
    st.progress(run.status().progress, text=run.status().message or jobs.waiting_line(run))


def _questions(block: int) -> Questions:
    params = {"model": guessing.MODEL, "data": guessing.DATA, "drop": [block], "variable": CedConfig.variable,
              "seeds": _SEEDS, "classes": _CLASSES, "seed": 0, "cfg_scale": 2.0, "num_steps": 20}  # fmt: skip
    return {"drop": ("drop", params)}


def _guess() -> None:
    guessing.pick()
    measured(start=True)  # so that the answer is there by the time it is wanted
    block = guessing.mine()
    if block is None:
        st.html('<p class="ep-note">Click a block. Nobody sees who guessed what.</p>')
        return
    st.html(f'<p class="ep-say">You say block <b>{block}</b>. On the next screen it is taken out.</p>')


def _see() -> None:
    guessing.pick()
    block = guessing.mine()
    if block is None:
        st.html('<div class="ep-empty"><b>Guess first</b>Click the block that you would take out.</div>')
        return
    answered(_questions(block), lambda found: _draw_pairs(found, block), waiting="Drawing the same seeds without it …")
    _with_ranks(lambda result: _draw_verdict(result, block))


def _draw_pairs(found: Answers, block: int) -> None:
    answer, folder = found["drop"]
    st.html(
        '<p class="ep-legend"><span><i class="intact"></i>intact</span>'
        f'<span><i class="pruned"></i>without block {block}, same seeds, no training since</span></p>'
        + _pairs(str(folder), tuple(answer["images"]["intact"]), tuple(answer["images"]["pruned"]), block)
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _pairs(folder: str, intact: tuple[str, ...], pruned: tuple[str, ...], block: int) -> str:
    names = [f"digit {label} · seed {seed}" for label, seed in zip(_CLASSES, _SEEDS, strict=True)]
    pairs = [
        pictures.Pair((Path(folder) / a).read_bytes(), (Path(folder) / b).read_bytes(), name)
        for a, b, name in zip(intact, pruned, names, strict=True)
    ]
    return pictures.pairs(pairs, names=("intact", f"without block {block}"), css="eight learn")


def _draw_verdict(result: dict, block: int) -> None:
    delta, place = charts.matrix(result, "delta")[block], st.columns(2)
    signed = float(delta[-1] if result["variable"] == "samples" else delta.mean())
    place[0].metric(
        "ΔH", f"{signed:+.3f}".replace("-", "−"),
        help=glossary.explain("ΔH") + " Averaged over the noise levels.",
    )  # fmt: skip
    place[1].metric(
        "CED", f"{result['ced'][block]:.3f}",
        delta=f"{result['ci_low'][block]:.3f} … {result['ci_high'][block]:.3f}", delta_color="off", delta_arrow="off",
        help=glossary.explain("CED") + " Below it the 90 % interval by resampling the pictures.",
    )  # fmt: skip
    st.html(f'<p class="ep-say">{guessing.verdict(result, block)}</p><p class="ep-note">{_protocol(result)}</p>')


def _protocol(result: dict) -> str:
    reading = VARIABLES[result["variable"]]
    return (
        f"Reading: {reading.title} · {result['protocol']['samples']} pictures of {guessing.DATA} · each column is a "
        f"{reading.column}, {len(result['timesteps'])} of them · one block left out at a time, nothing trained since."
    )


def _room() -> None:
    guessing.pick()
    result = measured(start=True)
    guessing.room(result)
    if result is None:
        _with_ranks(lambda result: None)
    elif st.session_state.get("learn_reveal"):
        figure = charts.importance_bars(result, rows=result["blocks"], palette=palette())
        st.html('<p class="ep-question">How much does each block matter?</p>')
        chart.draw(st, figure, key="learn_bars", alt="CED of every block with its interval")
        st.html(f'<p class="ep-note">{_protocol(result)} The line is a 90 % interval.</p>')


def _still_see() -> Still:
    found, result = ask_all(_questions(_FIRST)), measured(start=True)
    if found is None or result is None:
        return []
    answer, folder = found["drop"]
    images = answer["images"]
    return [
        f"<p>Above: intact. Below: without block {_FIRST}, same seeds, no training since.</p>"
        + _pairs(str(folder), tuple(images["intact"]), tuple(images["pruned"]), _FIRST),
        f"<p>{guessing.verdict(result, _FIRST)}</p><p class='note'>{_protocol(result)}</p>",
    ]


def _still_room() -> Still:
    result = measured(start=True)
    if result is None:
        return []
    return [
        go.Figure(charts.importance_bars(result, rows=result["blocks"], palette=palette())).update_layout(
            title="How much does each block matter?", margin_t=60
        ),
        f"<p class='note'>{_protocol(result)} Lines are 90 % intervals.</p>",
    ]


def _least() -> str:
    result = measured(start=False)
    if result is None:
        return "The measurement isn’t done yet; come back in a few seconds."
    least = result["order"][0]
    rivals = [b for b in result["order"][1:] if result["rank_low"][b] <= result["rank_high"][least]]
    tied = f" It can’t be told from {', '.join(f'block {b}' for b in rivals)} for certain." if rivals else ""
    return f"Measured here: block {least} has the smallest [[CED]].{tied}"


_TRY = Link(
    view="importance", label="Take out any block of any model →",
    query={"model": guessing.MODEL, "data": guessing.DATA}, help="The importance page: click a cell or a block.",
)  # fmt: skip
LESSON = Lesson(
    title="Take a block out",
    short="A block out",
    screens=(
        Screen(
            title="Guess first: which block is needed least?",
            words="Twelve [[block]]s turn noise into digits. One is to be left out, and nothing is trained "
            "afterwards. Which one would you miss least?",
            draw=_guess,
            still=lambda: ["<p>My guess: block ______</p>"],
            question=Question(
                text="Before you go on: why not simply try all twelve and count the bad pictures?",
                answer="One can. But quality needs many pictures to be measured, for every block and then for every "
                "pair of blocks. A cheap number that foretells it, such as [[CED]], takes seconds. Whether it "
                "foretells well is an experiment of its own: lesson 4.",
            ),
            link=_TRY,
        ),
        Screen(
            title="Now see the same seeds without it",
            words="Above: the intact model. Below: the same [[seed]]s without your block. [[CED]] says how far the "
            "[[entropy]] moved; the rank says how your guess compares with the eleven others.",
            draw=_see,
            still=_still_see,
            question=Question(
                text="The pictures look the same without the block. Have we proved that it isn’t needed?",
                options=("Yes", "No"),
                right=1,
                answer="Eight pictures are few, and they are easy ones. A class may fail that isn’t among them, and "
                "several blocks may be fine one at a time but not together: each can stand in for the other.",
            ),
            formula=Formula(
                latex=r"\mathrm{CED}_i=\frac1K\sum_{k}\bigl\lvert H(X_{t_k}\mid c,\text{without block }i)"
                r"-H(X_{t_k}\mid c)\bigr\rvert",
                words="t₁ … t_K noise levels, c the [[class]]; everything else (noise, class, time) is the same in "
                "both.",
                source="EntPruner, arXiv 2511.21122; the choice of X and the mean over noise levels are our reading",
            ),
            link=_TRY,
        ),
        Screen(
            title="What did the room guess?",
            words="Everyone on this address is counted here, without a name. Then show the measured ranks: are many "
            "heads better than one, and is anyone better than pointing blindly?",
            draw=_room,
            still=_still_room,
            question=Question(text="Which block is it, as measured?", answer=_least),
            link=Link(
                view="prune", label="Drop blocks for good and let the model recover →",
                query={"model": guessing.MODEL, "data": guessing.DATA, "run": "new"}, help="The prune page.",
            ),
        ),
    ),
)  # fmt: skip
