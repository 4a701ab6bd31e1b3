"""Opens a dataset by reference, whatever it is; what a file is, its content says and not its name. Free of torch."""

import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.data.bundled import bundled_data, bundled_data_names
from engine.data.scan import Entry, OpenProgress
from engine.errors import AssetError, InputError
from engine.models import hub
from engine.runs.workspace import open_workspace

_TELL_EVERY = 1000  # files, while they are listed
_OTHERS = {b"7z\xbc\xaf": "kind 7z, which must be unpacked first", b"Rar!": "kind RAR, which must be unpacked first"}


def opening(ref: str | Path, *, workspace: Path | None = None) -> Iterator[OpenProgress]:
    """Yields progress, returns Data.

    Raises InputError where ``ref`` names nothing, AssetError where what it names can't be read.
    """
    from engine.runs.library import read_entry

    ref = str(ref)
    if ref in bundled_data_names():
        return bundled_data(ref)
    entry = read_entry(workspace, "data", ref)
    if entry is not None:
        data = yield from _opening_path(entry["ref"], name=ref, workspace=workspace)
        names = tuple(entry["class_names"])
        data = data.with_names(names) if names else data
        return replace(data, flip=bool(entry.get("flip", data.flip)) and data.images is not None)
    data = yield from _opening_path(ref, name=ref, workspace=workspace)
    return data


def _opening_path(ref: str, *, name: str, workspace: Path | None) -> Iterator[OpenProgress]:
    if "\0" in ref:
        raise InputError("a path can't hold the character NUL; check what was typed")
    if ref in bundled_data_names():  # an entry of the library may stand for one
        return replace(bundled_data(ref), name=name)
    path = Path(ref).expanduser()
    name = str(path.absolute()) if name == ref else name
    cache = open_workspace(workspace).cache if workspace else None
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise InputError(f"{ref[:80]} can't be looked at ({error.strerror}); check the path") from error
    if is_folder:
        data = yield from _opening_folder(path, name=name, cache=cache)
    elif is_file:
        data = yield from _opening_file(path, name=name, cache=cache)
    elif hub.is_hub_id(ref):
        folder = yield from _fetching(ref, workspace)
        data = yield from _opening_folder(folder, name=ref if name == str(path.absolute()) else name, cache=cache)
    else:
        known = ", ".join(bundled_data_names())
        raise InputError(
            f"no dataset named {ref[:200]!r}, and no file or folder of that path; bundled are {known}: check the path"
        )
    return data


def _fetching(ref: str, workspace: Path | None) -> Iterator[OpenProgress]:
    """Returns the folder with the dataset's files, downloaded where they aren't on this machine."""
    folder = hub.find_snapshot(ref, kind="dataset", workspace=workspace)
    if folder is None:
        for news in hub.download(ref, kind="dataset", workspace=workspace):
            folder = news.folder
            yield OpenProgress(message=f"downloading {news.file}", done=news.done, total=news.total)
    return folder


def _opening_folder(path: Path, *, name: str, cache: Path | None) -> Iterator[OpenProgress]:
    from engine.data.features import feature_pairs, latents_file, open_array_file, opening_features
    from engine.data.folders import opening_pictures
    from engine.data.scan import list_files

    yield OpenProgress(message="listing the files", done=0, total=1)
    entries = []
    for entry in list_files(path):
        entries.append(entry)
        if len(entries) % _TELL_EVERY == 0:
            yield OpenProgress(message=f"{len(entries):,} files so far", done=0, total=1)
    tables = [entry for entry in entries if entry.name.lower().endswith(".parquet")]
    if tables:
        from engine.data.parquet import opening_parquet

        data = yield from opening_parquet(tables, name=name, root=path, cache=cache)
    elif pairs := feature_pairs(entries):
        data = yield from opening_features(pairs, name=name, cache=cache)
    elif latents := latents_file(entries):
        labels = next((Path(entry.path) for entry in entries if entry.name == "labels.npy"), None)
        data = open_array_file(Path(latents.path), name=name, labels=labels)
    else:
        title = f"folder {path.resolve()}"
        data = yield from opening_pictures(entries, name=name, kind="folder", title=title, cache=cache)
    return data


def _opening_file(path: Path, *, name: str, cache: Path | None) -> Iterator[OpenProgress]:
    from engine.data.archives import is_archive, opening_archive
    from engine.data.features import is_safetensors, open_array_file
    from engine.data.picture import is_picture

    yield OpenProgress(message="reading the file", done=0, total=1)
    head, entry = _head(path, name)
    if head.startswith(b"\x93NUMPY") or is_safetensors(head) or _is_npz(path, head):
        return open_array_file(path, name=name)
    if is_archive(head):
        data = yield from opening_archive(path, name=name, cache=cache or open_workspace().cache)
        return data
    if head.startswith(b"PAR1"):
        from engine.data.parquet import opening_parquet

        data = yield from opening_parquet([entry], name=name, root=path.parent, cache=cache)
        return data
    if is_picture(head):
        raise AssetError(f"{name} is a single picture; expected the folder that holds the class folders")
    if not head:
        raise AssetError(f"{name} is empty: it has 0 bytes; was it still being written?")
    kind = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), "no kind that is known")
    raise AssetError(
        f"{name} is of {kind}; expected a folder of class folders, a .zip or .tar of it, an .npz, latents or Parquet"
    )


def _head(path: Path, name: str) -> tuple[bytes, Entry]:
    try:
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            return file.read(512), Entry(path.name, str(path), about.st_size, str(about.st_mtime_ns))
    except OSError as error:
        raise AssetError(f"{name} can't be read ({error.strerror}); check its permissions") from error


def _is_npz(path: Path, head: bytes) -> bool:
    """A zip of arrays; one that can't be listed is left to the archives, which say what is wrong with it."""
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, struct.error):
        return path.suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") and "/" not in name for name in names)
