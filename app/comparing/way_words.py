"""The ways of one noise through several models, in words: each place of the slider, and what the frames rest on."""

from collections.abc import Sequence

import numpy as np

from app.comparing.way_question import Followed
from app.comparing.ways import CLOSE, MOST_PIXELS, same_steps
from engine.evaluation.protocol import ADAPTIVE


def moment(frame: dict, answer: dict) -> str:
    """A place of the slider."""
    if frame["step"] == 0:
        return f"Pure noise, before the first step ({_time(frame, answer)})"
    if frame["step"] == answer["frames"][-1]["step"]:
        return f"The finished picture, after {frame['step']} steps"
    return f"After {_steps(frame, answer)} ({_time(frame, answer)}): {frame['noise_left']:.0%} of the way lies ahead"


def _steps(frame: dict, answer: dict) -> str:
    return f"step {frame['step']} of {answer['frames'][-1]['step']}"


def _time(frame: dict, answer: dict) -> str:
    if answer["process"] == "diffusion":
        return f"timestep {frame['time']:.0f} of 999"
    return f"t = {frame['time']:.3f}, from 0 to 1"


def note(one: Followed, frame: dict, rms: float | None, first: Followed) -> str:
    """Below a stage's name: how far it is from the first, and its own step where it isn't the first's."""
    parts = []
    if one is not first and rms is not None:
        parts.append(f"estimate {rms:.1f} grey levels from {first.label}")
    if not same_steps(first.film.frames, one.film.frames):
        parts.append(f"{_steps(frame, one.answer)}, {_time(frame, one.answer)}")
    return " · ".join(parts)


def notes(followed: Sequence[Followed], places: Sequence[Sequence[int]], apart: Sequence[list | None]) -> list[str]:
    """What the frames rest on; ``places`` and ``apart``: of each stage, as the slider takes them."""
    first, lines = followed[0], list(dict.fromkeys(_protocol(one.answer) for one in followed))
    if len(lines) > 1:
        lines = [f"{one.label}: {_protocol(one.answer)}" for one in followed]
    lines += [_otherwise(first, one, where) for one, where in zip(followed, places, strict=True)]
    if None in apart:
        lines.append("The pictures are of different sizes, so that no difference can be given for all of them.")
    total = first.film.frames[-1]["step"] + 1
    if total > len(first.film.frames):
        lines.append(f"{len(first.film.frames)} of {total} states are shown, evenly chosen.")
    if first.film.sample.shape[0] > MOST_PIXELS:
        lines.append(f"Shown at {MOST_PIXELS} × {MOST_PIXELS} pixels; differences are of the full pictures.")
    return [line for line in (*lines, *map(_against_kept, followed)) if line]


def _otherwise(first: Followed, one: Followed, places: Sequence[int]) -> str:
    frames = first.film.frames
    if same_steps(frames, one.film.frames):
        return ""
    gap = max(
        abs(frame["noise_left"] - one.film.frames[at]["noise_left"]) for frame, at in zip(frames, places, strict=True)
    )
    return (
        f"{one.label} takes other steps: beside each frame of {first.label} stands its nearest in time, at most "
        f"{gap:.1%} of the way off. Differences are given where it is {CLOSE:.0%} at most."
    )


def _protocol(answer: dict) -> str:
    about = answer["protocol"]
    steps = "steps of its own choice" if about["sampler"] in ADAPTIVE else f"{about['num_steps']} steps"
    channels = "all" if about["guided_channels"] is None else about["guided_channels"]
    guidance = "no guidance" if about["cfg_scale"] == 1 else f"cfg {about['cfg_scale']:g} on {channels} channels"
    return f"Drawn with {about['sampler']}, {steps}, {guidance}, on {about['device']} in {about['precision']}."


def _against_kept(one: Followed) -> str:
    """Whether the way ends at the picture that the stage kept."""
    kept = one.asked.kept_picture()
    if kept.shape != one.film.sample.shape:
        return f"{one.label}: the last frame isn't of the size of the picture that the stage kept."
    gap = int(np.abs(kept.astype(int) - one.film.sample.astype(int)).max())
    if gap == 0:
        return f"{one.label}: the last frame is the picture that the stage kept, pixel by pixel."
    then, now = one.asked.kept_on, one.answer["protocol"]["device"]
    why = (
        "its files or the versions installed changed since" if then == now else f"kept on {then}, drawn again on {now}"
    )
    return f"{one.label}: the last frame differs from the kept picture by up to {gap} of 255 grey levels ({why})."
