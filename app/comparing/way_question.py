"""The way of one picture through several models, asked of the engine: one question for each stage."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app import jobs
from app.comparing.picked import Picked
from app.comparing.ways import Film, read_film
from app.errors import one_line_errors, sentence, shown_as_one_line

#: of a protocol, what the way of one picture depends on
_DRAWING = ("sampler", "num_steps", "cfg_scale", "guided_channels")
_LOOK_EVERY = 0.3  # seconds


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A stage, the row of the picture among those it kept, and what the engine is asked about it."""

    picked: Picked
    row: int
    params: dict[str, Any]

    def kept_picture(self) -> np.ndarray:
        return np.asarray(self.picked.stage.samples()[0][self.row])

    @property
    def kept_on(self) -> str:
        """The device that drew the kept picture."""
        return (self.picked.stage.metrics() or {}).get("protocol", {}).get("device", "another machine")


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What the engine answered."""

    asked: Asked
    answer: dict[str, Any]
    film: Film

    @property
    def label(self) -> str:
        return self.asked.picked.label


def question(one: Picked, row: int) -> Asked | None:
    """Says where a stage can't be asked about. Raises AssetError for a damaged one."""
    params = one.run.params
    protocol = (one.stage.metrics() or {}).get("protocol") or params.get("protocol")
    if not protocol:
        st.info(f"{sentence(one.label)} doesn't say how its pictures were drawn, so their way can't be followed.")
        return None
    _, labels, seeds = one.stage.samples()
    about = {
        "class": int(labels[row]),
        "seed": int(seeds[row]),
        "protocol": {name: protocol[name] for name in _DRAWING if name in protocol},
    }
    return Asked(picked=one, row=row, params={**_model(one), **about})


def _model(one: Picked) -> dict[str, Any]:
    """The stage's own model; of a run that only evaluated one, the model that it was asked about."""
    if (one.stage.path / "weights.safetensors").exists():
        return {"model": one.ref}
    params = one.run.params
    opened = jobs.opened_at(params["model"], params.get("data", ""))
    options = {name: params[name] for name in ("process", "autoencoder") if params.get(name)}
    return {"model": params["model"], **options, **({"opened": opened} if opened else {})}


def ask(asked: Sequence[Asked]) -> None:
    """A newer question of the same column drops an older one that still waits."""
    keys = [jobs.ask("trajectory", one.params, client=f"way{place}") for place, one in enumerate(asked)]
    st.session_state["way_asked"] = [one.params for one in asked], keys


def is_asked(asked: Sequence[Asked]) -> bool:
    return st.session_state.get("way_asked", (None,))[0] == [one.params for one in asked]


def goes_on(asked: Sequence[Asked]) -> bool:
    """Whether these models are being followed already, with another picture."""
    before = st.session_state.get("way_asked", ([],))[0]
    return [params["model"] for params in before] == [one.params["model"] for one in asked]


def answered(asked: Sequence[Asked]) -> list[Followed]:
    """Of those that went well; draws the waiting and says what failed. Empty as long as one is being drawn."""
    keys = st.session_state["way_asked"][1]
    answers = [jobs.answer(key) for key in keys]
    if any(_is_open(answer) for answer in answers):
        st.fragment(_wait, run_every=_LOOK_EVERY)(list(asked), keys)
        return []
    good = []
    for one, key, answer in zip(asked, keys, answers, strict=True):
        with shown_as_one_line():
            if answer["state"] == "failed":
                st.error(f"{sentence(one.picked.label)}: {answer['error']}")
            else:
                good.append(Followed(asked=one, answer=answer, film=read_film(jobs.preview_folder(key), answer)))
    if len(good) < len(asked) and st.button("Try again", key="way_again", help="Asks the engine once more."):
        ask(asked)
        st.rerun()
    return good


def _is_open(answer: dict | None) -> bool:
    return answer is None or answer["state"] == "stale"


@one_line_errors
def _wait(asked: list[Asked], keys: list[str]) -> None:
    answers = [jobs.answer(key) for key in keys]
    waiting = [place for place, answer in enumerate(answers) if _is_open(answer)]
    if not waiting:
        st.rerun()
    for place in waiting:
        if answers[place] is not None:  # stale: nobody would answer it
            jobs.ask("trajectory", asked[place].params, client=f"way{place}")
    names = ", ".join(asked[place].picked.label for place in waiting)
    told = [str(jobs.progress_of(keys[place]).get("message", "")) for place in waiting]
    words = {
        "starting": "The engine is starting, a few seconds.",
        "stopped": "The engine isn't running. Start it at the foot of the page; the question is kept.",
    }.get(jobs.engine_state().state, f"Drawing it step by step: {names}. {next(filter(None, told), '')}")
    st.html(f'<p class="ep-wait" role="status"><i></i>{html.escape(words)}</p>')
    st.skeleton(height=260)
