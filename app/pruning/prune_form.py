"""The form of the prune page: what to drop, and how to recover."""

from dataclasses import asdict
from typing import Any

import streamlit as st

from app import address, blocks, glossary, jobs, known, sliders
from app.pruning import judging, vote_table
from app.pruning.fields import Fields, asked_number, asked_option
from engine.compute import PRECISIONS, USUAL, Compute
from engine.evaluation.protocol import MIN_IMAGES, Protocol
from engine.importance.config import ORDERS, VARIABLES
from engine.models.bundled import ModelInfo
from engine.pruning.config import DEFAULT_WEIGHTS, RECOVERY_SHARES, STAGES_VARIABLE, PruneConfig, usual_scoring
from engine.training.config import SCHEDULES, usual_recovery

_WAYS = {
    "rank": ("By rank", "Drop the blocks that the heatmap ranks as least important."),
    "hand": ("By hand", "Drop exactly the blocks you click."),
    "adaptive": ("Adaptive", "The engine decides at each stage when and how many to drop, and shows its reasons."),
}

_MOST_STAGES = 6
_SHARES = {"even": "Even", "last-heavy": "More for later", "final": "Most for the last"}


def plan(info: ModelInfo, data: str, fields: Fields) -> dict:
    """What to drop, as the params of the run; empty while nothing is chosen."""
    st.header("1 · What to drop", anchor=False)
    way = address.choose(
        "How to choose", list(_WAYS), param="how", page="prune", widget=st.segmented_control,
        format_func=lambda name: _WAYS[name][0], help=" ".join(f"{a}: {b}" for a, b in _WAYS.values()),
    )  # fmt: skip
    st.html(f'<p class="ep-note">{_WAYS[way][1]}</p>')
    if way != "hand":
        address.remember(block=None)
    if way == "adaptive":
        return _adaptive(info, data, fields)
    drop = _by_rank(info, data, fields) if way == "rank" else _by_hand(info)
    return {"drop": drop} if drop else {}


def target(info: ModelInfo, plan: dict) -> str:
    """What a plan ends at, in half a line."""
    if plan.get("target_speedup"):
        return f"{plan['target_speedup']:g}× fewer MACs"
    return f"{info.depth} → {plan.get('target_depth') or info.depth - len(plan['drop'])} blocks"


def num_left(info: ModelInfo, plan: dict) -> int:
    """Blocks that stay; for a target speed-up at most, as everything outside the blocks costs too."""
    if plan.get("target_speedup"):
        return max(1, int(info.depth / plan["target_speedup"]))
    return plan.get("target_depth") or info.depth - len(plan["drop"])


