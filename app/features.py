"""Which network's features a measurement rests on: what each is, where its weights come from, and are they here."""

from typing import Any

from app import glossary, jobs
from app.errors import shown_as_one_line
from engine.errors import EngineError
from engine.evaluation.weights import NAMES, PUBLISHED, find_weights

_ABOUT = {
    "demo-cnn": "A small CNN that ships with the studio and knows the bundled datasets. Its numbers compare models "
                "here; they are not the numbers of papers.",
    "inception": "Inception v3, the network of the FID in papers.",
    "dinov2": "DINOv2 ViT-L/14, the network of FD-DINOv2.",
    "clip": "CLIP ViT-B/32.",
}  # fmt: skip


def choose(place: Any, usual: str, *, key: str) -> str:
    """Draws the choice, with what it takes below it."""
    name = place.selectbox(
        "Features", NAMES, NAMES.index(usual) if usual in NAMES else 0, key=key, format_func=_title,
        help=glossary.explain("FID") + " Features are what one of these networks sees in the pictures; numbers of "
        "different networks are never put side by side. "
        + " ".join(f"{name}: {words}" for name, words in _ABOUT.items()),
    )  # fmt: skip
    place.html(f'<p class="ep-note">{_ABOUT[name]}{_where(name)}</p>')
    if name in PUBLISHED:
        with place, shown_as_one_line():
            find_weights(name, workspace=jobs.workspace().root)
    return name


def path_of_weights(place: Any, name: str, *, key: str) -> str:
    """A file that a person has; empty where the weights are here, or are to be downloaded."""
    if name not in PUBLISHED or _is_here(name):
        return ""
    return place.text_input(
        "Weights, if you have the file", key=key, placeholder=f"path to {PUBLISHED[name].file}",
        help="Where the engine's machine has no internet: the path of the published file, or of its folder, on that "
        "machine. A checked copy stays in the workspace. Leave it empty to download.",
    ).strip()  # fmt: skip


def _title(name: str) -> str:
    if name not in PUBLISHED:
        return f"{name} · ships with the studio"
    return f"{name} · {'here' if _is_here(name) else _size(name)}"


def _where(name: str) -> str:
    if name not in PUBLISHED:
        return ""
    if _is_here(name):
        return " Its weights are on this machine; they are checked against the published SHA-256 before use."
    host = PUBLISHED[name].url.split("/")[2]
    return (
        f" Its weights ({_size(name)}) aren't here yet: the run downloads them from {host}, checks their SHA-256 and "
        "keeps them for next time. Stopped, it goes on from there."
    )


def _is_here(name: str) -> bool:
    try:
        return find_weights(name, workspace=jobs.workspace().root) is not None
    except EngineError:  # the environment names a file that isn't there: said of the one that is chosen
        return False


def _size(name: str) -> str:
    return f"{PUBLISHED[name].num_bytes / 1e6:,.0f} MB"
