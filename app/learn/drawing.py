"""Lesson 1: how a diffusion and a flow transformer draw, from noise to picture and from block to block."""

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from app import address, chosen, pictures
from app.learn import chart, learn_charts
from app.learn.asking import Answers, Questions, answered, ask_all
from app.learn.lesson import Formula, Lesson, Link, Question, Screen, Still
from app.style import palette

MODELS = {"SiT, flow matching": "demo-sit-digits", "DiT, diffusion": "demo-dit-digits"}
NUM_STEPS, LOOKED_AT = 20, (3, 10, 17)
_PROTOCOL = {"num_images": 1, "num_steps": NUM_STEPS, "cfg_scale": 2.0}
_WHEN = {3: "early", 10: "half way", 17: "late"}


def _questions(kind: str, label: int, seed: int, **more: Any) -> Questions:
    params = {"class": label, "seed": seed, "protocol": _PROTOCOL, **more}
    return {f"{kind} {model}": (kind, {"model": model, **params}) for model in MODELS.values()}


def _chosen() -> tuple[int, int]:
    """(class, seed), the same on all screens of this lesson, and in the address."""
    for key, name, usual in (("learn_digit", "class", 3), ("learn_seed", "seed", 7)):
        if key not in st.session_state:
            wanted = address.asked_number(name, range(10))
            st.session_state[key] = usual if wanted is None else wanted
    left, right = st.columns(2, gap="medium")
    label = chosen.drawn(
        left.selectbox, "Digit", range(10), key="learn_digit", persist_state="session",
        help="What the models are told to draw.",
    )  # fmt: skip
    seed = right.slider(
        "Seed", 0, 9, st.session_state["learn_seed"], key="learn_seed", persist_state="session",
        help="The starting noise. Both models start from the same noise.",
    )  # fmt: skip
    address.remember(seed=seed, **{"class": label})
    return label, seed


def _way() -> None:
    label, seed = _chosen()
    answered(_questions("trajectory", label, seed), _draw_way, waiting="Drawing one picture with each model …")


def _draw_way(found: Answers) -> None:
    step = st.slider(
        "Step", 0, NUM_STEPS, NUM_STEPS // 2, key="learn_step",
        help="0 is the noise at the start, the last step is the finished picture. Drag it, or use the arrow keys.",
    )  # fmt: skip
    for place, (title, model) in zip(st.columns(2, gap="large"), MODELS.items(), strict=True):
        answer, folder = found[f"trajectory {model}"]
        place.html(_pair(title, answer, folder, step))
    st.html(_protocol(next(iter(found.values()))[0]))


def _pair(title: str, answer: dict[str, Any], folder: Path, step: int) -> str:
    frame = answer["frames"][min(step, len(answer["frames"]) - 1)]
    state, estimate = (_cut(folder / answer["images"][name], frame["step"]) for name in ("state", "estimate"))
    share = f"{frame['noise_left']:.0%} of the way still to go"
    return (
        f'<p class="ep-question">{title}</p><div class="ep-duo">'
        f"<figure>{pictures.img(state, f'{title}: what it holds after step {step}', css='large')}"
        f"<figcaption>what it holds, {share}</figcaption></figure>"
        f"<figure>{pictures.img(estimate, f'{title}: what it takes the end to be at step {step}', css='large')}"
        "<figcaption>what it takes the end to be</figcaption></figure></div>"
    )


@st.cache_data(max_entries=256, show_spinner=False)
def _cut(file: Path, index: int) -> bytes:
    """One of the square pictures that stand side by side in a strip."""
    with Image.open(file) as strip:
        side = strip.height
        return pictures.png(np.asarray(strip.convert("RGB").crop((index * side, 0, (index + 1) * side, side))))


def _protocol(answer: dict[str, Any]) -> str:
    protocol = answer["protocol"]
    return (
        f'<p class="ep-note">Computed here: {protocol["num_steps"]} steps, each model with its usual sampler, guidance '
        f"{protocol['cfg_scale']:g}, the same seed and class for both.</p>"
    )


