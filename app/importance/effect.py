"""What happens without these blocks: numbers at once, pictures from the same seeds as soon as the engine has them."""

import random
from pathlib import Path

import streamlit as st

from app import address, charts, chosen, glossary, jobs, pictures
from app.errors import one_line_errors, show
from app.style import palette
from engine.evaluation.protocol import Protocol
from engine.models.bundled import ModelInfo
from engine.pruning.config import check_blocks

NUM_PICTURES = 8
_SAMPLING = {"seed": 0, "cfg_scale": Protocol().cfg_scale, "num_steps": Protocol().num_steps}
_EVERY_CLASS = "a mix of classes"


def draw(result: dict, info: ModelInfo, drop: list[int], *, column_title: str) -> None:
    if not drop:
        st.html(
            '<div class="ep-empty"><b>Pick a block</b>Click a cell, a bar, or a block above. You will see the same '
            "eight pictures with and without it.</div>"
        )
        return
    check_blocks(drop, info.depth)
    params = {
        "model": result["model"],
        "data": result["data"],
        "drop": drop,
        "variable": result["variable"],
        **_SAMPLING,
        **_picture_controls(info),
    }
    if st.session_state.get("asked_drop", (None,))[0] != params:  # once: asking again would repeat what failed
        st.session_state["asked_drop"] = params, jobs.ask_drop(params)
    key = st.session_state["asked_drop"][1]
    answer = jobs.drop_answer(key)
    waiting = answer is None or answer["state"] == "stale"
    # a fragment inside the fragment: looks again and again only while the engine is at it
    st.fragment(_answer, run_every=0.25 if waiting else None)(key, waiting, result, info, params, column_title)
    st.page_link(
        "views/prune.py", label=f"Drop {'it' if len(drop) == 1 else 'them'} for good and let the model recover →",
        query_params={
            "model": info.name, "data": result["data"], "how": "hand", "run": "new", "block": ",".join(map(str, drop)),
        },
        help="Opens the prune page with these blocks chosen.",
    )  # fmt: skip


def _picture_controls(info: ModelInfo) -> dict:
    left, right = st.columns([2, 1], vertical_alignment="bottom", gap="small")
    if "effect_class" not in st.session_state and address.asked("class") in info.class_names:
        st.session_state["effect_class"] = address.asked("class")
    name = chosen.drawn(
        left.selectbox,
        "Pictures of",
        [_EVERY_CLASS, *info.class_names],
        key="effect_class",
        persist_state="session",
        help="Draw one class only, or eight classes spread over all of them.",
    )
    if "first_seed" not in st.session_state:
        st.session_state["first_seed"] = max(0, address.asked_number("seed", range(1_000_000)) or 0)
    right.button(
        "Other seeds",
        width="stretch",
        on_click=_reshuffle,
        help="Eight other pieces of starting noise. Intact and pruned always share theirs.",
    )
    first = st.session_state["first_seed"]
    address.remember(seed=first or None, **{"class": None if name == _EVERY_CLASS else name})
    num_classes = len(info.class_names)
    one = info.class_names.index(name) if name in info.class_names else None
    step = max(1, num_classes / NUM_PICTURES)
    spread = [int(i * step) % num_classes for i in range(NUM_PICTURES)]
    return {
        "seeds": list(range(first, first + NUM_PICTURES)),
        "classes": spread if one is None else [one] * NUM_PICTURES,
    }


def _reshuffle() -> None:
    st.session_state["first_seed"] = random.randrange(1, 100_000) * NUM_PICTURES


@one_line_errors
def _answer(key: str, waiting: bool, result: dict, info: ModelInfo, params: dict, column_title: str) -> None:
    """What is there of it: nothing yet, the pictures, or all."""
    answer = jobs.drop_answer(key)
    if waiting and answer is not None and answer["state"] != "stale":
        st.rerun()  # stops the polling
    if answer is not None and answer["state"] == "stale":
        jobs.ask_drop(params)
        answer = None
    if answer is not None and answer["state"] == "failed":
        show(answer["error"])
        if st.button("Try again", help="Asks the engine for these pictures once more."):
            jobs.ask_drop(params)
            st.rerun()
        return
    if answer is not None or _files(key, params):
        st.session_state["last_effect"] = (key, params)
    _gallery(key, info, params, answer)
    _numbers(result, params["drop"], answer)
    if answer is not None:
        _curve(result, params["drop"], answer, column_title)


def _files(key: str, params: dict) -> list[tuple[Path, Path]]:
    """The pictures with and without the blocks, in pairs; empty as long as one is missing."""
    folder = jobs.workspace().previews / key
    files = [(folder / f"intact_{i}.png", folder / f"pruned_{i}.png") for i in range(len(params["seeds"]))]
    return files if all(file.exists() for pair in files for file in pair) else []


