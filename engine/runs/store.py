"""Run folders: the contract between whoever asks for work, whoever does it and whoever looks on.

The layout is in docs/architecture.md. One process writes a run at a time; anyone may read it at any moment and sees
each file whole. Free of torch.
"""

import json
import os
import re
import secrets
import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.errors import AssetError, InputError
from engine.runs.schema import SCHEMA, upgraded
from engine.runs.stage import Stage, new_stage_folder, open_stage, stage_folders
from engine.runs.workspace import (
    Workspace,
    encode_json,
    read_json,
    sync_folder,
    sync_tree,
    write_bytes_atomically,
    write_json,
    writing,
)

KINDS = ("ced", "criteria", "prune", "evaluate", "arena", "export")
STATES = ("queued", "running", "paused", "done", "failed", "cancelled", "interrupted")
ACTIVE_STATES = frozenset({"running"})
#: no process works on the run and none is going to, until somebody asks
RESTING_STATES = frozenset({"paused", "done", "failed", "cancelled", "interrupted"})
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    state: str
    phase: str = ""
    message: str = ""
    progress: float = 0.0  # 0 … 1
    eta_seconds: float | None = None
    pid: int | None = None  # of the process at work
    heartbeat: float = 0.0  # unix seconds, as are the two below
    started: float | None = None
    finished: float | None = None
    error: str | None = None  # one line


_STATUS_FIELDS = frozenset(field.name for field in fields(RunStatus))


class Run:
    """A run folder. Raises AssetError unless ``path`` is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        config = read_json(path / "config.json")
        try:
            config = upgraded(config, run_id=path.name)
            self.id: str = path.name
            self.kind: str = config["kind"]
            self.title: str = config["title"]
            self.params: dict[str, Any] = config["params"]
            self.created: float = float(config["created"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AssetError(f"{path / 'config.json'} isn't a run's description ({error!r}); delete the run") from error

    def status(self) -> RunStatus:
        file = self.path / "status.json"
        content = read_json(file)
        try:
            status = RunStatus(**{key: value for key, value in content.items() if key in _STATUS_FIELDS})
        except (AttributeError, TypeError) as error:
            raise AssetError(f"{file} isn't a run's status ({error}); delete the run") from error
        if status.state not in STATES:
            raise AssetError(f"{file} says {status.state!r}, expected one of {', '.join(STATES)}; delete the run")
        return status

    def update(self, **changes: Any) -> RunStatus:
        """Changes some fields of the status. Whoever says "running" is noted as the process at work."""
        assert changes.keys() <= _STATUS_FIELDS, f"no such status fields: {changes.keys() - _STATUS_FIELDS}"
        now = time.time()
        before = self.status()
        implied: dict[str, Any] = {"heartbeat": now}
        if changes.get("state") == "running":
            implied |= {"pid": os.getpid(), "started": before.started or now, "finished": None, "error": None}
        if changes.get("state") in RESTING_STATES:
            implied |= {"pid": None, "finished": now, "eta_seconds": None}
        status = replace(before, **(implied | changes))
        self.write_status(status)
        return status

    def interrupt(self, reason: str) -> None:
        """For one whose process is gone: it is closed, unless it closed itself in its last moment."""
        if self.status().state in RESTING_STATES:
            return
        if self.cancel_requested:
            self.update(state="cancelled", message="cancelled")
        else:
            self.update(state="interrupted", message=reason, error=reason)

    def write_status(self, status: RunStatus) -> None:
        """Replaces the status as a whole, even a damaged one."""
        assert status.state in STATES, status.state
        write_json(self.path / "status.json", asdict(status))

    def append(self, event: str, **details: Any) -> None:
        line = (encode_json({"time": time.time(), "event": event, **details}) + "\n").encode()
        file = self.path / "events.jsonl"
        with writing(file):
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a killed process left half a line: this one must not be lost with it
                while line:
                    line = line[os.write(descriptor, line) :]
            finally:
                os.close(descriptor)

    def sync_events(self) -> None:
        """Makes those so far survive a power cut."""
        file = self.path / "events.jsonl"
        with writing(file):
            if file.exists():
                sync_folder(file)  # a file's content: the same call

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from byte ``offset`` on, and the offset to ask from next time. An unfinished last line is left
        for then; a finished line that makes no sense (its writer was killed) is skipped."""
        try:
            with open(self.path / "events.jsonl", "rb") as file:
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            return [], offset
        end = content.rfind(b"\n") + 1
        events = []
        for line in content[:end].splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events, offset + end

    def log(self, message: str) -> None:
        self.append("log", message=message)

    def stages(self) -> list[Stage]:
        """The finished ones, by number."""
        return [open_stage(folder) for folder in stage_folders(self.path).values()]

    def stage(self, number: int) -> Stage:
        folders = stage_folders(self.path)
        if number not in folders:
            existing = f"it has {', '.join(map(str, folders))}" if folders else "it has none yet"
            raise InputError(f"run {self.id} has no stage {number}; {existing}")
        return open_stage(folders[number])

    def new_stage(self, number: int) -> AbstractContextManager[Path]:
        """A folder to fill, stage.json included; it becomes stages/<number> in one rename when the body ends well."""
        return new_stage_folder(self.path, number)

    def request_cancel(self) -> None:
        write_bytes_atomically(self.path / "cancel", b"")

    @property
    def cancel_requested(self) -> bool:
        return (self.path / "cancel").exists()

    def clear_cancel(self) -> None:
        with writing(self.path / "cancel"):
            (self.path / "cancel").unlink(missing_ok=True)

    @cached_property
    def progress_folder(self) -> Path:
        folder = self.path / "progress"
        with writing(folder):
            folder.mkdir(exist_ok=True)
        return folder

    @property
    def size_bytes(self) -> int:
        return folder_bytes(self.path)


