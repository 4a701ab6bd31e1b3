"""Model & data: what the bundled models and datasets are, before anything is done to them."""

import html

import streamlit as st

from app import address, blocks, charts, pictures
from app.style import palette
from engine.data.bundled import bundled_data
from engine.data.dataset import Data
from engine.models.bundled import ModelInfo

_PROCESS = {
    "diffusion": "Diffusion (DiT): learns to tell the noise in a picture",
    "flow": "Flow matching (SiT): learns the direction from noise to a picture",
}


def page() -> None:
    st.title("Model & data", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        info = address.choose_model("model_data")
        _model(info)
    with right:
        data = bundled_data(address.choose_data("model_data", info))
        _data(data)
    _do_they_fit(info, data)
    with st.container(horizontal=True):
        chosen = {"model": info.name, "data": data.name}
        st.page_link("views/importance.py", label="See its blocks →", query_params=chosen,
                     help="Opens the heatmap of this model on this data.")  # fmt: skip
        st.page_link("views/prune.py", label="Prune it →", query_params={**chosen, "run": "new"},
                     help="Choose blocks to drop and recover.")  # fmt: skip
    _classes(data)


def _model(info: ModelInfo) -> None:
    network = info.network
    tokens = (network["input_size"] // network["patch_size"]) ** 2
    facts = {
        "blocks": info.depth,
        "hidden size": network["hidden_size"],
        "attention heads": network["num_heads"],
        "patch": f"{network['patch_size']} × {network['patch_size']}",
        "tokens": tokens,
        "latent": f"{network['in_channels']} × {network['input_size']} × {network['input_size']}",
        "classes": len(info.class_names),
        "parameters in blocks": _parameters(info),
    }
    st.html(blocks.strip(["intact"] * info.depth) + f'<p class="ep-note">{_PROCESS[info.process]}.</p>')
    st.html(_facts(facts))
    st.html(
        f'<p class="ep-note">Learned from <b>{html.escape(info.trained_on)}</b>'
        + (f", starting from <b>{html.escape(info.parent)}</b>" if info.parent else "")
        + f". Draws: {html.escape(', '.join(info.class_names))}.</p>"
    )


def _parameters(info: ModelInfo) -> str:
    """By the shape of a DiT: per block 4·D² attention, 8·D² MLP, 6·D² modulation, and their biases."""
    width, depth = info.network["hidden_size"], info.depth
    return f"{(18 * width * width + 15 * width) * depth / 1e6:.1f} M"


def _data(data: Data) -> None:
    st.plotly_chart(
        charts.class_counts(data.class_counts(), palette=palette()), config=charts.CONFIG, key="counts",
        alt=f"Number of images of each class in {data.name}",
    )  # fmt: skip
    st.html(_facts({"images": f"{len(data):,}", "size": "{1} × {0} px".format(*data.images.shape[1:3]),
                    "classes": len(data.class_names)}))  # fmt: skip
    st.html(f'<p class="ep-note">{html.escape(data.about)}</p>')


def _do_they_fit(info: ModelInfo, data: Data) -> None:
    if data.class_names == info.class_names:
        return
    st.info(
        f"{data.name} has other classes ({_few(data.class_names)}) than {info.name} was trained on "
        f"({_few(info.class_names)}). In recovery the label table is made afresh and every other weight is kept; "
        "scores before any adaptation use the null class, that is, no class at all."
    )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" … {names[-1]}" if len(names) > 3 else "")


def _classes(data: Data) -> None:
    st.subheader(f"What {data.name} looks like", anchor=False)
    for start in range(0, len(data.class_names), 2):
        row = zip(st.columns(2, gap="large"), data.class_names[start : start + 2], strict=False)
        for column, name in row:
            column.html(f'<p class="ep-note" style="margin-bottom:.3rem"><b>{html.escape(name)}</b></p>'
                        + pictures.class_thumbs(data.name, name, 8))  # fmt: skip


def _facts(facts: dict) -> str:
    return (
        '<dl class="ep-facts">'
        + "".join(f"<div><dt>{name}</dt><dd>{html.escape(str(value))}</dd></div>" for name, value in facts.items())
        + "</dl>"
    )


page()
