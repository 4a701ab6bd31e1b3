"""The form for an arena of one's own."""

import json
from dataclasses import asdict

import streamlit as st

from app import address, jobs, measuring
from app.arena import arena_runs
from app.importance.criteria import short
from engine.arena.config import CED_ENTRANTS, DEFAULT_ENTRANTS, ArenaConfig
from engine.evaluation.protocol import Protocol
from engine.importance.config import CRITERIA, VARIABLES
from engine.models.bundled import ModelInfo
from engine.training.config import FinetuneConfig


def draw() -> None:
    left, right = st.columns([3, 2], gap="medium")
    with left:
        info = address.choose_model("arena")
    with right:
        data = address.choose_data("arena", info)
    config = _config(info)
    config.check_against(info.depth)
    st.html(f'<p class="ep-say">{_plan(info, config)}</p>')
    if st.button(
        "Start the arena", type="primary",
        help="Queues it. Results show as they come; it can be cancelled and resumed, and other runs wait meanwhile.",
    ):  # fmt: skip
        params = {"model": info.name, "data": data, "config": json.loads(json.dumps(asdict(config)))}
        address.remember(arena=measuring.start("arena", params).id)
        st.session_state.pop("arena_arena", None)
        st.rerun()


def _config(info: ModelInfo) -> ArenaConfig:
    usual = ArenaConfig()
    entrants = st.pills(
        "Criteria that take part", DEFAULT_ENTRANTS, selection_mode="multi", default=DEFAULT_ENTRANTS,
        key="arena_entrants", format_func=short,
        help="Each names the blocks it would drop. " + " ".join(f"{short(n)}: {_about(n)}" for n in DEFAULT_ENTRANTS),
    )  # fmt: skip
    first, second, third, fourth, fifth = st.columns(5, gap="medium")
    number = _number
    return ArenaConfig(
        entrants=tuple(name for name in DEFAULT_ENTRANTS if name in entrants),
        num_dropped=first.slider(
            "Blocks dropped", 1, info.depth - 1, min(usual.num_dropped, max(1, info.depth // 2)), key="arena_dropped",
            help="Every criterion drops as many. Few blocks hardly hurt, so nobody can win; half is a hard test.",
        ),
        num_seeds=number(
            second, "Seeds", 1, 50, usual.num_seeds, 1, "arena_seeds",
            "Each set is recovered and measured once for each. One seed has no interval; three are wide, five better.",
        ),
        num_random=number(
            third, "Random sets", 0, 100, usual.num_random, 1, "arena_random",
            "Sets drawn by lot: what chance gets, and more points for the correlation. Three or more give a band.",
        ),
        finetune=FinetuneConfig(
            num_steps=number(
                fourth, "Recovery steps", 0, 1_000_000, usual.finetune.num_steps, 50, "arena_steps",
                "Training steps that each set gets after its blocks went, the intact model too.",
            ),
            learning_rate=usual.finetune.learning_rate,
        ),
        protocol=Protocol(
            num_images=number(
                fifth, "Images to score", 16, 50_000, usual.protocol.num_images, 100, "arena_images",
                "Images drawn for each FID. Fewer are faster, and biased towards a higher FID, alike for all.",
            ),
            device=jobs.device(),
        ),
    )  # fmt: skip


def _number(place, label: str, low: int, high: int, value: int, step: int, key: str, help: str) -> int:
    return place.number_input(label, low, high, value, step, key=key, persist_state="session", help=help)


def _about(name: str) -> str:
    return f"{VARIABLES[CED_ENTRANTS[name]].title}." if name in CED_ENTRANTS else CRITERIA[name].meaning


def _plan(info: ModelInfo, config: ArenaConfig) -> str:
    most = len(config.entrants) + config.num_random + 1
    seconds, measured = arena_runs.estimate_seconds(info, config)
    basis = (
        "as fast as the last recovery of this model here" if measured
        else "a rough guess for two processor cores; the first minutes will tell better"
    )  # fmt: skip
    return (
        f"At most {most} sets × {config.num_seeds} seeds = <b>{most * config.num_seeds} trainings</b> of "
        f"{config.finetune.num_steps:,} steps, about <b>{arena_runs.duration(seconds)}</b> in all ({basis}). "
        "Criteria that choose the same blocks share one."
    )
