"""The numbers on screen as files: CSV, one line for each number, and JSON."""

import csv
import io
from collections.abc import Iterator, Sequence

import streamlit as st

from app import jobs
from app.comparing.measured import Measured, apart_in_words, floor_of
from engine.evaluation.comparing import best_of, speedup

_COLUMNS = ("stage", "label", "title", "blocks", "table", "number", "value", "low", "high", "beyond_noise_best",
            "noise_floor", "noise_floor_low", "noise_floor_high", "protocol", "features_sha256", "reference",
            "reference_hash")  # fmt: skip


def downloads(groups: Sequence[Sequence[Measured]]) -> None:
    name = "-".join(["compare", *(one.picked.ref.replace("@", "-") for group in groups for one in group)])[:120]
    with st.container(horizontal=True):
        st.download_button(
            "CSV", lambda: as_csv(groups), file_name=f"{name}.csv", mime="text/csv", on_click="ignore",
            type="tertiary", key="numbers_csv",
            help="One line for each number of these tables, with its range and how it was measured.",
        )  # fmt: skip
        st.download_button(
            "JSON", lambda: jobs.as_json(as_data(groups)), file_name=f"{name}.json", mime="application/json",
            on_click="ignore", type="tertiary", key="numbers_json",
            help="All that was measured of these stages, protocols included, in one list for each table.",
        )  # fmt: skip


def as_data(groups: Sequence[Sequence[Measured]]) -> dict:
    """``tables``: stages that were measured alike; between two tables no number may be compared."""
    first = groups[0][0]
    tables = [
        {
            "differs_from_first": apart_in_words(first, group[0]),
            "stages": [
                {"stage": one.picked.ref, "label": one.label, "title": one.picked.stage.title,
                 "blocks": one.picked.stage.depth, "speedup_of_one_forward": speedup(one.metrics), **one.metrics}
                for one in group
            ],
        }
        for group in groups
    ]  # fmt: skip
    return {"tables": tables}


def as_csv(groups: Sequence[Sequence[Measured]]) -> str:
    text = io.StringIO()
    lines = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    lines.writeheader()
    for table, group in enumerate(groups, start=1):
        for one in group:
            about = _about(one) | {"table": table}
            lines.writerows(about | line for line in (*_scores(one, group), *_efficiency(one)))
    return text.getvalue()


def _about(one: Measured) -> dict:
    features, reference = (one.metrics.get(part) or {} for part in ("features", "reference"))
    return {
        "stage": one.picked.ref, "label": one.label, "title": one.picked.stage.title,
        "blocks": one.picked.stage.depth, "protocol": one.protocol, "features_sha256": features.get("sha256", ""),
        "reference": reference.get("name", ""), "reference_hash": reference.get("hash", ""),
    }  # fmt: skip


def _scores(one: Measured, group: Sequence[Measured]) -> Iterator[dict]:
    for name, value in one.metrics["fidelity"].items():
        floor = floor_of(name, group) or {}
        best = best_of(name, [other.score(name) for other in group], floor=floor or None)
        yield _line(name, value) | {
            "beyond_noise_best": "yes" if best is not None and group[best] is one else "no",
            "noise_floor": floor.get("value", ""), "noise_floor_low": floor.get("low", ""),
            "noise_floor_high": floor.get("high", ""),
        }  # fmt: skip


def _efficiency(one: Measured) -> Iterator[dict]:
    """Of the stage, then of the intact model that was timed with it; numbers only."""
    for prefix, part in (("", "efficiency"), ("intact model, timed in turns: ", "efficiency_of_intact")):
        for name, value in _flat(one.metrics.get(part) or {}):
            yield {"number": prefix + name, **value}
    if found := speedup(one.metrics):
        yield _line("speed-up of one forward over the intact model", found)


def _flat(values: dict, within: str = "") -> Iterator[tuple[str, dict]]:
    for name, value in values.items():
        if isinstance(value, dict) and "median" in value:
            yield within + name, {"value": value["median"], "low": value["low"], "high": value["high"]}
        elif isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        elif isinstance(value, int | float | str):  # notes are words about the numbers, and in the JSON
            yield within + name, {"value": value}


def _line(name: str, value: dict) -> dict:
    return {"number": name, **{key: value[key] for key in ("value", "low", "high")}}
