"""Lesson 6: as good as before? One number from few pictures, from many, and what an average hides."""

import html
from dataclasses import asdict

import numpy as np
import streamlit as st

from app import pictures
from app.learn import chart, learn_charts
from app.learn.lesson import Formula, Lesson, Link, Question, Screen, Still
from app.style import palette
from engine.assets import ASSETS, read_asset
from engine.errors import AssetError
from engine.evaluation.comparing import differences
from engine.evaluation.protocol import Protocol
from engine.learn.fid_by_number import KeptFeatures, fid_of, fid_of_draws, read_kept_features

_NUMBERS = (50, 100, 200, 500, 1000)
_DRAWS = 20
_FIELDS = {"num_images": "number of images", "num_steps": "sampling steps"}
_COMPARED = ("intact", "pruned")


@st.cache_resource(max_entries=1, show_spinner=False)
def _kept() -> KeptFeatures:
    """One for all sessions; nobody writes to it. Raises AssetError."""
    file = next(iter(sorted((ASSETS / "replays").glob("*.npz"))), None)
    if file is None:
        raise AssetError("no kept features are there in assets/replays; get them again")
    return read_kept_features(read_asset(file), name=f"assets/replays/{file.name}")


@st.cache_data(max_entries=1, show_spinner=False)
def _lines() -> dict[str, list[tuple[float, float, float]]]:
    return {
        model: [(one.value, one.low, one.high)
                for one in (fid_of_draws(_kept(), model, n, draws=_DRAWS) for n in _NUMBERS)]
        for model in _COMPARED
    }  # fmt: skip


@st.cache_data(max_entries=512, show_spinner=False)
def _fid(model: str, num: int, draw: int) -> float:
    return fid_of(_kept(), model, num, draw=draw)


def _number() -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom", gap="medium")
    num = left.select_slider(
        "Images measured", _NUMBERS, value=50, key="learn_n", persist_state="session",
        help="So many of the 1,000 kept pictures of each model are taken, classes alike.",
    )  # fmt: skip
    right.button(
        "Take other pictures", on_click=_again, width="stretch",
        help="Takes as many others at random. The models don’t change, only which pictures are measured.",
    )  # fmt: skip
    draw = st.session_state.get("learn_draw", 0)
    now = {model: _fid(model, num, draw) for model in _COMPARED}
    for place, model in zip(st.columns(2), _COMPARED, strict=True):
        mean, low, high = _lines()[model][_NUMBERS.index(num)]
        place.metric(
            f"FID (demo-cnn), {_named(model)}, N = {num}", f"{now[model]:.3f}",
            delta=f"{low:.3f} … {high:.3f} in {_DRAWS} draws", delta_color="off", delta_arrow="off",
            help=f"Of this draw; below it where 90 % of {_DRAWS} draws lie, mean {mean:.3f}.",
        )  # fmt: skip
    chart.draw(
        st, _chart(num, now), key="learn_fid", alt="FID of the intact and the pruned model over the number of images"
    )
    st.html(f'<p class="ep-note">{_how()}</p>')


def _chart(num: int, now: dict[str, float]):
    return learn_charts.fid_by_number(_NUMBERS, _lines(), now, num, title="FID (demo-cnn)", palette=palette())


def _again() -> None:
    st.session_state["learn_draw"] = st.session_state.get("learn_draw", 0) + 1


def _named(model: str) -> str:
    about = _kept().about
    if model == "cut":
        cut = ", ".join(map(str, about["cut"]))
        return f"without block {cut}, not trained since"
    return f"{model}, {about['depth'][model]} blocks"


def _how() -> str:
    kept = _kept()
    return (
        f"Resampled here from kept features: {len(kept.labels):,} pictures of each model, against "
        f"{kept.num_real:,} real ones of {html.escape(kept.about['data'])}. Lines show where 90 % of {_DRAWS} draws "
        f"lie; at N = {len(kept.labels):,} there is but one draw, so the line vanishes: that isn’t certainty. "
        f"{html.escape(Protocol(**kept.about['protocol']).label())}. Command: <code>{kept.about['command']}</code>"
    )


