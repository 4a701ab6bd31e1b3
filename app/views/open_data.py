"""Open data: images of your own, looked at before anything runs, then kept under a name."""

from typing import Any

import streamlit as st

from app import known
from app.opening import data_check, opening, sources
from engine.data.bundled import bundled_data_names


def page() -> None:
    st.title("Open data", anchor=False)
    st.html(
        '<p class="ep-lead">Images of your own: a folder of class folders, an archive, arrays, encoded features or '
        "Parquet. Every file is opened once, and those that can't be read are listed.</p>"
    )
    kept = opening.kept("data")
    if kept:
        data_check.kept(kept)
    sources.choose_source("data")
    opened = opening.opening("data")
    if opened:
        with st.container(border=True):
            data_check.draw(opened)
    sources.recent("data", describe=_describe)
    _bundled()


def _describe(entry: dict[str, Any]) -> str:
    facts = entry.get("facts", {})
    num = facts.get("num_images")
    words = f"{num:,} images, " if isinstance(num, int) else ""
    return f"{words}{len(entry['class_names'])} classes, {known.size_in_words(facts)}"


def _bundled() -> None:
    st.header("Bundled", anchor=False)
    with st.container(horizontal=True):
        for name in bundled_data_names():
            st.page_link("views/model_data.py", label=name, query_params={"data": name}, help="Ships with the studio.")


page()
