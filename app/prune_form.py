"""The form of the prune page: what to drop, and how to recover."""

from dataclasses import asdict

import streamlit as st

from app import address, blocks, jobs
from engine.evaluation.protocol import Protocol
from engine.importance.config import CedConfig
from engine.models.bundled import ModelInfo
from engine.training.config import FinetuneConfig

_WAYS = {
    "rank": ("By rank", "Drop the blocks that the heatmap ranks as least important."),
    "hand": ("By hand", "Drop exactly the blocks you click."),
    "adaptive": ("Adaptive", "The engine decides at each stage when and how many to drop, and shows its reasons."),
}


def plan(info: ModelInfo, data: str) -> dict:
    """What to drop, as the params of the run; empty while nothing is chosen."""
    st.subheader("1 · What to drop", anchor=False)
    way = address.choose(
        "How to choose", list(_WAYS), param="how", page="prune", widget=st.segmented_control,
        format_func=lambda name: _WAYS[name][0], help=" ".join(f"{a}: {b}" for a, b in _WAYS.values()),
    )  # fmt: skip
    st.html(f'<p class="ep-note">{_WAYS[way][1]}</p>')
    if way == "adaptive":
        left, right = st.columns(2, gap="medium")
        depth = left.slider(
            "Blocks to keep", 1, info.depth - 1, max(1, info.depth * 2 // 3), key="target_depth",
            help="The depth to end at. Fewer blocks are faster and harder to recover.",
        )  # fmt: skip
        stages = right.slider(
            "Stages", 1, 6, min(3, info.depth - depth), key="num_stages",
            help="Dropping happens in this many rounds; importance is measured afresh before each.",
        )  # fmt: skip
        st.html(
            blocks.strip(["intact"] * info.depth) + f'<p class="ep-note">{info.depth - depth} of these will go.</p>'
        )
        return {"target_depth": depth, "num_stages": stages}
    drop = _by_rank(info, data) if way == "rank" else _by_hand(info)
    return {"drop": drop} if drop else {}


def recovery(info: ModelInfo) -> dict:
    st.subheader("2 · How to recover", anchor=False)
    usual, protocol = FinetuneConfig(), Protocol()
    steps, rate, batch, distill, images = st.columns(5, gap="medium")
    finetune = FinetuneConfig(
        num_steps=steps.number_input(
            "Steps", 0, 1_000_000, usual.num_steps, 50, key="num_steps", persist_state="session",
            help="Training steps in all, shared out between the stages. 0 drops the blocks and doesn't train.",
        ),
        learning_rate=rate.number_input(
            "Learning rate", value=3e-4, format="%.1e", step=1e-4, key="learning_rate", persist_state="session",
            help="AdamW without weight decay. Usual values are 1e-5 to 1e-3; small models bear more.",
        ),
        batch_size=batch.number_input(
            "Batch", 1, 4096, usual.batch_size, 16, key="batch_size", persist_state="session",
            help="Images in one training step.",
        ),
        distill_weight=distill.number_input(
            "Distillation", 0.0, 100.0, usual.distill_weight, 0.5, key="distill_weight", persist_state="session",
            help="Weight of matching the intact model's output besides the data. 0 is without; costs about half again.",
        ),
    )  # fmt: skip
    measured = Protocol(
        num_images=images.number_input(
            "Images to score", 1, 50_000, protocol.num_images, 100, key="num_images", persist_state="session",
            help="Images drawn before and after for FID, KID and class accuracy. Fewer is faster and less certain.",
        ),
        device=jobs.device(),
    )  # fmt: skip
    return {"finetune": asdict(finetune), "protocol": asdict(measured), "ced": asdict(CedConfig())}


def _by_rank(info: ModelInfo, data: str) -> list[int]:
    ced = jobs.latest_ced(info.name, data)
    if ced is None:
        st.html(
            f'<div class="ep-empty"><b>The blocks of this model haven\'t been ranked on {data} yet</b>'
            "Measure their importance first; it takes seconds on the bundled models.</div>"
        )
        st.page_link(
            "views/importance.py", label="Go to importance", query_params={"model": info.name, "data": data},
            help="Opens the heatmap page with this model and data.",
        )  # fmt: skip
        return []
    result = jobs.ced_result(ced)
    num = st.slider(
        "How many blocks to drop", 1, info.depth - 1, max(1, info.depth // 3), key="num_drop",
        help="The least important go first.",
    )  # fmt: skip
    drop = sorted(result["order"][:num])
    shown = blocks.pruning_strip(info.depth, drop)
    st.html(shown + blocks.legend(shown))
    st.html(f'<p class="ep-note">Ranked by CED on <b>{result["variable"]}</b>, measured on {data}.</p>')
    return drop


def _by_hand(info: ModelInfo) -> list[int]:
    if "strip_prune" not in st.session_state:
        st.session_state["strip_prune"] = address.asked_blocks(info.depth)
    st.session_state["strip_prune"] = [block for block in st.session_state["strip_prune"] if block < info.depth]
    return blocks.pick_blocks(
        info.depth, key="prune", label="Blocks to drop", help="Click a block to drop it, click again to keep it."
    )
