"""What greedy removal and racing found beyond a heatmap."""

import html

import streamlit as st

from app import blocks, charts
from app.wide import wide


def draw(result: dict) -> None:
    if result.get("greedy"):
        _greedy(result)
    if result.get("racing"):
        _racing(result)


def _greedy(result: dict) -> None:
    removals = result["greedy"]
    rows = "".join(
        f"<tr><td>{place}</td><td>{html.escape(step['label'])}</td><td>{step['ced']:.4f}"
        f"<small>{step['ci_low']:.4f} … {step['ci_high']:.4f}</small></td><td>{step['agreement']:.0%}</td></tr>"
        for place, step in enumerate(removals, start=1)
    )
    words = " → ".join(step["label"] for step in removals)
    st.markdown(
        f"Removed one after another, scored again each time: **{words}**.",
        help="The heatmap below shows each block alone, which is the first step. The order comes from the later steps.",
    )
    with st.expander("Each removal"):
        st.html(
            '<p class="ep-note">CED here is that of everything gone so far, against the intact model. The last column '
            "says in how many resamples of the images the same one would have gone.</p>"
            + wide(
                '<table class="ep-table"><tr><th>step</th><th>goes</th><th>CED of all gone</th>'
                f"<th>resamples that agree</th></tr>{rows}</table>",
                label="Each removal",
            )
        )


def _racing(result: dict) -> None:
    race, labels = result["racing"], charts.row_labels(result)
    samples = result["protocol"].get("samples", max(race["samples"]))
    early = [row for row, spent in enumerate(race["samples"]) if spent < samples]
    st.markdown(
        f"The race found the **{race['num_candidates']}** that matter least with **{race['share']:.0%}** of the exact "
        f"way's work: {', '.join(labels[row] for row in race['least'])}.",
        help=f"{len(early)} of {len(labels)} rows were settled before all {samples} images were spent on them; their "
        "numbers rest on fewer images, and only the set is to be relied on.",
    )
    if not any(" " in label for label in labels):
        st.html(
            blocks.strip(["dropped" if row in race["least"] else "intact" for row in range(len(labels))], small=True)
        )
