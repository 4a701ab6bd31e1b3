"""Names of classes as a Hugging Face dataset tells them: in its schema's metadata, or in its README. Free of torch."""

import json
from pathlib import Path

from engine.data.scan import printable

_MAX_BYTES = 2**20  # of a README


def names_in_schema(metadata: bytes, column: str) -> tuple[str, ...] | None:
    """Of a ClassLabel column, from what the schema keeps under "huggingface"; None where it doesn't say."""
    try:
        return _words(json.loads(metadata)["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def names_in_readme(file: Path, column: str) -> tuple[str, ...] | None:
    """From the front matter of a README; None where it doesn't say."""
    import yaml

    try:
        text = file.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace")
        about = yaml.safe_load(text.split("---")[1])["dataset_info"]
        about = about[0] if isinstance(about, list) else about
        feature = next(found for found in about["features"] if found["name"] == column)
        names = feature["dtype"]["class_label"]["names"]
        return _words([names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names)
    except (OSError, IndexError, KeyError, TypeError, ValueError, StopIteration, RecursionError, yaml.YAMLError):
        return None


def _words(names: object) -> tuple[str, ...] | None:
    if not isinstance(names, list) or not names or not all(isinstance(word, str) for word in names):
        return None
    return tuple(map(printable, names))
