"""A pruning run as one HTML file: no scripts, nothing fetched, light and dark, printable. Free of torch."""

from dataclasses import fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from engine.errors import AssetError, InputError
from engine.evaluation.comparing import differences
from engine.evaluation.protocol import Protocol
from engine.evaluation.report_figures import block_strip, ced_figure, loss_figure, picture
from engine.importance.config import VARIABLES
from engine.models.bundled import read_model_info
from engine.runs.store import Run, Stage
from engine.runs.workspace import write_bytes_atomically

NUM_PAIRS = 24  # before and after pictures in the gallery
_CSS = Path(__file__).with_suffix(".css")


def write_report(run_folder: Path, out: Path) -> None:
    """Raises InputError for a run that has nothing to report, AssetError for a damaged one, WorkspaceError where
    ``out`` can't be written."""
    run = Run(run_folder)
    if run.kind != "prune":
        raise InputError(f"run {run.id} is of kind {run.kind!r}; a report is made of a pruning run")
    stages = run.stages()
    if not stages:
        raise InputError(f"run {run.id} is {run.status().state} and has no finished stage to report yet")
    try:
        page = render_report(run, stages)
    except KeyError as error:
        raise AssetError(f"run {run.id} lacks {error}: another version wrote it, or a file was changed") from error
    write_bytes_atomically(out, page.encode())


