"""Compare: the same seeds before and after, and the numbers with how they were measured."""

import streamlit as st

from app import address, blocks, charts, jobs
from app.comparing import gallery, metrics_table, take_away
from app.style import palette
from engine.evaluation.comparing import differences
from engine.evaluation.report import render_report
from engine.runs.store import Run, Stage


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
    gallery.draw(first, second)
    _numbers(run, stages, first, second)
    take_away.draw(run, second)


def _two_stages(stages: dict[int, Stage]) -> tuple[Stage, Stage]:
    names = {number: f"stage {number} · {stage.title} · {stage.depth} blocks" for number, stage in stages.items()}
    numbers, last = list(stages), max(stages)
    left_wanted, wanted = address.asked_number("left", numbers), address.asked_number("stage", numbers)
    left, right = st.columns(2, gap="medium")
    a = left.selectbox(
        "Left", numbers, index=numbers.index(numbers[0] if left_wanted is None else left_wanted),
        format_func=names.get, help="Usually stage 0: the model before anything was done.",
    )  # fmt: skip
    b = right.selectbox(
        "Right", numbers, index=numbers.index(last if wanted is None else wanted), format_func=names.get,
        help="Usually the last stage: the pruned model after recovery.",
    )  # fmt: skip
    address.remember(left=a or None, stage=b)
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
    alike = [(s, m["fidelity"].get(name)) for s, m in measured if not differences(measured[0][1], m)]
    points = [(s.depth, f["value"], f["low"], f["high"]) for s, f in alike if f]
    if len(points) > 2:
        st.plotly_chart(
            charts.stages_curve(points, metric=name, palette=palette()), key="over_stages", config=charts.CONFIG,
            alt=f"{name} of each stage by the number of blocks kept",
        )  # fmt: skip


page()
