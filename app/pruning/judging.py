"""How the stages of a pruning run are measured: what draws the images, and whose features judge them."""

from dataclasses import asdict
from typing import Any

import streamlit as st

from app import features, glossary, jobs
from app.pruning.fields import Fields, asked_option
from engine.evaluation.protocol import SAMPLERS, Protocol
from engine.evaluation.timing import Timing, timed_in
from engine.evaluation.weights import NAMES
from engine.models.bundled import ModelInfo


def draw(info: ModelInfo, num_images: int, fields: Fields, *, precision: str) -> dict[str, Any]:
    """``protocol`` and ``timing`` of the run's params, and ``features_weights`` where a person named a file."""
    usual = Protocol()
    with st.expander("How each stage is measured"):
        first, second = st.columns(4, gap="medium"), st.columns([2, 1, 1], gap="medium")
        names = SAMPLERS.get(info.process, ())
        # "" is each process's usual one, and keeps protocols of DiT and SiT runs with nothing chosen alike
        sampler = fields.choice(
            first[0].selectbox, "Sampler", ["", *names], "", name="sampler", key=f"judge_sampler_{info.process}",
            persist_state="session",
            format_func=lambda name: name or f"usual ({names[0] if names else 'as the process has it'})",
            help="Papers draw a DiT with ddpm and 250 steps, a SiT with sde and 250 or with dopri5, which chooses its "
            "steps itself. " + glossary.explain("sampler"),
        )  # fmt: skip
        num_steps = fields.number(
            first[1], "Sampling steps", 1, 1000, usual.num_steps, 5, name="sampling", key="judge_steps",
            help="Steps from noise to picture. More are closer to what the model learned, and take as much longer.",
        )  # fmt: skip
        cfg_scale = fields.number(
            first[2], "Guidance", 0.0, 30.0, usual.cfg_scale, 0.5, name="guidance", key="judge_cfg",
            help="Without it, a picture takes half the time, and what a block was worth shows more plainly: guidance "
            "hides part of what pruning costs. " + glossary.explain("guidance"),
        )  # fmt: skip
        batch_size = fields.number(
            first[3], "Batch for the timing", 1, 4096, Timing.batch_size, 8, name="timing", key="judge_batch",
            help="Images in one forward when its time and memory are measured.",
        )  # fmt: skip
        name = features.choose(second[0], asked_option("features", NAMES, usual.features), key="judge_features")
        fields.note("features", name, usual.features)
        seed = fields.number(
            second[1], "Seed", 0, 10**15, usual.seed, 1, name="seed", key="judge_seed",
            help="The first image's; the others count on from it.",
        )  # fmt: skip
        weights = features.path_of_weights(second[2], name, key="judge_weights")
    protocol = Protocol(
        num_images=num_images, sampler=sampler, num_steps=num_steps, cfg_scale=cfg_scale, features=name, seed=seed,
        device=jobs.device(), precision=precision,
    )  # fmt: skip
    judged: dict[str, Any] = {
        "protocol": asdict(protocol),
        "timing": asdict(Timing(batch_size=batch_size, precision=timed_in(precision))),
    }
    return {**judged, "features_weights": weights} if weights else judged
