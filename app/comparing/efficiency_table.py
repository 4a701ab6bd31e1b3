"""What each picked stage costs, as rows of a table. Only what was timed in turns is divided by each other."""

import html
from collections.abc import Callable, Sequence

from app.comparing.measured import Measured
from app.numbers import count, interval, number, ranged
from engine.byte_size import byte_size
from engine.evaluation.comparing import speedup

NOTE = (
    "Times of different stages come from different moments, under another load, and are never divided by each other. A "
    "speed-up sets a stage against its run's intact model, timed with it in turns: the median of the turns' ratios, "
    "with its 90 % interval. Files from before the turns were kept set the slowest of one against the fastest of the "
    "other."
)


def notes(stages: Sequence[Measured]) -> list[str]:
    """What the files say is to be known of these numbers; of which stages, where not of all."""
    said: dict[str, list[str]] = {}
    for one in stages:
        for note in _efficiency(one).get("notes") or []:
            said.setdefault(note, []).append(one.label)
    return [f"{', '.join(labels)}: {note}." for note, labels in said.items()]


def rows(stages: Sequence[Measured]) -> list[tuple[str, str, list[str]]]:
    """(name, what it is, a cell of HTML for each stage); rows that no stage has are left out."""
    first = stages[0]
    made = [
        ("Blocks", "", [str(one.picked.stage.depth) for one in stages]),
        ("Parameters", "", [_counted(one, first, "parameters") for one in stages]),
        ("MACs", "multiply-adds of one forward, one picture", [_counted(one, first, "macs") for one in stages]),
        ("Time of one forward", "median, 5th … 95th percentile; each stage at a moment of its own",
         _cells(stages, _latency)),
        ("Speed-up of one forward", "over its run's intact model", _cells(stages, _speedup)),
        ("At most, by depth", "blocks of its run's intact model over its own", _cells(stages, _bound)),
        ("Pictures a second", "from noise to pixels", _samplings(stages)),
        ("Speed-up of drawing", "over its run's intact model, drawn in turns", _cells(stages, _sampling_speedup)),
        ("Peak memory", "of one forward, weights included", _cells(stages, _bytes_of("peak_memory_bytes"))),
        ("File size", "of the weights", _cells(stages, _bytes_of("file_bytes"))),
    ]  # fmt: skip
    return [row for row in made if any(cell != _NOTHING for cell in row[2])]


_NOTHING = "–"


def _cells(stages: Sequence[Measured], cell: Callable[[Measured], str]) -> list[str]:
    return [cell(one) for one in stages]


def _efficiency(one: Measured) -> dict:
    return one.metrics.get("efficiency") or {}


def _counted(one: Measured, first: Measured, key: str) -> str:
    """Counts are the same whenever they are taken, so they are set against the first column's."""
    own, base = _efficiency(one).get(key), _efficiency(first).get(key)
    if own is None:
        return _NOTHING
    share = f"<small>{own / base:.0%} of {html.escape(first.label)}</small>" if base and one is not first else ""
    return count(own) + share


def _latency(one: Measured) -> str:
    """With that of the intact model in the same turns, where there was one: only these two stand side by side."""
    intact = (one.metrics.get("efficiency_of_intact") or {}).get("latency_ms")
    beside = f"<small>its intact model in the same turns: <b>{_milliseconds(intact)}</b></small>" if intact else ""
    return _time(_efficiency(one)) + beside


def _time(efficiency: dict) -> str:
    latency = efficiency.get("latency_ms")
    if not latency:
        return _NOTHING
    known = [f"batch {efficiency['batch_size']}" if efficiency.get("batch_size") else ""]
    where = " · ".join(filter(None, [*known, efficiency.get("device", ""), efficiency.get("precision", "")]))
    return f"{_milliseconds(latency)}<small>{interval(latency)}<br>{html.escape(where)}</small>"


def _milliseconds(latency: dict) -> str:
    return f"{ranged(latency | {'value': latency['median']})} ms"


def _speedup(one: Measured) -> str:
    found = speedup(one.metrics)
    return f"{found['value']:.2f}×<small>{found['low']:.2f} … {found['high']:.2f}</small>" if found else _NOTHING


def _bound(one: Measured) -> str:
    """What is outside the blocks takes its time as before, so that the speed-up stays below this."""
    intact = one.picked.run.stages()[0].depth
    return f"{intact / one.picked.stage.depth:.2f}×" if intact > one.picked.stage.depth else _NOTHING


def _samplings(stages: Sequence[Measured]) -> list[str]:
    """Where it is missing though others have it, or was left out as too slow, the next step stands in its place."""
    made = _cells(stages, _sampling)
    slow = [any(_TOO_SLOW in note for note in _efficiency(one).get("notes") or []) for one in stages]
    if not any(slow) and all(cell == _NOTHING for cell in made):
        return made
    return [
        cell if cell != _NOTHING else f"{_NOTHING}<small>{_SMALLER if too_slow else _AGAIN}</small>"
        for cell, too_slow in zip(made, slow, strict=True)
    ]


_TOO_SLOW = "sampling wasn't timed"  # begins the engine's note
_SMALLER = "too slow here to be timed: “Measure again” with a smaller batch or fewer steps"
_AGAIN = "not timed with it: “Measure again” does"


def _sampling(one: Measured) -> str:
    """End to end, where it was measured."""
    sampling = _efficiency(one).get("sampling") or {}
    if "images_per_second" not in sampling:
        return _NOTHING
    about = [f"batch {sampling['batch_size']}" if sampling.get("batch_size") else "",
             f"{sampling['turns']} turns" if sampling.get("turns") else ""]  # fmt: skip
    return f"{number(sampling['images_per_second'])}<small>{' · '.join(filter(None, about))}</small>"


def _sampling_speedup(one: Measured) -> str:
    """Only where the intact model drew in turns with it."""
    sampling = _efficiency(one).get("sampling") or {}
    if "efficiency_of_intact" not in one.metrics or sampling.get("speedup") is None:
        return _NOTHING
    low, high = sampling.get("speedup_low"), sampling.get("speedup_high")
    ends = f"<small>{low:.2f} … {high:.2f} over the turns</small>" if low is not None and high is not None else ""
    return f"{sampling['speedup']:.2f}×{ends}"


def _bytes_of(key: str) -> Callable[[Measured], str]:
    return lambda one: byte_size(_efficiency(one)[key]) if _efficiency(one).get(key) else _NOTHING
