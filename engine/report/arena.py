"""An arena as a report: who chose best, with intervals, and whose scores foretold what came out."""

from collections.abc import Mapping
from html import escape
from typing import Any

from engine.arena.entrants import ENTRANTS
from engine.report.page import Page, label_text, section, table
from engine.report.plots import Point, dots
from engine.report.summary import header
from engine.report.words import blocks, count, number
from engine.runs.store import Run

_COLOURS = {"intact": ("$kept", "diamond"), "progressive": ("$pruned", "square"), "chance": ("$muted", "x-thin-open")}


def arena_header(run: Run, found: Mapping[str, Any]) -> str:
    result = found["result"]
    model, data = escape(str(run.params["model"])), escape(str(run.params["data"]))
    what = count(result["num_dropped"], "block")
    lead = f"{model} on {data}: who drops {what} best, with the same recovery for everybody?"
    return header(run, lead) + f'<p class="verdict">{_verdict(result)}</p>'


def arena_section(page: Page, run: Run, found: Mapping[str, Any]) -> str:
    result = found["result"]
    fid = f"FID ({run.params.get('config', {}).get('protocol', {}).get('features', 'demo-cnn')})"
    points = [_point(row) for row in result["table"]]
    chance = result.get("chance")
    figure = page.figure(
        dots([("", points)], title=f"{label_text(fid)} after recovery, lower is better",
             floor=chance["fid"]["mean"] if chance else None),
        label=f"FID of {len(points)} entrants", head=("entrant", fid, "low", "high"),
        caption=f"Mean over {count(result['num_seeds'], 'seed')} with {result['confidence']:.0%} interval. Diamond: "
        "the intact model, squares: pruned in stages, circles: all at once, crosses: drawn by lot"
        + ("; dashed: what blocks drawn by lot get." if chance else "."),
        rows=[
            (row["entrant"], *(number(row["fid"][key]) for key in ("mean", "low", "high"))) for row in result["table"]
        ],
    )  # fmt: skip
    return section("What came of it", figure, _table(result, fid)) + section("Who foretold it", _foresight(result))


def _verdict(result: Mapping[str, Any]) -> str:
    """The best of those that dropped something, and who can't be told from it."""
    rows = [row for row in result["table"] if row["kind"] != "intact"]
    if not rows:
        return "Nobody has been measured yet."
    best = rows[0]
    alike = [row for row in rows if row["dropped"] == best["dropped"] and row["fid"] == best["fid"]]
    name = escape(" = ".join(_title(row) for row in alike))
    if best["fid"]["low"] is None:
        return f"<b>{name}</b> has the lowest FID; one seed has no interval, so that nothing is beyond noise."
    others = [row for row in rows if row not in alike]
    equal = [row for row in others if row["fid"]["low"] is None or row["fid"]["low"] <= best["fid"]["high"]]
    if not equal:
        return f"<b>{name}</b> is best, beyond noise: its interval is clear of every other's."
    return (
        f"<b>{name}</b> has the lowest FID, but no difference beyond noise from "
        f"{count(len(equal), 'other entrant')} of {len(others)}: their intervals overlap."
    )


def _point(row: Mapping[str, Any]) -> Point:
    colour, symbol = _COLOURS.get(row["kind"], ("$reading", "circle"))
    fid = row["fid"]
    return Point(
        name=label_text(_title(row), most=34), x=row["entrant"], value=fid["mean"], low=fid["low"], high=fid["high"],
        colour=colour, symbol=symbol,
    )  # fmt: skip


def _title(row: Mapping[str, Any]) -> str:
    return ENTRANTS[row["entrant"]].title if row["entrant"] in ENTRANTS else row["entrant"]


def _table(result: Mapping[str, Any], fid: str) -> str:
    head = ("entrant", "blocks dropped", fid, "loss", "class accuracy", "FID over the intact model's", "seeds")
    rows = []
    for row in result["table"]:
        sets = row.get("num_sets", 1)
        several = f"<small>the commonest of {sets} sets</small>" if sets > 1 else ""
        rows.append([
            escape(_title(row)), blocks(row["dropped"]) + several,
            *(_mean(row.get(key)) for key in ("fid", "loss", "accuracy", "against_intact")), str(row["num_seeds"]),
        ])  # fmt: skip
    return table(head, rows)


def _foresight(result: Mapping[str, Any]) -> str:
    rows = []
    for name, found in result["foresight"].items():
        shown = [escape(ENTRANTS[name].title if name in ENTRANTS else name)]
        for measure in ("fid", "loss"):
            value = found.get(measure)
            shown.append(
                "–" if value is None
                else f"{number(value['value'])}<small>[{number(value['low'])}, {number(value['high'])}]</small>"
            )  # fmt: skip
        rows.append(shown)
    note = (
        f"<p>Spearman's correlation, over {result['num_sets']} sets, between a criterion's scores of the dropped "
        "blocks and what came out: 1 would be one that always knew; an interval that holds 0 says nothing.</p>"
    )
    return note + table(("criterion", "with FID", "with the loss"), rows) if rows else ""


def _mean(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return "–"
    if measured["low"] is None:
        return f"{number(measured['mean'])}<small>one seed</small>"
    return f"{number(measured['mean'])}<small>[{number(measured['low'])}, {number(measured['high'])}]</small>"
