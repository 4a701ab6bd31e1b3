"""What takes the workspace's space."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from engine.runs.store import folder_bytes
from engine.runs.workspace import Workspace

_PARTS = {
    "previews": ("previews", "Answers and pictures of single questions. Safe to delete."),
    "cache": ("cache", "Results, features and latents, found again instead of computed again. Safe to delete."),
    "bin": ("bin", "Deleted runs; emptied on the Runs page."),
    "uploads": ("uploads", "Files that came through the browser."),
    "library": ("library", "What is known of the models and datasets that were opened."),
    "hub": ("downloads", "Models from the Hugging Face hub."),
    "features": ("feature networks", "Weights of Inception and its kin."),
}


@dataclass(frozen=True)
class Part:
    name: str
    num_bytes: int
    about: str


@st.cache_data(ttl=60, max_entries=4, show_spinner=False)
def parts(root: str) -> list[Part]:
    """Largest first, empty ones left out; kept for a minute, as a large workspace takes a while to walk through."""
    workspace = Workspace(Path(root))
    samples = sum(file.stat().st_size for file in workspace.runs.glob("*/stages/*/samples.npz"))
    found = [
        Part("runs", folder_bytes(workspace.runs) - samples, "Heatmaps, weights and training states of every stage."),
        Part("samples", samples, "Pictures that stages were measured on, inside the runs."),
        *(Part(name, folder_bytes(workspace.root / folder), about) for folder, (name, about) in _PARTS.items()),
    ]
    return sorted((part for part in found if part.num_bytes > 0), key=lambda part: -part.num_bytes)
