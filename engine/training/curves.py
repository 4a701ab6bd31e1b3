"""What a picture of a training needs: a running mean, and where the names of its stages can stand. Free of torch."""

from collections.abc import Sequence

import numpy as np

#: of the width of a picture on a phone, what the name of a stage takes, and that of stage 0, "intact model adapts"
_LABEL_SHARE, _ADAPTING_SHARE = 0.13, 0.3
LABEL_LINE = 20  # px from one row of names to the next; enough for a presenter's large type


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean over the last tenth of all values, at least 5 of them."""
    width = max(5, len(values) // 10)
    total = np.cumsum([0.0, *values])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - width)
    return ((total[ends] - total[begins]) / (ends - begins)).tolist()


def label_rows(starts: Sequence[float], end: float, *, adapts: bool) -> list[int]:
    """Row (0: the lowest) of each stage's name above a picture that ends at step ``end``: a name whose stage is too
    short for it has the next one stand above it. ``adapts``: the first is stage 0."""
    taken: list[float] = []  # up to which step, row by row
    rows = []
    for index, start in enumerate(starts):
        row = next((row for row, until in enumerate(taken) if until <= start), len(taken))
        width = _ADAPTING_SHARE if adapts and index == 0 else _LABEL_SHARE
        taken[row : row + 1] = [start + end * width]
        rows.append(row)
    return rows
