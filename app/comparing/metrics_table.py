"""Numbers of two stages side by side, as HTML; refuses to mix numbers measured under different protocols."""

import html

from engine.evaluation.comparing import differences, higher_is_better
from engine.evaluation.protocol import Protocol

_EFFICIENCY = {
    "parameters": "Parameters",
    "macs": "MACs of one forward",
    "images_per_second": "Images a second, one forward",
}


def timed_together(first: dict, second: dict, *, intact: bool) -> tuple[dict, dict]:
    """The efficiency of both. Where the first is the intact model, as timed in turns with the second: a busy machine
    then slowed both alike."""
    before = second.get("efficiency_of_intact") if intact else None
    return before or first.get("efficiency") or {}, second.get("efficiency") or {}


def table(first: dict, second: dict, *, names: tuple[str, str], intact: bool) -> str:
    """``intact``: the first is the model before anything was dropped."""
    rows = []
    if not differences(first, second):
        rows += [_fidelity(name, first, second) for name in first["fidelity"] if name in second["fidelity"]]
    rows += _efficiency(*timed_together(first, second, intact=intact))
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in ("", *names, "change"))
    return f'<div class="ep-scroll"><table class="ep-table"><tr>{heads}</tr>{"".join(rows)}</table></div>'


def headline(first: dict, second: dict, *, depths: tuple[int, int], intact: bool) -> str:
    """The comparison in one sentence."""
    before, after = timed_together(first, second, intact=intact)
    parts = [f"<b>{depths[0]} → {depths[1]} blocks</b>"]
    if "latency_ms" in before and "latency_ms" in after:
        parts.append(f"<b>{before['latency_ms']['median'] / after['latency_ms']['median']:.2f}× faster</b> as measured")
    name = next((name for name in first["fidelity"] if name in second["fidelity"]), None)
    if name and not differences(first, second):
        values = first["fidelity"][name], second["fidelity"][name]
        verdict = {0: "worse", 1: "better", None: "no clear difference, the intervals overlap"}[better(name, *values)]
        parts.append(f"{html.escape(name)} {_number(values[0])} → {_number(values[1])} ({verdict})")
    return f'<p class="ep-say">{" · ".join(parts)}</p>'


def protocol_lines(first: dict, second: dict) -> str:
    """How the numbers were measured; where that differs, which fields and why there is no common column."""
    differing = differences(first, second)
    if not differing:
        notes = "".join(f"<br>{html.escape(note)}" for note in second.get("warnings", []))
        return f'<p class="ep-note">Measured with: {html.escape(Protocol(**first["protocol"]).label())}.{notes}</p>'
    mine, theirs = first["protocol"], second["protocol"]
    words = ", ".join(
        f"{name} ({mine[name]} against {theirs[name]})" if name in mine else f"other {name}" for name in differing
    )
    return (
        f'<p class="ep-say">These two were measured under different conditions: <b>{html.escape(words)}</b>. '
        "Their scores are not put side by side; evaluate both with the same settings to compare them.</p>"
    )


def better(name: str, first: dict, second: dict) -> int | None:
    """0 or 1: which is better beyond doubt; None where the intervals overlap."""
    if not _overlap(first, second):
        return int((second["value"] > first["value"]) == higher_is_better(name))
    return None


def _overlap(first: dict, second: dict) -> bool:
    return first["low"] <= second["high"] and second["low"] <= first["high"]


def _fidelity(name: str, first: dict, second: dict) -> str:
    values = first["fidelity"][name], second["fidelity"][name]
    best = better(name, *values)
    floor = (first.get("noise_floor") or {}).get(name)
    note = "higher is better" if higher_is_better(name) else "lower is better"
    if floor is not None:
        note += f"; noise floor {_number(floor)}"
    cells = "".join(
        f'<td><span class="{"best" if best == i else ""}">{_number(v["value"])}</span>'
        f"<small>{_number(v['low'])} … {_number(v['high'])}</small></td>"
        for i, v in enumerate(values)
    )
    change = values[1]["value"] - values[0]["value"]
    doubt = "<small>intervals overlap</small>" if best is None else ""
    return (
        f"<tr><td>{html.escape(name)}<small>{note}</small></td>{cells}"
        f"<td>{'+' if change > 0 else ''}{_number(change)}{doubt}</td></tr>"
    )


def _efficiency(first: dict, second: dict) -> list[str]:
    rows = []
    for key, title in _EFFICIENCY.items():
        if key in first and key in second:
            rows.append(_row(title, _count(first[key]), _count(second[key]), f"{second[key] / first[key]:.2f}×"))
    if "latency_ms" in first and "latency_ms" in second:
        mine, theirs = first["latency_ms"], second["latency_ms"]
        where = " · ".join(
            [f"batch {first.get('batch_size', '?')}", str(first.get("device", "")), str(first.get("precision", ""))]
        )
        cells = [
            f"{_number(v['median'])} ms<small>{_number(v['low'])} … {_number(v['high'])}</small>"
            for v in (mine, theirs)
        ]
        speed = f"{mine['median'] / theirs['median']:.2f}× faster"
        rows.append(_row(f"Measured latency<small>{html.escape(where)}</small>", *cells, speed))
    return rows


def _row(title: str, *cells: str) -> str:
    return f"<tr><td>{title}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _count(value: float) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}"


def _number(value: float | dict) -> str:
    value = value["value"] if isinstance(value, dict) else value
    return (f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")
