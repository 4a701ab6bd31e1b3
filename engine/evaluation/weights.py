"""Weights of the published feature extractors: found on this machine, given by hand or downloaded, and checked.

Nothing opens a file whose SHA-256 isn't the published one. Free of torch.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from engine.errors import AssetError, InputError, WorkspaceError
from engine.models.hub import Download
from engine.runs.workspace import replacing, sync_folder, writing

WEIGHTS_VARIABLE = "ENTPRUNER_FEATURES_WEIGHTS"  # names a file, or a folder that holds it under its published name
_SECONDS_TO_ANSWER, _WAIT_SECONDS = 10.0, 0.5
_PIECE = 2**20


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    file: str
    url: str
    sha256: str
    num_bytes: int


#: Where a publisher states less than the whole hash, the comment says what is stated and where the rest is from.
PUBLISHED = {
    # The release names the first 8 digits, in the file's name; the whole is what other projects pin for this file, and
    # for the copy of the same name that pytorch-fid publishes.
    "inception": PublishedWeights(
        file="weights-inception-2015-12-05-6726825d.pth",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        num_bytes=95_628_359,
    ),
    # ViT-L/14, the one of FD-DINOv2 (arXiv 2306.04675). Its publisher states no hash; this is what other projects pin.
    "dinov2": PublishedWeights(
        file="dinov2_vitl14_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        num_bytes=1_217_586_395,
    ),
    # ViT-B/32. Its publisher states the whole hash, in the address, and so does torch-fidelity.
    "clip": PublishedWeights(
        file="ViT-B-32.pt",
        url="https://openaipublic.azureedge.net/clip/models/"
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        num_bytes=353_976_522,
    ),
}

NAMES = ("demo-cnn", *PUBLISHED)  # of all features; the first ships with the product


def needs_weights(name: str) -> bool:
    """Whether these features rest on published weights. Raises InputError for an unknown name."""
    if name not in NAMES:
        raise InputError(f"features {name!r} are unknown; choose one of {', '.join(NAMES)}")
    return name in PUBLISHED


def weights_file(name: str, *, workspace: Path | None = None) -> Path:
    """The checked file of the extractor ``name``, downloaded if need be.

    Raises AssetError: not the published file, or neither here nor to be had; WorkspaceError: no space.
    """
    found = find_weights(name, workspace=workspace)
    if found is None:
        for _ in fetch_weights(name, workspace=workspace):
            pass
        found = _place(name, workspace)
    check_weights(name, found)
    return found


def find_weights(name: str, *, workspace: Path | None = None) -> Path | None:
    """A file on this machine, not checked yet: the environment's, the workspace's, or what torch-fidelity downloaded
    for itself. Raises AssetError where the environment names nothing that is there."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        return _given(name, Path(named))
    torch_home = Path(os.environ.get("TORCH_HOME") or Path("~/.cache/torch").expanduser())
    places = (_place(name, workspace), torch_home / "hub" / "checkpoints" / PUBLISHED[name].file)
    return next((place for place in places if place.is_file()), None)


def keep_weights(name: str, path: Path, *, workspace: Path | None = None) -> Path:
    """Checks a file, or the one in a folder, that a person got by other ways, and keeps a copy in the workspace."""
    if not needs_weights(name):
        raise InputError(f"features {name!r} need no weights from elsewhere; leave the path out")
    given, place = _given(name, path), _place(name, workspace)
    check_weights(name, given)
    if not (place.is_file() and place.samefile(given)):
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:
            shutil.copyfile(given, temporary)
    return place


def check_weights(name: str, path: Path) -> None:
    """Raises AssetError unless ``path`` is the published file, byte for byte."""
    wanted = PUBLISHED[name]
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AssetError(f"{path} can't be read ({error.strerror or error}); {_by_hand(name)}") from error
    if found != wanted.sha256:
        cut = f"it has {size:,} bytes of {wanted.num_bytes:,}" if size < wanted.num_bytes else f"SHA-256 {found[:12]}…"
        raise AssetError(
            f"{path} isn't the published {wanted.file} ({cut}, expected SHA-256 {wanted.sha256[:12]}…), so it wasn't "
            f"opened; get it again from {wanted.url}"
        )


