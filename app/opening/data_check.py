"""The checking step of "Open data": what is in it, what can't be read, how it fits a model, and keep it."""

import html
import shutil
from pathlib import Path
from typing import Any

import streamlit as st

from app import charts, jobs, known, pictures
from app.access import rights
from app.errors import sentence, show
from app.opening import opening
from app.style import palette
from app.wide import wide
from engine.runs import library
from engine.runs.workspace import writing

_MOST_BARS = 40
_MOST_PICTURED = 24
_HELP = {
    "kind": "How the images are stored.",
    "images": "Those that can be read; only these are used.",
    "classes": "Folders or labels, in order: the first is class 0.",
    "unreadable": "Files that were left out, each with its reason below.",
    "smallest": "Width and height of the smallest image. Images are cropped to the middle square and brought to the "
    "model's size, as in the official training code.",
    "middle": "Half of the images are smaller than this.",
    "largest": "Width and height of the largest image.",
    "colours": "How the pixels are stored; everything becomes RGB.",
}  # fmt: skip


def draw(opened: dict[str, Any]) -> None:
    ref, stamp = opened["ref"], str(opened["asked"])
    st.header("What is in it?", anchor=False)
    opening.what(opened)
    answer = opening.answer_to(
        "look_data", "look_data", {"ref": ref, "asked": opened["asked"]}, doing="Opening every file once …",
        opens="data",
    )  # fmt: skip
    if answer is None:
        return
    found = answer["facts"]
    before = (opened["entry"] and library.read_entry(jobs.workspace(), "data", opened["entry"])) or {}
    _facts(found)
    _unreadable(found)
    _thumbnails(answer)
    flip = _flip(found, before, stamp)
    earlier = before.get("class_names") or []
    as_found = list(found["class_names"])
    st.header("Keep it", anchor=False)
    offers = {name: info.class_names for name, info in known.models().items() if len(info.class_names) == len(as_found)}
    names = opening.class_names_field(
        "data", list(earlier) if len(earlier) == len(as_found) else as_found, offers=offers, key=stamp
    )
    if names is not None:
        _fit(names, stamp)
    _keep(opened, answer, flip, names, stamp)


def _facts(found: dict[str, Any]) -> None:
    sizes = found.get("sizes") or {}
    shown = {
        "kind": found.get("kind") or "–",
        "images": f"{found['num_images']:,}",
        "classes": len(found["class_names"]),
    }
    if found.get("num_unreadable"):
        shown["unreadable"] = f"{found['num_unreadable']:,}"
    for name, key in (("smallest", "min"), ("middle", "median"), ("largest", "max")):
        if sizes.get(key):
            shown[name] = "{} × {}".format(*sizes[key])
    if found.get("modes"):
        shown["colours"] = ", ".join(f"{mode} {count:,}" for mode, count in found["modes"].items())
    for warning in found.get("warnings") or []:
        st.warning(sentence(warning))
    left, right = st.columns([1, 1.2], gap="large", vertical_alignment="center")
    with left:
        st.html(opening.facts(shown, help=_HELP))
        if found.get("about"):
            st.html(f'<p class="ep-note">{html.escape(found["about"])}</p>')
        opening.notes(found.get("notes") or [])
        opening.glossary(_HELP)
    with right:
        class_chart(found["counts"], name="this dataset")


