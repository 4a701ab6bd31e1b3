"""Commands about one model or one dataset: what it is, what it draws, what it costs, taking it away."""

import argparse
import time
from pathlib import Path

from engine.cli.arguments import data_of, model_of, numbers, protocol_of, workspace_of
from engine.cli.long_work import WORTH_A_WORD, ask_if_long, duration
from engine.cli.output import give, tell
from engine.evaluation.timing import Timing


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
    from engine.runs.stage_record import StageRecord, record_of

    record = record_of(args.model, workspace_of(args)) if "@" in args.model else StageRecord()
    summary = export_model(
        model_of(args),
        Path(args.out),
        layout=args.layout,
        results=record.results,
        depth_of_parent=record.depth_of_parent,
        stages=record.stages,
    )
    for note in summary.notes:
        tell(f"note: {note}")
    print(f"{summary.path}: {summary.layout}, {summary.num_bytes / 1e6:,.1f} MB in {len(summary.files)} files")


def sample_command(args: argparse.Namespace) -> None:
    from engine.evaluation.sample_files import num_left, num_sampled, sample_into, where_kept

    model = model_of(args)
    classes = numbers(args.classes) if args.classes else None
    protocol = protocol_of(args)
    out = Path(args.out or "samples.npz")
    left = num_left(out, model, protocol, classes=classes, flat=args.flat)
    ask_if_long(model, protocol, left, yes=args.yes)
    told = time.monotonic()
    try:
        for done in sample_into(out, model, protocol, classes=classes, flat=args.flat):
            if time.monotonic() - told > WORTH_A_WORD:
                told = time.monotonic()
                tell(f"{done.num_done:,} of {done.num_images:,} images, {duration(done.seconds_left)} left")
    except KeyboardInterrupt:
        if kept := num_sampled(out):
            tell(
                f"{kept:,} of {protocol.num_images:,} images are kept in {where_kept(out)}; repeat the command to go on"
            )
        raise
    layout = "arr_0, labels, seeds" if out.suffix == ".npz" else "<seed>.png"
    print(f"{protocol.num_images} images in {out} ({layout}) · {protocol.label()}")


def benchmark_command(args: argparse.Namespace) -> None:
    from engine.evaluation.efficiency import measure_efficiency

    timing = Timing(batch_size=args.batch_size, precision=args.timing_precision)
    result = measure_efficiency(model_of(args), timing).as_dict()
    give(args, result, "\n".join(f"{key:20} {value}" for key, value in result.items()))
