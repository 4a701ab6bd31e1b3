"""A finished pruning run as one small file that shows it again: stages, votes, loss, pictures, numbers. Free of torch.

A replay holds what the run wrote, thinned out where there is more than can be looked at; nothing is worked out anew.
The pictures are PNG strips of the same seeds, inside the file.
"""

import base64
import json
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import AssetError, InputError
from engine.learn.replay_check import check_replay
from engine.report.commands import command_of
from engine.runs.drive import path_to
from engine.runs.store import Run, Stage

SCHEMA = 1
MOST_BYTES = 1_000_000  # of a file
_MOST_LOSSES, _MOST_PICTURES = 400, 40
_PARTS = ("title", "model", "data", "command", "created", "seconds", "stages", "train", "bands", "pictures")
_OF_METRICS = ("protocol", "reference", "fidelity", "noise_floor", "per_class", "warnings", "efficiency",
               "efficiency_of_intact", "labels_trained")  # fmt: skip


def replay_of(run: Run) -> dict[str, Any]:
    """Of the branch that ends with the newest stage. Raises InputError for a run that has no stage to show."""
    if run.kind != "prune":
        raise InputError(f"run {run.id} is of kind {run.kind!r}; only a pruning run can be replayed")
    stages = {stage.number: stage for stage in run.stages()}
    if len(stages) < 2:
        raise InputError(f"run {run.id} has no pruned stage yet; let it finish its first one")
    path = [number for number in path_to(run, max(stages)) if number in stages]
    events = [event for event in run.events()[0] if event.get("stage") in path]
    return {
        "schema": SCHEMA,
        "title": run.title,
        "model": run.params["model"],
        "data": run.params["data"],
        "command": "python -m engine " + " ".join(command_of("prune", run.params)),
        "created": run.created,
        "seconds": _seconds(events),
        "stages": [_stage(stages[number]) for number in path],
        "train": _thinned(_last(events, "train"), _MOST_LOSSES),
        "bands": {str(event["stage"]): event for event in _last(events, "band")},
        "pictures": _pictures(run, _thinned(_last(events, "samples"), _MOST_PICTURES)),
    }


def write_replay(run: Run, out: Path) -> int:
    """Returns the number of bytes. Raises InputError where it can't be written or has become too large to ship."""
    content = encode(replay_of(run))
    if len(content) > MOST_BYTES:
        raise InputError(f"the replay of {run.id} has {len(content):,} bytes; at most {MOST_BYTES:,} are meant to be")
    try:
        out.write_bytes(content)
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror}); choose another place") from error
    return len(content)


def encode(replay: dict[str, Any]) -> bytes:
    return (json.dumps(replay, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def read_replay(content: bytes, *, name: str) -> dict[str, Any]:
    """Of a file from anywhere. Raises AssetError, in one line about ``name``, for what isn't a replay."""
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has {len(content):,} bytes, at most {MOST_BYTES:,} are read")
        replay = json.loads(content, parse_constant=_no_constant)
        if not isinstance(replay, dict):
            raise ValueError("it isn't a JSON object")
        missing = [part for part in _PARTS if part not in replay]
        if missing:
            raise ValueError(f"{missing[0]!r} is missing")
        if replay.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {str(replay.get('schema'))[:20]!r}, this version reads {SCHEMA}")
        check_replay(replay)
    except KeyError as error:
        raise AssetError(f"{name} isn't a replay that can be shown ({error} is missing); record it again") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AssetError(f"{name} isn't a replay that can be shown ({error}); record it again") from error
    return replay


def _no_constant(name: str) -> float:
    raise ValueError(f"a number is {name}")


def _stage(stage: Stage) -> dict[str, Any]:
    info = stage.info
    kept = ("parent", "title", "depth", "kept_blocks", "dropped_blocks", "decision", "train")
    metrics = stage.metrics() or {}
    measured = {key: metrics[key] for key in _OF_METRICS if key in metrics}
    return {"number": stage.number, **{key: info.get(key) for key in kept}, "metrics": measured}


def _last(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """By stage and step: a resumed run repeats steps, and the later event counts."""
    found = {(event["stage"], event.get("step")): event for event in events if event["event"] == kind}
    return sorted(found.values(), key=lambda event: (event["stage"], event.get("step") or 0))


def _thinned(events: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Evenly, with the first and the last of each stage among them."""
    if len(events) <= most:
        return events
    ends = {
        index
        for index, event in enumerate(events)
        if index in (0, len(events) - 1)
        or event["stage"] != events[index - 1]["stage"]
        or event["stage"] != events[index + 1]["stage"]
    }
    every = len(events) / max(1, most - len(ends))
    chosen = ends | {int(index * every) for index in range(most - len(ends))}
    return [events[index] for index in sorted(chosen) if index < len(events)]


def _pictures(run: Run, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        file = run.path / "progress" / PurePosixPath(event["picture"]).name
        if file.is_file():
            png = base64.b64encode(file.read_bytes()).decode()
            found.append({"stage": event["stage"], "step": event["step"], "png": png})
    return found


def _seconds(events: list[dict[str, Any]]) -> float:
    times = [event["time"] for event in events if "time" in event]
    return round(max(times) - min(times), 1) if times else 0.0
