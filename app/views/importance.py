"""Importance: blocks × timesteps, what happens without a block, what other data or other criteria would say."""

import html

import streamlit as st

from app import address, glossary, jobs, known, measuring
from app.importance import ced_settings, criteria, heatmap, pair
from app.number_boxes import NumberBoxes
from engine.importance.config import ESTIMATORS, GRANULARITIES, ORDERS, VARIABLES, WEIGHTINGS, CedConfig
from engine.models.bundled import ModelInfo
from engine.runs.store import Run

_SHORT = {"target": "Target", "samples": "Samples", "prediction": "Prediction"}
_LOOKS = {
    "one": ("One heatmap", "One measurement, to click in."),
    "two": ("Side by side", "Two datasets or two variables with the same colours, and which blocks change places."),
    "criteria": ("Criteria", "What the other criteria say about the same blocks, and how far they agree."),
}


def page() -> None:
    st.title("Importance", anchor=False)
    _take_run()
    boxes = NumberBoxes()
    info, params = _controls(boxes)
    look = address.choose(
        "View", list(_LOOKS), param="look", page="importance", widget=st.segmented_control,
        format_func=lambda name: _LOOKS[name][0], help=" ".join(f"{a}: {b}" for a, b in _LOOKS.values()),
        on_change=measuring.want, label_visibility="collapsed",
    )  # fmt: skip
    wanted = measuring.wanted()
    if boxes.say(then="then it is measured", boxes_seen=False):
        return
    if look == "two":
        pair.draw(info, params, wanted=wanted)
    elif look == "criteria":
        criteria.draw(info, params, wanted=wanted)
    else:
        _one(info, params, wanted=wanted)
    _remember_run(measuring.find("ced", params))


def _one(info: ModelInfo, params: dict, *, wanted: bool) -> None:
    num_rows, num_columns = info.depth, params["config"]["timesteps"]

    def draw_partial(results: list[dict | None]) -> None:
        heatmap.draw_partial(results[0], depth=num_rows, num_columns=num_columns)

    num_rows *= 2 if params["config"]["granularity"] == "branch" else 1
    answers = measuring.answers("ced", [params], wanted=wanted, ask="Show the heatmap", draw_partial=draw_partial)
    if answers is not None:
        heatmap.explore(measuring.find("ced", params), info)


def _controls(boxes: NumberBoxes) -> tuple[ModelInfo, dict]:
    first, second, third, fourth = st.columns([2.3, 1.1, 2, 0.9], vertical_alignment="bottom", gap="medium")
    with first:
        info = address.choose_model("importance", on_change=measuring.want)
    with second:
        data = address.choose_data("importance", info, on_change=measuring.want)
    with third:
        variable = address.choose(
            "What is measured", list(VARIABLES), param="variable", page="importance", widget=st.segmented_control,
            format_func=lambda name: _SHORT.get(name, name), on_change=measuring.want, width="stretch",
            help="Chooses what the entropy is of. " + glossary.explain("CED", "entropy"),
        )  # fmt: skip
    with fourth, st.popover("Settings", width="stretch", help="How it is measured: rows, order, sample size, seed."):
        settings = ced_settings.draw(variable, boxes)
    config = CedConfig(**{**settings, "samples": known.samples_there(data, settings["samples"])})
    chosen = VARIABLES[variable]
    few = config.samples < settings["samples"]
    st.html(
        f'<p class="ep-note"><b>{chosen.title}.</b> {chosen.meaning} <i>({chosen.origin})</i>{_unusual(config)}'
        f"{f'<br>All {config.samples} images of {html.escape(data)} are used.' if few else ''}</p>"
    )
    return info, jobs.ced_params(info.name, data, config)


def _unusual(config: CedConfig) -> str:
    """Settings that change what is on screen, where they aren't the usual ones."""
    words = [
        f"rows are {GRANULARITIES[config.granularity]}" if config.granularity != "block" else "",
        "entropy within each class" if config.condition == "class" else "",
        f"noise levels weighted, {WEIGHTINGS[config.weighting]}" if config.weighting != "even" else "",
        ESTIMATORS[config.estimator] if config.estimator != "gaussian" and config.variable != "target" else "",
        ORDERS[config.order] if config.order != "independent" else "",
        "racing" if config.method == "racing" else "",
    ]
    said = "; ".join(word for word in words if word)
    return f"<br>Settings: {said}." if said else ""


def _remember_run(run: Run | None) -> None:
    """Its settings come along with the link: sample size, columns and seed have no other place in the address."""
    st.session_state["importance_run"] = run and run.id
    address.remember(run=run and run.id)


def _take_run() -> None:
    """``?run=``: the choices with which that run was asked. Those of the run that this page wrote there are on screen
    already; a link from another page names no model."""
    asked = address.asked("run")
    if asked is None or (asked == st.session_state.get("importance_run") and address.asked("model")):
        return
    address.remember(run=None)
    run = jobs.readable(asked)
    if run is None or run.kind not in ("ced", "criteria"):
        st.warning(f"There is no measurement of importance named {asked!r}; choose below what to measure.")
        return
    config = run.params.get("config", {})
    ced_settings.take(config)
    for name, value in (
        ("model", run.params["model"]), ("data", run.params["data"]), ("variable", config.get("variable")),
        ("look", "criteria" if run.kind == "criteria" else address.asked("look") or "one"),
    ):  # fmt: skip
        if value is not None:
            st.session_state.pop(f"importance_{name}", None)
            address.remember(**{name: value})


page()
