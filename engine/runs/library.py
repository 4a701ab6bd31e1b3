"""What the workspace remembers of models and datasets that were opened: one small JSON file each, by name.

An entry points at the user's files and says what was found in them; the files themselves are never touched. The layout
is in docs/architecture.md. Free of torch.
"""

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from engine.data.bundled import bundled_data_names
from engine.errors import AssetError, InputError
from engine.models.bundled import bundled_model_names
from engine.runs.workspace import Workspace, read_json, write_json, writing

KINDS = ("models", "data")
_WORDS = {"models": "model", "data": "dataset"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_CLASSES = 100_000


def check_name(kind: str, name: str) -> None:
    """Raises InputError unless ``name`` can stand for a new entry and for a file."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} can't be the name of a {_WORDS[kind]}; use 1 to 64 letters, digits, - _ or . and begin with a "
            "letter or digit"
        )
    bundled = bundled_model_names() if kind == "models" else bundled_data_names()
    if name.lower() in (known.lower() for known in bundled):
        raise InputError(f"{name!r} is a bundled {_WORDS[kind]}; choose another name")


def add_entry(
    workspace: Workspace | Path, kind: str, entry: dict[str, Any], *, replace: bool = False
) -> dict[str, Any]:
    """Writes ``entry`` (at least ``name`` and ``ref``) and returns it with the times filled in: ``created`` is since
    when the name means what it means now, so replacing it by the same leaves it.

    Raises InputError for a name that can't be used or, without ``replace``, exists; WorkspaceError on a full disk.
    """
    check_name(kind, entry.get("name"))
    name = entry["name"]
    if not isinstance(entry.get("ref"), str) or not entry["ref"]:
        raise InputError(f"{_WORDS[kind]} {name!r} has no reference; give the path or hub id that it stands for")
    _check_class_names(entry.get("class_names", []))
    folder = _folder(workspace, kind)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        same = next((file.stem for file in folder.glob("*.json") if file.stem.lower() == name.lower()), None)
    if same is not None and not (replace and same == name):
        raise InputError(f"there is a {_WORDS[kind]} named {same!r} already; choose another name, or forget that first")
    now = time.time()
    created = now
    if same is not None:
        before = _readable(workspace, kind, name)
        created = before.get("created", now) if _meaning(before) == _meaning(entry) else now
    entry = {"class_names": [], **entry, "created": created, "last_used": now}
    write_json(folder / f"{name}.json", entry)
    return entry


def read_entry(workspace: Workspace | Path | None, kind: str, name: str) -> dict[str, Any] | None:
    """None where there is no such entry (a path or a hub id never is one). Raises AssetError for a damaged file."""
    file = _folder(workspace, kind) / f"{name}.json"
    if not _NAME.fullmatch(name) or not file.is_file():
        return None
    entry = read_json(file)
    names = entry.get("class_names") if isinstance(entry, dict) else None
    fine = (
        isinstance(names, list)
        and all(isinstance(known, str) for known in names)
        and isinstance(entry.get("ref"), str)
        and isinstance(entry.get("info" if kind == "models" else "facts", {}), dict)
    )
    if not fine:
        raise AssetError(f"{file} isn't the description of a {_WORDS[kind]}; forget it and open the files again")
    return {**entry, "name": name}


def list_entries(workspace: Workspace | Path | None, kind: str) -> list[dict[str, Any]]:
    """Most recently used first. A file that can't be read is ``{"name", "damaged": one line}``, at the end."""
    folder = _folder(workspace, kind)
    try:
        names = sorted(file.stem for file in folder.glob("*.json") if not file.name.startswith("."))
    except OSError:
        return []
    healthy, damaged = [], []
    for name in names:
        try:
            entry = read_entry(workspace, kind, name)
        except AssetError as error:
            damaged.append({"name": name, "damaged": str(error)})
            continue
        if entry is not None:
            healthy.append(entry)
    return sorted(healthy, key=_last_used, reverse=True) + damaged


def touch_entry(workspace: Workspace | Path, kind: str, name: str) -> None:
    """Notes that an entry was used just now."""
    _change(workspace, kind, name, last_used=time.time())


def rename_classes(workspace: Workspace | Path, kind: str, name: str, class_names: list[str]) -> dict[str, Any]:
    """Other words for the same classes, in the same order. Raises InputError when the number changes."""
    _check_class_names(class_names)
    known = _existing(workspace, kind, name)["class_names"]
    if len(class_names) != len(known):
        raise InputError(
            f"{name!r} has {len(known)} classes and {len(class_names)} names were given; give one for each"
        )
    if list(class_names) == known:
        return _change(workspace, kind, name)
    # whether a model knows a dataset's classes goes by their names, so results from before are about something else
    return _change(workspace, kind, name, class_names=list(class_names), created=time.time())


def forget_entry(workspace: Workspace | Path, kind: str, name: str) -> None:
    """Removes the entry, damaged or not, and nothing else: the files that it points at stay where they are."""
    file = _folder(workspace, kind) / f"{name}.json"
    if not _NAME.fullmatch(name) or not file.exists():
        raise InputError(f"no {_WORDS[kind]} named {name!r} is remembered here")
    with writing(file):
        file.unlink(missing_ok=True)
    shutil.rmtree(pictures_folder(workspace, kind, name), ignore_errors=True)


def pictures_folder(workspace: Workspace | Path, kind: str, name: str) -> Path:
    """Where small pictures of an entry are kept; goes with the entry. Not made here."""
    assert _NAME.fullmatch(name), name
    return _folder(workspace, kind) / f"{name}.pictures"


def _change(workspace: Workspace | Path, kind: str, name: str, **changes: Any) -> dict[str, Any]:
    entry = _existing(workspace, kind, name) | changes
    write_json(_folder(workspace, kind) / f"{name}.json", entry)
    return entry


def _existing(workspace: Workspace | Path, kind: str, name: str) -> dict[str, Any]:
    entry = read_entry(workspace, kind, name)
    if entry is None:
        raise InputError(f"no {_WORDS[kind]} named {name!r} is remembered here")
    return entry


def _folder(workspace: Workspace | Path | None, kind: str) -> Path:
    assert kind in KINDS, kind
    if isinstance(workspace, Workspace):
        return workspace.root / "library" / kind
    return Path(workspace or os.environ.get("ENTPRUNER_WORKSPACE") or "workspace").expanduser() / "library" / kind


def _meaning(entry: dict[str, Any]) -> tuple:
    """What results rest on: other files or another reading of them make it another thing."""
    found = entry.get("info") or entry.get("facts") or {}
    return (
        *(entry.get(key) for key in ("ref", "process", "autoencoder", "flip")),
        found.get("content_hash"),
        list(entry.get("class_names", [])),
    )


def _readable(workspace: Workspace | Path, kind: str, name: str) -> dict[str, Any]:
    try:
        return read_entry(workspace, kind, name) or {}
    except AssetError:
        return {}


def _check_class_names(names: Any) -> None:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError("class names must be a list of words, none of them empty")
    if len(names) > _MOST_CLASSES:
        raise InputError(f"{len(names)} class names are more than the {_MOST_CLASSES} that can be kept")
    seen: set[str] = set()
    twice = next((name for name in names if name in seen or seen.add(name)), None)
    if twice is not None:
        raise InputError(f"class name {twice!r} stands there twice; give every class a name of its own")


def _last_used(entry: dict[str, Any]) -> float:
    when = entry.get("last_used")
    return float(when) if isinstance(when, int | float) else 0.0
