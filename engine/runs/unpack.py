"""A run that was packed elsewhere becomes one of this workspace: looked through first, whole or not at all.

Nothing in the file is trusted. Names decide what a member may be, contents are checked by what they claim to be, and
no run that is here is touched: one whose id is taken gets another. Free of torch.
"""

import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from engine.data.archives import DAMAGED, check_member
from engine.errors import AssetError, DiskFull, EngineError, InputError
from engine.runs.run_files import check_for
from engine.runs.stage import open_stage, stage_folders
from engine.runs.store import ACTIVE_STATES, KINDS, RUN_ID, Run, take_in
from engine.runs.workspace import Workspace, read_json, write_json, writing

_MOST_MEMBERS = 100_000
_MOST_RATIO = 100  # unpacked bytes for a byte of the archive
_RATIO_FROM = 64 * 2**20  # bytes up to which any ratio is fine: descriptions compress well
_SPARE = 64 * 2**20  # bytes that stay free on the disk
_CHUNK = 2**20


def unpack_run(workspace: Workspace, archive: Path | IO[bytes], *, name: str = "") -> Run:
    """The run in ``archive``, a file or what was uploaded; ``name`` is what messages call it.

    Raises AssetError for what is no run, is damaged or isn't to be trusted, InputError for one that is locked,
    WorkspaceError where it can't be written. Then nothing is left of it.
    """
    name = name or str(archive)
    folder = workspace.runs / f".new-{secrets.token_hex(8)}"
    with writing(folder):
        folder.mkdir(parents=True)
    try:
        try:
            with zipfile.ZipFile(archive) as packed:
                run_id = _copy_all(packed, folder, name)
        except DAMAGED as error:
            reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
            raise AssetError(f"{name} is no run that was packed, or damaged ({reason}); get it again") from error
        _check_all(folder, name)
        _settle(folder)
        return take_in(workspace, folder, run_id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_all(packed: zipfile.ZipFile, folder: Path, name: str) -> str:
    """Writes the members below ``folder`` and returns the run's id."""
    members = _members(packed, name)
    total = sum(info.file_size for info in members.values())
    if total > max(_RATIO_FROM, _MOST_RATIO * sum(info.compress_size for info in members.values())):
        raise AssetError(f"{name} unpacks to more than {_MOST_RATIO} times its size, which no run does; don't trust it")
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if total + _SPARE > free:
        raise DiskFull(folder.parent, num_bytes=total + _SPARE, free=free)
    (run_id,) = {member.split("/", 1)[0] for member in members} or {""}
    for member, info in members.items():
        target = folder / member.split("/", 1)[1]
        with writing(target, num_bytes=info.file_size):
            target.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(info) as content, open(target, "xb") as file:
            while chunk := content.read(_CHUNK):  # never more than the member claims
                with writing(target, num_bytes=info.file_size):
                    file.write(chunk)
    return run_id


def _members(packed: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """Name -> member, of files. Raises AssetError for any that a packed run doesn't have."""
    infos = packed.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise AssetError(f"{name} has {len(infos):,} members; no run has more than {_MOST_MEMBERS:,}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        check_member(info.filename, link=kind not in (0, stat.S_IFREG, stat.S_IFDIR))
        if info.is_dir():
            continue
        if info.flag_bits & 0x1:
            raise InputError(f"{name} is locked with a password; unpack it yourself into runs/ of the workspace")
        if info.filename in members:
            raise AssetError(f"{name} holds {info.filename[:120]!r} twice; don't trust it")
        members[info.filename] = info
    roots = {member.split("/", 1)[0] for member in members}
    if len(roots) != 1 or not RUN_ID.fullmatch(root := roots.pop()) or f"{root}/config.json" not in members:
        raise AssetError(f"{name} isn't a run: expected one folder with a config.json in it, as engine pack makes it")
    alien = next((member for member in members if check_for(member.split("/", 1)[1]) is None), None)
    if alien:
        raise AssetError(f"{name} holds {alien[:120]!r}, which no run has; nothing of it was taken")
    return members


def _check_all(folder: Path, name: str) -> None:
    try:
        for path in _files(folder):
            check = check_for(path.relative_to(folder).as_posix())
            assert check is not None, path
            check(path)
        run = Run(folder)
        run.status()
        if run.kind not in KINDS:
            raise AssetError(f"its kind is {run.kind[:40]!r}; this version knows {', '.join(KINDS)}")
        for stage in stage_folders(folder).values():
            open_stage(stage)
    except EngineError as error:
        raise AssetError(f"{name} isn't a run that can be taken in: {_nameless(error, folder)}") from error


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _nameless(error: EngineError, folder: Path) -> str:
    """Without the temporary name that nobody asked for."""
    return str(error).replace(f"{folder}/", "").replace(folder.name, "it")


def _settle(folder: Path) -> None:
    """What was running or waiting when it was packed rests here, until somebody resumes it."""
    status = read_json(folder / "status.json")
    status |= {"pid": None, "eta_seconds": None}
    if status["state"] in ACTIVE_STATES | {"queued"}:
        status |= {"state": "interrupted", "message": "it wasn't finished when it was packed; resume it to go on"}
    write_json(folder / "status.json", status)
