"""Order "greedy": the blocks that are left are scored again after each removal, so that joint effects count.

Two blocks that are harmless alone may do the same work, and miss each other. At each step every block that is left is
left out together with those already gone, and the one with the least joint CED goes:

    CED(gone + i) = mean over columns of |H(X without gone and i) − H(X)|

always against the intact model. The first step is the independent CED, whose heatmap the result keeps; the later ones
run the remaining blocks only. All of them cost about N³/6 evaluations of blocks a sample where one table costs N²/2.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from engine.data.dataset import Data
from engine.importance.ced_result import CedColumn, CedResult, CedTable, interval
from engine.importance.columns import Probe, Streams, columns, values_of
from engine.importance.config import CedConfig
from engine.importance.entropy import estimator_for
from engine.importance.streams import parts_of
from engine.models.model import Model


def greedy_columns(model: Model, data: Data, config: CedConfig, probe: Probe) -> Iterator[CedColumn]:
    """``greedy`` of the result holds one entry for each removal: ``{"row", "label", "ced", "ci_low", "ci_high",
    "agreement"}``, the CED of everything gone by then and the share of resamples that choose the same row.

    ``config.num_candidates`` removals are made (all rows by default); rows never removed follow in the order of the
    last scores.
    """
    table = CedTable(model, data, config, probe.note)
    estimator, parts = estimator_for(config, probe.labels), parts_of(model.network, config.granularity)
    num_steps = min(config.num_candidates or len(parts), len(parts))
    num_columns = num_steps * config.timesteps + 1
    left, ranking, removals, intact = list(range(len(parts))), list(range(len(parts))), [], []
    for step in range(num_steps):
        streams = Streams(parts=[parts[row] for row in left], rows=range(len(left)))
        deltas: list[Tensor] = []
        for number, column in enumerate(columns(model, config, probe, streams)):
            entropies = estimator(values_of(column, config.variable, model.config.patch_size), table.counts)
            if step == 0:
                intact.append(entropies[:1])
                table.add(column, entropies)
            deltas.append(entropies[1:] - intact[number])
            result = _with_removals(table.result(), removals, ranking)
            yield CedColumn(column=step * config.timesteps + number + 1, num_columns=num_columns, result=result)
        joint = table.overall(torch.stack(deltas, dim=1))  # (rows left, 1+R)
        ranking = [left[index] for index in joint[:, 0].argsort(stable=True).tolist()]
        gone = ranking.pop(0)
        removals.append({"row": gone, "label": parts[gone].label, **_least(joint, config.confidence)})
        left.remove(gone)
    result = _with_removals(table.result(), removals, ranking)
    yield CedColumn(column=num_columns, num_columns=num_columns, result=result)


def _least(joint: Tensor, confidence: float) -> dict:
    """The least of joint CEDs (rows, 1+R), with its interval, and how often resamples agree that it is the least."""
    index = joint[:, 0].argmin()
    low, high = interval(joint[index, None], confidence)
    agreement = (joint[:, 1:].argmin(0) == index).double().mean()
    return {
        "ced": joint[index, 0].item(),
        "ci_low": low.item(),
        "ci_high": high.item(),
        "agreement": agreement.item(),
    }


def _with_removals(result: CedResult, removals: list[dict], ranking: list[int]) -> CedResult:
    if not removals:
        return result
    return replace(result, order=[removal["row"] for removal in removals] + ranking, greedy=list(removals))
