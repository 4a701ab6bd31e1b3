"""Model & data: what the models and datasets are, bundled or opened, before anything is done to them."""

import html

import streamlit as st

from app import address, blocks, jobs, known, pictures
from app.access import rights
from app.known import DataInfo
from app.opening import data_check, opening
from engine.models.bundled import ModelInfo
from engine.runs import library

_PROCESS = {
    "diffusion": "Diffusion (DiT): learns to tell the noise in a picture",
    "flow": "Flow matching (SiT): learns the direction from noise to a picture",
}


_MOST_CLASSES = 40


def page() -> None:
    st.title("Model & data", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        info = address.choose_model("model_data")
        st.page_link("views/open_model.py", label="Open a model of your own →",
                     help="A DiT or SiT checkpoint, safetensors, or a diffusers folder.")  # fmt: skip
        _model(info)
    with right:
        data = known.dataset(address.choose_data("model_data", info))
        st.page_link("views/open_data.py", label="Open data of your own →",
                     help="A folder of images, an archive, arrays, or Parquet.")  # fmt: skip
        _data(data)
    words = known.how_they_fit(info, data.class_names, data.name)
    if words:
        st.info(words)
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
    st.html(opening.facts(facts))
    opened = library.read_entry(jobs.workspace(), "models", info.name)
    origin = f"Learned from <b>{html.escape(info.trained_on)}</b>"
    if opened is not None:
        origin = f"Read from <code>{html.escape(opened['ref'])}</code>"
    elif info.parent:
        origin += f", starting from <b>{html.escape(info.parent)}</b>"
    shown = ", ".join(info.class_names[:_MOST_CLASSES])
    shown += f" and {len(info.class_names) - _MOST_CLASSES} more" if len(info.class_names) > _MOST_CLASSES else ""
    st.html(f'<p class="ep-note">{origin}. Draws: {html.escape(shown)}.</p>')
    if opened is not None:
        _rename("models", info.name, info.class_names)


def _parameters(info: ModelInfo) -> str:
    """By the shape of a DiT: per block 4·D² attention, 8·D² MLP, 6·D² modulation, and their biases."""
    width, depth = info.network["hidden_size"], info.depth
    return f"{(18 * width * width + 15 * width) * depth / 1e6:.1f} M"


def _data(data: DataInfo) -> None:
    data_check.class_chart(dict(data.counts), name=data.name)
    st.html(opening.facts({"images": f"{data.num_images:,}", "size": data.size, "classes": len(data.class_names)}))
    st.html(f'<p class="ep-note">{html.escape(data.about)}</p>')
    if not data.bundled:
        _rename("data", data.name, data.class_names)


def _rename(kind: str, name: str, class_names: tuple[str, ...]) -> None:
    names = opening.class_names_field(kind, list(class_names), offers={}, key=name)
    if names is not None and names != class_names and st.button(
        "Save the names", key=f"rename_{kind}",
        **rights.guarded(
            "Other words for the same classes. The files aren't touched."
        ),
    ):  # fmt: skip
        library.rename_classes(jobs.writable(), kind, name, list(names))
        st.rerun()


def _classes(data: DataInfo) -> None:
    st.header(f"What {data.name} looks like", anchor=False)
    pictured = data.class_names if data.bundled else [name for name in data.class_names if data.thumbnails.get(name)]
    if not pictured:
        st.html('<p class="ep-note">No pictures were kept of this dataset; open it again to look at it.</p>')
    for start in range(0, len(pictured), 2):
        row = zip(st.columns(2, gap="large"), pictured[start : start + 2], strict=False)
        for column, name in row:
            column.html(f'<p class="ep-note" style="margin-bottom:.3rem"><b>{html.escape(name)}</b></p>'
                        + pictures.class_thumbs(data, name, 8))  # fmt: skip


page()
