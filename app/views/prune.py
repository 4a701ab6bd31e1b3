"""Prune: choose blocks, say how to recover, start, and watch."""

import streamlit as st

from app import address, jobs, prune_form, prune_watch
from app.errors import show
from engine.errors import EngineError
from engine.models.bundled import ModelInfo
from engine.pruning.config import PruneConfig
from engine.runs.store import Run


def page() -> None:
    st.title("Prune", anchor=False)
    run = _run_on_screen()
    if run is not None:
        address.remember(run=run.id, model=None, data=None, how=None)
        prune_watch.draw(run)
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        info = address.choose_model("prune")
    with right:
        data = address.choose_data("prune", info)
    params = prune_form.plan(info, data)
    recovery = prune_form.recovery(info)
    _start(info, data, params, recovery)


def _run_on_screen() -> Run | None:
    """The run that the address names; without one, a pruning that is going on."""
    asked = address.asked("run")
    if asked == "new":
        return None
    if asked:
        try:
            return jobs.open_run(jobs.workspace(), asked)
        except EngineError as error:
            show(str(error))
            address.remember(run="new")
            return None
    return jobs.last_prune()


def _start(info: ModelInfo, data: str, plan: dict, recovery: dict) -> None:
    if plan:
        drop = tuple(plan.get("drop", ()))
        PruneConfig(
            drop=drop, target_depth=plan.get("target_depth"), num_stages=plan.get("num_stages", 1)
        ).check_against(info.depth)
        num_left = plan.get("target_depth") or info.depth - len(drop)
        st.html(f'<p class="ep-say">{_summary(info, num_left, recovery["finetune"]["num_steps"])}</p>')
    else:
        st.html('<p class="ep-note">Choose at least one block to drop; then you can start.</p>')
    if st.button(
        "Start pruning", type="primary", disabled=not plan,
        help="Queues the run. It goes on when you close the browser, and you can cancel it at any step.",
    ):  # fmt: skip
        title = f"{info.name} on {data}: {info.depth} → {num_left} blocks"
        run = jobs.start_run("prune", title=title, params={"model": info.name, "data": data, **plan, **recovery})
        address.remember(run=run.id)
        st.rerun()


def _summary(info: ModelInfo, num_left: int, num_steps: int) -> str:
    words = (
        f"<b>{info.depth} → {num_left} blocks</b>: at most {info.depth / num_left:.2f}× faster, "
        f"then {num_steps} steps of recovery"
    )
    rate = jobs.seconds_per_step(info.name)
    if rate is None:
        return words + ". How long a step takes on this machine shows after the first ones."
    return words + f", about {max(1, round(rate * num_steps / 60))} min at {rate:.2f} s a step as measured last time."


page()
