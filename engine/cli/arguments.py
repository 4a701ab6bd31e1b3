"""What the arguments of a command stand for: a model, a workspace, a protocol, a run."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.output import tell
from engine.compute import USUAL, Compute
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
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
    said = {"model": args.model, "process": args.process, "autoencoder": args.vae}
    if (compute := compute_asked(args)) != USUAL:
        said["compute"] = asdict(compute)
    return {key: value for key, value in said.items() if value is not None}


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


def run_named(name: str, args: argparse.Namespace) -> Run:
    folder = Path(name)
    return Run(folder.absolute()) if folder.is_dir() else open_run(workspace_of(args), name)


def numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r} should be whole numbers with commas, as in 3,7") from error