def _adaptive(info: ModelInfo, data: str, fields: Fields) -> dict:
    goal = fields.choice(
        st.segmented_control, "End at", ["a depth", "a speed-up"], "a depth", name="goal", key="goal",
        help="A depth: so many blocks stay. A speed-up: blocks go until one pass takes so many times fewer MACs; how "
        "much faster that is on your machine is measured after each stage. " + glossary.explain("MACs"),
    )  # fmt: skip
    left, middle, right = st.columns(3, gap="medium")
    if goal == "a depth":
        depth = fields.slider(
            left, "Blocks to keep", 1, info.depth - 1, max(1, info.depth * 2 // 3), name="keep", key="target_depth",
            help="The depth to end at. Fewer blocks are faster and harder to recover.",
        )  # fmt: skip
        plan = {"target_depth": depth}
    else:
        most = float(min(8, info.depth - 1))
        speedup = left.slider(
            "Times fewer MACs", 1.1, most, asked_number("speedup", 1.1, most, 1.5), 0.1, key="target_speedup",
            help="MACs of the intact model over MACs of the pruned one, counted. At least this much is reached.",
        )  # fmt: skip
        plan = {"target_speedup": fields.note("speedup", speedup, 1.5)}
    to_go = info.depth - num_left(info, plan)
    most_stages = min(_MOST_STAGES, to_go)
    asked_stages = asked_number("stages", 1, most_stages, PruneConfig.num_stages)
    stages = sliders.whole_number(
        middle, "Stages", 1, most_stages, sliders.wanted("num_stages", asked_stages),
        key="num_stages", on_change=lambda: sliders.want("num_stages"),
        help="Dropping happens in this many rounds, at most one for each block that goes; importance is measured "
        "afresh before each.",
    )  # fmt: skip
    plan["num_stages"] = fields.note("stages", stages, min(PruneConfig.num_stages, most_stages))
    most = fields.number(
        right, "Most blocks in a stage", 1, info.depth - 1, None, 1, name="most", key="max_per_stage",
        placeholder="automatic",
        help="No stage drops more than this. Left empty: an even share of what is left to drop, plus one.",
    )  # fmt: skip
    least = "At least " if goal == "a speed-up" else ""
    st.html(blocks.strip(["intact"] * info.depth) + f'<p class="ep-note">{least}{to_go} of these will go.</p>')
    plan["ced"] = _scoring(data, fields)
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    step = left.toggle(
        "Stop at each decision and ask me", asked_option("ask", [False, True], False), key="step",
        help="The run rests after each vote: you see the candidates and go on, change what counts, or decide "
        "otherwise. You can switch this on and off while the run goes on.",
    )  # fmt: skip
    fields.note("ask", step, False)
    plan["recovery_shares"] = fields.choice(
        right.segmented_control, "Recovery steps", list(_SHARES), PruneConfig.recovery_shares, name="shares",
        key="recovery_shares", format_func=_SHARES.get,
        help="Their sum is the same. "
        + " ".join(f"{words}: {RECOVERY_SHARES[name]}." for name, words in _SHARES.items()),
    )  # fmt: skip
    with st.expander("What counts in the vote"):
        st.html(
            '<p class="ep-note">At each stage the engine ranks the candidates (drop 1 block, 2 blocks, …) by three '
            "voters and adds up the ranks with these weights. The lowest sum wins.</p>"
        )
        asked = {voter: asked_number(voter, 0.0, 2.0, usual) for voter, usual in DEFAULT_WEIGHTS.items()}
        weights = vote_table.weight_sliders(asked, key="form_weight")
        for voter, weight in weights.items():
            fields.note(voter, weight, DEFAULT_WEIGHTS[voter])
    return plan | {"max_per_stage": most, "weights": weights} | ({"step": True} if step else {})


def _scoring(data: str, fields: Fields) -> dict:
    """By which reading of CED a stage orders its blocks."""
    left, right = st.columns(2, gap="medium")
    variable = fields.choice(
        left.selectbox, "Blocks ordered by", list(VARIABLES), STAGES_VARIABLE, name="orderby", key="stages_variable",
        format_func=lambda name: f"CED: {name}", persist_state="session",
        help=" ".join(f"{about.title}. {about.meaning}" for about in VARIABLES.values())
        + " The Arena page shows how each did.",
    )  # fmt: skip
    order = fields.choice(
        right.segmented_control, "Within a stage", list(ORDERS), "independent", name="within", key="stages_order",
        format_func={"independent": "Each block alone", "greedy": "Again after each removal"}.get,
        help="Each block alone: scored once a stage. Again after each removal: joint effects count, and a stage's "
        "scoring takes several times as long.",
    )  # fmt: skip
    samples = known.samples_there(data, usual_scoring().samples)
    return asdict(usual_scoring(variable=variable, order=order, samples=samples))


def recovery(info: ModelInfo, data: str, fields: Fields) -> dict:
    """How to adapt, recover and measure, as the params of the run."""
    st.header("2 · How to recover", anchor=False)
    usual = usual_recovery(info.num_parameters)
    size = f"{usual.learning_rate:g}"  # a model of another size starts from its own usual values
    num_images = known.dataset(data).num_images or 10**9  # an old entry may not say
    few = f"_{data}" if num_images < usual.batch_size else ""
    first, second = (st.columns(4, gap="medium") for _ in range(2))
    advised = known.usual_adaptation(info, data)
    adapt_steps = fields.number(
        first[0], "Adapt first", 0, 1_000_000, advised, 50, name="adapt", key=f"adapt_{info.name}_{data}",
        help="Steps that train the intact model on your data before anything is scored or dropped, so that the scores "
        "and the stages start from a model that knows the data. Recommended where the data has other classes than the "
        "model. 0 is without.",
    )  # fmt: skip
    finetune = usual_recovery(
        info.num_parameters,
        num_steps=fields.number(
            first[1], "Steps", 0, 1_000_000, usual.num_steps, 50, name="steps", key="num_steps",
            help="Training steps after each stage's blocks went. 0 drops the blocks and doesn't train.",
        ),
        learning_rate=fields.number(
            first[2], "Learning rate", 1e-8, 0.5, usual.learning_rate, 1e-4, name="rate", key=f"learning_rate_{size}",
            format="%.1e",
            help="AdamW without weight decay. Usual are 1e-4 for large models and 4e-3 for small ones.",
        ),
        schedule=fields.choice(
            first[3].selectbox, "Schedule", SCHEDULES, usual.schedule, name="schedule", key=f"schedule_{size}",
            persist_state="session",
            help="constant: the same rate throughout. cosine: down to zero at the last step of the last stage.",
        ),
        batch_size=fields.number(
            second[0], "Batch", 1, min(4096, num_images), min(usual.batch_size, num_images), 16, name="batch",
            key=f"batch_size{few}",
            help="Images in one training step; at most as many as the data has.",
        ),
        distill_weight=fields.number(
            second[1], "Distillation", 0.0, 100.0, usual.distill_weight, 0.5, name="distill", key="distill_weight",
            help="Its weight beside learning from the data. 0 is without; with it a step takes about 1.7 times "
            "as long. Needs an intact model that knows the data's classes: adapt first where it doesn't. "
            + glossary.explain("distillation"),
        ),
    )  # fmt: skip
    to_score = fields.number(
        second[2], "Images to score", MIN_IMAGES, 50_000, Protocol.num_images, 100, name="images", key="num_images",
        help="Images drawn before and after for FID, KID and class accuracy. Fewer is faster and less certain; "
        f"{MIN_IMAGES} are the least that a number can rest on. " + glossary.explain("FID", "KID"),
    )  # fmt: skip
    compute = _arithmetic(second[3], fields)
    judged = judging.draw(info, to_score, fields, precision=compute.precision)
    if advised and not adapt_steps:
        st.html(
            f'<p class="ep-note">{info.name} doesn\'t know the classes of {data} yet. Without adapting first, what is '
            "scored is a model that never saw them.</p>"
        )
    params = {"adapt_steps": adapt_steps, "finetune": asdict(finetune), **judged}
    return params if compute == USUAL else {**params, "compute": asdict(compute)}


def _arithmetic(place: Any, fields: Fields) -> Compute:
    """In which numbers the run works."""
    ways = {
        f"{name}{', compiled' if compiled else ''}": Compute(precision=name, compile=compiled)
        for compiled in (False, True)
        for name in PRECISIONS
    }
    chosen = fields.choice(
        place.selectbox, "Arithmetic", list(ways), next(iter(ways)), name="arithmetic", key="arithmetic",
        persist_state="session",
        help="For GPUs; on a CPU keep fp32. "
        + " ".join(f"{name}: {words}." for name, words in PRECISIONS.items())
        + " compiled: blocks by torch.compile, slow at first, then faster; one that can't be runs as it is, and "
        "the log says why.",
    )  # fmt: skip
    return ways[chosen]


def _by_rank(info: ModelInfo, data: str, fields: Fields) -> list[int]:
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
    num = fields.slider(
        st, "How many blocks to drop", 1, info.depth - 1, max(1, info.depth // 3), name="drop", key="num_drop",
        help="The least important go first.",
    )  # fmt: skip
    drop = sorted(result["order"][:num])
    shown = blocks.pruning_strip(info.depth, drop)
    st.html(shown + blocks.legend(shown))
    st.html(f'<p class="ep-note">Ranked by CED on <b>{result["variable"]}</b>, measured on {data}.</p>')
    return drop


def _by_hand(info: ModelInfo) -> list[int]:
    if "strip_prune" not in st.session_state:
        st.session_state["strip_prune"] = address.asked_blocks(info.depth) or st.session_state.get(
            "dropped_by_hand", []
        )
    st.session_state["strip_prune"] = [block for block in st.session_state["strip_prune"] if block < info.depth]
    drop = blocks.pick_blocks(
        info.depth, key="prune", label="Blocks to drop", help="Click a block to drop it, click again to keep it."
    )
    st.session_state["dropped_by_hand"] = drop  # for when this way is chosen again
    address.remember(block=",".join(map(str, drop)))
    return drop