def fetch_weights(name: str, *, workspace: Path | None = None) -> Iterator[Download]:
    """Downloads to the workspace, yielding progress; the last has the folder. Started again, it goes on where it was;
    where another process is at it, this one waits and tells how far that is.

    The file gets its name once it is whole and its hash is right. Raises AssetError, or WorkspaceError without space.
    """
    wanted, place = PUBLISHED[name], _place(name, workspace)
    part = place.with_name(f".{place.name}.part")
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(place.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while not _alone(folder):
            yield Download(wanted.file, _size(part), wanted.num_bytes)
            time.sleep(_WAIT_SECONDS)
        if not place.is_file():  # else it came while we waited
            yield from _fetched(name, part, place)
    finally:
        os.close(folder)  # and the lock with it
    yield Download(wanted.file, wanted.num_bytes, wanted.num_bytes, place.parent)


def _alone(folder: int) -> bool:
    """Whether we hold the lock on the folder now. A file system that knows no locks gives none."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetched(name: str, part: Path, place: Path) -> Iterator[Download]:
    wanted = PUBLISHED[name]
    before = _size(part)
    if before < wanted.num_bytes:
        for received in _received(name, part, before):
            yield Download(wanted.file, received, wanted.num_bytes)
    try:
        check_weights(name, part)
    except AssetError as error:
        part.unlink(missing_ok=True)
        raise AssetError(
            f"what {wanted.url} sent isn't the published {wanted.file}, and was thrown away; try again later, or get "
            f"the file elsewhere; {_by_hand(name)}"
        ) from error
    with writing(place):
        os.replace(part, place)
        sync_folder(place.parent)


def _received(name: str, part: Path, before: int) -> Iterator[int]:
    """Appends to ``part`` what is missing, yielding the bytes that it has."""
    wanted = PUBLISHED[name]
    free = shutil.disk_usage(part.parent).free
    if free < wanted.num_bytes - before:
        raise WorkspaceError(
            f"{wanted.file} needs {_megabytes(wanted.num_bytes - before)}, but only {_megabytes(free)} are free for "
            f"{part.parent}; free some, or choose another workspace folder"
        )
    request = Request(wanted.url, headers={"Range": f"bytes={before}-"} if before else {})
    with _asking(name, part):
        answer = urlopen(request, timeout=_SECONDS_TO_ANSWER)
    goes_on = answer.status == 206
    received = before if goes_on else 0
    try:
        with answer, writing(part), open(part, "ab" if goes_on else "wb") as file:
            while received <= wanted.num_bytes:
                with _asking(name, part):
                    piece = answer.read(_PIECE)
                if not piece:
                    break
                file.write(piece)
                received += len(piece)
                yield received
            file.flush()
            os.fsync(file.fileno())
    except WorkspaceError:
        part.unlink(missing_ok=True)  # what was short of space shall not hold it
        raise
    if received < wanted.num_bytes:
        raise AssetError(_stopped(name, received, "the connection was closed"))


@contextmanager
def _asking(name: str, part: Path) -> Iterator[None]:
    """One line out of all that a network does."""
    wanted = PUBLISHED[name]
    try:
        yield
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError) and error.code == 416:  # what is here can't be the start of what is there
            part.unlink(missing_ok=True)
        reason = (str(getattr(error, "reason", error)).strip().splitlines() or [type(error).__name__])[0][:120]
        received = part.stat().st_size if part.exists() else 0
        if received:
            raise AssetError(_stopped(name, received, reason)) from error
        raise AssetError(
            f"{name} needs {wanted.file} ({_megabytes(wanted.num_bytes)}), which isn't on this machine, and "
            f"{wanted.url} can't be reached ({reason}); connect, or {_by_hand(name)}"
        ) from error


def _stopped(name: str, received: int, reason: str) -> str:
    wanted = PUBLISHED[name]
    return (
        f"the download of {wanted.file} stopped at {_megabytes(received)} of {_megabytes(wanted.num_bytes)} "
        f"({reason}); ask again and it goes on from there, or {_by_hand(name)}"
    )


def _by_hand(name: str) -> str:
    return f"give a path to {PUBLISHED[name].file}: in the form, --features-weights PATH, or {WEIGHTS_VARIABLE}=PATH"


def _given(name: str, path: Path) -> Path:
    path = path.expanduser()
    file = path / PUBLISHED[name].file if path.is_dir() else path
    if not file.is_file():
        raise AssetError(f"{file} is missing; {_by_hand(name)}")
    return file


def _place(name: str, workspace: Path | None) -> Path:
    root = Path(workspace or os.environ.get("ENTPRUNER_WORKSPACE") or "workspace").expanduser().absolute()
    return root / "hub" / "features" / PUBLISHED[name].file


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
