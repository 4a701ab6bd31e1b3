"""Where the files of a model or dataset come from: a path, an upload, the hub; and those that were opened before."""

import html
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from app import address, jobs, known
from app.access import rights, upload_gate
from app.errors import show
from app.opening import opening, uploads
from engine.errors import InputError
from engine.runs import library

_TYPES = {
    "models": ["pt", "pth", "ckpt", "bin", "safetensors", "json"],
    "data": ["zip", "tar", "gz", "tgz", "bz2", "xz", "npz"],
}
_PATH_HELP = {
    "models": "A .pt, .pth, .ckpt, .bin or .safetensors file, a diffusers folder, or an export from here. It is read "
    "where it lies, not copied, and nothing in it is run as code.",
    "data": "A folder of class folders (PNG, JPEG, WebP), a .zip or .tar of one, an .npz, a folder of encoded "
    "features, or a Hugging Face dataset folder in Parquet. It is read where it lies.",
}
_PLACEHOLDER = {"models": "/models/DiT-XL-2-256x256.pt", "data": "/pictures/flowers"}
_HUB_PLACEHOLDER = {"models": "facebook/DiT-XL-2-256", "data": "huggan/flowers-102-categories"}
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def choose_source(kind: str) -> None:
    """Three ways to name files; begins the check when one is used."""
    path, upload, hub = st.tabs(["A path on this machine", "Upload", "Hugging Face hub"])
    with path:
        _path_form(kind)
    with upload:
        _upload_form(kind)
    with hub:
        _hub_form(kind)