def render_report(run: Run, stages: list[Stage]) -> str:
    sections = (
        _header(run, stages),
        _settings(run),
        _strips(stages),
        _importance(stages),
        _decisions(stages),
        _losses(run),
        _gallery(stages),
        _metrics(stages),
        _notes(stages),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.title)}</title><style>{_CSS.read_text()}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _header(run: Run, stages: list[Stage]) -> str:
    first, last = stages[0], stages[-1]
    state = run.status().state
    day = datetime.fromtimestamp(run.created, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lead = f"{escape(str(run.params['model']))} on {escape(str(run.params['data']))}: "
    lead += (
        f"{first.depth} blocks became {last.depth} in {_count(len(stages) - 1, 'stage')}, each followed by fine-tuning."
    )
    if adapted := first.info.get("train"):
        lead += f" The intact model was adapted to the data before, in {_count(adapted['num_steps'], 'training step')}."
    if state != "done":
        lead += f" <b>The run is {state}</b>; this is what it had finished."
    return (
        f'<p class="eyebrow">EntPruner Studio · run {escape(run.id)} · {day}</p><h1>{escape(run.title)}</h1>'
        f'<p class="lead">{lead}</p><div class="tiles">{"".join(_tiles(first, last))}</div>'
    )


def _tiles(first: Stage, last: Stage) -> list[str]:
    tiles = [_tile(f"{first.depth} → {last.depth}", "blocks")]
    before, after = first.metrics(), last.metrics()
    if before is None or after is None or first is last:
        return tiles
    cost_before, cost_after = after.get("efficiency_of_intact") or before["efficiency"], after["efficiency"]
    for key, name in (("parameters", "parameters"), ("macs", "multiply-adds per forward")):
        tiles.append(_tile(f"{cost_after[key] / cost_before[key]:.0%}", f"of the {name}"))
    faster = cost_before["latency_ms"]["median"] / cost_after["latency_ms"]["median"]
    tiles.append(_tile(f"{faster:.2f}×", f"as fast ({cost_after['device']}, batch {cost_after['batch_size']})"))
    if not differences(before, after):
        for name, measured in after["fidelity"].items():
            if name.startswith("FID") and name in before["fidelity"]:
                tiles.append(_tile(f"{before['fidelity'][name]['value']:.3g} → {measured['value']:.3g}", escape(name)))
    return tiles


def _tile(value: str, what: str) -> str:
    return f"<div><b>{value}</b><small>{what}</small></div>"


def _settings(run: Run) -> str:
    shown = []
    for key, value in run.params.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        text = ", ".join(f"{name} {part}".strip() for name, part in parts if part not in (None, "", []))
        if not text:
            continue
        shown.append(f"<dt>{escape(str(key))}</dt><dd>{escape(text)}</dd>")
    return f"<h2>What was asked for</h2><dl>{''.join(shown)}</dl>"


def _strips(stages: list[Stage]) -> str:
    every = stages[0].kept_blocks
    rows = [
        f"<h3>Stage {stage.number}: {escape(stage.title)}</h3>"
        + block_strip(every, stage.kept_blocks, stage.info["dropped_blocks"])
        for stage in stages
    ]
    note = "Filled: kept. Hatched: dropped in this stage. Dotted: gone before. Numbers are those of the loaded model."
    return f'<h2>Which blocks went</h2><p class="muted">{note}</p>{"".join(rows)}'


def _importance(stages: list[Stage]) -> str:
    scored = next(((stage, ced) for stage in stages if (ced := stage.ced())), None)
    if scored is None:
        return "<h2>How important each block was</h2><p>No scores were computed: the blocks were named by hand.</p>"
    stage, ced = scored
    variable = VARIABLES.get(ced["variable"])
    meaning = f"{variable.meaning} ({variable.origin}.) Columns: {variable.column}." if variable else ""
    warnings = "".join(
        f"<li>{escape(text)}</li>" for text in (*ced["warnings"], *([ced["note"]] if ced["note"] else []))
    )
    return (
        f"<h2>How important each block was before stage {stage.number}</h2>"
        f"<p>Conditional entropy deviation (CED), variable <b>{escape(ced['variable'])}</b>. {escape(meaning)}</p>"
        f'<div class="wide">{ced_figure(ced)}</div>{f"<ul>{warnings}</ul>" if warnings else ""}'
    )


def _decisions(stages: list[Stage]) -> str:
    parts = []
    for stage in stages:
        decision = stage.info["decision"]
        if decision:
            table = _candidates(decision) if decision["candidates"] else ""
            parts.append(f"<h3>Stage {stage.number}</h3><p>{escape(decision['reason'])}</p>{table}")
    return f"<h2>Why these</h2>{''.join(parts)}" if parts else ""


def _candidates(decision: dict) -> str:
    weights = decision["weights"]
    heads = "".join(f"<th>{name}{_weight(weights, key)}</th>" for key, name in _VOTERS)
    rows = []
    for index, candidate in enumerate(decision["candidates"]):
        ranks = candidate["ranks"]
        cells = (
            f"{candidate['num_dropped']}<small>{', '.join(map(str, candidate['dropped'])) or 'none'}</small>",
            f"{_si(candidate['macs'])}<small>rank {ranks['cost']:g}</small>",
            f"{_figure(candidate['ntk'])}<small>rank {ranks['ntk']:g}</small>",
            f"{_figure(candidate['zico'])}<small>rank {ranks['zico']:g}</small>",
            f"{1000 * candidate['seconds_per_step']:.1f} ms",
            f"{candidate['total']:g}",
        )
        chosen = ' class="chosen"' if index == decision["chosen"] else ""
        rows.append(f"<tr{chosen}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = f"<tr><th>blocks dropped</th>{heads}<th>one forward, measured</th><th>weighted ranks</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _figure(value: float | None) -> str:
    """A score that isn't finite is written as null and ranks last."""
    return "–" if value is None else f"{value:.4g}"


_VOTERS = (("cost", "MACs"), ("ntk", "NTK condition number"), ("zico", "ZiCo"))


def _weight(weights: dict, key: str) -> str:
    return f"<small> × {weights[key]:g}</small>" if key in weights else ""


def _losses(run: Run) -> str:
    curves: dict[int, dict[int, float]] = {}
    for event in run.events()[0]:
        if event["event"] == "train" and event["loss"] is not None:
            curves.setdefault(event["stage"], {})[event["step"]] = event["loss"]  # a resumed step counts once
    if not curves:
        return "<h2>Recovery</h2><p>Nothing was fine-tuned.</p>"
    stages = [(stage, sorted(points.items())) for stage, points in sorted(curves.items())]
    return f'<h2>Recovery</h2><p>Training loss while fine-tuning.</p><div class="wide">{loss_figure(stages)}</div>'


def _gallery(stages: list[Stage]) -> str:
    before, after = stages[0].samples(), stages[-1].samples()
    if before is None or after is None or len(stages) < 2:
        return ""
    places = {
        (seed, label): k for k, (label, seed) in enumerate(zip(before[1].tolist(), before[2].tolist(), strict=True))
    }
    names = _class_names(stages[-1])
    pairs = []
    for image, label, seed in zip(after[0], after[1].tolist(), after[2].tolist(), strict=True):
        if (seed, label) in places and len(pairs) < NUM_PAIRS:
            what = names[label] if label < len(names) else f"class {label}"
            pictures = picture(before[0][places[seed, label]], f"{what}, intact") + picture(image, f"{what}, pruned")
            pairs.append(f"<figure>{pictures}<figcaption>{escape(what)} · seed {seed}</figcaption></figure>")
    if not pairs:
        return (
            "<h2>Before and after</h2><p>The two ends share no seed and class, so their pictures can't be paired.</p>"
        )
    intact = "intact model, adapted to the data" if stages[0].info.get("train") else "intact model"
    return (
        f"<h2>Before and after</h2><p>Above the {intact}, below the pruned and recovered one, from the same "
        f'starting noise and class. The first {len(pairs)}, not chosen.</p><div class="pairs">{"".join(pairs)}</div>'
    )


def _class_names(stage: Stage) -> tuple[str, ...]:
    return read_model_info(stage.path).class_names if (stage.path / "config.json").exists() else ()


def _metrics(stages: list[Stage]) -> str:
    measured = [(stage, metrics) for stage in stages if (metrics := stage.metrics())]
    if not measured:
        return "<h2>Measured</h2><p>No stage was evaluated.</p>"
    base = measured[0][1]
    alike = [(stage, metrics) for stage, metrics in measured if not differences(base, metrics)]
    rows = []
    for name in base["fidelity"]:
        rows.append((name, [_interval(metrics["fidelity"].get(name)) for _, metrics in alike]))
    for name in base.get("noise_floor", {}):
        rows.append((f"noise floor of {name}", [_floor(metrics["noise_floor"].get(name)) for _, metrics in alike]))
    costs = [metrics["efficiency"] for _, metrics in alike]
    rows.append(("parameters", [_si(cost["parameters"]) for cost in costs]))
    rows.append(("multiply-adds of a forward, one image", [_si(cost["macs"]) for cost in costs]))
    latency = "latency of a forward, batch {batch_size}, {device} {precision}, ms".format(**costs[0])
    rows.append((latency, [_interval(cost["latency_ms"], "median") for cost in costs]))
    rows.append(("beside the intact model, timed in turns", [_speedup(metrics) for _, metrics in alike]))
    head = "".join(f"<th>stage {stage.number}<small> {stage.depth} blocks</small></th>" for stage, _ in alike)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for name, cells in rows
    )
    others = ""
    for stage, metrics in measured:
        if differing := differences(base, metrics):
            others += f"<p><b>Stage {stage.number} is left out</b>: its protocol differs in {', '.join(differing)}.</p>"
    return (
        f"<h2>Measured</h2><p>{escape(_protocol(base).label())}. In brackets: 90 % intervals.</p>"
        f'<div class="wide"><table><tr><th></th>{head}</tr>{body}</table></div>{others}'
    )


def _notes(stages: list[Stage]) -> str:
    warnings = {text for stage in stages for text in (stage.metrics() or {}).get("warnings", [])}
    notes = [
        "FID and KID (demo-cnn) rest on a small CNN that ships with the product, not on Inception: they compare the "
        "stages of this report with each other and nothing else.",
        "The noise floor is what real images score against other real images at this number of images. Differences "
        "below it mean nothing.",
        "One run is one seed of training. Two models whose intervals overlap should be called equal.",
        "Timings are of one forward of the network; a picture takes one per sampling step, two with guidance.",
        "Our reading, where the paper leaves a choice: which variable's entropy CED takes, its Gaussian estimator, how "
        "many blocks a stage may drop, and the weights of the vote.",
        *sorted(warnings),
    ]
    return f"<h2>How to read this</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"


def _protocol(metrics: dict) -> Protocol:
    known = {field.name for field in fields(Protocol)}
    return Protocol(**{key: value for key, value in metrics["protocol"].items() if key in known})


def _interval(measured: dict | None, key: str = "value") -> str:
    if measured is None:
        return "–"
    return f"{measured[key]:.4g}<small>[{measured['low']:.4g}, {measured['high']:.4g}]</small>"


def _floor(floor: dict | float | None) -> str:
    if floor is None:
        return "–"
    return f"{(floor['value'] if isinstance(floor, dict) else floor):.4g}"


def _speedup(metrics: dict) -> str:
    intact = metrics.get("efficiency_of_intact")
    if not intact:
        return "–"
    return f"{intact['latency_ms']['median'] / metrics['efficiency']['latency_ms']['median']:.2f}× as fast"


def _si(number: float) -> str:
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
