"""The checking step of "Open a model": what the file is, which process, which autoencoder, names, and keep it."""

import html
import os
from typing import Any

import streamlit as st

from app import charts, glossary, jobs, known, pictures
from app.access import rights
from app.errors import sentence, show
from app.opening import opening
from app.style import palette
from engine.runs import library

_PROCESS = {"diffusion": "Diffusion (DiT)", "flow": "Flow matching (SiT)"}
_CLEARLY = 0.8  # times the other's loss: then it isn't chance
_LAYOUTS = {
    "official": "official DiT / SiT names", "diffusers": "diffusers", "ours": "EntPruner Studio",
}  # fmt: skip
_TAKEN = {"ema": "the average (EMA)", "model": "the training weights", "bare": "the only ones in it"}
_HELP = {
    "file layout": "How the weights are named inside: as in the official code, as in diffusers, or as written here.",
    "weights taken": "A training checkpoint holds several copies; the EMA is taken. " + glossary.explain("EMA"),
    "blocks": "The depth, and what pruning takes out. " + glossary.explain("block"),
    "width": "Numbers that each block keeps for each token (hidden size).",
    "attention heads": "Parts into which attention is divided. Files don't say it, so it follows from the width.",
    "patch": "Side of the square of latent values that becomes one token.",
    "latent": "Channels × height × width. " + glossary.term("latent"),
    "picture": "Side in pixels of the pictures that the autoencoder makes of such latents.",
    "classes": "How many kinds of pictures it can be asked for.",
    "null class": "The class that means 'no class'; guidance and data with other classes need it.",
    "learned variance": "Whether the network also says how sure it is (learn_sigma). It doubles the outputs.",
    "time embedding": "Official code and diffusers compute the time signal slightly differently; the model must get "
    "the one it was trained with.",
    "parameters": "Numbers that were learned.",
    "MACs": "Those of one pass of one picture. " + glossary.term("MACs"),
    "licence": "What the model's authors allow, as far as the files say.",
}  # fmt: skip


def draw(opened: dict[str, Any]) -> None:
    ref, stamp = opened["ref"], str(opened["asked"])
    st.header("What is it?", anchor=False)
    opening.what(opened)
    answer = opening.answer_to(
        "inspect_model", "inspect_model", {"ref": ref, "asked": opened["asked"]},
        doing="Reading the names and shapes of the weights …", opens="models",
    )  # fmt: skip
    if answer is None:
        return
    found = answer["facts"]
    _facts(found)
    before = _entry_before(opened)
    process = _process(found, before, stamp)
    autoencoder, found = _autoencoder(opened, found, process, before, stamp)
    if found is None:
        return
    data = _check(opened, found, process, autoencoder, stamp)
    _keep(opened, found, process, autoencoder, data, before, stamp)


def _entry_before(opened: dict[str, Any]) -> dict[str, Any]:
    """The entry that is opened again, so that its choices are proposed."""
    return (opened["entry"] and library.read_entry(jobs.workspace(), "models", opened["entry"])) or {}


# --- what it is ---


def _facts(found: dict[str, Any]) -> None:
    side = found.get("image_side")
    latent = f"{found['in_channels']} × {found['input_size']} × {found['input_size']}"
    shown = {
        "file layout": _LAYOUTS.get(found["layout"], found["layout"]),
        "weights taken": _TAKEN.get(found.get("taken"), found.get("taken") or "–"),
        "blocks": found["depth"],
        "width": found["hidden_size"],
        "attention heads": found["num_heads"],
        "patch": f"{found['patch_size']} × {found['patch_size']}",
        "latent": latent,
        "picture": f"{side} × {side} px" if side else "autoencoder needed",
        "classes": found["num_classes"],
        "null class": "none" if found["null_class"] is None else found["null_class"],
        "learned variance": "yes" if found["learn_sigma"] else "no",
        "time embedding": found.get("time_embedding") or "official",
        "parameters": known.millions(found["parameters"]),
        "MACs": f"{found['macs'] / 1e9:.3g} G" if found["macs"] >= 1e9 else f"{found['macs'] / 1e6:.3g} M",
        "licence": found.get("licence") or "not said",
    }
    st.html(opening.facts(shown, help=_HELP))
    opening.glossary(_HELP)
    _memory(found.get("memory") or {})
    # the proposal of a process has its own place below
    reason = found.get("process_reason") or "\0"
    opening.notes([note for note in found.get("notes") or [] if reason.rstrip(".") not in note])