def _numbers(result: dict, drop: list[int], answer: dict | None) -> None:
    """Of a single block the heatmap knows already; what several do together only the answer says."""
    alone = len(drop) == 1
    source = {key: result[key][drop[0]] for key in ("delta", "output_mse", "ced")} if alone else answer
    first, second, third = st.columns(3)
    first.metric(
        "ΔH" if alone else "ΔH together", f"{_overall(result, source['delta']):+.4f}" if source else "…",
        help=glossary.explain("ΔH") + " Averaged over the columns (for Samples: of the finished pictures).",
    )  # fmt: skip
    second.metric(
        "CED", f"{source['ced']:.4f}" if source else "…",
        help="The importance, in nats per dimension. " + glossary.explain("CED"),
    )  # fmt: skip
    third.metric(
        "Output change", f"{_mean(source['output_mse']):.4f}" if source else "…",
        help="Mean squared difference between the network's outputs with and without, same input.",
    )  # fmt: skip
    column = st.session_state["timestep"]
    if alone and column is not None:
        cell = [result[key][drop[0]][column] for key in ("delta", "cell_low", "cell_high", "output_mse")]
        st.html(
            f'<p class="ep-note">In the chosen cell, {charts.column_labels(result)[column]}: ΔH {cell[0]:+.4f} '
            f"({cell[1]:+.4f} … {cell[2]:+.4f}), output change {cell[3]:.4f}.</p>"
        )


def _overall(result: dict, delta: list[float]) -> float:
    """One number for a row: of the finished samples the last column, else the mean over the columns."""
    return delta[-1] if result["variable"] == "samples" else _mean(delta)


def _gallery(key: str, info: ModelInfo, params: dict, answer: dict | None) -> None:
    shown_key, shown = st.session_state.get("last_effect", (None, None))
    if shown_key is None or shown["model"] != params["model"]:
        _say_waiting(key)
        st.skeleton(height=260)
        return
    files = _files(shown_key, shown)
    if not files:
        st.warning("The pictures of this answer are gone from the workspace; ask for other seeds to draw them anew.")
        return
    fresh = shown_key == key
    without = f"without {', '.join(map(str, shown['drop']))}"
    if fresh:
        how_long = f"drawn in {answer['seconds']:.1f} s" if answer else "measuring …"
        st.html(
            '<p class="ep-legend"><span><i class="intact"></i>intact</span>'
            f'<span><i class="pruned"></i>{without}, same seeds</span><span>{how_long}</span></p>'
        )
    else:
        _say_waiting(key)
    names = [f"{info.class_names[c]} · seed {s}" for c, s in zip(shown["classes"], shown["seeds"], strict=True)]
    st.html(_pairs(files, names, without, fresh=fresh))


@st.cache_data(max_entries=16, show_spinner=False)
def _pairs(files: list[tuple[Path, Path]], names: list[str], without: str, *, fresh: bool) -> str:
    """Kept, as it is drawn at every look while the next ones are made; pictures of one key never change."""
    pairs = [
        pictures.Pair(intact.read_bytes(), pruned.read_bytes(), name)
        for (intact, pruned), name in zip(files, names, strict=True)
    ]
    return pictures.pairs(pairs, names=("intact", without), css="eight" if fresh else "eight old")


def _say_waiting(key: str) -> None:
    state = jobs.engine_state().state
    words = {
        "starting": "The engine is starting; the first pictures take a few seconds.",
        "stopped": "The engine isn't running. Start it at the foot of the page.",
    }.get(state, "Drawing the same seeds without these blocks …")
    if state not in ("starting", "stopped") and jobs.waits_for_others(key):
        words = "The engine answers another question first; these pictures come after it …"
    st.html(f'<p class="ep-legend"><span>{words}</span></p>')


def _curve(result: dict, drop: list[int], answer: dict, column_title: str) -> None:
    apart = [sum(column) for column in zip(*(result["delta"][block] for block in drop), strict=True)]
    comparable = len(drop) > 1 and answer["timesteps"] == result["timesteps"]
    if comparable:
        together, alone = (_overall(result, [abs(value) for value in row]) for row in (answer["delta"], apart))
        verdict = (
            "they make each other's loss worse" if together > 1.1 * alone
            else "much of their work overlaps" if together < 0.9 * alone
            else "their effects simply add up"
        )  # fmt: skip
        st.html(
            f'<p class="ep-say">Together these {len(drop)} blocks move the entropy by <b>{together:.4f}</b>; '
            f"their single effects add up to <b>{alone:.4f}</b>: {verdict}.</p>"
        )
    labels = charts.column_labels({"timesteps": answer["timesteps"]})
    st.plotly_chart(
        charts.joint_effect(
            labels, answer["delta"], apart if comparable else None, column_title=column_title, palette=palette()
        ),
        key="joint", config=charts.CONFIG, alt="Signed entropy change of the chosen blocks at each timestep",
    )  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
