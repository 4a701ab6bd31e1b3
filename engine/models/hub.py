"""Hugging Face hub ids -> local folders: what is here already, else downloaded, with progress, and resumed.

Weights come as safetensors; PyTorch files are fetched only where a repository has nothing else, and are read without
running what is in them. Downloads lie in ``hub/<owner>--<name>`` of the workspace, where files may be put by hand too.
"""

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import AssetError, EngineError, InputError
from engine.runs.workspace import open_workspace, writing

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_SECONDS_TO_ANSWER = 5.0  # of the hub; a machine without a network must not keep a person waiting
_SECONDS_TO_WAIT = 8.0
_SECONDS_BETWEEN_NEWS = 0.5
_PARTS = ("", "transformer", "vae", "scheduler")  # folders of a repository that a model consists of
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
#: where a copy needs a file of these kinds to be taken for one: a model's may hold its autoencoder alone
_NEEDED = {
    "model": (("*", "transformer/*"), _WEIGHTS),
    "autoencoder": (("*", "vae/*"), _WEIGHTS),
    "dataset": (("*", "*/**/*"), (".parquet",)),
}
_VARIANT = re.compile(r"\.(fp16|bf16|non_ema|int8)[.-]")


@dataclass(frozen=True)
class Download:
    """How far it is; ``folder`` is None until everything is there."""

    file: str
    done: int  # bytes
    total: int
    folder: Path | None = None


def is_hub_id(ref: str) -> bool:
    """Whether ``ref`` reads as owner/name. A path of that form goes first, which the caller checks."""
    return _HUB_ID.fullmatch(ref) is not None and ".." not in ref and "--" not in ref


def model_folder(ref: str, *, workspace: Path | None = None) -> Path:
    """Raises AssetError, naming the folder to put files in, where there is neither a copy nor a way to the hub."""
    return _here_or_fetched(ref, "model", workspace)


def autoencoder_folder(ref: str, *, workspace: Path | None = None) -> Path:
    """As ``model_folder``; the line says as well how to name another one."""
    try:
        return _here_or_fetched(ref, "autoencoder", workspace)
    except AssetError as error:
        raise AssetError(f"{error}; or name a folder that holds the autoencoder: --vae PATH") from error


def download_dataset(ref: str, *, workspace: Path | None = None) -> Path:
    """The folder with a dataset's Parquet files."""
    return _here_or_fetched(ref, "dataset", workspace)


def find_snapshot(ref: str, *, kind: str = "model", workspace: Path | None = None) -> Path | None:
    """A copy on this machine: in the workspace, else in the Hugging Face cache. Asks nobody. ``kind``: "model",
    "autoencoder" (a repository of its own, or a model's) or "dataset"."""
    folder = _place(ref, workspace)
    if _has_weights(folder, kind):
        return folder
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(ref, repo_type=_repo_type(kind), local_files_only=True))
    except (OSError, ValueError):
        return None
    return found if _has_weights(found, kind) else None


def download(ref: str, *, kind: str = "model", workspace: Path | None = None) -> Iterator[Download]:
    """Fetches what ``kind`` needs, yielding progress; the last one has the folder. Started again, it goes on.

    Raises InputError for an id that the hub doesn't know, AssetError for a hub that can't be reached.
    """
    open_workspace(workspace)
    place = _place(ref, workspace)
    partial = place.with_name(f".{place.name}.part")
    files = _listing(ref, kind, place)
    wanted = {name: files[name] for name in wanted_files(list(files), kind=kind)}
    if not wanted:
        raise InputError(f"{ref} has no {_what(kind)} that can be opened here; it holds {', '.join(list(files)[:5])}")
    with writing(place):
        partial.mkdir(parents=True, exist_ok=True)
    total, before = sum(wanted.values()), 0
    for name, size in wanted.items():
        for fetched in _fetch(ref, name, kind, partial, place):
            yield Download(name, before + min(fetched, size), total)
        before += size
    with writing(place):
        _put(partial, place, list(wanted))
    yield Download("", total, total, place)


def _put(partial: Path, place: Path, names: list[str]) -> None:
    """In one rename; into a folder that holds a part already, put there by hand, what is missing there."""
    if not place.is_dir() or not any(place.iterdir()):
        os.replace(partial, place)
        return
    for name in names:
        if not (place / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial / name, place / name)
    shutil.rmtree(partial)