def _unlike() -> None:
    base = Protocol(**_kept().about["protocol"])
    st.html('<p class="ep-question">Somebody else measured the same model. How?</p>')
    places = st.columns(3, gap="medium")
    num = places[0].select_slider(
        "Images", _NUMBERS, value=50, key="learn_other_n", persist_state="session", help="How many pictures they drew."
    )
    steps = places[1].select_slider(
        "Sampling steps", (5, 10, 20, 50), value=20, key="learn_other_steps", persist_state="session",
        help="How many steps from noise to picture.",
    )  # fmt: skip
    features = places[2].selectbox(
        "Features", ("demo-cnn", "inception"), key="learn_other_features", persist_state="session",
        help="The network whose features are compared. Papers use Inception’s.",
    )  # fmt: skip
    other = Protocol(**{**_kept().about["protocol"], "num_images": num, "num_steps": steps, "features": features})
    unlike = differences({"protocol": asdict(base)}, {"protocol": asdict(other)})
    if not unlike:
        st.html('<p class="ep-say"><b>Same protocol:</b> the two numbers may stand in one column.</p>')
    else:
        words = ", ".join(
            f"{_FIELDS.get(field, field)} {asdict(base)[field]} against {asdict(other)[field]}" for field in unlike
        )
        st.html(f'<p class="ep-say"><b>Not comparable:</b> {html.escape(words)}.</p>')
    st.html(f'<p class="ep-say">{_trap()}</p><p class="ep-note">Ours: {html.escape(base.label())}</p>')


def _trap() -> str:
    """The worse model made to look better, or the same model made to look twice as bad, by N alone."""
    few, many = _lines()["intact"][0][0], _lines()["intact"][-1][0]
    return (
        f"How far that misleads: the very same intact model scores <b>{few:.2f}</b> from {_NUMBERS[0]} pictures and "
        f"<b>{many:.2f}</b> from {_NUMBERS[-1]:,}. FID from few pictures is too high, for every model, so "
        f"{_NUMBERS[0]} against {_NUMBERS[-1]:,} says nothing about which model is better."
    )