def _memory(needed: dict[str, float]) -> None:
    if not needed:
        return
    words = " · ".join(f"{html.escape(task)} <b>{_gigabytes(size)}</b>" for task, size in needed.items())
    st.html(f'<p class="ep-note">Expected memory: {words}.</p>')
    if not jobs.device().startswith("cpu"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    too_much = [task for task, size in needed.items() if size > there]
    if too_much:
        st.warning(f"This machine has {_gigabytes(there)} of memory, less than expected for: {', '.join(too_much)}.")


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


# --- process and autoencoder ---


def _process(found: dict[str, Any], before: dict[str, Any], stamp: str) -> str:
    st.header("Diffusion or flow?", anchor=False)
    proposed = before.get("process") or found["process"]
    chosen = st.segmented_control(
        "Process", list(_PROCESS), default=proposed if proposed in _PROCESS else "diffusion", required=True,
        format_func=_PROCESS.get, key=f"process_{stamp}",
        help="DiT and SiT files look the same inside; the wrong process draws nothing. "
        + glossary.explain("diffusion", "flow matching"),
    )  # fmt: skip
    reason = found.get("process_reason") or f"Proposed: {_PROCESS.get(found['process'], found['process'])}."
    st.html(f'<p class="ep-note">{html.escape(sentence(reason))}</p>')
    return chosen


def _autoencoder(
    opened: dict[str, Any], found: dict[str, Any], process: str, before: dict[str, Any], stamp: str
) -> tuple[str | None, dict[str, Any] | None]:
    """The reference chosen, and the facts with it; no facts while another one than the model's own isn't proved."""
    st.header("Pictures from latents", anchor=False)
    if found.get("pixels", found["in_channels"] == 3):
        st.html('<p class="ep-note">This model draws pixels itself; it needs no autoencoder.</p>')
        return None, found
    own = found.get("autoencoder")
    ways = {"other": "another: a folder or hub id"} | (
        {"bundled": "the small bundled one"} if own != "autoencoder" else {}
    )
    if own:
        assumed = " (assumed: the file names none)" if found.get("autoencoder_assumed") else ""
        ways = {"own": ("the small bundled one" if own == "autoencoder" else own) + assumed, **ways}
    earlier, start = before.get("autoencoder") or "", next(iter(ways))
    if earlier not in ("", own):
        start = "bundled" if earlier == "autoencoder" else "other"
    way = st.selectbox(
        "Autoencoder (VAE)", list(ways), index=list(ways).index(start), format_func=ways.get, key=f"vae_{stamp}",
        help="Turns pictures into the latents that the network works on, and back. It must be the one that the model "
        "was trained with: another gives grey or wrongly coloured pictures.",
    )  # fmt: skip
    if way == "own":
        return own, found
    chosen = "autoencoder"
    if way == "other":
        chosen = st.text_input(
            "Folder or hub id of the autoencoder", "" if earlier == "autoencoder" else earlier, key=f"vae_ref_{stamp}",
            max_chars=4000,
            placeholder="stabilityai/sd-vae-ft-ema",
            help="A diffusers AutoencoderKL or AutoencoderTiny. The official DiT and SiT models use "
            "stabilityai/sd-vae-ft-ema or -mse.",
        ).strip()  # fmt: skip
        if not chosen:
            st.html('<p class="ep-note">Name the autoencoder to go on.</p>')
            return None, None
    params = {"ref": opened["ref"], "process": process, "autoencoder": chosen, "asked": opened["asked"]}
    answer = opening.answer_to("autoencoder", "inspect_model", params, doing="Reading the autoencoder …")
    if answer is None:
        return chosen, None
    side = answer["facts"].get("image_side")
    st.html(f'<p class="ep-note">It opens{f": pictures of {side} × {side} px" if side else ""}.</p>')
    return chosen, answer["facts"]


# --- does it draw? ---


def _check(opened: dict[str, Any], found: dict[str, Any], process: str, autoencoder: str | None, stamp: str) -> str:
    """Pictures and losses under both processes; returns the dataset chosen for it."""
    st.header("Does it draw?", anchor=False)
    names = known.data_names()
    left, right = st.columns([3, 1], vertical_alignment="bottom", gap="small")
    guess = found.get("trained_on") or st.session_state.get("last_data")
    data = left.selectbox(
        "Data to test it on", names, index=names.index(guess) if guess in names else 0, key=f"check_data_{stamp}",
        help="Its images are noised and the model is asked to undo that. Best are pictures like those it learned from.",
    )  # fmt: skip
    pressed = right.button(
        "Check it draws", width="stretch", key=f"check_{stamp}",
        **rights.guarded(
            "Eight pictures under each process, and how well it does at each noise level: seconds on small models, "
            "minutes on a DiT-XL without a GPU."
        ),
    )  # fmt: skip
    params = {
        "ref": opened["ref"], "process": process, "autoencoder": autoencoder, "data": data, "asked": opened["asked"],
    }  # fmt: skip
    wanted = f"check_wanted_{stamp}"
    # the answer shows both processes, so that switching between them asks nothing new
    same = {**params, "process": None}
    if pressed:
        st.session_state[wanted] = (same, params)
    asked = st.session_state.get(wanted)
    if asked is None or asked[0] != same:
        st.html(
            '<p class="ep-note">Optional, and the quickest way to see a wrong choice: under the right process the '
            "loss is well below guessing and the pictures show something.</p>"
        )
        return data
    answer = opening.answer_to("check_process", "check_process", asked[1], doing="Drawing under both processes …")
    if answer is not None:
        _verdict(answer, process)
    return data


def _verdict(answer: dict[str, Any], process: str) -> None:
    st.html(f'<p class="ep-say"><b>{html.escape(answer["verdict"])}</b></p>')
    mean = {name: sum(losses) / len(losses) for name, losses in answer["relative_loss"].items()}
    better = min(mean, key=mean.get)
    if better != process and mean[better] < _CLEARLY * mean[process]:
        st.warning(f"You chose {_PROCESS[process]}, and the losses speak for {_PROCESS[better]}. Switch above.")
    folder = jobs.preview_folder(answer["key"])
    for column, name in zip(st.columns(2, gap="large"), _PROCESS, strict=True):
        files = [folder / file for file in answer["images"].get(name, []) if (folder / file).is_file()]
        look = "intact" if name == process else "gone"
        drawn = pictures.thumbs([file.read_bytes() for file in files], f"drawn as {_PROCESS[name]}", css="four")
        column.html(
            f'<p class="ep-legend" style="margin-bottom:.5rem"><span><i class="{look}"></i>as {_PROCESS[name]}'
            f"{', your choice' if name == process else ''}</span></p>"
            + (drawn if files else '<p class="ep-scale">no pictures: see below why</p>')
        )
    st.plotly_chart(
        charts.relative_loss(answer["timesteps"], answer["relative_loss"], chosen=process, names=_PROCESS,
                             palette=palette()),
        key="relative_loss", config=charts.CONFIG,
        alt="Loss under each process at each noise level, relative to guessing",
    )  # fmt: skip
    st.html(
        f'<p class="ep-note">1 is no better than guessing the average; 0 would be perfect. '
        f"{html.escape((answer.get('protocol') or '').rstrip('.'))}. Took {answer['seconds']:.1f} s.</p>"
    )
    opening.notes(answer.get("notes") or [])


# --- names, and keep it ---


def _keep(
    opened: dict[str, Any], found: dict[str, Any], process: str, autoencoder: str | None, data: str,
    before: dict[str, Any], stamp: str,
) -> None:  # fmt: skip
    st.header("Keep it", anchor=False)
    as_found = list(found["class_names"])
    earlier = before.get("class_names") or []
    offers = {
        name: info.class_names
        for name in known.data_names()
        if len((info := known.dataset(name)).class_names) == len(as_found)
    }
    names = opening.class_names_field(
        "models", list(earlier) if len(earlier) == len(as_found) else as_found, offers=offers, key=stamp
    )
    left, right = st.columns([3, 1], vertical_alignment="bottom", gap="small")
    with left:
        name = opening.name_field("models", opened)
    if right.button(
        "Keep it", type="primary", width="stretch", key=f"keep_{stamp}",
        **rights.guarded(
            "Remembers the model under this name, in every menu. The file stays where it is.",
            disabled=name is None or names is None,
        ),
    ):  # fmt: skip
        entry = {
            "name": name, "ref": opened["ref"], "process": process, "autoencoder": autoencoder,
            "class_names": list(names), "classes": "named" if list(names) != as_found else _origin(found),
            "info": found, "data": data,
        }  # fmt: skip
        library.add_entry(jobs.writable(), "models", entry, replace=name == opened["entry"])
        opening.close("models", kept=name)
        st.rerun()


def _origin(found: dict[str, Any]) -> str:
    """Of the names as found: "kept" from the file, or "fresh": made up, because the file names no classes."""
    named = found.get("named", not all(name.removeprefix("class ").isdigit() for name in found["class_names"]))
    return "kept" if named else "fresh"


def kept(name: str) -> None:
    """After it was kept: where to go."""
    entry = library.read_entry(jobs.workspace(), "models", name)
    if entry is None:
        show(f"{name} was kept and has been forgotten since")
        return
    with st.container(border=True):
        st.html(f'<p class="ep-say"><b>{html.escape(name)}</b> is kept: {html.escape(known.summary(entry))}. You find '
                "it in every menu.</p>")  # fmt: skip
        chosen = {"model": name, "data": entry.get("data")}
        chosen = {key: value for key, value in chosen.items() if value in (*known.models(), *known.data_names())}
        with st.container(horizontal=True):
            st.page_link("views/importance.py", label="See its blocks →", query_params=chosen,
                         help="Opens the heatmap of this model.")  # fmt: skip
            st.page_link("views/prune.py", label="Prune it →", query_params={**chosen, "run": "new"},
                         help="Choose blocks to drop and recover.")  # fmt: skip
            st.page_link("views/open_data.py", label="Open data for it →", help="Your own images, checked and named.")
