"""Commands about one model or one dataset: what it is, what it draws, what it costs, taking it away."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.arguments import data_of, model_of, numbers, protocol_of
from engine.cli.output import give, tell
from engine.errors import Cancelled, InputError

if TYPE_CHECKING:
    from engine.models.model import Model

_LONG = 3600.0  # seconds that nobody should start by accident
_WORTH_A_WORD = 5.0


def inspect_command(args: argparse.Namespace) -> None:
    from engine.models.memory import describe

    about = describe(model_of(args))
    give(args, about, "\n".join(f"{key:20} {value}" for key, value in about.items()))


def look_command(args: argparse.Namespace) -> None:
    from engine.data.look import look_at

    facts = look_at(data_of(args)).facts()
    give(args, facts, "\n".join(f"{key:20} {value}" for key, value in facts.items()))


def export_command(args: argparse.Namespace) -> None:
    from engine.models.export import export_model

    summary = export_model(model_of(args), Path(args.out), layout=args.layout)
    for note in summary.notes:
        tell(f"note: {note}")
    print(f"{summary.path}: {summary.layout}, {summary.num_bytes / 1e6:,.1f} MB in {len(summary.files)} files")


def sample_command(args: argparse.Namespace) -> None:
    from engine.evaluation.sample_files import estimate_seconds, num_left, num_sampled, sample_into, where_kept

    model = model_of(args)
    classes = numbers(args.classes) if args.classes else None
    protocol = protocol_of(args)
    out = Path(args.out or "samples.npz")
    left = num_left(out, model, protocol, classes=classes, flat=args.flat)
    seconds = estimate_seconds(model, protocol, left)
    if seconds > _LONG and not args.yes:
        _ask(f"{left:,} images would take about {_duration(seconds)} and {_size(model, left)}")
    elif seconds > _WORTH_A_WORD:
        tell(f"{left:,} images, about {_duration(seconds)}")
    told = time.monotonic()
    try:
        for done in sample_into(out, model, protocol, classes=classes, flat=args.flat):
            if time.monotonic() - told > _WORTH_A_WORD:
                told = time.monotonic()
                tell(f"{done.num_done:,} of {done.num_images:,} images, {_duration(done.seconds_left)} left")
    except KeyboardInterrupt:
        if kept := num_sampled(out):
            tell(
                f"{kept:,} of {protocol.num_images:,} images are kept in {where_kept(out)}; repeat the command to go on"
            )
        raise
    layout = "arr_0, labels, seeds" if out.suffix == ".npz" else "<seed>.png"
    print(f"{protocol.num_images} images in {out} ({layout}) · {protocol.label()}")


def _ask(what: str) -> None:
    """Raises InputError where nobody can answer, Cancelled where the answer isn't yes."""
    if not sys.stdin.isatty():
        raise InputError(f"{what}; add --yes if that is meant, or ask for fewer with --num")
    tell(f"{what}; what is drawn is kept whenever you stop. Go on? (y/N)")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Cancelled("nothing was drawn")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(model: "Model", num_images: int) -> str:
    num_bytes = 3 * model.image_side**2 * num_images
    return f"up to {num_bytes / 1e9:,.1f} GB" if num_bytes > 1e9 else f"up to {num_bytes / 1e6:,.0f} MB"


def benchmark_command(args: argparse.Namespace) -> None:
    from engine.evaluation.efficiency import measure_efficiency

    result = measure_efficiency(model_of(args), batch_size=args.batch_size).as_dict()
    give(args, result, "\n".join(f"{key:20} {value}" for key, value in result.items()))
