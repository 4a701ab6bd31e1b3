"""How the model learned again: the training loss of each stage beside the intact model's."""

from collections.abc import Sequence

from engine.report.page import Page, section
from engine.report.plots import losses
from engine.report.words import number
from engine.runs.store import Run

_MOST_POINTS = 1500  # of one stage in the figure


def recovery_section(page: Page, run: Run) -> str:
    curves: dict[int, dict[int, float]] = {}
    bands: dict[int, dict[str, float]] = {}
    for event in run.events()[0]:
        if event.get("event") == "train" and event.get("loss") is not None:
            curves.setdefault(event["stage"], {})[event["step"]] = event["loss"]  # a resumed step counts once
        elif event.get("event") == "band":
            bands[event["stage"]] = event
    if not curves:
        return section("Recovery", "<p>Nothing was fine-tuned.</p>")
    stages = [(stage, _thinned(sorted(points.items()))) for stage, points in sorted(curves.items())]
    caption = "Training loss: thin, as it was; thick, its running mean."
    if bands:
        caption += " Shaded: what the intact model's loss was on the same batches, ± one deviation."
    rows = [
        (f"stage {stage}", points[-1][0], number(points[0][1]), number(points[-1][1]), _band(bands.get(stage)))
        for stage, points in stages
    ]
    figure = page.figure(
        losses(stages, bands), label=f"Training loss over {len(stages)} stages", caption=caption, rows=rows,
        head=("stage", "steps", "first loss", "last loss", "intact model ± deviation"),
    )  # fmt: skip
    return section("Recovery", figure)


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Every n-th point and the last."""
    every = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:every], points[-1]]


def _band(band: dict[str, float] | None) -> str:
    return (
        "–" if band is None else f"{number(band.get('mean'))} [{number(band.get('low'))}, {number(band.get('high'))}]"
    )