def _blocks() -> None:
    label, seed = _chosen()
    questions = _questions("block_states", label, seed, steps=list(LOOKED_AT))
    answered(questions, _draw_blocks, waiting="Looking between the blocks of both models …")


def _draw_blocks(found: Answers) -> None:
    step = st.segmented_control(
        "At which step", LOOKED_AT, default=LOOKED_AT[1], required=True, key="learn_when",
        format_func=lambda step: f"{_WHEN[step]} (step {step} of {NUM_STEPS})",
        help="How far the picture is when the network is asked: early it is nearly pure noise.",
    )  # fmt: skip
    st.html("".join(_row(title, *found[f"block_states {model}"], step) for title, model in MODELS.items()))
    st.html(
        '<p class="ep-note">Read by the model’s own final layer, without guidance, and shown as the clean picture that '
        "the answer speaks for. Only the last was trained to be read: the others are a way of looking.</p>"
    )


def _row(title: str, answer: dict[str, Any], folder: Path, step: int) -> str:
    states = next(states for states in answer["steps"] if states["step"] == step)
    names = ["before", *map(str, range(len(states["change"])))]
    cells = "".join(
        f"<figure>{pictures.img(_cut(folder / states['image'], index), f'{title}, after block {name}')}"
        f"<figcaption>{name}</figcaption></figure>"
        for index, name in enumerate(names)
    )
    return f'<p class="ep-question">{title}: read after block …</p><div class="ep-readings">{cells}</div>'


def _change() -> None:
    label, seed = _chosen()
    questions = _questions("block_states", label, seed, steps=list(LOOKED_AT))
    answered(questions, _draw_change, waiting="Measuring what each block adds …")


def _draw_change(found: Answers) -> None:
    for place, (title, model) in zip(st.columns(2, gap="large"), MODELS.items(), strict=True):
        figure = learn_charts.added_by_block(_added(found[f"block_states {model}"][0]), title=title, palette=palette())
        chart.draw(
            place,
            figure,
            key=f"learn_added_{model}",
            alt=f"{title}: how much each block changes the stream, at three steps",
        )
    st.html(
        '<p class="ep-note">‖what the block adds to a token‖ ÷ ‖the token before‖, mean over the 16 tokens of one '
        "picture. One picture, so no interval: choose another digit or seed and see what stays.</p>"
    )


def _added(answer: dict[str, Any]) -> dict[str, list[float]]:
    return {
        f"{_WHEN[states['step']]}, step {states['step']}": [float(np.mean(row)) for row in states["change"]]
        for states in answer["steps"]
    }


def _still_way() -> Still:
    found = ask_all(_questions("trajectory", 3, 7))
    if found is None:
        return []
    still: Still = []
    for title, model in MODELS.items():
        answer, folder = found[f"trajectory {model}"]
        for what, words in (("state", "what it holds"), ("estimate", "what it takes the end to be")):
            strip = pictures.img((folder / answer["images"][what]).read_bytes(), f"{title}: {words}, step by step")
            still.append(
                f"<figure class='strip'>{strip}<figcaption>{title}: {words}, step 0 … 20</figcaption></figure>"
            )
    return still


def _still_blocks() -> Still:
    found = ask_all(_questions("block_states", 3, 7, steps=list(LOOKED_AT)))
    return [] if found is None else [_row(t, *found[f"block_states {m}"], LOOKED_AT[1]) for t, m in MODELS.items()]


def _still_change() -> Still:
    found = ask_all(_questions("block_states", 3, 7, steps=list(LOOKED_AT)))
    if found is None:
        return []
    return [
        learn_charts.added_by_block(_added(found[f"block_states {model}"][0]), title=title, palette=palette())
        for title, model in MODELS.items()
    ]


