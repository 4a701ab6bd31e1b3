"""The libraries that this rests on, with their licences as they declare them."""

import importlib.metadata
from dataclasses import dataclass

#: package -> what it is for
_USED = {
    "torch": "all computing", "torchvision": "image operations", "diffusers": "autoencoders, and models in its layout",
    "torch-fidelity": "FID, KID and their kin", "numpy": "arrays", "scipy": "statistics", "scikit-learn": "the digits",
    "safetensors": "weights in files", "pillow": "pictures", "pandas": "tables", "plotly": "charts",
    "streamlit": "these pages",
}  # fmt: skip
_LICENCE = "License :: OSI Approved :: "
_LONGEST = 40  # some packages put the whole text of the licence where its name belongs


@dataclass(frozen=True)
class Library:
    name: str
    purpose: str
    version: str
    licence: str


def installed() -> list[Library]:
    found = []
    for name, purpose in _USED.items():
        try:
            about = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(Library(name, purpose, str(about["Version"]), _licence(about)))
    return found


def _licence(about: importlib.metadata.PackageMetadata) -> str:
    classes = [line.removeprefix(_LICENCE) for line in about.get_all("Classifier", []) if line.startswith(_LICENCE)]
    first_line = str(about.get("License") or "").strip().partition("\n")[0]
    named = first_line if len(first_line) <= _LONGEST else ""
    return str(about.get("License-Expression") or "") or named or ", ".join(classes) or "not declared"
