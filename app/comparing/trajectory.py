"""One seed on its way from noise through every picked model, under one slider; and where the models part."""

import html
from collections.abc import Sequence

import streamlit as st

from app import address, charts, chosen, glossary, jobs, pictures
from app.access import rights
from app.comparing import scrubber, way_question, way_words
from app.comparing.compare_charts import looks, parting
from app.comparing.picked import Picked
from app.comparing.shared_seeds import kept_by, shared_by
from app.comparing.way_question import Asked, Followed
from app.comparing.ways import Way, places_beside, rms_apart
from app.errors import one_line_errors, sentence, shown_as_one_line
from app.style import palette


def draw(picked: Sequence[Picked]) -> None:
    """Redraws by itself, without the rest of the page."""
    st.header("On the way from noise", anchor=False)
    st.html(
        '<p class="ep-note">The same noise goes through each model, with the sampler, steps and guidance that the '
        "stage was evaluated with. Move the slider to see where the pictures part.</p>"
    )
    st.fragment(one_line_errors(_draw))(list(picked))


def _draw(picked: list[Picked]) -> None:
    shown = [one for one in picked if _has_pictures(one)]
    if not shown:
        return
    shared = shared_by(shown)
    if not shared.seeds:
        st.info(
            "These stages share no picture, so no noise is the same for all. Choose stages that were evaluated on the "
            "same data with the same seed."
        )
        return
    index = _pick(shared.classes, shared.seeds)
    rows = shared.rows[:, index].tolist()
    asked = [found for one, row in zip(shown, rows, strict=True) if (found := way_question.question(one, row))]
    if not asked:
        return
    if not way_question.is_asked(asked):
        if not way_question.goes_on(asked) and not _offer(
            asked, f"{shared.classes[index]}, seed {shared.seeds[index]}"
        ):
            return
        way_question.ask(asked)
    if followed := way_question.answered(asked):
        _show(followed)


def _has_pictures(one: Picked) -> bool:
    """Says why not."""
    found = None
    with shown_as_one_line():
        found = kept_by(one)
        if found is None or not found.seeds:
            st.info(f"{sentence(one.label)} kept no pictures, so no seed of it can be followed. Evaluate it first.")
    return bool(found and found.seeds)


def _pick(classes: Sequence[str], seeds: Sequence[int]) -> int:
    """Place of the chosen picture among the shared ones; in the address by its seed."""
    _take_from_address(classes, seeds)
    left, right = st.columns(2, gap="medium")
    name = chosen.drawn(
        left.selectbox,
        "Class to follow",
        list(dict.fromkeys(classes)),
        key="way_class",
        help="The class that the models are asked for.",
    )
    places = {seed: place for place, (one, seed) in enumerate(zip(classes, seeds, strict=True)) if one == name}
    seed = chosen.drawn(
        right.selectbox,
        "Seed to follow",
        list(places),
        key=f"way_seed_{name}",
        help="All of these stages kept a picture of it. " + glossary.explain("seed"),
    )
    address.remember(follow=seed)
    return places[seed]


def _take_from_address(classes: Sequence[str], seeds: Sequence[int]) -> None:
    """Once, before anything was chosen here."""
    if "way_class" in st.session_state:
        return
    wanted = address.asked_number("follow", seeds)
    if wanted is not None:
        name = classes[list(seeds).index(wanted)]
        st.session_state["way_class"], st.session_state[f"way_seed_{name}"] = name, wanted


def _offer(asked: list[Asked], what: str) -> bool:
    """Whether it was taken."""
    place = st.empty()
    taken = place.button(
        f"Follow {what}",
        key="way_go",
        **rights.guarded(
            "The engine draws this picture again with each model and keeps what is there after each step. It takes "
            "about as long as drawing one picture, and is kept.",
            light=all(jobs.is_light("trajectory", one.params) for one in asked),
        ),
    )
    if taken:
        place.empty()
    return taken


def _show(followed: list[Followed]) -> None:
    first, shown = followed[0], [one.asked.picked for one in followed]
    colours = looks([one.intact for one in shown], palette())
    frames = first.film.frames
    places = [places_beside(frames, one.film.frames) for one in followed]
    apart = [rms_apart(first.film, one.film, where) for one, where in zip(followed, places, strict=True)]
    ways = [
        Way(
            label=one.label,
            colour=look.colour,
            side=one.film.side,
            state=one.film.state_uri,
            estimate=one.film.estimate_uri,
            places=where,
            notes=[
                way_words.note(one, one.film.frames[at], rms[index] if rms else None, first)
                for index, at in enumerate(where)
            ],
        )
        for one, look, where, rms in zip(followed, colours, places, apart, strict=True)
    ]
    scrubber.draw(ways, [way_words.moment(frame, first.answer) for frame in frames], smooth_from=pictures.SMOOTH_FROM)
    done = [1 - frame["noise_left"] for frame in frames]
    lines = [
        (one.label, look, done, rms)
        for one, look, rms in zip(followed[1:], colours[1:], apart[1:], strict=True)
        if rms is not None
    ]
    if lines:
        st.plotly_chart(
            parting(lines, first=first.label, palette=palette()), key="way_parting", config=charts.CONFIG,
            alt=f"RMS difference of each stage's estimate from that of {first.label}, along the way",
        )  # fmt: skip
    words = way_words.notes(followed, places, apart)
    st.html(f'<p class="ep-note">{"<br>".join(map(html.escape, words))}</p>')
