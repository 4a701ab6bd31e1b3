"""A run as one file, to keep or to send: a .zip that holds its folder. Free of torch.

What it leaves out is named in ``run_files``: an export (it is a file to take away already, and made again by asking)
and what belongs to the moment.
"""

import zipfile
from pathlib import Path
from typing import IO

from engine.errors import AssetError, InputError
from engine.runs.run_files import LEFT_OUT, check_for
from engine.runs.store import ACTIVE_STATES, Run
from engine.runs.workspace import replacing, writing

_PACKED_ALREADY = {".safetensors", ".npz", ".png"}


def pack_run(run: Run, target: IO[bytes]) -> None:
    """Raises InputError for one that is at work, or of which nothing could be unpacked again."""
    files = packed_files(run)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            how = zipfile.ZIP_STORED if path.suffix in _PACKED_ALREADY else zipfile.ZIP_DEFLATED
            archive.write(path, f"{run.id}/{name}", compress_type=how)


def pack_run_into(run: Run, out: Path) -> None:
    """Raises InputError where ``out`` exists, WorkspaceError where it can't be written; then nothing is left of it."""
    if out.exists():
        raise InputError(f"{out} exists; choose another name, or move it away")
    files = packed_files(run)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out, num_bytes=_num_bytes(files)) as temporary, open(temporary, "wb") as target:
        pack_run(run, target)


def packed_size(run: Run) -> int:
    """Bytes, at most: descriptions are compressed. Raises as ``pack_run`` does."""
    return _num_bytes(packed_files(run))


def packed_files(run: Run) -> dict[str, Path]:
    """Name in the archive, below the run's id -> file."""
    state = run.status().state
    if state in ACTIVE_STATES:
        raise InputError(f"run {run.id} is {state}; pause or cancel it first, then pack it")
    if run.kind == "export":
        raise InputError(f"run {run.id} is an export: take its files from {run.path} as they are")
    names = {path.relative_to(run.path).as_posix(): path for path in sorted(run.path.rglob("*")) if path.is_file()}
    files = {name: path for name, path in names.items() if not LEFT_OUT.fullmatch(name)}
    alien = [name for name in files if check_for(name) is None]
    if alien:
        raise AssetError(f"{run.path} holds {alien[0]!r}, which isn't a run's; take it out of the folder, then pack it")
    return files


def _num_bytes(files: dict[str, Path]) -> int:
    return sum(path.stat().st_size for path in files.values())