def _classes() -> None:
    kept = _kept()
    st.html(f'<p class="ep-say">{_average()}</p>')
    chart.draw(
        st, _accuracy(), key="learn_classes", alt="Share of pictures taken for their class, by class, intact and cut"
    )
    names = kept.about["class_names"]
    label = st.pills(
        "Look at class", range(len(names)), default=_worst(), required=True, key="learn_class", persist_state="session",
        format_func=lambda label: names[label], help="The first six pictures of this class by each model, not chosen.",
    )  # fmt: skip
    st.html(_gallery(label))
    st.html(
        f'<p class="ep-note">{len(kept.labels) // len(names)} pictures of each class; bars are the share that demo-cnn '
        f"takes for the class it should be, lines Wilson’s 90 % interval. "
        f"{Protocol(**kept.about['protocol']).label()}.</p>"
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _gallery(label: int) -> str:
    kept, name = _kept(), _kept().about["class_names"][label]
    rows = []
    for model, look in (("intact", "intact"), ("cut", "dropped")):
        shown = [pictures.png(picture) for picture in kept.pictures[model][label]]
        rows.append(
            f'<p class="ep-legend"><span><i class="{look}"></i>{html.escape(_named(model))}</span></p>'
            f"{pictures.thumbs(shown, f'{_named(model)}: class {name}')}"
        )
    return "".join(rows)


def _worst() -> int:
    kept = _kept()
    return min(range(len(kept.about["class_names"])), key=lambda label: kept.accuracy("cut", label).value)


def _average() -> str:
    kept = _kept()
    right = float(np.mean(kept.seen["cut"] == kept.labels))
    worst = _worst()
    one = kept.accuracy("cut", worst)
    return (
        f"{_named('cut').capitalize()}: over all classes <b>{right:.0%}</b> of the pictures are what they should be. "
        f"Of class {html.escape(kept.about['class_names'][worst])} it is <b>{one.value:.0%}</b> ({one.low:.0%} … "
        f"{one.high:.0%})."
    )


def _accuracy():
    kept = _kept()
    names = kept.about["class_names"]
    shares = {
        _named(model): [(a.value, a.low, a.high) for a in (kept.accuracy(model, label) for label in range(len(names)))]
        for model in ("intact", "cut")
    }
    return learn_charts.accuracy_by_class(names, shares, palette=palette())


def _still_number() -> Still:
    return [_chart(50, {model: _fid(model, 50, 0) for model in _COMPARED}), f"<p class='note'>{_how()}</p>"]


def _still_classes() -> Still:
    return [f"<p>{_average()}</p>", _accuracy(), _gallery(_worst())]


def _smaller() -> str:
    """Which of the two has the lower FID, draw by draw."""
    wins = sum(_fid("pruned", 50, draw) < _fid("intact", 50, draw) for draw in range(_DRAWS))
    return (
        f"From 50 pictures the pruned model came out ahead of the intact one in {wins} of {_DRAWS} draws; with 1,000 "
        f"it is {_fid('pruned', 1000, 0):.3f} against {_fid('intact', 1000, 0):.3f}. A small difference needs many "
        "pictures, and its [[interval]] beside it."
    )


_TRY = Link(
    view="compare", label="Measure two stages of your own run alike →",
    help="The compare page refuses unlike protocols and shows every class.",
)  # fmt: skip
LESSON = Lesson(
    title="As good as before?",
    short="As good?",
    screens=(
        Screen(
            title="One number, from few pictures or from many",
            words="[[FID]] says how far the cloud of drawn pictures lies from the real ones. Take 50 pictures, then "
            "others, then 1,000. The models never change, yet the number does.",
            draw=_number,
            still=_still_number,
            question=Question(text="Can 50 pictures tell whether the pruned model is worse?", answer=_smaller),
            formula=Formula(
                latex=r"\mathrm{FID}=\lVert\mu-\mu_r\rVert^2+\operatorname{tr}\bigl(\Sigma+\Sigma_r-2(\Sigma\Sigma_r)^{1/2}\bigr)",
                words="Mean μ and covariance Σ of the features of drawn pictures, with r of real ones. From few "
                "pictures Σ is badly known, which raises the number.",
                source="Heusel et al., arXiv 1706.08500, eq. 6; features here: demo-cnn",
            ),
            link=_TRY,
        ),
        Screen(
            title="Unlike measurements can’t be compared",
            words="A number belongs to its [[protocol]]: how many pictures, how many steps, whose features. Change "
            "one and see what the studio says.",
            draw=_unlike,
            still=lambda: [f"<p>{_trap()}</p>"],
            question=Question(
                text="A paper reports FID 2.3 on ImageNet, this page 0.6 on digits. Is ours the better model?",
                options=("Yes, 0.6 is smaller", "The question makes no sense"),
                right=1,
                answer="Other data, other features, other number of pictures: the two numbers don’t live on one scale.",
            ),
            link=_TRY,
        ),
        Screen(
            title="An average hides the class that fails",
            words="This model goes without one [[block]], the one that a reading of lesson 4 calls least needed. Most "
            "pictures are fine. Look at every [[class]] before you say so.",
            draw=_classes,
            still=_still_classes,
            question=Question(
                text="Which check would have caught this?",
                options=("More seeds of the average", "The same numbers class by class"),
                right=1,
                answer="More pictures make the average surer, not fairer. The studio measures every class, and says "
                "where there are too few pictures of one.",
            ),
            formula=Formula(
                latex=r"\hat p\in\frac{\hat p+\frac{z^2}{2n}\pm z\sqrt{\frac{\hat p(1-\hat "
                r"p)}{n}+\frac{z^2}{4n^2}}}{1+\frac{z^2}{n}}",
                words="p̂ the share of right pictures among n; z = 1.645 for a 90 % [[interval]].",
                source="Wilson’s score interval, textbook",
            ),
            link=_TRY,
        ),
    ),
)  # fmt: skip
