"""Start: the models that ship with the studio; one click shows what their blocks do."""

import html

import streamlit as st

from app import blocks, jobs, measuring, pictures
from app.access import rights
from engine.assets import ASSETS
from engine.importance.config import CedConfig
from engine.models.bundled import ModelInfo, bundled_models, damaged_models

_PROCESS = {"diffusion": "diffusion (DiT)", "flow": "flow matching (SiT)"}


def page() -> None:
    st.title("Which blocks can your diffusion model do without?")
    st.html(
        '<p class="ep-lead">See how much every block matters at every noise level, watch the same pictures with and '
        "without it, drop the ones that matter least, let the model recover, and compare with honest numbers.</p>"
    )
    _newest_run()
    models = bundled_models()
    for line in damaged_models():
        st.error(line)
    if not models:
        st.html(
            '<div class="ep-empty"><b>No models are here yet</b>The bundled models belong in assets/models. '
            "Build them with <code>python assets/build.py</code> (about an hour on two cores), then reload.</div>"
        )
        return
    st.header("Pick a model to look inside", anchor=False)
    for start in range(0, len(models), 2):
        for place, info in zip(st.columns(2, gap="medium"), models[start : start + 2], strict=False):
            with place.container(border=True, height="stretch"):
                _card(info)
    _own()


def _own() -> None:
    st.header("Or open your own", anchor=False)
    with st.container(horizontal=True):
        st.page_link("views/open_model.py", label="Open a model →",
                     help="A DiT or SiT checkpoint, safetensors, or a diffusers folder.")  # fmt: skip
        st.page_link("views/open_data.py", label="Open data →",
                     help="A folder of images, an archive, arrays, or Parquet.")  # fmt: skip


def _card(info: ModelInfo) -> None:
    picture = ASSETS / "pictures" / f"{info.name}.png"
    content = picture.read_bytes() if picture.exists() else pictures.data_strip(info.trained_on)
    what = "drawn by this model" if picture.exists() else f"images of {info.trained_on} it learned from"
    st.html(
        f'<p class="ep-eyebrow">{_PROCESS[info.process]}</p><h3 style="margin:.1rem 0 .7rem;padding:0">'
        f'{html.escape(info.title)}</h3><div class="ep-film"><figure>{pictures.img(content, what)}'
        f"<figcaption>{html.escape(what)}</figcaption></figure></div>"
        + blocks.strip(["intact"] * info.depth, small=True)
        + f'<p class="ep-note">{info.depth} blocks · width {info.network["hidden_size"]} · '
        f"{len(info.class_names)} classes · <code>{html.escape(info.name)}</code></p>"
    )
    if st.button(
        "Show its blocks",
        key=f"show_{info.name}",
        type="primary",
        help="Measures how much each block matters (a few seconds) and shows it as a heatmap.",
    ):
        params = jobs.ced_params(info.name, info.trained_on, CedConfig())
        if rights.may_work() and measuring.find("ced", params) is None:  # else the page says that it wasn't asked yet
            measuring.start("ced", params)
        chosen = {"model": info.name, "data": info.trained_on}
        st.session_state.update({f"last_{name}": value for name, value in chosen.items()} | {"last_variable": "target"})
        st.switch_page("views/importance.py", query_params=chosen)


def _newest_run() -> None:
    run = jobs.last_prune()
    if run is None:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Under way:** {run.title}", width="stretch")
        st.page_link(
            "views/prune.py", label="Watch it", query_params={"run": run.id}, help="Progress, loss and pictures so far."
        )


page()
