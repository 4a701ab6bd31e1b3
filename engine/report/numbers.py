"""All numbers of a run: as rows with their protocol, one number each, and as one JSON object."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.report.commands import COMMANDS, command_of
from engine.report.result import found_of
from engine.runs.provenance import package_versions
from engine.runs.stage import Stage
from engine.runs.store import Run
from engine.runs.workspace import write_bytes_atomically, write_json

_PROTOCOL = (
    "num_images", "sampler", "num_steps", "cfg_scale", "guided_channels", "seed", "device", "precision",
)  # fmt: skip
COLUMNS = (
    "run", "kind", "model", "data", "stage", "parent", "title", "depth", "dropped", "kept", "entrant", "class", "block",
    "column", "metric", "features", "value", "low", "high", "interval", *_PROTOCOL,
)  # fmt: skip
_COSTS = ("parameters", "macs", "images_per_second", "peak_memory_bytes")
_OVER_IMAGES = "90 % over generated images"


def write_csv(run: Run, out: Path) -> None:
    """Raises InputError for a run without numbers, WorkspaceError where ``out`` can't be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(run))
    write_bytes_atomically(out, text.getvalue().encode())


def write_numbers(run: Run, out: Path) -> None:
    """Raises as ``write_csv`` does."""
    write_json(out, numbers_of(run))


def numbers_of(run: Run) -> dict[str, Any]:
    found = found_of(run)
    return {
        "run": run.id, "kind": run.kind, "title": run.title, "created": run.created, "state": run.status().state,
        "params": run.params,
        "command": ["python", "-m", "engine", *command_of(run.kind, run.params)] if run.kind in COMMANDS else None,
        "versions_of_report": package_versions(),
        "stages": [
            {"info": stage.info, "metrics": stage.metrics(), "ced": stage.ced(), "provenance": stage.provenance()}
            for stage in found.stages
        ],
        "training": [event for event in run.events()[0] if event.get("event") in ("train", "band")],
        "ced": found.ced, "arena": found.arena, "rows": list(rows_of(run)),
    }  # fmt: skip


def rows_of(run: Run) -> Iterator[dict[str, Any]]:
    """One number a row; a column without a value is left out."""
    found = found_of(run)
    known = {"run": run.id, "kind": run.kind, "model": run.params.get("model"), "data": run.params.get("data")}
    for stage in found.stages:
        for row in _stage_rows(stage):
            yield {**known, **row}
    for row in [*_ced_rows(found.ced), *_arena_rows(run, found.arena)]:
        yield {**known, **row}


def _stage_rows(stage: Stage) -> Iterator[dict[str, Any]]:
    info, metrics = stage.info, stage.metrics()
    about = {
        "stage": stage.number, "parent": info.get("parent"), "title": stage.title, "depth": stage.depth,
        "dropped": _blocks(info["dropped_blocks"]), "kept": _blocks(stage.kept_blocks),
    }  # fmt: skip
    for row in _ced_rows(stage.ced()):
        yield {**about, **row}
    if metrics is None:
        return
    protocol = metrics["protocol"]
    about |= {"features": protocol.get("features"), **{key: protocol.get(key) for key in _PROTOCOL}}
    for name, value in metrics["fidelity"].items():
        yield {**about, "metric": name, **_ends(value), "interval": _OVER_IMAGES}
    for name, value in (metrics.get("noise_floor") or {}).items():
        ends = _ends(value) if isinstance(value, dict) else {"value": value}
        yield {**about, "metric": f"noise floor of {name}", **ends, "interval": "least and most of random splits"}
    for label, values in (metrics.get("per_class") or {}).items():
        for name, value in values.items():
            if isinstance(value, dict):
                num_images = values.get("num_images")
                row = {"class": label, "metric": name, **_ends(value), "interval": _OVER_IMAGES}
                yield {**about, **row, "num_images": num_images}
    for whose in ("efficiency", "efficiency_of_intact"):
        yield from _cost_rows({**about, "features": None}, metrics.get(whose), suffix=whose.removeprefix("efficiency"))


def _cost_rows(about: Mapping[str, Any], cost: Mapping[str, Any] | None, *, suffix: str) -> Iterator[dict[str, Any]]:
    if not cost:
        return
    where = {
        **about,
        "device": cost.get("device"),
        "precision": cost.get("precision"),
        "num_images": cost["batch_size"],
    }
    for key in _COSTS:
        if cost.get(key) is not None:
            yield {**where, "metric": key + suffix, "value": cost[key]}
    times = cost["latency_ms"]
    ends = {"value": times["median"], "low": times["low"], "high": times["high"]}
    yield {**where, "metric": "latency_ms" + suffix, **ends, "interval": "5th and 95th percentile of repeats"}
    if cost.get("speedup"):
        yield {**where, "metric": "speedup" + suffix, **cost["speedup"], "interval": "90 % of the median over turns"}


def _ced_rows(ced: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if not ced:
        return
    labels = ced.get("labels") or [str(block) for block in ced["blocks"]]
    samples = ced.get("protocol") or {}
    about = {"seed": samples.get("seed"), "device": samples.get("device"), "num_images": samples.get("samples"),
             "interval": f"{ced['confidence']:.0%} bootstrap over samples"}  # fmt: skip
    for row, label in enumerate(labels):
        ends = {"value": ced["ced"][row], "low": ced["ci_low"][row], "high": ced["ci_high"][row]}
        yield {**about, "block": label, "metric": f"CED ({ced['variable']})", **ends}
        for column, time in enumerate(ced["timesteps"]):
            cell = {key: ced[name][row][column] for key, name in
                    (("value", "delta"), ("low", "cell_low"), ("high", "cell_high")) if name in ced}  # fmt: skip
            yield {**about, "block": label, "column": time, "metric": f"delta H ({ced['variable']})", **cell}


def _arena_rows(run: Run, arena: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if not arena:
        return
    protocol = run.params.get("config", {}).get("protocol", {})
    about = {"features": protocol.get("features"), **{key: protocol.get(key) for key in _PROTOCOL}}
    confidence = f"{arena['result']['confidence']:.0%} over seeds"
    for row in arena["result"]["table"]:
        for measure in ("fid", "kid", "loss", "accuracy", "against_intact"):
            value = row.get(measure)
            if value:
                ends = {"value": value["mean"], "low": value["low"], "high": value["high"], "interval": confidence}
                yield {
                    **about,
                    "entrant": row["entrant"],
                    "dropped": _blocks(row["dropped"]),
                    "metric": measure,
                    **ends,
                }


def _ends(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.get(key) for key in ("value", "low", "high")}


def _blocks(values: Any) -> str:
    return " ".join(map(str, values))
