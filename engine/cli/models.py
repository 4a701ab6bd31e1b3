"""Commands about one model or one dataset: what it is, what it draws, what it costs, taking it away."""

import argparse
from io import BytesIO
from pathlib import Path

from engine.cli.arguments import data_of, model_of, numbers, protocol_of
from engine.cli.output import give, tell
from engine.runs.workspace import write_bytes_atomically


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
    import numpy as np

    from engine.evaluation.sampling import sample

    model = model_of(args)
    classes = numbers(args.classes) if args.classes else None
    protocol = protocol_of(args)
    drawn = sample(model, protocol, classes=classes)
    out = Path(args.out or "samples.npz")
    content = BytesIO()
    np.savez_compressed(content, arr_0=drawn.images, labels=drawn.labels, seeds=drawn.seeds)
    write_bytes_atomically(out, content.getvalue())
    print(f"{len(drawn.images)} images in {out} (arr_0, labels, seeds) · {protocol.label()}")


def benchmark_command(args: argparse.Namespace) -> None:
    from engine.evaluation.efficiency import measure_efficiency

    result = measure_efficiency(model_of(args), batch_size=args.batch_size).as_dict()
    give(args, result, "\n".join(f"{key:20} {value}" for key, value in result.items()))
