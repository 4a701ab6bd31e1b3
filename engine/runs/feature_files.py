"""The weights that a run's features need, brought here before anything is drawn."""

from collections.abc import Iterator
from pathlib import Path

from engine.evaluation.weights import fetch_weights, find_weights, keep_weights, needs_weights
from engine.runs.progress import Progress
from engine.runs.workspace import Workspace


def features_at_hand(name: str, workspace: Workspace, *, path: str | None = None) -> Iterator[Progress]:
    """Downloads what isn't here, yielding progress; stopped, it goes on from there the next time. ``path``: a file that
    a person got by other ways, or its folder; a checked copy stays in the workspace.

    Raises InputError for unknown features, AssetError where the weights can't be had or aren't the published ones.
    """
    if path:
        yield Progress(phase="downloading", message=f"checking {Path(path).name}", done=0, total=1)
        keep_weights(name, Path(path), workspace=workspace.root)
    elif needs_weights(name) and find_weights(name, workspace=workspace.root) is None:
        for step in fetch_weights(name, workspace=workspace.root):
            sizes = f"{step.done / 1e6:,.0f} of {step.total / 1e6:,.0f} MB"
            # the run's own work hasn't begun: its time left isn't that of the download
            yield Progress(phase="downloading", message=f"{step.file}: {sizes}", done=0, total=1)
