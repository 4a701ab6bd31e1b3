"""The same chart for the same question: forty people look at one heatmap, and making it is most of a page's work."""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import plotly.graph_objects as go

_MOST = 64  # figures of each kind; one has up to some hundred kilobytes
Asked = ParamSpec("Asked")


def remembered(draw: Callable[Asked, go.Figure]) -> Callable[Asked, go.Figure]:
    """Of plain data and dataclasses. Nobody may change the figure afterwards."""
    kept: dict[str, go.Figure] = {}
    lock = threading.Lock()

    @wraps(draw)
    def drawn(*args: Asked.args, **settings: Asked.kwargs) -> go.Figure:
        question = json.dumps([args, settings], default=_plain)
        with lock:
            figure = kept.pop(question, None)
        if figure is None:
            figure = draw(*args, **settings)
        with lock:
            kept[question] = figure  # the one asked for last is the last to go
            while len(kept) > _MOST:
                del kept[next(iter(kept))]
        return figure

    return drawn


def _plain(value: Any) -> Any:
    """Raises TypeError for what no question should hold."""
    if is_dataclass(value):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a chart was asked for with a {type(value).__name__}")