def _path_form(kind: str) -> None:
    asked = address.asked("ref") or ""
    with st.form(f"path_{kind}", border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom", gap="small")
        text = left.text_input(
            "Path on the engine's machine", asked if not _HUB_ID.fullmatch(asked) else "",
            placeholder=_PLACEHOLDER[kind], help=_PATH_HELP[kind], max_chars=4000,
        )  # fmt: skip
        pressed = right.form_submit_button(
            "Look inside",
            type="primary",
            width="stretch",
            **rights.guarded("Reads what it is and shows it; nothing is kept yet."),
        )
    st.html(f'<p class="ep-note">{html.escape(_PATH_HELP[kind])}</p>')
    if not pressed:
        return
    text = text.strip().strip("\"'").strip()
    if not text or "\0" in text:
        show(f"write the path of a {opening.WORDS[kind]} first, for example {_PLACEHOLDER[kind]}")
        return
    opening.begin(kind, str(Path(text).expanduser().absolute()))
    st.rerun()


def _upload_form(kind: str) -> None:
    if rights.may_work():
        upload_gate.admit()
    limit = st.get_option("server.maxUploadSize")
    several = kind == "models"
    files = st.file_uploader(
        "File to upload" + (", with its JSON config where it has one" if several else ""), type=_TYPES[kind],
        accept_multiple_files=several, key=f"upload_{kind}", on_change=opening.close, args=(kind,),
        **rights.guarded(
            f"Up to {limit / 1024:g} GB. It is copied into the workspace's uploads folder under a name that can't "
            "leave it. For larger files give their path instead: a path costs no copy and has no limit."
        ),
    )  # fmt: skip
    files = (files or []) if several else [files] if files else []
    st.html(
        f'<p class="ep-note">{", ".join("." + ending for ending in _TYPES[kind])} up to {limit / 1024:g} GB. Larger '
        "files open by their path, without a copy.</p>"
    )
    if st.button(
        "Look inside", key=f"look_upload_{kind}", type="primary",
        **rights.guarded("Writes the upload into the workspace and reads what it is.", disabled=not files),
    ):  # fmt: skip
        with st.spinner("Writing the upload into the workspace"):
            ref = _stored(kind, files)
        weights = next((file.name for file in files if not file.name.endswith(".json")), files[0].name)
        opening.begin(kind, str(ref), named_after=weights)
        st.rerun()


def _stored(kind: str, files: list[uploads.Upload]) -> Path:
    """Raises InputError for another kind of file or a session that has uploaded enough, and what ``store`` raises."""
    uploads.check_kind(files, _TYPES[kind])
    count = st.session_state.get("num_uploads", 0)
    if count >= uploads.MOST_UPLOADS:
        raise InputError(f"{count} uploads in this session are enough; give further files by their path")
    ref = uploads.store(jobs.writable(), files)
    st.session_state["num_uploads"] = count + 1
    return ref


def _hub_form(kind: str) -> None:
    asked = address.asked("ref") or ""
    with st.form(f"hub_{kind}", border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom", gap="small")
        text = left.text_input(
            "Hub id", asked if _HUB_ID.fullmatch(asked) else "", placeholder=_HUB_PLACEHOLDER[kind], max_chars=200,
            help="owner/name, as in the address of its page on huggingface.co. It is downloaded to the engine's "
            "machine once; an interrupted download goes on where it stopped.",
        )  # fmt: skip
        pressed = right.form_submit_button(
            "Look it up", type="primary", width="stretch",
            **rights.guarded("Uses the copy on this machine where there is one, else downloads it."),
        )  # fmt: skip
    st.html(
        '<p class="ep-note">Needs the internet the first time. Without it, put the files on this machine by hand and '
        "give their path.</p>"
    )
    if not pressed:
        return
    ref = text.strip().removeprefix("https://huggingface.co/").removeprefix("datasets/").strip("/")
    if not _HUB_ID.fullmatch(ref):
        show(f"{text.strip()!r} isn't a hub id; write owner/name, for example {_HUB_PLACEHOLDER[kind]}")
        return
    opening.begin(kind, ref)
    st.rerun()


def recent(kind: str, *, describe: Callable[[dict[str, Any]], str]) -> None:
    """What was opened before, most recently used first."""
    entries = known.entries(kind)
    st.header("Opened before", anchor=False)
    if not entries:
        st.html(
            f'<div class="ep-empty"><b>No {opening.WORDS[kind]} of yours yet</b>What you keep is remembered here, by '
            "name, and in every menu. Your files stay where they are.</div>"
        )
        return
    for entry in entries[:50]:
        with st.container(
            border=True, horizontal=True, vertical_alignment="center", key=f"recent_{kind}_{entry['name']}"
        ):
            _recent_row(kind, entry, "" if "damaged" in entry else describe(entry))


def _recent_row(kind: str, entry: dict[str, Any], words: str) -> None:
    name = entry["name"]
    if "damaged" in entry:
        line = f"<b>{html.escape(name)}</b><br><small>{html.escape(entry['damaged'])}</small>"
    else:
        when = datetime.fromtimestamp(entry.get("last_used") or 0)
        line = (
            f"<b>{html.escape(name)}</b> · {html.escape(words)}<br><small><code>{html.escape(entry['ref'])}</code> · "
            f"used {when:%Y-%m-%d %H:%M}</small>"
        )
    st.html(f'<p class="ep-row">{line}</p>', width="stretch")
    if "damaged" not in entry:
        chosen = {"model" if kind == "models" else "data": name}
        st.page_link(
            "views/model_data.py", label="Use it", query_params=chosen, help="Shows it on the page Model & data."
        )
        if st.button(
            "Open again", key=f"reopen_{kind}_{name}", type="tertiary",
            **rights.guarded(
                "Reads the files again, for instance after they changed, and lets you change what was chosen."
            ),
        ):  # fmt: skip
            opening.begin(kind, entry["ref"], entry=name)
            st.rerun()
    if st.button("Forget", key=f"forget_{kind}_{name}", type="tertiary",
                 **rights.guarded("Takes it out of the menus. The files themselves are not touched.")):  # fmt: skip
        library.forget_entry(jobs.writable(), kind, name)
        st.rerun()