def create_run(workspace: Workspace, *, kind: str, title: str, params: dict[str, Any], path: Path | None = None) -> Run:
    """A new run, in state "queued"; ``submit_run`` puts it in the queue. Raises WorkspaceError.

    ``path``: a folder of the caller's choice outside the workspace, which must not exist yet.
    """
    assert re.fullmatch(r"[a-z]+", kind), kind
    created = time.time()
    folder = (path.parent if path else workspace.runs) / f".new-{secrets.token_hex(8)}"
    with writing(folder):
        folder.mkdir(parents=True)
    try:
        prefix = f"{datetime.fromtimestamp(created, UTC):%Y%m%d-%H%M%S}-{kind}"
        write_json(folder / "status.json", asdict(RunStatus(state="queued", heartbeat=created)))
        path = path or _free_name(workspace, prefix)
        config = {"schema": SCHEMA, "id": path.name, "kind": kind, "title": title, "created": created, "params": params}
        write_json(folder / "config.json", config)
        with writing(path):
            os.rename(folder, path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Run(path)


def take_in(workspace: Workspace, folder: Path, run_id: str) -> Run:
    """Makes ``folder``, a whole run under a temporary name beside the others, a run of the workspace: under ``run_id``,
    or under a new id where that is taken, also by one in the bin. Raises WorkspaceError."""
    path = workspace.runs / run_id
    if path.exists() or (workspace.bin / run_id).exists():
        path = _free_name(workspace, re.sub(r"-[0-9a-f]{4,}$", "", run_id)[:90])
        write_json(folder / "config.json", {**read_json(folder / "config.json"), "id": path.name})
    with writing(path):
        sync_tree(folder)
        os.rename(folder, path)
        sync_folder(path.parent)
    return Run(path)


def open_run(workspace: Workspace, run_id: str) -> Run:
    """Raises InputError for an id that doesn't exist or can't be one, AssetError for a damaged run."""
    path = workspace.runs / run_id if RUN_ID.fullmatch(run_id) else None
    if path is not None and (workspace.bin / run_id).is_dir() and not path.is_dir():
        raise InputError(f"the run {run_id} was deleted; the runs page restores it from the bin as long as it is there")
    if path is None or not path.is_dir():
        raise InputError(f"no run named {run_id!r} in {workspace.root}; the runs page lists those there are")
    return Run(path)


def folder_bytes(path: Path) -> int:
    """Of all files below ``path``."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # a temporary name, renamed since
                continue
    return total


def _free_name(workspace: Workspace, prefix: str) -> Path:
    while (path := workspace.runs / f"{prefix}-{secrets.token_hex(2)}").exists():
        continue
    return path
