"""A guess at the least needed block: made once, counted among the room's, judged by the measured ranks."""

import hashlib
import secrets
from itertools import cycle

import streamlit as st

from app import address, jobs
from app.access import rights
from app.errors import one_line_errors
from app.learn import chart, learn_charts
from app.style import palette
from engine.learn import tally

MODEL, DATA, DEPTH = "demo-sit-digits", "digits", 12
_COOKIE = "_streamlit_xsrf"  # which the server gives every browser, against forged requests
QUESTION = f"{MODEL} on {DATA}: which block is needed least?"


def mine() -> int | None:
    """What this person guessed, before the page was loaded anew, too."""
    if "learn_guess" not in st.session_state:
        st.session_state["learn_guess"] = tally.answer_of(jobs.workspace(), QUESTION, person=_person())
    return st.session_state["learn_guess"]


def _person() -> str:
    """The same word as long as the browser keeps its cookies, so that whoever loads the page again counts once."""
    token = _token_in(st.context.cookies.get(_COOKIE, ""))
    if token:
        return hashlib.sha256(b"guess " + token).hexdigest()[:16]
    return st.session_state.setdefault("learn_person", secrets.token_hex(8))


def _token_in(cookie: str) -> bytes:
    """Of Tornado's form, version|mask|masked token|time: masked anew with every answer, the token stays. Empty where it
    has another form."""
    try:
        _, mask, masked, _ = cookie.split("|")
        return bytes(a ^ b for a, b in zip(bytes.fromhex(masked), cycle(bytes.fromhex(mask)), strict=False))
    except ValueError:
        return b""


def pick() -> None:
    """The strip to guess on. What is clicked counts; another click changes the guess."""
    st.session_state["strip_learn_guess"] = mine()
    st.pills(
        "Which block is needed least?", range(DEPTH), key="strip_learn_guess", on_change=_guess,
        help="Block 0 is next to the input, block 11 next to the output. Your guess is counted without a name.",
    )  # fmt: skip


def _guess() -> None:
    block = st.session_state["strip_learn_guess"]
    if block is None:
        return
    st.session_state["learn_guess"] = block
    tally.guess(jobs.workspace(), QUESTION, person=_person(), answer=block)


def verdict(result: dict, block: int) -> str:
    """How good a guess was, with what is known of the rank."""
    place, depth = result["order"].index(block) + 1, len(result["blocks"])
    low, high = result["rank_low"][block], result["rank_high"][block]
    least = result["order"][0]
    said = f"Block {block} is <b>number {place} of {depth}</b>, counted from the least needed"
    said += f" ({low} … {high} in 90 % of resamples). " if low != high else " (in 90 % of resamples as well). "
    if place == 1:
        return said + "That is the best guess there was."
    if low <= result["rank_high"][least]:
        return said + f"Block {least} came first, but within the noise the two may change places: a good guess."
    return said + f"Block {least} came first, and beyond the noise."


def room(result: dict | None) -> None:
    """What everybody on this address guessed, and once it is wanted the answer."""
    reveal = st.toggle(
        "Show the measured ranks", key="learn_reveal", persist_state="session",
        help="Writes each block's measured rank above its bar; #1 is the least needed.",
    )  # fmt: skip
    st.fragment(_chart, run_every=2.0)(result if reveal else None)
    if address.asked("present") == "1":
        with st.popover("Forget the guesses", help="For the lecturer: before a new group begins."):
            st.write("This forgets all guesses of everybody on this address.")
            if st.button("Forget them", type="primary", **rights.guarded("Can’t be taken back.")):
                tally.reset(jobs.writable(), QUESTION)
                st.session_state.pop("learn_guess", None)
                st.rerun()


@one_line_errors
def _chart(result: dict | None) -> None:
    counts = tally.tally(jobs.workspace(), QUESTION)
    per_block = [counts.get(block, 0) for block in range(DEPTH)]
    ranks = [result["order"].index(block) + 1 for block in range(DEPTH)] if result else None
    chart.draw(
        st,
        learn_charts.votes_of_the_room(per_block, ranks, palette=palette()),
        key="learn_room",
        alt="How many people guessed each block",
    )
    total = sum(per_block)
    words = f"{total} {'guess' if total == 1 else 'guesses'} so far, without names."
    if result and total:
        expected = sum(n * rank for n, rank in zip(per_block, ranks, strict=True)) / total
        words += (
            f" The room’s guesses have a mean rank of {expected:.1f}; pointing blindly gives {(DEPTH + 1) / 2:.1f} on "
            "average."
        )
    st.html(f'<p class="ep-note">{words}</p>')
