"""Importance: blocks × timesteps, and what happens without a block."""

import streamlit as st

from app import address, heatmap, jobs
from app.errors import one_line_errors
from engine.importance.config import CONDITIONS, ESTIMATORS, VARIABLES, CedConfig
from engine.models.bundled import ModelInfo
from engine.runs.store import Run

_SHORT = {"target": "Target", "samples": "Samples", "prediction": "Prediction"}
_CONDITION_WORDS = {"none": "all classes together", "class": "within each class, then averaged"}


def page() -> None:
    st.title("Importance", anchor=False)
    info, params = _controls()
    run = jobs.find_ced(params)
    wanted = st.session_state.pop("ced_wanted", False)
    if run is None and wanted:
        run = jobs.start_ced(params)
    if run is None:
        _empty(params)
    elif run.status().state == "done":
        heatmap.explore(run, info)
    elif run.status().state in jobs.WAITING_STATES:
        _watch(run.id, info)
    else:
        _stopped(run, params)


def _controls() -> tuple[ModelInfo, dict]:
    first, second, third, fourth = st.columns([2.3, 1.1, 2, 0.9], vertical_alignment="bottom", gap="medium")
    with first:
        info = address.choose_model("importance", on_change=_want)
    with second:
        data = address.choose_data("importance", info, on_change=_want)
    with third:
        variable = address.choose(
            "What is measured", list(VARIABLES), param="variable", page="importance", widget=st.segmented_control,
            format_func=lambda name: _SHORT.get(name, name), on_change=_want, width="stretch",
            help="CED compares the entropy of something with and without a block. This chooses the something.",
        )  # fmt: skip
    with fourth, st.popover("Settings", width="stretch", help="Sample size, estimator and seed of the measurement."):
        settings = _settings()
    chosen = VARIABLES[variable]
    st.html(f'<p class="ep-note"><b>{chosen.title}.</b> {chosen.meaning} <i>({chosen.origin})</i></p>')
    return info, jobs.ced_params(info.name, data, CedConfig(variable=variable, **settings))


def _settings() -> dict:
    number, usual = st.number_input, CedConfig()
    return {
        "samples": number(
            "Images", 8, 100_000, usual.samples, 64, on_change=_want, key="ced_samples",
            persist_state="session",
            help="How many images the entropies are estimated from. More is slower and steadier.",
        ),
        "timesteps": number(
            "Columns", 1, 1000, usual.timesteps, on_change=_want, key="ced_timesteps",
            persist_state="session", help="How many noise levels (or sampling steps) are looked at.",
        ),
        "estimator": st.selectbox(
            "Estimator", list(ESTIMATORS), format_func=ESTIMATORS.get, on_change=_want, key="ced_estimator",
            persist_state="session", help="How entropy is computed from samples. Used by Samples and Prediction.",
        ),
        "condition": st.selectbox(
            "Classes", list(CONDITIONS), format_func=_CONDITION_WORDS.get, on_change=_want, key="ced_condition",
            persist_state="session", help="Whether entropy is taken over all images or inside each class.",
        ),
        "seed": number(
            "Seed", 0, 2**31 - 1, usual.seed, on_change=_want, key="ced_seed",
            persist_state="session", help="Which images and which noise. The same seed gives the same numbers.",
        ),
    }  # fmt: skip


def _want() -> None:
    """A changed choice on this page asks for its heatmap at once."""
    st.session_state["ced_wanted"] = True


def _empty(params: dict) -> None:
    st.html(
        '<div class="ep-empty"><b>This question hasn\'t been asked yet</b>'
        "Measuring takes seconds on the bundled models and stays for next time.</div>"
    )
    if st.button("Show the heatmap", type="primary", help="Runs the measurement with the choices above."):
        jobs.start_ced(params)
        st.rerun()


@st.fragment(run_every=1.0)
@one_line_errors
def _watch(run_id: str, info: ModelInfo) -> None:
    run = jobs.open_run(jobs.workspace(), run_id)
    status = run.status()
    if status.state not in jobs.WAITING_STATES:
        st.rerun()
    if status.state == "queued":
        st.info(jobs.waiting_line(run))
    elif jobs.stalled(status):
        st.warning(jobs.STALLED_LINE)
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(min(1.0, max(0.0, status.progress)), text=status.message or "measuring, column by column")
    if right.button("Cancel", width="stretch", help="Stops at the next column."):
        jobs.cancel(run_id)
    num_columns = run.params.get("config", {}).get("timesteps", CedConfig.timesteps)
    heatmap.draw_partial(jobs.ced_result(run), depth=info.depth, num_columns=num_columns)


def _stopped(run: Run, params: dict) -> None:
    status = run.status()
    st.error(f"The measurement {status.state}. {status.error or status.message}".strip())
    if st.button("Measure again", type="primary", help="Asks the same question once more."):
        jobs.start_ced(params)
        st.rerun()


page()
