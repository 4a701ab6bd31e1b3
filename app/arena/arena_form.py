"""The form for an arena of one's own."""

import json
from dataclasses import asdict, replace

import streamlit as st

from app import address, glossary, jobs, known, measuring, sliders
from app.access import rights
from app.arena import arena_runs
from app.importance.criteria import short
from app.number_boxes import NumberBoxes
from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.models.bundled import ModelInfo
from engine.training.config import SMALL_MODEL, FinetuneConfig, usual_recovery

_GROUPS = {
    "progressive": "Prune in stages, with recovery in between",
    "ced": "Readings of CED: their blocks go at once",
    "criterion": "Other criteria: their blocks go at once",
}


def draw() -> None:
    left, right = st.columns([3, 2], gap="medium")
    with left:
        info = address.choose_model("arena")
    with right:
        data = address.choose_data("arena", info)
    boxes = NumberBoxes()
    config = _config(info, data, boxes)
    config.check_against(info.depth)
    if not boxes.say():
        st.html(f'<p class="ep-say">{_plan(info, config)}</p>')
    if st.button(
        "Start the arena", type="primary",
        **rights.guarded(
            "Queues it. Results show as they come; it can be cancelled and resumed, and other runs wait meanwhile.",
            disabled=bool(boxes.wrong),
        ),
    ):  # fmt: skip
        params = {"model": info.name, "data": data, "config": json.loads(json.dumps(asdict(config)))}
        address.remember(arena=measuring.start("arena", params).id)
        st.session_state.pop("arena_arena", None)
        st.rerun()


def usual_finetune(info: ModelInfo) -> FinetuneConfig:
    """An arena's usual training is for small models; a large one learns at its own rate, in as many steps."""
    usual = ArenaConfig().finetune
    num_parameters = info.num_parameters
    if num_parameters is not None and num_parameters < SMALL_MODEL:
        return usual
    return usual_recovery(num_parameters, num_steps=usual.num_steps, batch_size=usual.batch_size)


def _config(info: ModelInfo, data: str, boxes: NumberBoxes) -> ArenaConfig:
    usual = ArenaConfig()
    chosen = [name for group in _GROUPS for name in _entrants(group, usual)]
    first, second, third, fourth = st.columns(4, gap="medium")
    num_dropped = sliders.whole_number(
        first, "Blocks dropped", 1, info.depth - 1, min(usual.num_dropped, max(1, info.depth // 2)),
        key="arena_dropped",
        help="Everybody drops as many. Few blocks hardly hurt, so nobody can win; half is a hard test.",
    )  # fmt: skip
    num_seeds = boxes.draw(
        second, "Seeds", 1, 50, usual.num_seeds, 1, key="arena_seeds", persist_state="session",
        help="Each set is recovered and measured once for each. One seed has no interval; three are wide, five better.",
    )  # fmt: skip
    num_random = boxes.draw(
        third, "Random sets", 0, 100, usual.num_random, 1, key="arena_random", persist_state="session",
        help="Sets drawn by lot: what chance gets, and more points for the correlation. Three or more give a band.",
    )  # fmt: skip
    num_images = boxes.draw(
        fourth, "Images to score", 16, 50_000, usual.protocol.num_images, 100, key="arena_images",
        persist_state="session",
        help="Images drawn for each FID. Fewer are faster, and biased towards a higher FID, alike for all.",
    )  # fmt: skip
    with st.expander("Training: adaptation, steps, learning rate, batch, distillation"):
        adapt_steps, finetune = _training(info, data, boxes)
    return ArenaConfig(
        entrants=tuple(name for name in ENTRANTS if name in chosen), num_dropped=num_dropped, num_seeds=num_seeds,
        num_random=num_random, adapt_steps=adapt_steps, finetune=finetune,
        protocol=replace(usual.protocol, num_images=num_images, device=jobs.device()),
    )  # fmt: skip


def _entrants(group: str, usual: ArenaConfig) -> list[str]:
    names = [name for name in ENTRANTS if _group(name) == group]
    return st.pills(
        _GROUPS[group], names, selection_mode="multi", default=[name for name in names if name in usual.entrants],
        key=f"arena_{group}", format_func=short,
        help=" ".join(f"{short(name)}: {ENTRANTS[name].meaning}" for name in names),
    )  # fmt: skip


def _group(name: str) -> str:
    entrant = ENTRANTS[name]
    return "progressive" if entrant.progressive else "ced" if entrant.ced else "criterion"


def _training(info: ModelInfo, data: str, boxes: NumberBoxes) -> tuple[int, FinetuneConfig]:
    """(steps of adaptation, recovery)"""
    usual = usual_finetune(info)
    adapt, steps, rate, batch, distill = st.columns(5, gap="medium")
    adapt_steps = boxes.draw(
        adapt, "Adapt first", 0, 1_000_000, known.usual_adaptation(info, data), 50,
        key=f"arena_adapt_{info.name}_{data}", persist_state="session",
        help="Steps that train the intact model on the data before anything is scored: the same start for everybody. "
        "Recommended where the data has other classes than the model. 0 is without.",
    )  # fmt: skip
    finetune = replace(
        usual,
        num_steps=boxes.draw(
            steps, "Recovery steps", 0, 1_000_000, usual.num_steps, 50, key="arena_steps", persist_state="session",
            help="Training steps that each set gets after its blocks went, the intact model too; who prunes in stages "
            "shares them out between the stages.",
        ),
        learning_rate=boxes.draw(
            rate, "Learning rate", 1e-8, 0.5, usual.learning_rate, 1e-4, format="%.1e", persist_state="session",
            key=f"arena_rate_{usual.learning_rate:g}",
            help=f"AdamW, schedule: {usual.schedule}. Small models bear 4e-3, large ones want about 1e-4.",
        ),
        batch_size=boxes.draw(
            batch, "Batch", 1, 4096, usual.batch_size, 16, key="arena_batch", persist_state="session",
            help="Images in one training step.",
        ),
        distill_weight=boxes.draw(
            distill, "Distillation", 0.0, 100.0, float(usual.distill_weight), 0.5, key="arena_distill",
            persist_state="session",
            help="Its weight beside learning from the data, for everybody. 0 is without; with it a step takes "
            "about 1.7 times as long. " + glossary.explain("distillation"),
        ),
    )  # fmt: skip
    return adapt_steps, finetune


def _plan(info: ModelInfo, config: ArenaConfig) -> str:
    num_staged = sum(ENTRANTS[name].progressive for name in config.entrants)
    num_sets = len(config.entrants) - num_staged + config.num_random + 1
    parts = [f"at most {num_sets} sets"] + ([f"{num_staged} in stages"] if num_staged else [])
    seconds, measured = arena_runs.estimate_seconds(info, config)
    basis = (
        "as fast as the last training of this model here" if measured
        else "a rough guess for two processor cores; the first minutes will tell better"
    )  # fmt: skip
    num_trainings = (num_sets + num_staged) * config.num_seeds
    seeds = "1 seed" if config.num_seeds == 1 else f"{config.num_seeds} seeds"
    adapting = f"{config.adapt_steps:,} steps of adaptation, then " if config.adapt_steps else ""
    said = (
        f"{adapting}{' and '.join(parts)} × {seeds} = <b>{num_trainings} trainings</b> of "
        f"{config.finetune.num_steps:,} steps, about <b>{arena_runs.duration(seconds)}</b> in all ({basis}). "
        "Those that choose the same blocks share one."
    )
    return said[0].upper() + said[1:]
