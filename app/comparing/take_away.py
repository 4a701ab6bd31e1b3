"""Taking a stage away: written by the engine in the layout asked for, then downloaded, with how to open it."""

import re
import zipfile
from pathlib import Path

import streamlit as st

from app import jobs
from app.access import rights
from app.comparing.picked import Picked
from app.errors import one_line_errors, show
from app.opening import opening
from engine.runs.store import Run

_LAYOUTS = {
    "official": ("Official", "One .pt with the official names, for the official code at the new depth."),
    "safetensors": ("safetensors", "The same names as one .safetensors with a JSON config; it can't hold code."),
    "diffusers": ("diffusers", "A diffusers folder with the true depth, autoencoder included."),
}  # fmt: skip


def draw(picked: list[Picked]) -> None:
    """For the stages that hold a model; usually the last of them."""
    holding = {one.ref: one for one in picked if (one.stage.path / "config.json").exists()}
    if not holding:
        return
    st.header("Take it away", anchor=False)
    ref = list(holding)[-1]
    if len(holding) > 1:
        ref = st.selectbox(
            "Stage to take", list(holding), index=len(holding) - 1, key=f"export_of_{'_'.join(holding)}",
            format_func=lambda ref: f"{holding[ref].label} · {holding[ref].stage.depth} blocks · {ref}",
            help="Which of the stages above becomes a file.",
        )  # fmt: skip
    stage = holding[ref].stage
    left, right = st.columns([3, 1], vertical_alignment="bottom", gap="medium")
    layout = left.segmented_control(
        f"Stage {stage.number} as", list(_LAYOUTS), default="official", required=True, key="export_layout",
        format_func=lambda name: _LAYOUTS[name][0],
        help="How the file is laid out. " + " ".join(f"{title}: {words}" for title, words in _LAYOUTS.values()),
    )  # fmt: skip
    st.html(f'<p class="ep-note">{_LAYOUTS[layout][1]} A description with the kept blocks, class names, process and '
            "measured results goes along.</p>")  # fmt: skip
    export = jobs.find_export(ref, layout)
    state = export.status().state if export else None
    ready = state == "done" and jobs.exported(export) is not None
    if not ready and state not in jobs.WAITING_STATES and right.button(
        "Make the file", width="stretch",
        **rights.guarded(
            "The engine writes it; then it can be downloaded."
        ), key="export_start",
    ):  # fmt: skip
        jobs.start_export(ref, layout)
        st.rerun()
    if export is None:
        return
    if state in jobs.WAITING_STATES:
        st.fragment(_watch, run_every=0.7)(export.id)
    elif ready:
        _ready(export, ref, layout)
    elif state == "done":
        st.warning("The file of this export is gone; make it again.")
    else:
        show(export.status().error or f"the export was {state}; make it again")


@one_line_errors
def _watch(run_id: str) -> None:
    run = jobs.open_run(jobs.workspace(), run_id)
    status = run.status()
    if status.state not in jobs.WAITING_STATES:
        st.rerun()
    words = jobs.waiting_line(run) if status.state == "queued" else status.message or "writing the file"
    st.progress(min(1.0, max(0.0, status.progress)), text=words)


def _ready(export: Run, ref: str, layout: str) -> None:
    about = jobs.exported(export)
    file, name = export.path / about["path"], f"{ref.replace('@', '-stage')}-{layout}.zip"
    size = _size(about["num_bytes"])
    if file.is_file():
        st.download_button(
            f"Download {size}", lambda: file.read_bytes(), file_name=name, mime="application/zip",
            on_click="ignore", type="primary", help=f"{len(about['files'])} files in one .zip.", key="export_download",
        )  # fmt: skip
    else:
        st.html(
            f'<p class="ep-note">{size} is too much for a browser. It is in this folder on the engine\'s machine:</p>'
        )
        st.code(str(file), language=None)
    lines = [
        *about.get("notes", []),
        "In it: " + ", ".join(about["files"][:6]) + (" …" if len(about["files"]) > 6 else ""),
    ]
    opening.notes(lines)
    code = _how_to_open(file)
    if code:
        st.html('<p class="ep-note">To open it, in the unpacked folder (README.md in it says more):</p>')
        st.code(code, language="python")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _how_to_open(export: Path) -> str:
    """The lines of code in the export's own README.md, ``export`` being an archive or a folder; empty without one."""
    try:
        if export.is_dir():
            text = (export / "README.md").read_text()
        else:
            with zipfile.ZipFile(export) as packed:
                text = packed.read("README.md").decode()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
    found = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found.group(1).strip() if found else ""
