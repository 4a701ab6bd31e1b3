"""Which blocks went and why: the strip of each stage, the scores it rested on, the vote."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from engine.importance.config import VARIABLES
from engine.report.lineage import parent_of, row_names, scored_blocks
from engine.report.page import Page, label_text, listed, section, table
from engine.report.plots import colour_limit, heatmap, importance_bars
from engine.report.words import blocks, number, si
from engine.runs.stage import Stage

_VOTERS = (("cost", "macs", "MACs"), ("ntk", "ntk", "NTK condition number"), ("zico", "zico", "ZiCo"))


def strips_section(stages: Sequence[Stage]) -> str:
    every = stages[0].kept_blocks
    rows = []
    for stage in stages:
        parent = parent_of(stage, stages)
        grew = f", grew from stage {parent.number}" if parent and parent.number != stage.number - 1 else ""
        title = f"<h3>Stage {stage.number}: {escape(stage.title)}{grew}</h3>"
        rows.append(f'<div class="keep">{title}{strip(every, stage.kept_blocks, stage.info["dropped_blocks"])}</div>')
    note = (
        "Blue: the model as it was loaded. Green: kept in a pruned stage. Hatched: dropped in this stage. Dotted: gone "
        "before. Numbers are those of the loaded model."
    )
    return section("Which blocks went", f'<p class="muted">{note}</p>', *rows)


def strip(all_blocks: Sequence[int], kept: Sequence[int], dropped: Sequence[int]) -> str:
    """One square per block of the loaded model: kept, dropped in this stage, or gone before."""
    squares, pruned = [], len(kept) < len(all_blocks)
    for block in all_blocks:
        kind = "dropped" if block in dropped else "kept" if block in kept else "gone"
        css = "kept pruned" if kind == "kept" and pruned else kind
        squares.append(f'<span class="{css}" title="block {block}: {kind}">{block}</span>')
    label = f"{len(kept)} of {len(all_blocks)} blocks kept: {blocks(kept)}; dropped in this stage: {blocks(dropped)}"
    return f'<div class="strip" role="img" aria-label="{label}">{"".join(squares)}</div>'


def importance_section(page: Page, stages: Sequence[Stage]) -> str:
    parts = []
    for stage in stages:
        ced = stage.ced()
        if ced:
            dropped = [block in stage.info["dropped_blocks"] for block in scored_blocks(stage, stages)]
            figures = ced_figures(page, ced, names=row_names(stage, stages), dropped=dropped, explained=not parts)
            parts.append(f'<div class="keep"><h3>Before stage {stage.number}</h3>{figures}</div>')
    if not parts:
        parts = ["<p>No scores were computed: nothing was dropped yet, or the blocks were named by hand.</p>"]
    return section("How important each block was", *parts)


def ced_figures(
    page: Page, ced: Mapping[str, Any], *, names: Sequence[str], dropped: Sequence[bool], explained: bool = True
) -> str:
    """The heatmap with the blocks' CED beside it, and where ``explained`` in words what they are."""
    variable, limit = VARIABLES.get(ced["variable"]), colour_limit(ced["delta"])
    column = variable.column if variable else "column"
    meaning = f"{variable.meaning} ({variable.origin}.)" if variable and explained else ""
    asked = ced.get("protocol") or {}
    how = [f"{asked['samples']} samples" if "samples" in asked else "", str(ced.get("estimator", "")),
           f"seed {asked['seed']}" if "seed" in asked else "",
           f"{ced['confidence']:.0%} bootstrap intervals"]  # fmt: skip
    intro = (
        f"<p>{'Conditional entropy deviation (CED)' if explained else 'CED'}, variable "
        f"<b>{escape(str(ced['variable']))}</b>. {escape(meaning)} "
        f'<span class="muted">{escape(" · ".join(part for part in how if part))}.</span></p>'
    )
    drawn = [label_text(name) for name in names]
    cells = page.figure(
        heatmap(dict(ced), rows=drawn, column_title=column, limit=limit),
        label=f"Heatmap of {len(names)} blocks and {len(ced['timesteps'])} columns",
        caption="ΔH without the block, nats per dimension; red: less certain, blue: more. Colours are full at "
        f"±{limit:.2g}.",
        head=("block", *(f"{t:.3g}" if t is not None else "–" for t in ced["timesteps"])),
        rows=[(name, *map(number, row)) for name, row in zip(names, ced["delta"], strict=True)],
    )
    least = ", ".join(names[row] for row in ced["order"][:5])
    bars = page.figure(
        importance_bars(dict(ced), rows=drawn, dropped=dropped),
        label=f"CED of each block with its interval; least important first: {least}",
        caption="CED of the block" + ("; orange: dropped here." if any(dropped) else "."),
        head=("block", "CED", "low", "high"),
        rows=[
            (name, *map(number, values))
            for name, *values in zip(names, ced["ced"], ced["ci_low"], ced["ci_high"], strict=True)
        ],
    )  # fmt: skip
    notes = listed([*ced["warnings"], *([ced["note"]] if ced["note"] else [])])
    return f'{intro}<div class="side">{cells}{bars}</div>{notes}'


def decisions_section(stages: Sequence[Stage]) -> str:
    parts = []
    for stage in stages:
        decision = stage.info["decision"]
        if decision:
            parts.append(f"<h3>Stage {stage.number}: {_went(stage.info['dropped_blocks'])}</h3>")
            parts.append(_how(decision) + f"<p>{escape(decision['reason'])}</p>")
            parts.append(_candidates(decision) if decision["candidates"] else "")
    return section("Why these", *parts)


def _went(dropped: Sequence[int]) -> str:
    if not dropped:
        return "no block went"
    return f"block{'s' if len(dropped) > 1 else ''} {blocks(dropped)} went"


def _how(decision: Mapping[str, Any]) -> str:
    mode = decision.get("mode")
    if mode == "overridden":
        vote = decision.get("vote") or {}
        wanted = f" The vote's reason was: {escape(str(vote['reason']))}" if vote.get("reason") else ""
        return f"<p><b>Overridden by a person.</b>{wanted}</p>"
    if mode == "chosen":
        return "<p><b>Chosen by hand</b>; there was no vote.</p>"
    return "<p><b>The vote was followed.</b> Lower ranks are better; the lowest weighted sum wins.</p>"


def _candidates(decision: Mapping[str, Any]) -> str:
    weights = decision["weights"]
    voters = [f"{name} ×\u00a0{weights[key]:g}" if key in weights else name for key, _, name in _VOTERS]
    rows = []
    for candidate in decision["candidates"]:
        cells = [f"{candidate['num_dropped']}<small>{blocks(candidate['dropped'])}</small>"]
        for key, field, _ in _VOTERS:
            value = si(candidate[field]) if field == "macs" else number(candidate[field])
            cells.append(f"{value}<small>rank {candidate['ranks'][key]:g}</small>")
        cells += [f"{1000 * candidate['seconds_per_step']:.1f} ms", f"{candidate['total']:g}"]
        rows.append(cells)
    head = ("blocks dropped", *voters, "one forward, measured", "weighted ranks")
    return table(head, rows, chosen=decision["chosen"])
