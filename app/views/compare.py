"""Compare: the same seeds before and after, and the numbers with how they were measured."""

import streamlit as st

from app.comparing import (
    class_drop,
    evaluate_form,
    gallery,
    metrics_table,
    pareto,
    stage_pickers,
    take_away,
    trajectory,
)
from app.comparing.asked_stages import comparable_runs
from app.comparing.picked import Picked
from app.errors import shown_as_one_line
from app.keeping import report_button
from engine.runs.store import Run


def page() -> None:
    st.title("Compare", anchor=False)
    found = comparable_runs()
    picked = stage_pickers.draw(found) if found else []
    if not picked:
        st.html(
            '<div class="ep-empty"><b>Nothing to compare yet</b>A pruning run leaves its stages here: the intact '
            "model, and what it became. Start one and come back when its first stage is done.</div>"
        )
        st.page_link("views/prune.py", label="Go to prune", help="Choose blocks to drop and start a run.")
        return
    if len(picked) == 1:
        st.info("There is one stage on screen. Add another one, of this run or of another, to set them side by side.")
    gallery.draw(picked)
    for part in (_numbers, pareto.draw, class_drop.draw, trajectory.draw, evaluate_form.draw, take_away.draw):
        with shown_as_one_line():
            part(picked)


def _numbers(picked: list[Picked]) -> None:
    st.header("In numbers", anchor=False)
    metrics_table.draw(picked)
    _reports(picked)


def _reports(picked: list[Picked]) -> None:
    runs: dict[str, Run] = {one.run.id: one.run for one in picked}
    with st.container(horizontal=True):
        for run in runs.values():
            report_button.draw(run, label="Report" if len(runs) == 1 else f"Report of {run.id}")


page()
