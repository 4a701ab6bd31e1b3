"""Lesson 2: entropy that one can see, in one dimension, in two, in pictures, and what it doesn't see."""

import numpy as np
import streamlit as st

from app import pictures
from app.learn import chart, learn_charts, toys
from app.learn.lesson import Formula, Lesson, Link, Question, Screen, Still
from app.style import palette
from engine.data.bundled import bundled_data

_SPREADS = np.linspace(0.1, 3.0, 59)
_NUM_SHOWN, _NUM_MEASURED = 16, 400


def _numbers(*items: tuple[str, float, str]) -> None:
    """Changes with their sign."""
    for place, (label, value, about) in zip(st.columns(len(items)), items, strict=True):
        sign = "+" if label.startswith("ΔH") or label.startswith("Change") else ""
        place.metric(label, f"{value:{sign}.2f} nats".replace("-", "−"), help=about)


def _one() -> None:
    spread = st.slider(
        "Spread", 0.1, 3.0, 1.0, 0.05, key="learn_spread", persist_state="session",
        help="All values are multiplied by this. 1 leaves them as they were.",
    )  # fmt: skip
    values = spread * toys.two_bumps()
    now, before = toys.gaussian_entropy(values.var(ddof=1)), toys.gaussian_entropy(1.0)
    _numbers(
        ("Entropy H", now, "Of the Gaussian with the same variance as the samples."),
        ("Change ΔH", now - before, "Against spread 1. Above zero is towards noise, below towards collapse."),
    )
    left, right = st.columns(2, gap="large")
    chart.draw(
        left, _histogram(spread), key="learn_one", alt="Histogram of the samples and the Gaussian of the same variance"
    )
    chart.draw(
        right,
        learn_charts.entropy_against_spread(_SPREADS, np.log(_SPREADS), spread, palette=palette()),
        key="learn_one_h",
        alt="Change of entropy over the spread, with the slider's place",
    )


def _histogram(spread: float):
    return learn_charts.spread_of_values(
        spread * toys.two_bumps(), spread**2, name=f"{toys.NUM:,} samples", palette=palette()
    )


def _two() -> None:
    left, right = st.columns(2, gap="large")
    across = left.slider(
        "Spread across the diagonal", 0.05, 2.0, 1.0, 0.05, key="learn_across", persist_state="session",
        help="1 is a round cloud. Small: the two values become nearly the same, the cloud collapses onto a line.",
    )  # fmt: skip
    along = left.slider(
        "Spread along the diagonal", 0.05, 2.0, 1.0, 0.05, key="learn_along", persist_state="session",
        help="How far the cloud reaches from lower left to upper right.",
    )  # fmt: skip
    points = toys.cloud(along, across)
    alone, together = (value - toys.gaussian_entropy(1.0) for value in toys.entropies_of_cloud(points))
    with left:
        _numbers(
            ("ΔH, each value alone", alone, "Per dimension, the studio's usual estimate ('gaussian')."),
            ("ΔH, both together", together, "Per dimension, with the covariance ('gaussian-full')."),
        )
    chart.draw(
        right,
        learn_charts.cloud(points, palette=palette()),
        key="learn_two",
        alt="Cloud of points with two values each",
    )


@st.cache_data(max_entries=1, show_spinner=False)
def _digits() -> np.ndarray:
    data = bundled_data("digits")
    return data.images[:_NUM_MEASURED].astype(np.float64) / 255


