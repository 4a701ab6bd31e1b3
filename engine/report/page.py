"""One HTML page that holds all it shows: text escaped, figures as data, scripts that are named by their hash.

The page's own policy forbids every request and every script but the two that were put there, so that no text of a run
could run or fetch anything, even if it weren't escaped.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from engine.report.colours import css_variables, for_figures

_FOLDER = Path(__file__).parent
_MOST_ROWS = 200  # of a table under a figure; the CSV has them all
_LESS_THAN = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class Page:
    """Collects the figures of a page while its sections are written."""

    def __init__(self) -> None:
        self._figures: list[dict[str, Any]] = []

    def figure(
        self, plot: dict[str, Any], *, label: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> str:
        """A plotly figure ``{"data", "layout"}`` with its numbers as a table, which is open where no script runs.

        ``label`` says to those who can't see it what it shows; ``caption`` is HTML, cells and heads are plain text.
        """
        name = f"figure{len(self._figures) + 1}"
        self._figures.append({"id": name, **plot})
        height = plot["layout"]["height"]
        shown = rows[:_MOST_ROWS]
        left_out = (
            f"<p>The first {len(shown)} of {len(rows)} rows; the CSV has all.</p>" if len(shown) < len(rows) else ""
        )
        return (
            f'<figure class="chart"><div class="plot" id="{name}" role="img" aria-label="{escape(label)}" '
            f'style="height:{height}px"></div><figcaption>{caption}</figcaption>'
            f'<details class="numbers" open><summary>These numbers as a table</summary>'
            f"{left_out}{table(head, [[escape(str(cell)) for cell in row] for row in shown])}</details></figure>"
        )

    def html(self, *, title: str, sections: Iterable[str]) -> str:
        body = "".join(sections)
        plotly, script = _plotly() if self._figures else "", (_FOLDER / "page.js").read_text()
        allowed = " ".join(_source(text) for text in (plotly, script) if text)
        policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
        scripts = "".join(f"<script>{text}</script>" for text in (plotly, script) if text)
        style = f":root {{ color-scheme: light dark; {css_variables()} }}\n{(_FOLDER / 'page.css').read_text()}"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{style}</style>"
            "<noscript><style>.plot { display: none }</style></noscript></head>\n"
            f"<body><main>{body}</main>\n{_data('colours', for_figures())}{_data('figures', self._figures)}"
            f"{scripts}</body></html>\n"
        )


def section(title: str, *parts: str) -> str:
    """Empty where nothing is in it."""
    body = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, chosen: int | None = None) -> str:
    """Heads are plain text, cells HTML; the first cell of a row names it."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = ""
    for index, (name, *cells) in enumerate(rows):
        mark = ' class="chosen"' if index == chosen else ""
        body += f'<tr{mark}><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    return f'<div class="wide" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values as HTML, those without a value left out."""
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value) + "</dl>"


def listed(texts: Iterable[str]) -> str:
    """Sentences in plain text."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def label_text(text: object, *, most: int = 60) -> str:
    """For a name in a figure: plotly reads <b>, <a href> and entities, so that they are taken away from it."""
    words = str(text)
    return escape(words if len(words) <= most else words[: most - 1] + "…", quote=False)


def _data(name: str, value: Any) -> str:
    """JSON that can't end its element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_LESS_THAN)
    return f'<script type="application/json" id="{name}">{text}</script>'


def _source(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # takes a while to import, and only a report needs it

    return get_plotlyjs()
