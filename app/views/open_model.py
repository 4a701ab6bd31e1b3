"""Open a model: a DiT or SiT of your own, looked at before anything runs, then kept under a name."""

import streamlit as st

from app import known
from app.opening import model_check, opening, sources
from engine.models.bundled import bundled_models


def page() -> None:
    st.title("Open a model", anchor=False)
    st.html(
        '<p class="ep-lead">A DiT or SiT of your own: official checkpoints, safetensors, a diffusers folder, or what '
        "you took away from here. It is read without running any code in it.</p>"
    )
    kept = opening.kept("models")
    if kept:
        model_check.kept(kept)
    sources.choose_source("models")
    opened = opening.opening("models")
    if opened:
        with st.container(border=True):
            model_check.draw(opened)
    sources.recent("models", describe=known.summary)
    _bundled()


def _bundled() -> None:
    st.header("Bundled", anchor=False)
    with st.container(horizontal=True):
        for info in bundled_models():
            st.page_link("views/model_data.py", label=info.name, query_params={"model": info.name},
                         help=f"{info.title}, {info.depth} blocks. Ships with the studio.")  # fmt: skip


page()
