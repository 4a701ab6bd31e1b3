"""A vote on screen: its sentence, the candidates with values and ranks, and the weights to change it with."""

import html
from typing import Any

import streamlit as st

from app.glossary import explain
from app.wide import wide
from engine.pruning.config import DEFAULT_WEIGHTS

#: voter -> (label, what it looks at)
VOTERS = {
    "cost": (
        "Cost",
        f"Prefers the candidate with the fewest MACs, that is, the one that drops most. {explain('MACs')}",
    ),
    "ntk": (
        "Trainability",
        f"Prefers the candidate that will learn most easily, worked out without training it. {explain('NTK')}",
    ),
    "zico": (
        "Gradient signal",
        f"Prefers the candidate with the largest ZiCo, worked out without training it. {explain('ZiCo')}",
    ),
}
_HEADS = ("drops", "blocks", "vote", "MACs", "NTK condition", "ZiCo", "forward, one batch")


def weight_sliders(start: dict[str, float] | None, *, key: str) -> dict[str, float]:
    """Three sliders, side by side; with each movement the page counts again, the engine isn't asked."""
    start, weights = start or DEFAULT_WEIGHTS, {}
    for column, (voter, (label, about)) in zip(st.columns(3, gap="medium"), VOTERS.items(), strict=True):
        weights[voter] = column.slider(
            label, 0.0, max(2.0, float(start[voter])), float(start[voter]), 0.1, key=f"{key}_{voter}",
            persist_state="page",
            help=f"{about} How much its ranks count in the vote; 0 is not at all.",
        )  # fmt: skip
    return weights


def sentence(record: dict[str, Any], *, lead: str = "") -> str:
    return f'<p class="ep-say">{lead}{html.escape(record["reason"])}</p>'


def table(record: dict[str, Any], *, word: str = "goes", before: dict[str, Any] | None = None) -> str:
    """The candidates, one a row; the one that is taken is marked with ``word``. Empty where no vote was held.

    ``before``: the record as it was, where this one was recounted; what was taken then is marked too.
    """
    if not record["candidates"]:
        return ""
    marks = {(record.get("vote") or record)["chosen"]: "the vote"}
    if before:
        marks[before["chosen"]] = "went"
    marks[record["chosen"]] = word
    rows = "".join(
        _row(candidate, mark=marks.get(index, ""), taken=index == record["chosen"])
        for index, candidate in enumerate(record["candidates"])
    )
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    return wide(f'<table class="ep-table ep-vote"><tr>{heads}</tr>{rows}</table>', label="Candidates of the vote")


def note(record: dict[str, Any]) -> str:
    """How the table is to be read."""
    counts = " · ".join(f"{VOTERS[voter][0].lower()} × {weight:g}" for voter, weight in record["weights"].items())
    return (
        '<p class="ep-note">Under each value its rank, 1 is best. The vote is the sum of the ranks of MACs, NTK '
        f"condition number (smaller is better) and ZiCo (larger is better), weighted: {html.escape(counts)}. The "
        "lowest sum wins, a tie goes to fewer blocks. The time of a forward is that of one batch, timed for "
        "the eye on a machine that may be busy; it doesn't vote.</p>"
    )


def _row(candidate: dict[str, Any], *, mark: str, taken: bool) -> str:
    ranks = candidate.get("ranks") or {}
    cells = [
        f"{candidate['num_dropped']}" + (f"<small>{mark}</small>" if mark else ""),
        html.escape(", ".join(map(str, candidate["dropped"])) or "none"),
        f"<b>{_short(candidate.get('total'))}</b>",
        _ranked(_large(candidate.get("macs")), ranks.get("cost")),
        _ranked(_short(candidate.get("ntk")), ranks.get("ntk")),
        _ranked(_short(candidate.get("zico")), ranks.get("zico")),
        _milliseconds(candidate.get("seconds_per_step")),
    ]
    css = ' class="chosen"' if taken else ""
    return f"<tr{css}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _ranked(value: str, rank: float | None) -> str:
    return value if rank is None else f"{value}<small>rank {rank:g}</small>"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _large(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9:.4g} G" if value >= 1e9 else f"{value / 1e6:.4g} M"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.3g} ms"
