"""A pruning run on screen: where it is, what it decided and why, its loss and its pictures."""

import html
from pathlib import PurePosixPath

import streamlit as st

from app import address, blocks, charts, jobs, metrics_table, pictures
from app.address import model_info
from app.errors import one_line_errors
from app.style import palette
from engine.runs.store import Run, RunStatus, Stage

_STATE_WORDS = {
    "queued": "waiting", "running": "under way", "paused": "paused", "done": "finished", "failed": "failed",
    "cancelled": "cancelled", "interrupted": "interrupted",
}  # fmt: skip


def draw(run: Run) -> None:
    head, new = st.columns([5, 1], vertical_alignment="center")
    head.subheader(run.title, anchor=False)
    if new.button(
        "New pruning", width="stretch", help="Back to the form. This run goes on and stays on the runs page."
    ):
        address.remember(run="new")
        st.rerun()
    waiting = run.status().state in jobs.WAITING_STATES
    st.fragment(_watch, run_every=1.0 if waiting else None)(run.id, waiting)


@one_line_errors
def _watch(run_id: str, waiting: bool) -> None:
    run = jobs.open_run(jobs.workspace(), run_id)
    status = run.status()
    if waiting and status.state not in jobs.WAITING_STATES:
        st.rerun()
    _state(run, status)
    stages, events = run.stages(), jobs.train_events(run)
    _strip(run, events, stages)
    _training(run, events, status)
    _decisions(events, stages)
    if len(stages) > 1:
        _outcome(run, stages)


def _state(run: Run, status: RunStatus) -> None:
    if status.state in jobs.WAITING_STATES:
        if status.state == "queued":
            st.info(jobs.waiting_line(run))
        elif jobs.stalled(status):
            st.warning(jobs.STALLED_LINE)
        left, right = st.columns([5, 1], vertical_alignment="center")
        words = " · ".join(
            part for part in (status.phase, status.message, _eta(status.eta_seconds), _word(run, status)) if part
        )
        left.progress(min(1.0, max(0.0, status.progress)), text=words)
        if right.button("Cancel", width="stretch", help="Stops at the next step. Finished stages are kept."):
            jobs.cancel(run.id)
    elif status.state == "done":
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.success("Finished. Every stage is kept and survives closing the browser.")
        if right.button(
            "Compare", type="primary", width="stretch", help="Opens the pictures and numbers, before and after."
        ):
            st.switch_page("views/compare.py", query_params={"run": run.id})
    else:
        line = f"This run {'was ' if status.state != 'failed' else ''}{status.state}: {status.error or status.message}"
        (st.error if status.state == "failed" else st.warning)(line)
        if st.button("Resume", type="primary", help="Goes on from the last step saved, with the same result."):
            jobs.resume(run.id)
            st.rerun()


def _word(run: Run, status: RunStatus) -> str:
    if run.cancel_requested:
        return "cancelling"
    return "" if status.state == "running" else _STATE_WORDS[status.state]


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def _strip(run: Run, events: list[dict], stages: list[Stage]) -> None:
    """The blocks as they stand, and those that the stage under way takes out."""
    if not stages:
        depth = model_info(run.params["model"]).depth
        shown = blocks.pruning_strip(depth, run.params.get("drop", []))
    else:
        shown = blocks.stage_strip(stages[0], stages[-1], next_drop=_next_drop(run, events, stages))
    st.html(shown + blocks.legend(shown))


def _next_drop(run: Run, events: list[dict], stages: list[Stage]) -> list[int]:
    """Blocks that are decided on but whose stage isn't written yet."""
    decisions = [event for event in events if event["event"] == "decision"]
    if decisions and decisions[-1]["stage"] > stages[-1].number:
        decision = decisions[-1]["decision"]
        if decision["candidates"]:
            return decision["candidates"][decision["chosen"]]["dropped"]
    if len(stages) == 1:
        return [stages[0].kept_blocks[place] for place in run.params.get("drop", [])]
    return []


