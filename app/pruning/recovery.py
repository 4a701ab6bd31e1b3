"""Adaptation and recovery on screen: the loss against the intact model's band, and the pictures as they come back."""

from pathlib import PurePosixPath
from typing import Any

import streamlit as st

from app import charts, pictures
from app.style import palette
from engine.runs.store import Run, Stage
from engine.training.curves import running_mean

_KINDS = ("train", "samples", "band")


def draw(run: Run, events: list[dict[str, Any]], stages: list[Stage]) -> None:
    """Of the branch that grew last; nothing while there is nothing to see."""
    events = on_branch(valid(events), parents_of(events, stages))
    train = [event for event in events if event["event"] == "train"]
    samples = [event for event in events if event["event"] == "samples"]
    if not train and not samples:
        return
    left, right = st.columns(2, gap="large")
    with left:
        if train:
            _loss(train, {event["stage"]: event for event in events if event["event"] == "band"})
    with right:
        if samples:
            _samples(run, samples)


def valid(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that count, in the order of stages and steps: a resumed run repeats steps, the later event counts; and what
    a stage had learned before it was decided otherwise is no part of it."""
    decided: dict[int, Any] = {}
    found: dict[tuple, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "decision":
            now = (event.get("parent"), event["decision"].get("reason"), _going(event["decision"]))
            if decided.setdefault(event["stage"], now) != now:
                decided[event["stage"]] = now
                found = {key: value for key, value in found.items() if value["stage"] != event["stage"]}
        elif event["event"] in _KINDS:
            found[event["event"], event["stage"], event.get("step")] = event
    return sorted(found.values(), key=lambda event: (event["stage"], event.get("step") or 0))


def parents_of(events: list[dict[str, Any]], stages: list[Stage]) -> dict[int, int | None]:
    """Of the finished stages and of the one under way, as far as it was decided."""
    decided = {event["stage"]: event.get("parent") for event in events if event["event"] == "decision"}
    return decided | {stage.number: stage.info.get("parent") for stage in stages}


def on_branch(events: list[dict[str, Any]], parents: dict[int, int | None]) -> list[dict[str, Any]]:
    """Of the newest stage there is anything of, and of those it grew from."""
    current = max((event["stage"] for event in events), default=None)
    branch: set[int] = set()
    while current is not None and current not in branch:
        branch.add(current)
        current = parents.get(current)
    return [event for event in events if event["stage"] in branch]


def _going(decision: dict[str, Any]) -> Any:
    chosen = decision.get("chosen")
    return decision.get("dropped") if chosen is None else decision["candidates"][chosen]["dropped"]


def _loss(train: list[dict[str, Any]], bands: dict[int, dict[str, Any]]) -> None:
    st.plotly_chart(
        charts.loss_curve(train, bands=bands, palette=palette()), key="loss", config=charts.CONFIG,
        alt="Training loss over the steps" + (", with the intact model's band behind it" if bands else ""),
    )  # fmt: skip
    last = train[-1]
    mean = running_mean([event["loss"] for event in train if event["stage"] == last["stage"]])[-1]
    words = (
        f"Step {last['step']:,} of {last['num_steps']:,} {_of_stage(last['stage'])} · loss {last['loss']:.4f} in the "
        f"last few steps (pale line), {mean:.4f} in the running mean (bold) · {last['images_per_second']:.0f} images/s "
        f"· rate {last['learning_rate']:.1e}."
    )
    if bands:
        words += (
            " The band is the training loss of the intact model on the same batches, mean ± one standard deviation: "
            "a model that has recovered runs inside it."
        )
    st.html(f'<p class="ep-note">{words}</p>')


def _of_stage(stage: int) -> str:
    return f"of recovery in stage {stage}" if stage else "of adapting the intact model"


def _short(stage: int) -> str:
    return f"stage {stage}" if stage else "adapting"


def _samples(run: Run, samples: list[dict[str, Any]]) -> None:
    st.html('<p class="ep-question">What does it draw, step by step?</p>')
    names = [f"{_short(event['stage'])} · step {event['step']}" for event in samples]
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
