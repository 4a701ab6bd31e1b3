"""A figure on a lesson's screen: larger where it is presented to a room."""

from typing import Any

import plotly.graph_objects as go

from app import address, charts

_LARGE, _TITLE, _TALLER = 17, 22, 1.2


def draw(place: Any, figure: go.Figure, *, key: str, alt: str) -> None:
    """``place``: streamlit itself, or a column."""
    if address.asked("present") == "1":
        figure = enlarged(figure)
    place.plotly_chart(figure, key=key, config=charts.CONFIG, alt=alt)


def enlarged(figure: go.Figure) -> go.Figure:
    large = go.Figure(figure)
    large.update_layout(font_size=_LARGE, title_font_size=_TITLE, legend_font_size=_LARGE)
    large.update_xaxes(tickfont_size=_LARGE, title_font_size=_LARGE)
    large.update_yaxes(tickfont_size=_LARGE, title_font_size=_LARGE)
    large.update_annotations(font_size=_LARGE)
    height, margin = figure.layout.height, figure.layout.margin
    if height:
        large.update_layout(height=_TALLER * height, margin=dict(t=(margin.t or 40) * 1.35, b=(margin.b or 40) * 1.5))
    return large
