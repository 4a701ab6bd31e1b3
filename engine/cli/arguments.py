"""What the arguments of a command stand for: a model, a workspace, a protocol, a run."""

import argparse
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.output import tell
from engine.compute import USUAL, Compute
from engine.data.bundled import bundled_data_names
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.models.bundled import bundled_model_names
from engine.runs.drive import read_drive
from engine.runs.library import read_entry
from engine.runs.run_compute import asked_device
from engine.runs.store import Run, open_run
from engine.runs.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from engine.data.dataset import Data
    from engine.models.bundled import ModelInfo
    from engine.models.model import Model


def model_of(args: argparse.Namespace) -> "Model":
    """Opened, with what had to be assumed about it said on standard error."""
    from engine.models.checkpoints import load_model

    model = load_model(
        args.model,
        device=args.device,
        process=args.process,
        autoencoder=args.vae,
        workspace=Path(args.workspace) if args.workspace else None,
        compute=compute_asked(args),
    )
    for note in model.notes:
        tell(f"note: {note}")
    return model


def compute_asked(args: argparse.Namespace) -> Compute:
    """In which numbers; fp32 and not compiled for commands that don't ask."""
    return Compute(
        precision=getattr(args, "precision", Compute.precision), compile=getattr(args, "compile", Compute.compile)
    )


def info_of(args: argparse.Namespace) -> "ModelInfo":
    """What the model is, without its weights."""
    from engine.models.checkpoints import find_model

    return find_model(args.model, workspace=Path(args.workspace) if args.workspace else None)


def data_of(args: argparse.Namespace) -> "Data":
    from engine.data import load_data

    return load_data(args.data, workspace=Path(args.workspace) if args.workspace else None)


def model_params(args: argparse.Namespace) -> dict[str, Any]:
    """A run's params for its model; what wasn't said is left out."""
    said = {"model": lasting_model(args.model, args), "process": args.process, "autoencoder": _lasting_vae(args.vae)}
    if (compute := compute_asked(args)) != USUAL:
        said["compute"] = asdict(compute)
    return {key: value for key, value in said.items() if value is not None}


def lasting_model(ref: str, args: argparse.Namespace) -> str:
    """The reference as it still leads there from another current folder: a path as a whole one."""
    return ref if ref in bundled_model_names() or _in_library("models", ref, args) else _whole_path(ref)


def lasting_data(args: argparse.Namespace) -> str:
    known = args.data in bundled_data_names() or _in_library("data", args.data, args)
    return args.data if known else _whole_path(args.data)


def _lasting_vae(ref: str | None) -> str | None:
    return ref if ref in (None, "autoencoder", "none") else _whole_path(ref)


def _in_library(kind: str, ref: str, args: argparse.Namespace) -> bool:
    return read_entry(Path(args.workspace) if args.workspace else None, kind, ref) is not None


def _whole_path(ref: str) -> str:
    try:
        path = Path(ref).expanduser()
        return str(path.absolute()) if ref and path.exists() else ref
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte in it, or ~ of nobody
        return ref


def with_settings(params: dict[str, Any], said: list[str]) -> dict[str, Any]:
    """``params`` with some of them as ``said``: finetune.warmup_steps=20, the value in JSON. Raises InputError."""
    params = json.loads(json.dumps(params))
    for text in said:
        path, found, value = text.partition("=")
        *folders, name = path.split(".")
        place = params
        for folder in folders:
            place = place.get(folder) if isinstance(place, dict) else None
        if not found or not isinstance(place, dict) or name not in place:
            raise InputError(f"--set {text!r}: expected the name of a setting and its value, as in finetune.seed=1")
        try:
            place[name] = json.loads(value)
        except ValueError as error:
            raise InputError(
                f"--set {text!r}: {value!r} isn't JSON; a word needs quotes, as in '\"cosine\"'"
            ) from error
    return params


def protocol_of(args: argparse.Namespace) -> Protocol:
    return Protocol(
        num_images=args.num,
        sampler=args.sampler,
        num_steps=args.num_steps,
        cfg_scale=args.cfg_scale,
        guided_channels=None if args.guide_all_channels else Protocol.guided_channels,
        features=getattr(args, "features", "demo-cnn"),
        seed=args.seed,
        device=args.device,
        precision=compute_asked(args).precision,
    )


def workspace_of(args: argparse.Namespace) -> Workspace:
    return open_workspace(args.workspace)


def workspace_of_run(run: Run, args: argparse.Namespace) -> Workspace:
    """A run among others belongs to their workspace; one in a folder of its own uses the default cache."""
    return Workspace(run.path.parent.parent) if run.path.parent.name == "runs" else workspace_of(args)


def workspace_said(args: argparse.Namespace) -> str:
    """For the end of a command that a person is told: the workspace, where it isn't the usual one."""
    root = args.workspace and Path(args.workspace).expanduser().absolute()
    return f" --workspace {shlex.quote(str(root))}" if root else ""


def device_of(args: argparse.Namespace) -> str:
    """As said; for a run that is gone on with, else the one that it was asked for. Raises InputError where this machine
    hasn't that one."""
    if args.device is not None:
        return args.device
    from engine.models.checkpoints import usable_device

    run = run_named(args.run, args)
    device = asked_device({**run.params, **read_drive(run).changes})
    try:
        usable_device(device)
    except InputError as error:
        raise InputError(
            f"run {run.id} was asked for on {device!r}, which can't be used here; to go on without it: "
            f"python -m engine run {shlex.quote(args.run)} --device cpu{workspace_said(args)}"
        ) from error
    return device


def run_named(name: str, args: argparse.Namespace) -> Run:
    folder = Path(name)
    return Run(folder.absolute()) if folder.is_dir() else open_run(workspace_of(args), name)


def numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r} should be whole numbers with commas, as in 3,7") from error
