"""The command that measures a model: how good its images are, and what they cost."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.cli.arguments import (
    lasting_data,
    lasting_model,
    model_of,
    model_params,
    protocol_of,
    with_settings,
    workspace_of,
    workspace_said,
)
from engine.cli.long_work import ask_if_long
from engine.cli.output import give, tell
from engine.cli.runs import execute
from engine.errors import Cancelled
from engine.evaluation.comparing import part_compared, speedup
from engine.evaluation.protocol import Protocol
from engine.evaluation.timing import Timing, timed_in
from engine.runs.progress import config_from
from engine.runs.store import create_run
from engine.runs.workspace import Workspace

_MANY = 2000  # images that may take long


def evaluate_command(args: argparse.Namespace) -> None:
    params, workspace = evaluate_params(args), workspace_of(args)
    _have_features(args, workspace)
    _ask_if_long(args, params)
    run = create_run(workspace, kind="evaluate", title=f"{args.model} on {args.data}", params=params)
    try:
        execute(run, workspace, args.device)
    except (KeyboardInterrupt, Cancelled):
        tell(f"what was drawn is kept; to go on: python -m engine run {run.id}{workspace_said(args)}")
        raise
    metrics = run.stage(0).metrics()
    assert metrics is not None
    lines = []
    for name, v in metrics["fidelity"].items():
        floor = metrics["noise_floor"].get(name)
        beside = f"   noise floor {floor['value']:.4g}" if floor else ""
        lines.append(f"{name}: {v['value']:.4g} [{v['low']:.4g}, {v['high']:.4g}]{beside}")
    lines += efficiency_lines(metrics["efficiency"], speedup(metrics))
    lines += [f"note: {warning}" for warning in [*metrics["warnings"], *_left_out(metrics["per_class"])]]
    part = part_compared(metrics["reference"])
    against = f" · {metrics['reference']['num_images']:,} real pictures, {part}" if part else ""
    label = Protocol(**metrics["protocol"]).label()
    give(args, metrics, "\n".join([*lines, f"{label}{against}"]))


def efficiency_lines(found: dict[str, Any], faster: dict[str, float] | None) -> list[str]:
    """Costs in words; ``faster``: over the baseline that was timed in turns with them."""
    latency, memory, speed = found["latency_ms"], found["peak_memory_bytes"], found["sampling"]
    where = f"batch {found['batch_size']}, {found['device']} {found['precision']}"
    lines = [
        f"{found['parameters'] / 1e6:,.2f} M parameters, {found['file_bytes'] / 1e6:,.1f} MB of weights, "
        f"{found['macs'] / 1e6:,.1f} M multiply-adds of one forward for one image",
        f"one forward: {latency['median']:.1f} ms, 90 % within [{latency['low']:.1f}, {latency['high']:.1f}]; "
        f"{found['images_per_second']:,.1f} images/s; {where}",
    ]
    if memory is not None:
        lines.append(f"peak memory of one forward: {memory / 1e6:,.1f} MB of tensors, weights included")
    if speed:
        lines.append(f"noise to pictures: {speed['images_per_second']:,.1f} images/s over {speed['turns']} turns")
    if faster:
        within = f"[{faster['low']:.2f}, {faster['high']:.2f}]"
        lines.append(f"{faster['value']:.2f}× as fast as the baseline, one forward, 90 % within {within}")
    if faster and speed:
        spread = f"{speed['speedup_low']:.2f} … {speed['speedup_high']:.2f}"
        lines.append(f"{speed['speedup']:.2f}× as fast as the baseline, noise to pictures ({spread} over the turns)")
    return lines + [f"note: {note}" for note in found["notes"]]


def _left_out(per_class: dict[str, Any]) -> list[str]:
    """Why classes lack numbers of their own, in one line for all."""
    lines = [(name, own["left_out"]) for name, own in per_class.items() if own["left_out"]]
    if not lines:
        return []
    name, reason = lines[0]
    return [f"{len(lines)} of {len(per_class)} classes lack some numbers of their own; class {name}: {reason}"]


def _ask_if_long(args: argparse.Namespace, params: dict[str, Any]) -> None:
    protocol = config_from(Protocol, params["protocol"])
    if protocol.num_images > _MANY:  # opening the model only to know how fast it is takes time, too
        ask_if_long(model_of(args), protocol, protocol.num_images, yes=args.yes)


def evaluate_params(args: argparse.Namespace) -> dict[str, Any]:
    """The params of the run that is asked for."""
    asked = {**model_params(args), "data": lasting_data(args), "protocol": asdict(protocol_of(args))}
    timing = Timing(batch_size=args.batch_size, precision=args.timing_precision or timed_in(args.precision))
    if timing != Timing():
        asked["timing"] = asdict(timing)
    if args.baseline:
        asked["baseline"] = lasting_model(args.baseline, args)
    params = with_settings(asked, args.set)
    config_from(Protocol, params["protocol"])  # refused now, not once the run has begun
    return params


def _have_features(args: argparse.Namespace, workspace: Workspace) -> None:
    """Weights are looked for, checked and downloaded before anything is drawn."""
    from engine.evaluation.weights import fetch_weights, find_weights, keep_weights, needs_weights

    if args.features_weights:
        keep_weights(args.features, Path(args.features_weights), workspace=workspace.root)
    elif needs_weights(args.features) and find_weights(args.features, workspace=workspace.root) is None:
        told = 0.0
        for step in fetch_weights(args.features, workspace=workspace.root):
            if step.folder or time.monotonic() - told > 5:
                tell(f"{100 * step.done / step.total:3.0f} %  downloading {step.file}: {step.done / 1e6:,.0f} MB")
                told = time.monotonic()
