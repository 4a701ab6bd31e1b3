"""The beginning of a report: what was done to which model, what came of it in plain words, and is that noise."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from engine.evaluation.comparing import UNTRAINED_LABELS, compared, labels_untrained, speedup
from engine.report.lineage import way_to_last
from engine.report.measured import Metrics, floor_of, main_score, measured_stages
from engine.report.words import count, number
from engine.runs.stage import Stage
from engine.runs.store import Run


def header(run: Run, lead: str) -> str:
    """``lead`` is HTML."""
    state = run.status().state
    day = datetime.fromtimestamp(run.created, UTC).strftime("%Y-%m-%d %H:%M UTC")
    unfinished = "" if state == "done" else f" <b>The run is {escape(state)}</b>; this is what it had finished."
    return (
        f'<header><p class="eyebrow">EntPruner Studio · {escape(run.kind)} run {escape(run.id)} · {day}</p>'
        f'<h1>{escape(run.title)}</h1><p class="lead">{lead}{unfinished}</p></header>'
    )


def prune_header(run: Run, stages: Sequence[Stage]) -> str:
    way = way_to_last(stages)
    first, last = way[0], way[-1]
    lead = f"{escape(str(run.params['model']))} on {escape(str(run.params['data']))}: "
    if first is last:
        lead += f"the model as it was loaded, {count(first.depth, 'block')}; nothing was dropped yet."
    else:
        lead += f"{first.depth} blocks became {last.depth} in {count(len(way) - 1, 'stage')}{_recovery(way[1:])}."
    if adapted := first.info.get("train"):
        lead += f" The intact model was adapted to the data before, in {count(adapted['num_steps'], 'training step')}."
    if others := len(stages) - len(way):
        lead += f" {count(others, 'more stage')} on other branches: shown, but not part of this sentence."
    alike = dict((stage.number, metrics) for stage, metrics in measured_stages(way))
    before, after = alike.get(first.number), alike.get(last.number)
    ends = [stage.metrics() for stage in (first, last)]
    if all(ends) and any(map(labels_untrained, ends)):  # said in the verdict; what they cost is known all the same
        before, after = ends
    if before is None or after is None or first is last:
        return header(run, lead) + _tiles([(f"{first.depth} → {last.depth}", "blocks")])
    return header(run, lead) + verdict(before, after) + _tiles(_gains(first, last, before, after))


def evaluate_header(run: Run, stage: Stage) -> str:
    model, data = escape(str(run.params["model"])), escape(str(run.params["data"]))
    lead = header(run, f"{model}, {count(stage.depth, 'block')}, measured on {data}.")
    metrics = stage.metrics()
    if metrics and labels_untrained(metrics):
        return f'{lead}<p class="verdict"><b>Nothing is said about quality.</b> {escape(UNTRAINED_LABELS)}</p>'
    name = main_score(metrics) if metrics else None
    floor = floor_of(metrics, name) if metrics and name else None
    if metrics is None or name is None or floor is None:
        return lead
    value = metrics["fidelity"][name]
    words = {-1: "worse, beyond noise, than", 0: "no different, beyond noise, from", 1: "better, beyond noise, than"}
    said = words[compared(name, floor, value, floor=floor)]
    text = f"<b>{escape(name)} {number(value['value'])} is {said} what real images score</b>, {number(floor['value'])}."
    return f'{lead}<p class="verdict">{text}</p>'


def verdict(before: Metrics, after: Metrics) -> str:
    """One paragraph; names every number that changed beyond noise, and doesn't call the others a change. Where one side
    was drawn with an untrained label table, it says why there is nothing to say."""
    if labels_untrained(before) or labels_untrained(after):
        which = "the intact model's" if labels_untrained(before) else "the last stage's"
        text = f"<b>Nothing is said about quality: {which} numbers are no measure of it.</b>"
        return f'<p class="verdict">{text} {escape(UNTRAINED_LABELS)}</p>'
    shared = [score for score in before["fidelity"] if score in after["fidelity"]]
    found = {s: compared(s, before["fidelity"][s], after["fidelity"][s], floor=floor_of(before, s)) for s in shared}
    if not found:
        return ""
    worse, better, same = ([escape(s) for s in shared if found[s] == sign] for sign in (-1, 1, 0))
    parts = [f"worse in {', '.join(worse)}"] if worse else []
    parts += [f"better in {', '.join(better)}"] if better else []
    parts = parts or [f"no difference in {'any of ' if same[1:] else ''}{', '.join(same)}"]
    text = f"<b>Quality, beyond noise: {'; '.join(parts)}.</b>"
    if same and (worse or better):
        text += f" No difference beyond noise in {', '.join(same)}."
    name = main_score(before)
    if name in found:
        values = [number(side["fidelity"][name]["value"]) for side in (before, after)]
        apart = "overlap" if _overlap(before, after, name) else "are apart"
        apart += "" if found[name] or apart == "overlap" else ", but by less than the range of the noise floor"
        text += f" {escape(name)} went from {values[0]} to {values[1]}; the two 90 % intervals {apart}."
    text += " Noise here is that of the images drawn; training once more with another seed adds its own."
    return f'<p class="verdict">{text}</p>'


def _overlap(before: Metrics, after: Metrics, name: str) -> bool:
    a, b = before["fidelity"][name], after["fidelity"][name]
    return a["low"] <= b["high"] and b["low"] <= a["high"]


def _recovery(stages: Sequence[Stage]) -> str:
    steps = sum((stage.info.get("train") or {}).get("num_steps", 0) for stage in stages)
    return f", with {count(steps, 'step')} of fine-tuning in all" if steps else ", without fine-tuning"


def _gains(first: Stage, last: Stage, before: Metrics, after: Metrics) -> list[tuple[str, str]]:
    tiles = [(f"{first.depth} → {last.depth}", "blocks")]
    intact = after.get("efficiency_of_intact") or before["efficiency"]
    cost = after["efficiency"]
    for key, name in (("parameters", "parameters"), ("macs", "multiply-adds of a forward")):
        tiles.append((f"{cost[key] / intact[key]:.0%}", f"of the {name}"))
    if times := speedup(after):
        spread = f"[{times['low']:.2f}, {times['high']:.2f}]"
        how = f"as fast as the intact model, timed in turns, {spread} ({cost['device']}, batch {cost['batch_size']})"
        tiles.append((f"{times['value']:.2f}×", escape(how)))
    name = main_score(before)
    if name and name in after["fidelity"] and not labels_untrained(before) and not labels_untrained(after):
        a, b = before["fidelity"][name], after["fidelity"][name]
        spread = f"[{number(a['low'])}, {number(a['high'])}] → [{number(b['low'])}, {number(b['high'])}]"
        tiles.append((f"{number(a['value'])} → {number(b['value'])}", f"{escape(name)}, {spread}"))
    return tiles


def _tiles(tiles: Sequence[tuple[str, str]]) -> str:
    boxes = "".join(f"<div><b>{value}</b><small>{what}</small></div>" for value, what in tiles)
    return f'<div class="tiles">{boxes}</div>'