LESSON = Lesson(
    title="How a transformer draws",
    short="Drawing",
    screens=(
        Screen(
            title="A picture comes out of noise, step by step",
            words="Both models start from the same [[noise]]. Again and again the network looks at what is there and "
            "says which way the picture lies. [[DiT]] learned to say what is noise, [[SiT]] to point straight from "
            "noise to picture. The network is the same kind of [[transformer]].",
            draw=_way,
            still=_still_way,
            question=Question(
                text="Drag the step to 3. What each holds still looks like noise. Does the network know the digit "
                "already?",
                options=("Yes, its guess of the end shows it", "No, it can’t know before the noise is gone"),
                answer="It was told the [[class]] and answers with the most likely picture from the first step on. The "
                "steps that follow settle which of the many possible pictures it becomes.",
            ),
            formula=Formula(
                latex=r"\text{DiT:}\; x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon,\;\; "
                r"\hat x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\varepsilon_\theta}{\sqrt{\bar\alpha_t}}"
                r"\qquad \text{SiT:}\; x_t=t\,x_0+(1-t)\,\varepsilon,\;\; \hat x_0=x_t+(1-t)\,v_\theta",
                words="x₀ the clean [[latent]], ε the noise, t the time; the network answers with ε_θ or with the "
                "velocity v_θ, and x̂₀ is the picture that its answer speaks for.",
                source="DDPM, arXiv 2006.11239, eq. 4 and 15; SiT, arXiv 2401.08740, linear path, time from noise to "
                "data",
            ),
            link=Link(
                view="model_data", label="Open a model of your own →",
                help="The page where a DiT or SiT checkpoint is opened and checked.",
            ),
        ),
        Screen(
            title="Inside one step: every block adds a little",
            words="The network is a stack of twelve equal [[block]]s. Each reads the stream of [[token]]s and adds its "
            "part. Here the stream is read after every block by the model’s own final layer (a [[logit lens]]).",
            draw=_blocks,
            still=_still_blocks,
            question=Question(
                text="Are there neighbours in the row that look the same to you? What does that suggest?",
                answer="Where nothing changes from one picture to the next, the block between them added little that "
                "the final layer can see. It may be one that the model can do without. May: a later block could still "
                "need what it wrote. Looking isn’t proof; the next screens and lesson 3 try it.",
            ),
            formula=Formula(
                latex=r"h_{i+1}=h_i+g^a_i\odot\mathrm{Attn}_i(h_i)+g^m_i\odot\mathrm{MLP}_i(\cdot),\qquad "
                r"\text{reading}_i=\mathrm{Final}(h_i)",
                words="h the tokens; the gates g come from time and class. A block whose gates are near 0 adds "
                "nothing.",
                source="DiT, arXiv 2212.09748, adaLN-Zero block; reading between blocks: our reading of the logit lens",
            ),
            link=Link(
                view="importance", label="See what each block matters, for any model →",
                help="The heatmap of blocks and noise levels.", query={"model": "demo-sit-digits", "data": "digits"},
            ),
        ),
        Screen(
            title="Some blocks write a lot, some hardly anything",
            words="How large is what a [[block]] adds, measured against what was there? A short bar is a first suspect "
            "for a block that isn’t needed. It is a simple sign, and lesson 4 shows when such signs mislead.",
            draw=_change,
            still=_still_change,
            question=Question(
                text="Is the block with the shortest bar surely the one to take out?",
                options=("Yes, it does the least", "No, a small change may matter and a large one may not"),
                right=1,
                answer="Size isn’t use: a small push in the right direction can decide what is drawn, and a large one "
                "can be undone by the next block. So one takes the block out and looks: lesson 3.",
            ),
            formula=Formula(
                latex=r"r_i=\frac1T\sum_{\tau}\frac{\lVert h_{i+1,\tau}-h_{i,\tau}\rVert}{\lVert h_{i,\tau}\rVert}",
                words="T the number of [[token]]s, h_i the stream before block i.",
                source="our reading; a relative of block influence, ShortGPT, arXiv 2403.03853",
            ),
            link=Link(
                view="importance", label="Block influence and its rivals, on your own model →",
                help="The importance page; open its part on other criteria.",
                query={"model": "demo-sit-digits", "data": "digits"},
            ),
        ),
    ),
)  # fmt: skip
