"""Numbers of two to four stages side by side; what was measured under other conditions stands apart."""

import html
from collections.abc import Sequence

import streamlit as st

from app.comparing import efficiency_table, metrics_files
from app.comparing.headline import headline
from app.comparing.measured import Measured, apart_in_words, floor_of, groups_alike, measured
from app.comparing.picked import Picked
from app.numbers import change, interval, ranged
from app.wide import wide
from engine.evaluation.comparing import UNTRAINED_LABELS, best_of, compared, higher_is_better, part_compared


def draw(picked: Sequence[Picked]) -> None:
    """Raises AssetError for damaged metrics."""
    stages = measured(picked)
    missing = [one.label for one in picked if one.label not in {stage.label for stage in stages}]
    if missing:
        st.info(f"Not evaluated, so without numbers: {', '.join(missing)}. Evaluate to see {_them(missing)} here.")
    if not stages:
        return
    st.html(headline(groups_alike(stages)))
    tables(stages)
    metrics_files.downloads(groups_alike(stages))


def tables(stages: Sequence[Measured]) -> None:
    """The numbers with how they were measured; nothing said about them."""
    groups = groups_alike(stages)
    for index, group in enumerate(groups):
        if index:
            st.html(_apart(groups[0][0], group))
        st.html(fidelity_table(group))
        st.html(_protocol(group))
    if efficiency := efficiency_table.rows(stages):
        st.html(_table(_head(stages), [_row(name, note, cells) for name, note, cells in efficiency]))
        lines = [efficiency_table.NOTE, *efficiency_table.notes(stages)]
        st.html(f'<p class="ep-note">{"<br>".join(map(html.escape, lines))}</p>')


def _them(labels: list[str]) -> str:
    return "it" if len(labels) == 1 else "them"


def _apart(first: Measured, group: Sequence[Measured]) -> str:
    if first.untrained or group[0].untrained:
        alone = html.escape(", ".join(one.label for one in (first, *group) if one.untrained))
        return f'<p class="ep-say"><b>{alone}</b> is compared with nothing. {html.escape(UNTRAINED_LABELS)}</p>'
    differing = html.escape(apart_in_words(first, group[0]))
    names = html.escape(", ".join(one.label for one in group))
    return (
        f'<p class="ep-say">Measured under different conditions than {html.escape(first.label)}, so the scores of '
        f"<b>{names}</b> stand apart and are compared with nothing above: <b>{differing}</b>. Evaluate with the same "
        "settings to compare.</p>"
    )


def fidelity_table(group: Sequence[Measured]) -> str:
    """Of stages that were measured alike: each number with its interval, its distance from the first stage's, and a
    mark where it is better than all the others beyond noise."""
    names = list(dict.fromkeys(name for one in group for name in one.metrics["fidelity"]))
    return _table(_head(group), [_fidelity_row(name, group) for name in names])


def _fidelity_row(name: str, group: Sequence[Measured]) -> str:
    values = [one.score(name) for one in group]
    floor = floor_of(name, group)
    best = best_of(name, values, floor=floor)
    note = "higher is better" if higher_is_better(name) else "lower is better"
    if name.startswith("KID"):
        note += "<br>every class is drawn equally often, so it reads a little low at few pictures and can be negative"
        note += "; the noise floor reads low by about the same" if floor else ""
    if floor:
        note += f"<br>noise floor {ranged(floor)} ({interval(floor)}): real pictures against real ones"
    cells = [_cell(name, value, values[0] if index else None, floor, best=best == index, several=len(group) > 2)
             for index, value in enumerate(values)]  # fmt: skip
    return _row(html.escape(name), note, cells)


def _cell(name: str, value: dict | None, first: dict | None, floor: dict | None, *, best: bool, several: bool) -> str:
    if value is None:
        return "–<small>not measured</small>"
    mark = f' class="best{" of-all" if several else ""}"' if best else ""
    parts = [f"<span{mark}>{ranged(value)}</span><small>{interval(value)}</small>"]
    if first is not None:
        words = {1: "better", 0: "within noise", -1: "worse"}[compared(name, first, value, floor=floor)]
        parts.append(f"<small>{change(value, first)}, {words}</small>")
    return "".join(parts)


def _protocol(group: Sequence[Measured]) -> str:
    """How the numbers were measured, and why they are weak, in the file's own words."""
    notes = list(dict.fromkeys(note for one in group for note in one.metrics.get("warnings", [])))
    reference = group[0].metrics.get("reference") or {}
    against = f" against {reference['num_images']:,} real pictures of {reference['name']}" if reference else ""
    part = part_compared(reference) if reference else ""
    against += f" ({part})" if part else ""
    lines = [f"Measured with {group[0].protocol}{against}. Ranges are 90 % intervals.", *notes]
    if len(group) > 1:
        lines.append("Better and worse are said only where two intervals lie apart and the gap is wider than the "
                     "noise floor's range.")  # fmt: skip
    return f'<p class="ep-note">{"<br>".join(map(html.escape, lines))}</p>'


def _head(stages: Sequence[Measured]) -> list[str]:
    return [f"{html.escape(one.label)}<small>{html.escape(_about(one))}</small>" for one in stages]


def _about(one: Measured) -> str:
    title, depth = one.picked.stage.title, f"{one.picked.stage.depth} blocks"
    return title if "block" in title else f"{title} · {depth}"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in ("what", *heads))
    table = f'<table class="ep-table ep-numbers"><tr>{head}</tr>{"".join(rows)}</table>'
    return wide(table, label="Numbers of each stage")


def _row(name: str, note: str, cells: Sequence[str]) -> str:
    shown = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><td>{name}{f'<small>{note}</small>' if note else ''}</td>{shown}</tr>"
