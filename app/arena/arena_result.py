"""An arena on screen: the answer in words, who got what, and how it was measured."""

import html
import re
from typing import Any

import streamlit as st

from app import charts, jobs
from app.arena import arena_charts, arena_entries, arena_foresight, arena_reading, arena_table
from app.arena.arena_charts import Dot
from app.arena.arena_entries import GROUPS, Entry
from app.importance.criteria import short
from app.keeping import report_button
from app.style import palette
from engine.evaluation.protocol import Protocol


def draw(content: dict[str, Any], name: str, *, depth: int) -> None:
    metric = f"FID ({content['config'].get('protocol', {}).get('features', Protocol.features)})"
    found, reading = arena_entries.entries(content), arena_reading.read(content)
    said = arena_reading.sentences(content, metric=metric)
    st.html(
        f'<p class="ep-say">{said[0]}</p><ul class="ep-list">' + "".join(f"<li>{s}</li>" for s in said[1:]) + "</ul>"
    )
    _missing(content)
    _outcomes(found, reading, content, metric)
    st.html(
        arena_table.table(
            found, reading, metric=metric, depth=depth, num_seeds=content["result"]["num_seeds"], palette=palette()
        )
        + arena_table.note(with_cost=arena_table.with_cost(found))
    )
    arena_foresight.draw(content, found, metric)
    _protocol(content)
    _downloads(content, name)


def _missing(content: dict[str, Any]) -> None:
    num, planned = len(content["bouts"]), arena_entries.num_planned(content)
    if num >= planned:
        return
    names = [short(name) for name in arena_entries.unmeasured(content)]
    absent = f" Nothing yet of: {', '.join(names)}." if names else ""
    st.html(
        f'<p class="ep-note"><b>{num} of {planned} trainings measured so far.</b>{html.escape(absent)} Rounds go seed '
        "by seed, so that what is there compares like with like.</p>"
    )


def _outcomes(found: list[Entry], reading: arena_reading.Reading | None, content: dict[str, Any], metric: str) -> None:
    confidence = content["result"]["confidence"]
    dots = [_dot(entry, strong=reading is not None and reading.wins and entry == reading.best) for entry in found]
    lot = reading.chance if reading else None
    st.html(
        '<p class="ep-question">Which way of pruning costs least, after the same training?</p>'
        + _legend([dot.group for dot in dots], lot, confidence)
    )
    st.plotly_chart(
        arena_charts.outcomes(
            dots, lot=_lot(content), title=metric, palette=palette(),
            band=(lot.low, lot.high) if lot else None, close=arena_reading.CLOSE,
        ),
        key="arena_outcomes", config=charts.PICTURE_CONFIG, alt=f"Mean {metric} of each entrant with its interval",
    )  # fmt: skip


def _dot(entry: Entry, *, strong: bool = False) -> Dot:
    fid = entry.row["fid"]
    about = f"without {', '.join(map(str, entry.dropped))}" if entry.dropped else "nothing dropped"
    names = tuple(short(name) for name in entry.names)
    return Dot(
        names=names, group=entry.group, value=fid["mean"], low=fid["low"], high=fid["high"], about=about, strong=strong
    )


def _lot(content: dict[str, Any]) -> Dot | None:
    """All random sets together: their mean, with an interval over sets."""
    lot = content["result"]["chance"]
    if lot is None:
        return None
    name = "1 random set" if lot["num_sets"] == 1 else f"{lot['num_sets']} random sets"
    return Dot(
        names=(name,), group="chance", value=lot["fid"]["mean"], low=lot["fid"]["low"], high=lot["fid"]["high"],
        about="mean over sets",
    )  # fmt: skip


def _legend(groups: list[str], lot: arena_reading.Chance | None, confidence: float) -> str:
    colours = palette()
    parts = [
        f'<span><b style="color:{getattr(colours, group.colour)}">{group.mark}</b> {group.title}</span>'
        for name, group in GROUPS.items()
        if name in groups
    ]
    if lot:
        parts.append(
            f'<span><i style="background:{colours.muted};opacity:.3"></i>where {confidence:.0%} of sets drawn by lot '
            f"would end, judged from {lot.num_sets}</span>"
        )
    if "intact" in groups:
        parts.append(f'<span><i class="line"></i>{arena_reading.CLOSE}× intact</span>')
    parts.append(f"<span>with {confidence:.0%} intervals over seeds (random sets: over sets); lower is better</span>")
    return f'<p class="ep-legend">{"".join(parts)}</p>'


def _protocol(content: dict[str, Any]) -> None:
    config, result = content["config"], content["result"]
    recovery, protocol = config.get("finetune", {}), config.get("protocol", {})
    words = [
        f"{content['model']} on {content['data']}", f"{result['num_dropped']} blocks dropped",
        f"{config['adapt_steps']} steps of adapting the intact model first" if config.get("adapt_steps") else "",
        f"{recovery.get('num_steps')} steps of {recovery.get('batch_size')} images at rate "
        f"{recovery.get('learning_rate', 0):.1e}, {recovery.get('schedule', 'constant')}",
        f"distillation {recovery['distill_weight']:g}" if recovery.get("distill_weight") else "",
        f"{result['num_seeds']} seeds", f"scores from {config.get('samples')} images", Protocol(**protocol).label(),
    ]  # fmt: skip
    command = content.get("command")
    st.html(
        f'<p class="ep-note">Measured with: {html.escape(" · ".join(word for word in words if word))}. Who prunes in '
        "stages gets as many steps in all. Differences are judged seed by seed on a log scale, "
        f"{result['confidence']:.0%} intervals over seeds, with allowance for the number of comparisons; those "
        "from sets drawn by lot by whether the two intervals lie apart."
        + (f" Done again with: <code>{html.escape(command)}</code>" if command else "")
        + " Pictures: the camera at the top right of each chart.</p>"
    )


def _downloads(content: dict[str, Any], name: str) -> None:
    file = re.sub(r"[^\w.-]+", "-", name)
    with st.container(horizontal=True):
        st.download_button(
            "CSV of entrants", lambda: arena_table.frame_of_entrants(content).to_csv(index=False),
            file_name=f"{file}.csv", mime="text/csv", on_click="ignore", type="tertiary",
            help="Every entrant with its blocks, means and intervals.",
        )  # fmt: skip
        st.download_button(
            "CSV of bouts", lambda: arena_table.frame_of_bouts(content).to_csv(index=False),
            file_name=f"{file}-bouts.csv", mime="text/csv", on_click="ignore", type="tertiary",
            help="One row for each training: what was measured before any averaging.",
        )  # fmt: skip
        st.download_button(
            "JSON", lambda: jobs.as_json(content), file_name=f"{file}.json", mime="application/json",
            on_click="ignore", type="tertiary", help="Everything: scores, sets, bouts, result and settings.",
        )  # fmt: skip
        if run := jobs.readable(name):  # a recorded one has none
            report_button.draw(run)
