"""Compare: the same seeds before and after, and the numbers with how they were measured."""

import math

import numpy as np
import streamlit as st

from app import address, blocks, charts, jobs, metrics_table, pictures
from app.style import palette
from engine.evaluation.report import render_report
from engine.models.bundled import read_model_info
from engine.runs.store import Run, Stage

PAIRS_ON_A_PAGE = 20
_ALL = "all classes"


def page() -> None:
    st.title("Compare", anchor=False)
    found = {s.id: s for s in jobs.summaries() if s.kind in ("prune", "evaluate") and s.num_stages}
    if not found:
        st.html(
            '<div class="ep-empty"><b>Nothing to compare yet</b>A pruning run leaves its stages here: the intact '
            "model, and what it became. Start one and come back when its first stage is done.</div>"
        )
        st.page_link("views/prune.py", label="Go to prune", help="Choose blocks to drop and start a run.")
        return
    run = jobs.open_run(
        jobs.workspace(),
        address.choose(
            "Run", list(found), param="run", page="compare",
            help="Runs with at least one finished stage, newest first.",
            format_func=lambda run_id: f"{found[run_id].title} · {run_id}",
        ),
    )  # fmt: skip
    stages = {stage.number: stage for stage in run.stages()}
    first, second = _two_stages(stages)
    _strips(stages, first, second)
    if first is second:
        st.info("Both sides show the same stage. Choose two to compare." if len(stages) > 1 else
                "This run has one stage so far; there is nothing to set beside it yet.")  # fmt: skip
    before, after = first.metrics(), second.metrics()
    if before and after and first is not second:
        depths = first.depth, second.depth
        st.html(metrics_table.headline(before, after, depths=depths, intact=first.number == min(stages)))
    _gallery(first, second)
    _numbers(run, stages, first, second)


def _two_stages(stages: dict[int, Stage]) -> tuple[Stage, Stage]:
    names = {number: f"stage {number} · {stage.title} · {stage.depth} blocks" for number, stage in stages.items()}
    numbers, last = list(stages), max(stages)
    wanted = address.asked_number("stage", numbers)
    left, right = st.columns(2, gap="medium")
    a = left.selectbox(
        "Left", numbers, format_func=names.get, help="Usually stage 0: the model before anything was done."
    )
    b = right.selectbox(
        "Right", numbers, index=numbers.index(last if wanted is None else wanted), format_func=names.get,
        help="Usually the last stage: the pruned model after recovery.",
    )  # fmt: skip
    address.remember(stage=b)
    return stages[a], stages[b]


def _strips(stages: dict[int, Stage], first: Stage, second: Stage) -> None:
    strips = [blocks.stage_strip(stages[min(stages)], stage) for stage in (first, second)]
    for column, shown in zip(st.columns(2, gap="medium"), strips, strict=True):
        column.html(shown)
    st.html(blocks.legend(*strips))


def _numbers(run: Run, stages: dict[int, Stage], first: Stage, second: Stage) -> None:
    st.subheader("In numbers", anchor=False)
    before, after = first.metrics(), second.metrics()
    if not before or not after:
        st.info("One of these stages has not been evaluated, so there are pictures but no scores.")
        return
    st.html(metrics_table.table(before, after, names=(f"stage {first.number}", f"stage {second.number}"),
                                intact=first.number == min(stages)))  # fmt: skip
    st.html(metrics_table.protocol_lines(before, after))
    if second.depth < first.depth:
        st.html(
            f'<p class="ep-note">Depth bound: {first.depth} → {second.depth} blocks can be at most '
            f"{first.depth / second.depth:.2f}× faster, because everything outside the blocks still takes its time.</p>"
        )
    with st.container(horizontal=True):
        st.download_button(
            "JSON", lambda: jobs.as_json({"run": run.id, first.number: before, second.number: after}),
            file_name=f"{run.id}-{first.number}-{second.number}.json", mime="application/json", on_click="ignore",
            type="tertiary", help="Both sets of numbers with their protocols.",
        )  # fmt: skip
        if run.kind == "prune":
            st.download_button(
                "Report", lambda: render_report(run, list(stages.values())), file_name=f"{run.id}.html",
                mime="text/html", on_click="ignore", type="tertiary",
                help="The whole run as one page to keep or send; needs no server.",
            )  # fmt: skip
    _over_stages(stages)


def _over_stages(stages: dict[int, Stage]) -> None:
    """FID over depth, where at least three stages were measured alike."""
    measured = [(stage, stage.metrics()) for stage in stages.values() if stage.metrics()]
    name = next((n for n in measured[0][1]["fidelity"] if n.startswith("FID")), None)
    alike = [(s, m["fidelity"].get(name)) for s, m in measured if not metrics_table.differences(measured[0][1], m)]
    points = [(s.depth, f["value"], f["low"], f["high"]) for s, f in alike if f]
    if len(points) > 2:
        st.plotly_chart(
            charts.stages_curve(points, metric=name, palette=palette()), key="over_stages", config=charts.CONFIG,
            alt=f"{name} of each stage by the number of blocks kept",
        )  # fmt: skip


def _gallery(first: Stage, second: Stage) -> None:
    st.subheader("In pictures, seed by seed", anchor=False)
    sides = first.samples(), second.samples()
    if sides[0] is None or sides[1] is None:
        st.info("One of these stages kept no pictures; evaluate it to draw some.")
        return
    class_names = read_model_info(second.path).class_names
    (left, labels, seeds), (right, other_labels, other_seeds) = sides
    where = {key: i for i, key in enumerate(zip(other_seeds.tolist(), other_labels.tolist(), strict=True))}
    keys = list(zip(seeds.tolist(), labels.tolist(), strict=True))
    shown = [i for i, key in enumerate(keys) if key in where]
    pick, turn = st.columns([1, 2], vertical_alignment="bottom", gap="medium")
    chosen = pick.selectbox(
        "Class", [_ALL, *class_names], help="Show the pictures of one class only.", key="compare_class"
    )
    if chosen != _ALL:
        shown = [i for i in shown if labels[i] == class_names.index(chosen)]
    if not shown:
        st.info("These two stages share no seed of this class; choose another class or other stages.")
        return
    num_pages = math.ceil(len(shown) / PAIRS_ON_A_PAGE)
    number = turn.pagination(num_pages, key=f"gallery_{chosen}") if num_pages > 1 else 1
    names = f"stage {first.number}", f"stage {second.number}"
    st.html(f'<p class="ep-legend"><span><i class="{_look(first)}"></i>{names[0]}, above</span>'
            f'<span><i class="{_look(second)}"></i>{names[1]}, below, from the same seed</span></p>')  # fmt: skip
    page = shown[(number - 1) * PAIRS_ON_A_PAGE : number * PAIRS_ON_A_PAGE]
    st.html(pictures.pairs(
        [_pair(left[i], right[where[keys[i]]], f"{class_names[labels[i]]} · seed {seeds[i]}") for i in page],
        names=names, looks=(_look(first), _look(second)),
    ))  # fmt: skip


def _look(stage: Stage) -> str:
    """A stage counts as intact until something was dropped."""
    return "pruned" if stage.number else "intact"


def _pair(left: np.ndarray, right: np.ndarray, caption: str) -> pictures.Pair:
    return pictures.Pair(pictures.png(left), pictures.png(right), caption)


page()
