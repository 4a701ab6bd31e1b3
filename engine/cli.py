"""``python -m engine …``: the work without a browser. Exit code 0 done, 2 the input is wrong (one line), 1 our defect.

Torch is imported by the command that needs it, so that ``--help`` and mistakes answer at once.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

from engine.errors import Cancelled, EngineError, InputError
from engine.evaluation.protocol import Protocol
from engine.importance.config import CONDITIONS, ESTIMATORS, VARIABLES, CedConfig
from engine.pruning.config import PruneConfig
from engine.runs.store import Run, create_run, open_run
from engine.runs.workspace import Workspace, open_workspace, write_bytes_atomically, write_json
from engine.training.config import FinetuneConfig


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        args.command(args)
    except Cancelled as stop:
        print(stop, file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def inspect_command(args: argparse.Namespace) -> None:
    from engine.evaluation.efficiency import count_macs, count_parameters

    model = _model(args)
    about = {
        "model": model.ref,
        "process": model.process.name,
        "prediction": model.process.prediction,
        **asdict(model.config),
        "null_class": model.config.null_class,
        "num_tokens": model.config.num_tokens,
        "parameters": count_parameters(model.network),
        "macs": count_macs(model.network),
        "trained_on": model.trained_on,
        "class_names": list(model.class_names),
        "kept_blocks": list(model.kept_blocks),
        "content_hash": model.content_hash,
    }
    _give(args, about, "\n".join(f"{key:20} {value}" for key, value in about.items()))


def ced_command(args: argparse.Namespace) -> None:
    from engine.data import load_data
    from engine.importance.ced import ced_columns

    config = CedConfig(
        variable=args.variable,
        estimator=args.estimator,
        condition=args.condition,
        samples=args.samples,
        timesteps=args.timesteps,
        seed=args.seed,
    )
    model, data = _model(args), load_data(args.data)
    cache = None if args.no_cache else _workspace(args).cache
    for column in ced_columns(model, data, config, cache=cache):
        _tell(f"column {column.column} of {column.num_columns}")
    result = column.result
    lines = [f"CED ({config.variable}) of {model.ref} on {data.name}, least important first:"]
    lines += [
        f"{rank:3}. block {block:2}  {result.ced[block]:.4f} nats  [{result.ci_low[block]:.4f}, "
        f"{result.ci_high[block]:.4f}]  rank {result.rank_low[block]}–{result.rank_high[block]}"
        for rank, block in enumerate(result.order, start=1)
    ]
    lines += [f"note: {text}" for text in [result.note, *result.warnings] if text]
    _give(args, result.as_dict(), "\n".join([*lines, f"{result.seconds:.1f} s"]))


def prune_command(args: argparse.Namespace) -> None:
    drop = tuple(_numbers(args.drop)) if args.drop else ()
    prune = PruneConfig(drop=drop, target_depth=args.target_depth, num_stages=args.stages)
    recovery = FinetuneConfig(
        num_steps=args.steps_per_stage,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        distill_weight=args.distill_weight,
        seed=args.seed,
    )
    params = {
        "model": args.model,
        "data": args.data,
        **{key: value for key, value in asdict(prune).items()},
        "finetune": asdict(recovery),
        "protocol": asdict(_protocol(args)),
        "ced": asdict(
            CedConfig(variable=args.variable, samples=args.samples, timesteps=args.timesteps, seed=args.seed)
        ),
    }
    run = _run_for(args, params)
    _execute(run, _workspace_of(run, args), args.device)
    summary = _summary(run)
    _give(args, summary, _summary_table(summary))


def sample_command(args: argparse.Namespace) -> None:
    import numpy as np

    from engine.evaluation.sampling import sample

    model = _model(args)
    classes = _numbers(args.classes) if args.classes else None
    protocol = _protocol(args)
    drawn = sample(model, protocol, classes=classes)
    out = Path(args.out or "samples.npz")
    content = BytesIO()
    np.savez_compressed(content, arr_0=drawn.images, labels=drawn.labels, seeds=drawn.seeds)
    write_bytes_atomically(out, content.getvalue())
    print(f"{len(drawn.images)} images in {out} (arr_0, labels, seeds) · {protocol.label()}")


def evaluate_command(args: argparse.Namespace) -> None:
    params = {"model": args.model, "data": args.data, "protocol": asdict(_protocol(args))}
    workspace = _workspace(args)
    run = create_run(workspace, kind="evaluate", title=f"{args.model} on {args.data}", params=params)
    _execute(run, workspace, args.device)
    metrics = run.stage(0).metrics()
    assert metrics is not None
    lines = [f"{name}: {v['value']:.4g} [{v['low']:.4g}, {v['high']:.4g}]" for name, v in metrics["fidelity"].items()]
    _give(args, metrics, "\n".join([*lines, _protocol(args).label()]))


def benchmark_command(args: argparse.Namespace) -> None:
    from engine.evaluation.efficiency import measure_efficiency

    result = measure_efficiency(_model(args), batch_size=args.batch_size).as_dict()
    _give(args, result, "\n".join(f"{key:20} {value}" for key, value in result.items()))


def report_command(args: argparse.Namespace) -> None:
    from engine.evaluation.report import write_report

    run = _open_run(args.run, args)
    out = Path(args.out or f"{run.id}.html")
    write_report(run.path, out)
    print(f"report: {out}")


def run_command(args: argparse.Namespace) -> None:
    run = _open_run(args.run, args)
    _execute(run, _workspace_of(run, args), args.device)


def worker_command(args: argparse.Namespace) -> None:
    from engine.runs.worker import run_worker

    run_worker(_workspace(args), device=args.device, idle_exit=args.idle_exit)


def demo_command(args: argparse.Namespace) -> None:
    """The whole story: heatmap, adaptive pruning to half depth with recovery, before and after, a report."""
    from engine.evaluation.report import write_report

    started = time.monotonic()
    workspace = _workspace(args)
    recovery = FinetuneConfig(num_steps=100, batch_size=128, learning_rate=5e-4)
    params = {
        "model": args.model,
        "data": args.data,
        "target_depth": args.target_depth,
        "num_stages": 3,
        "finetune": asdict(recovery),
        "protocol": asdict(Protocol(num_images=500)),
        "ced": asdict(CedConfig()),
    }
    run = create_run(workspace, kind="prune", title=f"demo: {args.model} on {args.data}", params=params)
    print(
        f"1. Which blocks of {args.model} does {args.data} need? 2. Drop the others, let the model recover. 3. Compare."
    )
    _execute(run, workspace, args.device)
    out = Path(args.out) if args.out else run.path / "report.html"
    write_report(run.path, out)
    summary = _summary(run)
    print(f"\n{_summary_table(summary)}")
    print(f"report: {out}\n{time.monotonic() - started:.0f} s in all; run {run.id}")


def _execute(run: Run, workspace: Workspace, device: str) -> None:
    """Runs to the end, telling phases and messages on standard error as they change."""
    from engine.runs.jobs import execute_run

    phase, told = "", 0.0
    for progress in execute_run(run, workspace, device=device):
        now = time.monotonic()
        if progress.phase != phase or now - told > 5:
            _tell(f"{100 * progress.done / progress.total:3.0f} %  {progress.phase}: {progress.message}")
            phase, told = progress.phase, now


def _summary(run: Run) -> dict[str, Any]:
    rows = []
    for stage in run.stages():
        metrics = stage.metrics()
        assert metrics is not None
        rows.append({
            "stage": stage.number,
            "title": stage.title,
            "depth": stage.depth,
            "dropped_blocks": stage.info["dropped_blocks"],
            "reason": (stage.info["decision"] or {}).get("reason", ""),
            "fidelity": metrics["fidelity"],
            "efficiency": metrics["efficiency"],
            "intact_latency_ms": metrics.get("efficiency_of_intact", metrics["efficiency"])["latency_ms"]["median"],
            "protocol": metrics["protocol"],
        })  # fmt: skip
    return {"run": run.id, "folder": str(run.path), "stages": rows}


def _summary_table(summary: dict[str, Any]) -> str:
    names = list(summary["stages"][0]["fidelity"])
    lines = [f"{'stage':26}{'depth':>6}{'params':>10}{'MACs':>9}{'latency':>11}{'speed-up':>9}  " + "  ".join(names)]
    for row in summary["stages"]:
        cost = row["efficiency"]
        latency = cost["latency_ms"]["median"]
        scores = "  ".join(
            f"{row['fidelity'][name]['value']:.4g} [{row['fidelity'][name]['low']:.4g}, "
            f"{row['fidelity'][name]['high']:.4g}]".rjust(len(name))
            for name in names
        )
        title = f"{row['stage']} {row['title']}"
        lines.append(
            f"{title:26}{row['depth']:>6}{cost['parameters'] / 1e6:>9.2f}M{cost['macs'] / 1e6:>8.1f}M{latency:>8.1f} ms"
            f"{row['intact_latency_ms'] / latency:>8.2f}×  {scores}"
        )
    lines += [f"  stage {row['stage']}: {row['reason']}" for row in summary["stages"] if row["reason"]]
    return "\n".join([*lines, Protocol(**summary["stages"][0]["protocol"]).label(), f"run folder: {summary['folder']}"])


def _model(args: argparse.Namespace):
    from engine.models.checkpoints import load_model

    return load_model(args.model, device=args.device, workspace=Path(args.workspace) if args.workspace else None)


def _protocol(args: argparse.Namespace) -> Protocol:
    return Protocol(
        num_images=args.num,
        sampler=args.sampler,
        num_steps=args.num_steps,
        cfg_scale=args.cfg_scale,
        features=getattr(args, "features", "demo-cnn"),
        seed=args.seed,
        device=args.device,
    )


def _workspace(args: argparse.Namespace) -> Workspace:
    return open_workspace(args.workspace)


def _workspace_of(run: Run, args: argparse.Namespace) -> Workspace:
    """A run among others belongs to their workspace; one in a folder of its own uses the default cache."""
    return Workspace(run.path.parent.parent) if run.path.parent.name == "runs" else _workspace(args)


def _run_for(args: argparse.Namespace, params: dict[str, Any]) -> Run:
    workspace = _workspace(args)
    folder = Path(args.run).absolute() if args.run else None
    if folder and folder.exists():
        raise InputError(f"{folder} exists; name a folder that doesn't, or go on with: python -m engine run {folder}")
    return create_run(workspace, kind="prune", title=f"{args.model} on {args.data}", params=params, path=folder)


def _open_run(name: str, args: argparse.Namespace) -> Run:
    folder = Path(name)
    return Run(folder.absolute()) if folder.is_dir() else open_run(_workspace(args), name)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r} should be whole numbers with commas, as in 3,7") from error


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _give(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    if args.out:
        write_json(Path(args.out), result)
    print(json.dumps(result) if args.json else text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command, what: str, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        for argument in positional:
            sub.add_argument(argument)
        sub.add_argument("--workspace", help="default: $ENTPRUNER_WORKSPACE or ./workspace")
        sub.add_argument("--device", default="cpu", help="cpu or cuda")
        sub.set_defaults(command=command)
        return sub

    def output(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.add_argument("--out", help="also write the result to this file")

    def scoring(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--variable", default=CedConfig.variable, choices=VARIABLES)
        sub.add_argument("--samples", type=int, default=CedConfig.samples)
        sub.add_argument("--timesteps", type=int, default=CedConfig.timesteps)

    def sampling(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--num", type=int, default=Protocol.num_images, help="images")
        sub.add_argument("--sampler", default="", help="ddim, ddpm, dpm++ (DiT); euler, heun (SiT)")
        sub.add_argument("--num-steps", type=int, default=Protocol.num_steps, help="sampling steps")
        sub.add_argument("--cfg-scale", type=float, default=Protocol.cfg_scale)
        sub.add_argument("--seed", type=int, default=0)

    output(add("inspect", inspect_command, "what a model is", "model"))
    sub = add("ced", ced_command, "CED of every block of a model on a dataset", "model", "data")
    output(sub)
    scoring(sub)
    sub.add_argument("--estimator", default=CedConfig.estimator, choices=ESTIMATORS)
    sub.add_argument("--condition", default="none", choices=CONDITIONS)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--no-cache", action="store_true", help="compute again even if the answer is known")
    sub = add("prune", prune_command, "drop blocks, recover, compare", "model", "data")
    output(sub)
    scoring(sub)
    sampling(sub)
    sub.add_argument("--target-depth", type=int, help="adaptive pruning down to this many blocks")
    sub.add_argument("--stages", type=int, default=PruneConfig.num_stages)
    sub.add_argument("--drop", help="or these blocks at once, as in 3,7")
    sub.add_argument("--steps-per-stage", type=int, default=FinetuneConfig.num_steps)
    sub.add_argument("--batch-size", type=int, default=FinetuneConfig.batch_size)
    sub.add_argument("--learning-rate", type=float, default=FinetuneConfig.learning_rate)
    sub.add_argument("--distill-weight", type=float, default=FinetuneConfig.distill_weight)
    sub.add_argument("--run", help="run folder to make (default: a new one in the workspace)")
    sub = add("sample", sample_command, "draw images into an .npz (arr_0, labels, seeds)", "model")
    sampling(sub)
    sub.add_argument("--classes", help="as in 0,1; default: all in turn")
    sub.add_argument("--out", help="default: samples.npz")
    sub = add("evaluate", evaluate_command, "fidelity and efficiency of a model on a dataset", "model", "data")
    output(sub)
    sampling(sub)
    sub.add_argument("--features", default="demo-cnn")
    sub = add("benchmark", benchmark_command, "parameters, MACs, latency, throughput", "model")
    output(sub)
    sub.add_argument("--batch-size", type=int, default=8)
    sub = add("report", report_command, "one HTML file about a run", "run")
    sub.add_argument("--out", help="default: <run>.html")
    add("run", run_command, "do the work of a run folder, or go on with it", "run")
    sub = add("worker", worker_command, "serve the queue of a workspace")
    sub.add_argument("--idle-exit", type=float, help="seconds without a request after which the worker ends")
    sub = add("demo", demo_command, "the whole story in a few minutes, without a browser")
    sub.add_argument("--model", default="demo-sit-digits")
    sub.add_argument("--data", default="digits")
    sub.add_argument("--target-depth", type=int, default=6)
    sub.add_argument("--out", help="where the report goes (default: into the run folder)")
    return parser