def class_chart(counts: dict[str, int], *, name: str) -> None:
    """Images of each class; of many classes the largest and the smallest."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = counts
    if len(counts) > _MOST_BARS:
        shown = dict(ordered[: _MOST_BARS // 2] + ordered[-_MOST_BARS // 2 :])
    st.plotly_chart(
        charts.class_counts(shown, palette=palette()), config=charts.CONFIG, key="counts",
        alt=f"Number of images of each class in {name}",
    )  # fmt: skip
    if len(counts) > _MOST_BARS:
        half = _MOST_BARS // 2
        st.html(f'<p class="ep-note">The {half} largest and the {half} smallest of {len(counts)} classes.</p>')


def _unreadable(found: dict[str, Any]) -> None:
    rows, num = found.get("unreadable") or [], found.get("num_unreadable") or 0
    if not num:
        return
    words = "1 file can't be read and is" if num == 1 else f"{num:,} files can't be read and are"
    with st.expander(f"{words} left out"):
        cells = "".join(
            f"<tr><td>{html.escape(str(row['file']))}</td><td>{html.escape(str(row['reason']))}</td></tr>"
            for row in rows
        )
        table = f'<table class="ep-table"><tr><th>file</th><th>why</th></tr>{cells}</table>'
        st.html(wide(table, label="Files left out"))
        if num > len(rows):
            st.html(f'<p class="ep-note">The first {len(rows)} of {num:,}.</p>')


def _thumbnails(answer: dict[str, Any]) -> None:
    folder, shown = jobs.preview_folder(answer["key"]), answer.get("thumbnails") or {}
    if not shown:
        st.html('<p class="ep-note">There are no pictures to show: the images are encoded already.</p>')
        return
    st.header("What it looks like", anchor=False)
    names = list(shown)[:_MOST_PICTURED]
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3, gap="medium"), names[start : start + 3], strict=False):
            files = [folder / Path(file).name for file in shown[name]]
            contents = [file.read_bytes() for file in files if file.is_file()]
            column.html(f'<p class="ep-note" style="margin-bottom:.3rem"><b>{html.escape(name)}</b></p>'
                        + pictures.thumbs(contents, name, css="four"))  # fmt: skip
    if len(found := answer["facts"]["class_names"]) > len(names):
        st.html(f'<p class="ep-note">{len(names)} of {len(found)} classes.</p>')


def _flip(found: dict[str, Any], before: dict[str, Any], stamp: str) -> bool:
    if found.get("has_latents"):
        st.html('<p class="ep-note">Encoded features can\'t be mirrored; recovery trains on them as they are.</p>')
        return False
    return st.toggle(
        "Mirrored copies count too", bool(before.get("flip", found.get("flip", True))), key=f"flip_{stamp}",
        help="In recovery each picture is seen mirrored half of the time, as in the official training code. Turn it "
        "off where left and right matter: letters, digits, road signs.",
    )  # fmt: skip


def _fit(names: tuple[str, ...], stamp: str) -> None:
    models = known.models()
    if not models:
        return
    last = st.session_state.get("last_model")
    chosen = st.selectbox(
        "How it fits", list(models), index=list(models).index(last) if last in models else 0, key=f"fit_{stamp}",
        format_func=known.model_titles().get,
        help="Whether a model knows these classes. A model that doesn't can still be pruned on them: its label table "
        "is made afresh.",
    )  # fmt: skip
    words = known.how_they_fit(models[chosen], names, "This dataset")
    st.html(
        f'<p class="ep-note">{html.escape(words or "The same classes in the same order: the label table is kept.")}</p>'
    )


def _keep(
    opened: dict[str, Any], answer: dict[str, Any], flip: bool, names: tuple[str, ...] | None, stamp: str
) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom", gap="small")
    with left:
        name = opening.name_field("data", opened)
    if right.button(
        "Keep it", type="primary", width="stretch", key=f"keep_{stamp}",
        **rights.guarded(
            "Remembers the dataset under this name, in every menu. The files stay where they are.",
            disabled=name is None or names is None,
        ),
    ):  # fmt: skip
        entry = {
            "name": name, "ref": opened["ref"], "class_names": list(names), "flip": flip, "facts": answer["facts"],
            "thumbnails": _keep_pictures(name, answer),
        }  # fmt: skip
        library.add_entry(jobs.writable(), "data", entry, replace=name == opened["entry"])
        opening.close("data", kept=name)
        st.rerun()


def _keep_pictures(name: str, answer: dict[str, Any]) -> dict[str, list[str]]:
    """Copies the small pictures out of the preview, which may be deleted any time."""
    source, target = jobs.preview_folder(answer["key"]), library.pictures_folder(jobs.writable(), "data", name)
    kept: dict[str, list[str]] = {}
    with writing(target):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for class_name, files in list((answer.get("thumbnails") or {}).items())[:_MOST_PICTURED]:
            names = [Path(file).name for file in files if (source / Path(file).name).is_file()]
            for file in names:
                shutil.copyfile(source / file, target / file)
            kept[class_name] = names
    return kept


def kept(name: str) -> None:
    """After it was kept: where to go."""
    if library.read_entry(jobs.workspace(), "data", name) is None:
        show(f"{name} was kept and has been forgotten since")
        return
    info = known.dataset(name)
    with st.container(border=True):
        st.html(f'<p class="ep-say"><b>{html.escape(name)}</b> is kept: {info.num_images:,} images in '
                f"{len(info.class_names)} classes. You find it in every menu.</p>")  # fmt: skip
        chosen = {"data": name}
        last = st.session_state.get("last_model")
        if last in known.models():
            chosen["model"] = last
        with st.container(horizontal=True):
            st.page_link("views/importance.py", label="See what a model's blocks do with it →", query_params=chosen,
                         help="Opens the heatmap on this data.")  # fmt: skip
            st.page_link("views/prune.py", label="Prune on it →", query_params={**chosen, "run": "new"},
                         help="Choose blocks to drop and recover on this data.")  # fmt: skip
            st.page_link("views/open_model.py", label="Open a model for it →", help="A DiT or SiT of your own.")
