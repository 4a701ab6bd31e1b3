"""The runs that measure picked stages again: their params, how long they would take, and what became of them."""

from dataclasses import asdict
from typing import Any

import streamlit as st

from app import jobs, measuring
from app.access import rights
from app.comparing.asked_stages import MOST
from app.comparing.picked import Picked
from app.drawing_time import seconds_to_draw
from app.errors import one_line_errors, show
from engine.errors import EngineError
from engine.evaluation.protocol import Protocol
from engine.evaluation.timing import Timing
from engine.runs.store import Run

_MOST_SHOWN = 6


def params_for(one: Picked, data: str, protocol: Protocol, timing: Timing, *, features_weights: str) -> dict[str, Any]:
    """Of a run that measures this stage; a pruned one is timed in turns with its run's intact model."""
    params: dict[str, Any] = {"model": one.ref}
    if not _holds_model(one):  # of a run that measured a model as it is
        params = {key: one.run.params[key] for key in ("model", "process", "autoencoder") if one.run.params.get(key)}
    params |= {"data": data, "protocol": asdict(protocol), "timing": asdict(timing)}
    baseline = _baseline(one)
    if baseline and baseline != params["model"]:
        params["baseline"] = baseline
    return params | ({"features_weights": features_weights} if features_weights else {})


def seconds_for(one: Picked, protocol: Protocol) -> float | None:
    """From the speed that was measured with the stage on the same device; None where nobody can say."""
    return seconds_to_draw(one.stage.metrics() or {}, protocol)


def _holds_model(one: Picked) -> bool:
    return (one.stage.path / "config.json").exists()


def _baseline(one: Picked) -> str | None:
    if one.run.kind != "prune":
        return one.run.params.get("baseline")
    return None if one.intact else f"{one.run.id}@{min(stage.number for stage in one.run.stages())}"


def start(one: Picked, params: dict[str, Any]) -> Run:
    """The run that was asked exactly this where it is done or under way, else a new one."""
    for found in jobs.summaries("evaluate"):
        if found.state in ("done", *jobs.WAITING_STATES) and jobs.params_of(found) == params:
            return jobs.open_run(jobs.workspace(), found.id)
    protocol = params["protocol"]
    what = f"{one.stage.title} ({params['model']})" if _holds_model(one) else params["model"]
    title = f"{what} on {params['data']} · {protocol['num_images']:,} images, {protocol['features']}"
    return jobs.start_run("evaluate", title=title, params=params)


def of_stages(picked: list[Picked]) -> list[str]:
    """Ids of the runs that measured these stages again, newest first."""
    refs = {one.ref for one in picked} | {one.run.params.get("model") for one in picked if not _holds_model(one)}
    shown = {one.run.id for one in picked}
    found = [s.id for s in jobs.summaries("evaluate") if jobs.params_of(s).get("model") in refs and s.id not in shown]
    return found[:_MOST_SHOWN]


def watch(run_ids: list[str]) -> None:
    if not run_ids:
        return
    st.html('<p class="ep-note">Measured again:</p>')
    under_way = any(_state(run_id) in jobs.WAITING_STATES for run_id in run_ids)
    st.fragment(_watch, run_every=1.0 if under_way else None)(run_ids, under_way)


def _state(run_id: str) -> str:
    try:
        return jobs.open_run(jobs.workspace(), run_id).status().state
    except EngineError:
        return ""


@one_line_errors
def _watch(run_ids: list[str], was_under_way: bool) -> None:
    states = {run_id: _state(run_id) for run_id in run_ids}
    if was_under_way and not any(state in jobs.WAITING_STATES for state in states.values()):
        st.rerun()
    for run_id, state in states.items():
        if not state:
            continue
        run = jobs.open_run(jobs.workspace(), run_id)
        st.markdown(f"{run.title} · `{run_id}` · {state}")
        if state in jobs.WAITING_STATES:
            measuring.progress_of(run)
        elif state in jobs.RESUMABLE_STATES:
            show(measuring.stopped_line("The measurement", run.status()))
            if st.button("Go on", key=f"evaluate_resume_{run_id}", **rights.guarded("What was drawn is kept.")):
                jobs.resume(run_id)
                st.rerun()
    done = [run_id for run_id, state in states.items() if state == "done"][:MOST]
    if done:
        st.page_link(
            "views/compare.py", label="Compare what is done",
            query_params={"compare": ",".join(f"{run_id}@0" for run_id in done)},
            help="Puts the newest of these on this page, side by side, in place of the stages above.",
        )  # fmt: skip
