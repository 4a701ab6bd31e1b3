"""What an arena found: a table of entrants with intervals, and how well each criterion's scores foretold the outcome.

Plain numbers in and out; free of torch.
"""

from typing import Any

import numpy as np
from scipy import stats

from engine.arena.config import ArenaConfig

CONFIDENCE = 0.9
_NUM_BOOTSTRAP = 1000
MEASURES = ("fid", "loss")


def arena_result(config: ArenaConfig, scores: dict[str, Any], bouts: list[dict[str, Any]]) -> dict[str, Any]:
    """``scores``: {"of": {entrant: [score per block]}, "dropped": {entrant: blocks}}; ``bouts``: see ``Bout``.

    ``table``: one row per entrant and one for the intact model, best FID first. ``chance``: all random sets together,
    mean over sets with an interval over sets. ``against_intact``: each entrant's FID over the intact model's, seed by
    seed. ``foresight``: for each criterion Spearman's correlation, over all sets that were dropped at once, between the
    sum of its scores of the dropped blocks and what came out; its interval is a bootstrap over the sets. 1 would be a
    criterion that always knew.
    """
    outcomes: dict[tuple, list[dict]] = {}
    staged: dict[str, list[dict]] = {}
    for bout in bouts:
        if bout.get("strategy"):
            staged.setdefault(bout["strategy"], []).append(bout)
        else:
            outcomes.setdefault(tuple(bout["dropped"]), []).append(bout)
    intact = {bout["seed"]: bout for bout in outcomes.get((), [])}
    rows = [_row("intact, same budget", (), outcomes.get((), []), "intact", intact)]
    for name, dropped in scores["dropped"].items():
        kind = "chance" if name.startswith("random ") else "criterion"
        rows.append(_row(name, tuple(dropped), outcomes.get(tuple(dropped), []), kind, intact))
    rows += [_row(name, _most_common(held), held, "progressive", intact) for name, held in staged.items()]
    measured = [row for row in rows if row["fid"]]
    return {
        "num_dropped": config.num_dropped,
        "num_seeds": config.num_seeds,
        "confidence": CONFIDENCE,
        "table": sorted(measured, key=lambda row: row["fid"]["mean"]),
        "chance": _chance([row for row in measured if row["kind"] == "chance"]),
        "foresight": {name: _foresight(values, outcomes) for name, values in scores["of"].items()},
        "num_sets": len([blocks for blocks in outcomes if blocks]),
    }


def _most_common(bouts: list[dict]) -> tuple[int, ...]:
    """Of the sets that a strategy came to, which may differ from seed to seed; the first of several as common."""
    sets = [tuple(bout["dropped"]) for bout in bouts]
    return max(sets, key=sets.count)


def _chance(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """None where no random set was measured. Sets that were drawn twice count once."""
    sets = {tuple(row["dropped"]): row for row in rows}
    if not sets:
        return None
    measures = {
        measure: _mean_with_interval([row[measure]["mean"] for row in sets.values()]) for measure in ("fid", "loss")
    }
    return {"num_sets": len(sets), **measures}


def _row(name: str, dropped: tuple, bouts: list[dict], kind: str, intact: dict[int, dict]) -> dict[str, Any]:
    row: dict[str, Any] = {"entrant": name, "kind": kind, "dropped": list(dropped), "num_seeds": len(bouts)}
    row["num_sets"] = len({tuple(bout["dropped"]) for bout in bouts})
    for measure in ("fid", "kid", "loss", "accuracy"):
        values = [bout[measure] for bout in bouts if bout[measure] is not None]
        row[measure] = _mean_with_interval(values) if values else None
    if row["accuracy"] and row["accuracy"]["low"] is not None:  # a share
        row["accuracy"] |= {"low": max(0.0, row["accuracy"]["low"]), "high": min(1.0, row["accuracy"]["high"])}
    ratios = [bout["fid"] / intact[bout["seed"]]["fid"] for bout in bouts if bout["seed"] in intact]
    row["against_intact"] = _mean_with_interval(ratios) if ratios and kind != "intact" else None
    macs = [bout["train_macs"] for bout in bouts if bout.get("train_macs") is not None]
    row["train_macs"] = float(np.mean(macs)) if macs else None
    return row


def _mean_with_interval(values: list[float]) -> dict[str, float | None]:
    """Mean over seeds with Student's interval; one seed has none."""
    mean, num = float(np.mean(values)), len(values)
    if num < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, num - 1) * np.std(values, ddof=1) / np.sqrt(num))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _foresight(values: list[float], outcomes: dict[tuple, list[dict]]) -> dict[str, Any]:
    sets = [blocks for blocks in outcomes if blocks]
    foretold = np.array([sum(values[block] for block in blocks) for blocks in sets])
    found: dict[str, Any] = {}
    for measure in MEASURES:
        came = np.array([np.mean([bout[measure] for bout in outcomes[blocks]]) for blocks in sets])
        found[measure] = _correlation(foretold, came)
    return found


def _correlation(foretold: np.ndarray, came: np.ndarray) -> dict[str, float] | None:
    """None where there are too few sets, or where all of them were foretold alike or came out alike."""
    if len(foretold) < 4 or np.ptp(foretold) == 0 or np.ptp(came) == 0:
        return None
    index = np.random.default_rng(0).integers(len(foretold), size=(_NUM_BOOTSTRAP, len(foretold)))
    ranks = [stats.rankdata(values[index], axis=1) for values in (foretold, came)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    resampled = (a * b).sum(axis=1)[scale > 0] / scale[scale > 0]
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(stats.spearmanr(foretold, came).statistic), "low": float(low), "high": float(high)}
