"""Measuring the picked stages again, all with the same protocol: other images, features or sampler."""

from dataclasses import asdict, fields
from typing import Any

import streamlit as st

from app import features, glossary, jobs
from app.access import rights
from app.comparing import evaluate_runs
from app.comparing.picked import Picked
from app.errors import shown_as_one_line
from app.number_boxes import NumberBoxes
from engine.errors import InputError
from engine.evaluation.protocol import ADAPTIVE, MIN_IMAGES, SAMPLERS, Protocol
from engine.evaluation.timing import PRECISIONS, Timing

_LONG = 600.0  # seconds that are asked about
_MANY = 5000  # images that are asked about where nobody knows how long they take


def draw(picked: list[Picked]) -> None:
    """Starts one run for each stage; they are compared like any other stages when they are done."""
    if not picked:
        return
    with st.expander("Measure again with other settings"), shown_as_one_line():
        st.html(
            '<p class="ep-note">Every stage above is drawn and measured anew with what you choose here, so that the '
            "results can be set side by side. What is there stays.</p>"
        )
        _form(picked)
    evaluate_runs.watch(evaluate_runs.of_stages(picked))


def _form(picked: list[Picked]) -> None:
    data, before = _data(picked), _protocol_before(picked[0])
    boxes = NumberBoxes()
    protocol = _protocol(picked, before, boxes)
    weights = features.path_of_weights(st, protocol.features, key="evaluate_weights")
    timing = _timing(boxes)
    if boxes.say():
        return
    if _confirmed(picked, protocol) and st.button(
        f"Measure {len(picked)} {'stage' if len(picked) == 1 else 'stages'}", type="primary", key="evaluate_start",
        **rights.guarded("Starts a run for each; they wait in the queue and can be stopped and gone on with."),
    ):  # fmt: skip
        rights.require()
        for one in picked:
            evaluate_runs.start(one, evaluate_runs.params_for(one, data, protocol, timing, features_weights=weights))
        st.rerun()


def _data(picked: list[Picked]) -> str:
    names = list(dict.fromkeys(str(one.run.params["data"]) for one in picked))
    if len(names) == 1:
        return names[0]
    return st.selectbox(
        "Against", names, key="evaluate_data",
        help="The pictures that all of them are measured against. A stage whose model has other classes can't be.",
    )  # fmt: skip


def _protocol_before(one: Picked) -> Protocol:
    """Of the first stage's numbers, as far as this version knows its settings; else what is usual."""
    said = (one.stage.metrics() or {}).get("protocol") or {}
    known = {field.name for field in fields(Protocol)}
    try:
        return Protocol(**{key: value for key, value in said.items() if key in known})
    except (InputError, TypeError):
        return Protocol()


def _protocol(picked: list[Picked], before: Protocol, boxes: NumberBoxes) -> Protocol:
    first, second = st.columns(4, gap="medium"), st.columns([2, 1, 1], gap="medium")
    values: dict[str, Any] = {
        "num_images": boxes.draw(
            first[0], "Images", MIN_IMAGES, 1_000_000, before.num_images, 100, key="evaluate_num",
            help="Images drawn for each stage. 500 is usual here, 50,000 in papers. More take longer and make the "
            "intervals narrower; FID at another number is another number. " + glossary.explain("FID", "KID"),
        ),
        "sampler": _sampler(first[1], picked, before),
        "num_steps": boxes.draw(
            first[2], "Sampling steps", 1, 1000, before.num_steps, 5, key="evaluate_steps",
            help="Steps from noise to picture. dopri5 chooses its own, whatever stands here.",
        ),
        "cfg_scale": boxes.draw(
            first[3], "Guidance", 0.0, 30.0, float(before.cfg_scale), 0.5, key="evaluate_cfg",
            help="Without it, a picture takes half the time. " + glossary.explain("guidance"),
        ),
        "features": features.choose(second[0], before.features, key="evaluate_features"),
        "seed": boxes.draw(
            second[1], "Seed", 0, 10**15, min(max(before.seed, 0), 10**15), 1, key="evaluate_seed",
            help="The first image's; the others count on from it. Another seed draws other images of the same models.",
        ),
    }  # fmt: skip
    return Protocol(**{**asdict(before), **values, "device": jobs.device(), "precision": "fp32"})


def _sampler(place: Any, picked: list[Picked], before: Protocol) -> str:
    processes = {one.stage.info["process"] for one in picked}
    names = SAMPLERS.get(processes.pop(), ()) if len(processes) == 1 else ()
    if not names:
        place.selectbox(
            "Sampler", ["each one's usual"], key="evaluate_sampler_any",
            help="These stages are DiT and SiT models, which share no sampler: each is drawn with its usual one.",
        )  # fmt: skip
        return ""
    return place.selectbox(
        "Sampler", names, names.index(before.sampler) if before.sampler in names else 0,
        key=f"evaluate_sampler_{names[0]}",
        help="ddim, euler, heun and dpm++ follow a fixed path; ddpm and the sde kinds add noise on the way; dopri5 "
        "chooses its steps itself. " + glossary.explain("sampler"),
    )  # fmt: skip


def _timing(boxes: NumberBoxes) -> Timing:
    left, right = st.columns(2, gap="medium")
    return Timing(
        batch_size=boxes.draw(
            left, "Batch for the timing", 1, 4096, Timing.batch_size, 8, key="evaluate_batch",
            help="Images in one forward when its time and memory are measured. Larger batches are usually faster per "
            "image and take more memory.",
        ),
        precision=right.selectbox(
            "Precision for the timing", list(PRECISIONS), key="evaluate_precision",
            help="Of the forward that is timed; the images are drawn in fp32 either way. "
            + " ".join(f"{name}: {words}." for name, words in PRECISIONS.items()),
        ),
    )  # fmt: skip


def _confirmed(picked: list[Picked], protocol: Protocol) -> bool:
    """Says how long it will take; where that is long, or many images and unknown, a person has to say yes."""
    found = [evaluate_runs.seconds_for(one, protocol) for one in picked]
    known = [seconds for seconds in found if seconds is not None]
    if len(known) < len(found):
        steps = "the sampler chooses its steps itself" if protocol.sampler in ADAPTIVE else "not every stage was timed"
        words, ask = f"How long it takes can't be said beforehand: {steps}", protocol.num_images > _MANY
    else:
        words, ask = f"Drawing takes about {_duration(sum(known))}, as fast as it was measured", sum(known) > _LONG
    st.html(f'<p class="ep-note">{words}. Features and timing come on top: seconds with demo-cnn, minutes with '
            "the larger networks on a CPU.</p>")  # fmt: skip
    if not ask:
        return True
    return st.checkbox(
        f"Start it all the same: {protocol.num_images:,} images of {len(picked)} "
        f"{'stage' if len(picked) == 1 else 'stages'}",
        key=f"evaluate_sure_{protocol.num_images}_{len(picked)}",
        help="The run can be stopped whenever you like; what was drawn is kept and used when it goes on.",
    )  # fmt: skip


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
