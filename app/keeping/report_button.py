"""A run as one HTML page, wherever a run stands on screen."""

import streamlit as st

from engine.errors import EngineError, InputError
from engine.report.report import render_report
from engine.report.result import found_of
from engine.runs.store import Run


def draw(run: Run, *, label: str = "Report") -> None:
    """Nothing for a run that has nothing to report yet, or is of a kind that a report isn't made of."""
    try:
        found_of(run)
    except InputError:
        return
    except EngineError as error:
        st.button(label, disabled=True, type="tertiary", help=str(error), key=f"report_{run.id}")
        return
    st.download_button(
        label, lambda: render_report(run), file_name=f"{run.id}.html", mime="text/html", on_click="ignore",
        type="tertiary", key=f"report_{run.id}", help="The whole run as one page to keep or send; needs no server.",
    )  # fmt: skip