def wanted_files(names: list[str], *, kind: str = "model") -> list[str]:
    """Of a repository's files, those that are needed: descriptions, and one form of the weights for each part."""
    paths = [PurePosixPath(name) for name in sorted(names)]
    if kind == "dataset":
        return [str(path) for path in paths if path.suffix == ".parquet" or str(path) == "README.md"]
    wanted = []
    for part in _PARTS:
        inside = [path for path in paths if str(path.parent) == (part or ".") and not _VARIANT.search(path.name)]
        for suffix in _WEIGHTS:
            weights = [path for path in inside if path.suffix == suffix]
            if weights:
                break
        wanted += [path for path in inside if path.suffix == ".json"] + weights
    return [str(path) for path in wanted]


def _here_or_fetched(ref: str, kind: str, workspace: Path | None) -> Path:
    folder = find_snapshot(ref, kind=kind, workspace=workspace)
    if folder is None:
        for progress in download(ref, kind=kind, workspace=workspace):
            folder = progress.folder
    assert folder is not None
    return folder


def _place(ref: str, workspace: Path | None) -> Path:
    if not is_hub_id(ref):
        raise InputError(f"{ref!r} isn't a hub id; expected owner/name, such as facebook/DiT-XL-2-256")
    root = Path(workspace or os.environ.get("ENTPRUNER_WORKSPACE") or "workspace").expanduser().absolute()
    return root / "hub" / ref.replace("/", "--")


def _has_weights(folder: Path, kind: str) -> bool:
    patterns, suffixes = _NEEDED[kind]
    try:
        return any(file.suffix in suffixes for pattern in patterns for file in folder.glob(pattern))
    except OSError:
        return False


def _listing(ref: str, kind: str, place: Path) -> dict[str, int]:
    """Every file of the repository with its size in bytes."""
    from huggingface_hub import HfApi

    def ask() -> dict[str, int]:
        info = HfApi().repo_info(ref, repo_type=_repo_type(kind), timeout=_SECONDS_TO_ANSWER, files_metadata=True)
        return {file.rfilename: file.size or 0 for file in info.siblings or []}

    thread, answers = _started(lambda: _asking(ask, ref, kind, place))
    thread.join(_SECONDS_TO_WAIT)  # a resolver of names that doesn't answer heeds no timeout
    if thread.is_alive():
        raise AssetError(
            f"{ref} isn't on this machine and the hub didn't answer within {_SECONDS_TO_WAIT:.0f} s; connect, or put "
            f"its files in {place} yourself"
        )
    return _answer(answers)


def _fetch(ref: str, name: str, kind: str, partial: Path, place: Path) -> Iterator[int]:
    """Yields the bytes of ``name`` that have arrived, while a thread fetches it; at least once."""
    from huggingface_hub import hf_hub_download

    def fetch() -> str:
        return hf_hub_download(ref, name, repo_type=_repo_type(kind), local_dir=partial)

    thread, answers = _started(lambda: _asking(fetch, ref, kind, place))
    while True:
        thread.join(_SECONDS_BETWEEN_NEWS)
        yield _arrived(partial, name)
        if not thread.is_alive():
            break
    _answer(answers)


def _started(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread at ``work``, and the list that will hold what came of it: its answer, or the EngineError."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except EngineError as error:
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, answers


def _answer(answers: list[Any]) -> Any:
    if not answers:
        raise AssetError("the hub answered something that makes no sense here; try again later, or another id")
    if isinstance(answers[0], EngineError):
        raise answers[0]
    return answers[0]


def _arrived(partial: Path, name: str) -> int:
    try:
        if (partial / name).exists():
            return (partial / name).stat().st_size
        unfinished = (partial / ".cache").rglob("*.incomplete")
        return max((file.stat().st_size for file in unfinished), default=0)
    except OSError:  # moved into its place while we looked
        return 0


def _asking(ask: Callable[[], Any], ref: str, kind: str, place: Path) -> Any:
    from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    by_hand = f"put its files in {place} yourself"
    try:
        return ask()
    except GatedRepoError as error:
        raise InputError(
            f"{ref} is only for people who accepted its terms: log in with `hf auth login`, or {by_hand}"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"the hub has no {_what(kind)} {ref!r}, and there is no such path; check the spelling"
        ) from error
    except OfflineModeIsEnabled as error:
        raise AssetError(
            f"{ref} isn't on this machine and HF_HUB_OFFLINE forbids to fetch it; unset it, or {by_hand}"
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            with writing(place):
                raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise AssetError(
            f"{ref} isn't on this machine and the hub can't be reached ({reason}); connect, or {by_hand}"
        ) from error


def _repo_type(kind: str) -> str:
    return "dataset" if kind == "dataset" else "model"


def _what(kind: str) -> str:
    return "dataset of Parquet files" if kind == "dataset" else kind
