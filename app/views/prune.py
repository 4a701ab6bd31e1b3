"""Prune: choose blocks, say how to recover, start, and watch."""

import streamlit as st

from app import address, jobs
from app.access import rights
from app.drawing_time import seconds_of_intact
from app.errors import show
from app.number_boxes import NumberBoxes
from app.pruning import driving, fields, prune_form, prune_watch
from engine.errors import EngineError, InputError
from engine.evaluation.protocol import Protocol
from engine.models.bundled import ModelInfo
from engine.pruning.config import PruneConfig
from engine.runs.progress import config_from
from engine.runs.store import Run


def page() -> None:
    st.title("Prune", anchor=False)
    run = _run_on_screen()
    if run is not None:
        address.remember(run=run.id, model=None, data=None, how=None, block=None, **dict.fromkeys(fields.NAMES))
        prune_watch.draw(run)
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        info = address.choose_model("prune", on_change=fields.forget_usual)
    with right:
        data = address.choose_data("prune", info, on_change=fields.forget_usual)
    form = fields.Fields()
    params = prune_form.plan(info, data, form)
    recovery = prune_form.recovery(info, data, form)
    form.remember()
    _start(info, data, params, recovery, boxes=form.boxes)


def _run_on_screen() -> Run | None:
    """The run that the address names; without one, a pruning that is going on."""
    asked = address.asked("run")
    if asked == "new":
        return None
    if asked:
        try:
            run = jobs.open_run(jobs.workspace(), asked)
            if run.kind != "prune":
                raise InputError(f"{asked} is a run of kind {run.kind}, not a pruning; the runs page opens it")
            return run
        except EngineError as error:
            show(str(error))
            address.remember(run="new", stage=None)
            return None
    return jobs.last_prune()


def _start(info: ModelInfo, data: str, plan: dict, recovery: dict, *, boxes: NumberBoxes) -> None:
    wrong = boxes.say()
    if not wrong and plan:
        asked = {key: value for key, value in plan.items() if key not in ("step", "ced")}
        config_from(PruneConfig, {**asked, "adapt_steps": recovery["adapt_steps"]}).check_against(info.depth)
        st.html(f'<p class="ep-say">{_summary(info, plan, recovery)}</p>')
    elif not wrong:
        st.html('<p class="ep-note">Choose at least one block to drop; then you can start.</p>')
    if st.button(
        "Start pruning", type="primary",
        **rights.guarded(
            "Queues the run. It goes on when you close the browser, and you can pause or cancel it at any step.",
            disabled=wrong or not plan,
        ),
    ):  # fmt: skip
        title = f"{info.name} on {data}: {prune_form.target(info, plan)}"
        run = jobs.start_run("prune", title=title, params={"model": info.name, "data": data, **plan, **recovery})
        address.remember(run=run.id)
        st.rerun()


def _summary(info: ModelInfo, plan: dict, recovery: dict) -> str:
    left, num_stages = prune_form.num_left(info, plan), plan.get("num_stages", 1)
    finetune, adapt_steps = recovery["finetune"], recovery["adapt_steps"]
    num_steps = finetune["num_steps"] * num_stages
    words = f"<b>{prune_form.target(info, plan)}</b>: "
    if plan.get("target_speedup"):
        words += f"{left} of {info.depth} blocks stay, or fewer; "
    else:
        words += f"at most {info.depth / left:.2f}× faster; "
    words += f"first the intact model adapts for {driving.steps_of(adapt_steps)}, then " if adapt_steps else ""
    words += f"{driving.steps_of(num_steps)} of recovery" + (" in all" if num_stages > 1 else "")
    to_go = (info.depth - left) / info.depth
    kept = 1 - to_go * (num_stages + 1) / (2 * num_stages)  # on average, where each stage drops as many
    return words + ". " + _how_long(info, recovery, steps=adapt_steps + kept * num_steps, stages=1 + kept * num_stages)


def _how_long(info: ModelInfo, recovery: dict, *, steps: float, stages: float) -> str:
    """``steps`` of training and ``stages`` to draw, both counted in those of the intact model."""
    protocol = Protocol(**recovery["protocol"])
    rate, drawing = jobs.seconds_per_image(info.name), seconds_of_intact(info.name, protocol)
    each = f"{protocol.num_images:,} images for every stage"
    if rate is None:
        return f"How long training and drawing {each} take on this machine shows after the first ones."
    training = f"About {_minutes(rate * recovery['finetune']['batch_size'] * steps)} of training"
    if drawing is None:
        return f"{training}, as measured last time; how long drawing {each} takes shows after the first ones."
    return f"{training} and {_minutes(drawing * stages)} of drawing in all, {each}, as measured last time."


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"


page()
