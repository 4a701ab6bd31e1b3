"""One visual language: what is intact, what is pruned and what is dropped look the same on every page.

Colours come in pairs (light, dark). Dropped blocks are hatched as well, so that colour is never the only sign.
"""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st


@dataclass(frozen=True)
class Palette:
    intact: str
    pruned: str
    dropped: str
    text: str
    muted: str
    grid: str
    missing: str
    reading: str  # a reading of CED, among others that choose blocks


LIGHT = Palette("#2F66A9", "#0A7B71", "#AB5A16", "#1D2430", "#5D6572", "#E4E0D8", "#EFECE6", "#7B4FA6")
DARK = Palette("#79AEEF", "#3FC5B5", "#F0A04F", "#E7EAEE", "#9AA3B0", "#2C333E", "#222933", "#BE9BEA")


def palette() -> Palette:
    """Of the theme that the browser shows; light where it hasn't said yet."""
    return DARK if st.context.theme.type == "dark" else LIGHT


_VARIABLES = "; ".join(
    f"--{name}: light-dark({getattr(LIGHT, field)}, {getattr(DARK, field)})"
    for name, field in {
        "intact": "intact", "pruned": "pruned", "dropped": "dropped",
        "muted": "muted", "line": "grid", "soft": "missing",
    }.items()
)  # fmt: skip
#: plotly writes its colours into each element, and Streamlit's theme has 3.6:1 for these
_CHARTS = ".js-plotly-plot .main-svg :is(.xtick, .ytick, .g-xtitle, .g-ytitle) text { fill: var(--muted) !important }"
CSS = f"<style>:root {{ {_VARIABLES} }}\n{Path(__file__).with_suffix('.css').read_text()}\n{_CHARTS}</style>"