def _training(run: Run, events: list[dict], status: RunStatus) -> None:
    train = [event for event in events if event["event"] == "train"]
    samples = [event for event in events if event["event"] == "samples"]
    if not train and not samples:
        if status.state == "running":
            st.skeleton(height=240)
        return
    left, right = st.columns(2, gap="large")
    with left:
        if train:
            st.plotly_chart(
                charts.loss_curve(train, palette=palette()), key="loss", config=charts.CONFIG,
                alt="Training loss over recovery steps",
            )  # fmt: skip
            last = train[-1]
            st.html(
                f'<p class="ep-note">Step {last["step"]} of {last["num_steps"]} in stage {last["stage"]} · loss '
                f"{last['loss']:.4f} · {last['images_per_second']:.0f} images/s · rate {last['learning_rate']:.1e}</p>"
            )
    with right:
        if samples:
            _samples(run, samples)


def _samples(run: Run, samples: list[dict]) -> None:
    st.html('<p class="ep-question">What does it draw, step by step?</p>')
    names = [f"stage {event['stage']} · step {event['step']}" for event in samples]
    follow = "newest"
    chosen = follow
    if len(names) > 1:
        chosen = st.select_slider(
            "Pictures at", [*names, follow], value=follow, key=f"samples_{run.id}",
            help="The same seeds at each look. 'newest' follows the training.",
        )  # fmt: skip
    place = names.index(chosen) if chosen in names else -1
    file = run.path / "progress" / PurePosixPath(samples[place]["picture"]).name
    if file.exists():
        st.html(pictures.tiles(str(file), f"Drawn at {names[place]}, the same seeds each time"))


def _decisions(events: list[dict], stages: list[Stage]) -> None:
    """Of finished stages and of the one under way."""
    decisions = {stage.number: stage.info["decision"] for stage in stages if stage.info.get("decision")}
    decisions |= {event["stage"]: event["decision"] for event in events if event["event"] == "decision"}
    for number, decision in sorted(decisions.items()):
        if not decision["candidates"]:
            st.html(f'<p class="ep-note">Stage {number}: {html.escape(decision["reason"])}</p>')
            continue
        with st.expander(f"Stage {number}: {decision['reason']}", expanded=len(decisions) == 1):
            st.html(_decision_table(decision))


def _decision_table(decision: dict) -> str:
    weights, rows = decision["weights"], ""
    for index, candidate in enumerate(decision["candidates"]):
        ranks = candidate.get("ranks") or {}
        cells = [
            str(candidate["num_dropped"]),
            ", ".join(map(str, candidate["dropped"])) or "none",
            _cell(candidate.get("macs"), 1e6, "M"), _place(ranks, "cost"),
            _cell(candidate.get("ntk"), 1, ""), _place(ranks, "ntk"),
            _cell(candidate.get("zico"), 1, ""), _place(ranks, "zico"),
            _cell(candidate.get("total"), 1, ""),
        ]  # fmt: skip
        css = ' class="chosen"' if index == decision["chosen"] else ""
        rows += f"<tr{css}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
    heads = ["drops", "blocks", "MACs", "rank", "NTK condition", "rank", "ZiCo", "rank", "vote"]
    note = " · ".join(f"{name} counts {weight:g}" for name, weight in weights.items())
    return (
        '<div class="ep-scroll"><table class="ep-table"><tr>' + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"
        f'{rows}</table></div><p class="ep-note">Each candidate is ranked by cost, by trainability (NTK condition '
        f"number, smaller is better) and by expressiveness (ZiCo, larger is better); {note}. The lowest vote wins.</p>"
    )


def _cell(value: float | None, unit: float, name: str) -> str:
    return "–" if value is None else f"{value / unit:.4g} {name}".strip()


def _place(ranks: dict, name: str) -> str:
    return f"{ranks[name]:g}" if name in ranks else "–"


def _outcome(run: Run, stages: list[Stage]) -> None:
    st.subheader("Before and after", anchor=False)
    before, after = stages[0].metrics(), stages[-1].metrics()
    if before and after:
        st.html(metrics_table.table(before, after, names=("intact", f"stage {stages[-1].number}"), intact=True))
        st.html(metrics_table.protocol_lines(before, after))
    st.page_link(
        "views/compare.py", label="Compare the pictures, seed by seed →", query_params={"run": run.id},
        help="Opens the paired gallery of this run.",
    )  # fmt: skip