def _pictures() -> None:
    turn = st.slider(
        "From collapse to noise", -0.95, 1.0, 0.0, 0.05, key="learn_turn", persist_state="session",
        help="Left: every picture is pulled towards the mean picture. Right: noise is added. 0: as they are.",
    )  # fmt: skip
    shown, change = _turned(turn)
    word = "as they are" if turn == 0 else "towards noise" if change > 0 else "towards collapse"
    _numbers((f"ΔH, {word}", change, f"Per pixel, one variance for all, over {_NUM_MEASURED} pictures of digits."))
    st.html(shown)
    st.html(
        f'<p class="ep-note">Measured on {_NUM_MEASURED} pictures of the dataset digits before they are cut to black '
        "and white for the screen; one variance for all pixels (estimator “gaussian-scalar”).</p>"
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _turned(turn: float) -> tuple[str, float]:
    values = toys.turned(_digits(), turn)
    change = toys.pooled_entropy(values) - toys.pooled_entropy(_digits())
    first = (np.clip(values[:_NUM_SHOWN], 0, 1) * 255).round().astype(np.uint8)
    return pictures.thumbs([pictures.png(picture) for picture in first], "digits, changed by the slider"), change


def _blind() -> None:
    shape = st.slider(
        "From one bump to two peaks", 0.0, 1.0, 0.0, 0.02, key="learn_shape", persist_state="session",
        help="The variance stays 1 all the way; only the shape changes.",
    )  # fmt: skip
    gauss = toys.gaussian_entropy(1.0)
    _numbers(
        ("H by the Gaussian form", gauss, "Knows the variance alone, which is 1 whatever the slider says."),
        ("True entropy", toys.true_entropy(shape), "Of this very distribution, summed over a fine grid."),
        ("Missed", gauss - toys.true_entropy(shape), "The collapse that the Gaussian form doesn't see."),
    )
    chart.draw(
        st,
        _shape(shape),
        key="learn_blind",
        alt="Histogram of samples whose shape changes while their variance stays the same",
    )


def _shape(shape: float):
    return learn_charts.spread_of_values(
        toys.same_variance(shape), 1.0, name=f"{toys.NUM:,} samples of variance 1", palette=palette(), reach=4.0
    )


def _still_one() -> Still:
    return [_histogram(spread) for spread in (0.3, 1.0, 2.0)]


def _still_two() -> Still:
    still: Still = []
    for along, across in ((1.0, 1.0), (1.4, 0.15)):
        points = toys.cloud(along, across)
        alone, together = (value - toys.gaussian_entropy(1.0) for value in toys.entropies_of_cloud(points))
        words = f"ΔH each value alone {alone:+.2f} nats, both together {together:+.2f} nats per dimension."
        still += [learn_charts.cloud(points, palette=palette()), f"<p>{words}</p>"]
    return still


def _still_pictures() -> Still:
    still: Still = []
    for turn in (-0.8, 0.0, 0.6):
        shown, change = _turned(turn)
        still.append(f"<p>ΔH {change:+.2f} nats per pixel</p>{shown}")
    return still


def _still_blind() -> Still:
    return [f"<p>Same variance; true entropy {toys.true_entropy(0.95):.2f}, by the Gaussian form "
            f"{toys.gaussian_entropy(1.0):.2f} nats.</p>", _shape(0.95)]  # fmt: skip


_TRY = Link(
    view="importance", label="Measure it on a model →", query={"model": "demo-sit-digits", "data": "digits"},
    help="The importance page; choose the reading and the estimator there.",
)  # fmt: skip
LESSON = Lesson(
    title="Entropy you can see",
    short="Entropy",
    screens=(
        Screen(
            title="Entropy is spread, in one number",
            words="Drag the slider. Wide values have high [[entropy]], values all alike have low. Twice the spread is "
            "always 0.69 [[nats]] more. If a model’s pictures spread more than they should, that is towards "
            "[[noise]]; less is towards [[collapse]].",
            draw=_one,
            still=_still_one,
            question=Question(
                text="The spread goes from 1 to 2 and then from 2 to 4. Which step changes H more?",
                options=("From 1 to 2", "From 2 to 4, it is twice as long", "Both the same"),
                right=2,
                answer="H grows with the logarithm of the spread: doubling adds log 2 ≈ 0.69 nats, wherever one "
                "starts.",
            ),
            formula=Formula(
                latex=r"H=\log\sigma+\tfrac12\log 2\pi+\tfrac12",
                words="σ² the [[variance]]. A closed form for a Gaussian; for other shapes it is an upper bound.",
                source="EntPruner, arXiv 2511.21122, the Gaussian closed form it uses; what σ ranges over is our "
                "reading",
            ),
            link=_TRY,
        ),
        Screen(
            title="In two dimensions a collapse can hide",
            words="Now each sample has two values. Set the spread across the diagonal to 0.1: the cloud is nearly a "
            "line, so one value tells the other. Looked at alone, each value still spreads.",
            draw=_two,
            still=_still_two,
            question=Question(
                text="Across 0.1, along 1.4: which of the two numbers notices that the cloud became a line?",
                options=("Each value alone", "Both together"),
                right=1,
                answer="Alone, both values keep nearly the variance they had. Only the covariance knows that they move "
                "together. The studio offers both estimates, and says which one it used.",
            ),
            formula=Formula(
                latex=r"H_{\text{alone}}=\frac1d\sum_j\tfrac12\log(2\pi e\,\sigma_j^2),\qquad "
                r"H_{\text{together}}=\frac{1}{2d}\log\det(2\pi e\,\Sigma)",
                words="d the number of dimensions, Σ the covariance.",
                source="textbook entropy of a Gaussian; averaging over dimensions is our reading",
            ),
            link=_TRY,
        ),
        Screen(
            title="What it looks like in pictures",
            words="The same slider on real pictures of digits. To the left they are pulled towards the mean picture "
            "and become alike: [[collapse]]. To the right they drown in [[noise]]. Taking a block out of a model can "
            "do either.",
            draw=_pictures,
            still=_still_pictures,
            question=Question(
                text="Both ends look bad. So which sign of ΔH is the good one?",
                options=("Above zero: more variety", "Below zero: less noise", "Neither: near zero is good"),
                right=2,
                answer="A good model has the spread that the data has. That is why importance is the size of the "
                "change, |ΔH|, whichever way it goes: [[CED]].",
            ),
            formula=Formula(
                latex=r"\Delta H_i=H\!\left(X^{-i}\right)-H(X),\qquad \mathrm{CED}_i=\lvert\Delta H_i\rvert",
                words="X what the model gives, X⁻ⁱ the same without block i.",
                source="EntPruner, arXiv 2511.21122; what X ranges over is our reading, and the studio offers three",
            ),
            link=_TRY,
        ),
        Screen(
            title="What this number can’t see",
            words="Here the [[variance]] stays the same while one bump becomes two sharp peaks. The Gaussian form "
            "doesn’t move, though the true [[entropy]] falls. So one number is never the whole story: lesson 4.",
            draw=_blind,
            still=_still_blind,
            question=Question(
                text="A block is left out and ΔH is 0. Is the block useless?",
                options=("Yes", "Not for certain"),
                right=1,
                answer="Any change that keeps the [[variance]] has ΔH 0. Lessons 4 and 6 show a block that one "
                "reading calls least needed, while without it a whole [[class]] fails.",
            ),
            formula=Formula(
                latex=r"H_{\text{true}}=-\int p(x)\log p(x)\,dx\;\le\;\tfrac12\log(2\pi e\,\sigma^2)",
                words="Equal for a Gaussian only.",
                source="maximum entropy of the Gaussian, textbook",
            ),
            link=_TRY,
        ),
    ),
)  # fmt: skip
