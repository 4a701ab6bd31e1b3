"""Commands that make runs and go on with them."""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine.cli.arguments import (
    device_of,
    info_of,
    lasting_data,
    model_params,
    numbers,
    protocol_of,
    run_named,
    with_settings,
    workspace_of,
    workspace_of_run,
    workspace_said,
)
from engine.cli.output import give, tell
from engine.errors import InputError
from engine.evaluation.comparing import UNTRAINED_LABELS, labels_untrained, speedup
from engine.evaluation.protocol import Protocol
from engine.importance.config import CedConfig
from engine.pruning.config import DEFAULT_WEIGHTS, PruneConfig, usual_stages
from engine.runs.drive import read_drive, write_drive
from engine.runs.progress import config_from
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, read_json
from engine.training.config import FinetuneConfig, usual_recovery

#: of the numbers of fidelity, those that fit on a line; all are in metrics.json
_IN_SUMMARY = ("FID", "KID", "class accuracy")


def prune_command(args: argparse.Namespace) -> None:
    run = _run_for(args, prune_params(args))
    execute(run, workspace_of_run(run, args), args.device)
    summary = summary_of(run)
    give(args, summary, summary_table(summary))


def prune_params(args: argparse.Namespace) -> dict[str, Any]:
    """The params of the run that is asked for."""
    from engine.runs.prune_plan import plan_of

    prune = PruneConfig(
        drop=tuple(numbers(args.drop)) if args.drop else (),
        target_depth=args.target_depth,
        target_speedup=args.target_speedup,
        num_stages=PruneConfig.num_stages if args.stages is None else args.stages,
        max_per_stage=args.max_per_stage,
        num_proxy_samples=args.num_proxy_samples,
        recovery_shares=args.recovery_shares,
        weights=_weights(args.weights),
        adapt_steps=args.adapt_steps,
    )
    info = info_of(args)
    if args.stages is None:
        stages = usual_stages(info.depth, target_depth=prune.target_depth, target_speedup=prune.target_speedup)
        prune = replace(prune, num_stages=stages)
    prune.check_against(info.depth)
    params = {
        **model_params(args),
        "data": lasting_data(args),
        **asdict(prune),
        "step": args.step,
        "finetune": asdict(_recovery(args, info.num_parameters)),
        "protocol": asdict(protocol_of(args)),
        "ced": asdict(
            CedConfig(
                variable=args.variable,
                order=args.order,
                samples=args.samples,
                timesteps=args.timesteps,
                seed=args.seed,
            )
        ),
    }
    params = with_settings(params, args.set)
    plan_of(params)  # refused now, not once the run has begun
    return params


def _recovery(args: argparse.Namespace, num_parameters: int | None) -> FinetuneConfig:
    """As is usual for a model of this size, unless a learning rate was said: what goes with that is as published."""
    open_to_size = {"batch_size": args.batch_size, "schedule": args.schedule, "distill_weight": args.distill_weight}
    said = {"num_steps": args.steps_per_stage, "seed": args.seed}
    said |= {name: value for name, value in open_to_size.items() if value is not None}
    if args.learning_rate is None:
        return usual_recovery(num_parameters, **said)
    return FinetuneConfig(learning_rate=args.learning_rate, **said)


def _weights(text: str | None) -> dict[str, float]:
    if text is None:
        return dict(DEFAULT_WEIGHTS)
    try:
        cost, ntk, zico = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"weights {text!r} should be three numbers with commas, as in 1,0.5,0.5") from error
    return {"cost": cost, "ntk": ntk, "zico": zico}


def arena_command(args: argparse.Namespace) -> None:
    workspace, params = workspace_of(args), arena_params(args)
    folder = Path(args.run).absolute() if args.run else None
    if folder and folder.exists():
        run = _begun(run_named(args.run, args), params, args)
    else:
        run = create_run(workspace, kind="arena", title=f"{args.model} on {args.data}", params=params, path=folder)
    execute(run, workspace, args.device)
    found = read_json(run.path / "arena.json")
    give(args, found, _arena_table(found["result"], config_from(Protocol, params["config"]["protocol"]), run))


def _begun(run: Run, params: dict[str, Any], args: argparse.Namespace) -> Run:
    """Raises InputError where this isn't what was begun there: its table would be told of other settings."""
    if run.kind != "arena" or params != run.params:
        raise InputError(
            f"{run.path} holds a run of kind {run.kind!r} that was begun with other settings; go on with it by "
            f"python -m engine run {run.path}{workspace_said(args)}, or name a new folder"
        )
    return run


def arena_params(args: argparse.Namespace) -> dict[str, Any]:
    """The params of the run that is asked for."""
    from engine.arena.config import ArenaConfig
    from engine.arena.entrants import ENTRANTS
    from engine.runs.arena_job import arena_config
    from engine.runs.run_compute import compute_of

    recovery = _recovery(args, info_of(args).num_parameters)
    config = ArenaConfig(
        num_dropped=args.num_dropped,
        num_seeds=args.seeds,
        num_random=args.num_random,
        entrants=tuple(args.entrants.split(",")) if args.entrants else tuple(ENTRANTS),
        adapt_steps=args.adapt_steps,
        finetune=recovery,
        protocol=protocol_of(args),
    )
    params = with_settings({**model_params(args), "data": lasting_data(args), "config": asdict(config)}, args.set)
    arena_config(params["config"], compute=compute_of(params))  # refused now, not once the run has begun
    return params


def _arena_table(result: dict[str, Any], protocol: Protocol, run: Run) -> str:
    lines = [f"{'entrant':24}{'FID (' + protocol.features + ')':>16}   90 % interval over seeds   loss    of intact"]
    for row in result["table"]:
        fid, loss, ratio = row["fid"], row["loss"], row["against_intact"]
        spread = "one seed" if fid["low"] is None else f"[{fid['low']:.4g}, {fid['high']:.4g}]"
        share = f"{ratio['mean']:.2f}×" if ratio else ""
        lines.append(f"{row['entrant']:24}{fid['mean']:16.4g}   {spread:24}   {loss['mean']:.4g}  {share}")
    if result["chance"]:
        lines.append(f"all {result['chance']['num_sets']} random sets: {result['chance']['fid']['mean']:.4g}")
    return "\n".join([*lines, protocol.label(), f"run folder: {run.path}"])


def report_command(args: argparse.Namespace) -> None:
    from engine.report.numbers import write_csv, write_numbers
    from engine.report.report import write_report

    run = run_named(args.run, args)
    out = Path(args.out or f"{run.id}.html")
    write_report(run.path, out)
    print(f"report: {out}")
    if args.csv:
        write_csv(run, Path(args.csv))
        print(f"numbers: {args.csv}")
    if args.json:
        write_numbers(run, Path(args.json))
        print(f"numbers: {args.json}")


def replay_command(args: argparse.Namespace) -> None:
    from engine.learn.replay import write_replay

    run = run_named(args.run, args)
    out = Path(args.out or f"{run.id}-replay.json")
    print(f"replay: {out}, {write_replay(run, out):,} bytes")


def run_command(args: argparse.Namespace) -> None:
    run, device = run_named(args.run, args), device_of(args)
    if args.learning_rate is not None:
        _change_learning_rate(run, args.learning_rate)
    execute(run, workspace_of_run(run, args), device)


def _change_learning_rate(run: Run, learning_rate: float) -> None:
    """Of a pruning run, from where it goes on: after a loss that wasn't finite, say."""
    if run.kind != "prune":
        raise InputError(f"run {run.id} is of kind {run.kind!r}; only a pruning run's learning rate can be changed")
    drive = read_drive(run)
    finetune = {**run.params.get("finetune", {}), **drive.changes.get("finetune", {}), "learning_rate": learning_rate}
    config_from(FinetuneConfig, finetune)  # refused now, not once the run has begun
    write_drive(run, replace(drive, changes={**drive.changes, "finetune": finetune}))


def worker_command(args: argparse.Namespace) -> None:
    from engine.runs.worker import run_worker

    run_worker(workspace_of(args), device=args.device, idle_exit=args.idle_exit)


def execute(run: Run, workspace: Workspace, device: str) -> None:
    """Runs to the end, telling phases and messages on standard error as they change."""
    from engine.runs.jobs import execute_run

    phase, told = "", 0.0
    for progress in execute_run(run, workspace, device=device):
        now = time.monotonic()
        if progress.phase != phase or now - told > 5:
            tell(f"{100 * progress.done / progress.total:3.0f} %  {progress.phase}: {progress.message}")
            phase, told = progress.phase, now


def summary_of(run: Run) -> dict[str, Any]:
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
            "speedup": speedup(metrics),
            "protocol": metrics["protocol"],
            "labels_trained": not labels_untrained(metrics),
        })  # fmt: skip
    return {"run": run.id, "folder": str(run.path), "stages": rows}


def summary_table(summary: dict[str, Any]) -> str:
    names = [name for name in summary["stages"][0]["fidelity"] if name.startswith(_IN_SUMMARY)]
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
            f"{row['speedup']['value'] if row['speedup'] else 1:>8.2f}×  {scores}"
        )
    lines += [f"  stage {row['stage']}: {row['reason']}" for row in summary["stages"] if row["reason"]]
    lines += [f"  stage {row['stage']} is compared with nothing. {UNTRAINED_LABELS}" for row in summary["stages"]
              if not row["labels_trained"]]  # fmt: skip
    return "\n".join([*lines, Protocol(**summary["stages"][0]["protocol"]).label(), f"run folder: {summary['folder']}"])


def _run_for(args: argparse.Namespace, params: dict[str, Any]) -> Run:
    workspace = workspace_of(args)
    folder = Path(args.run).absolute() if args.run else None
    if folder and folder.exists():
        raise InputError(
            f"{folder} exists; name a folder that doesn't, or go on with: python -m engine run {folder}"
            f"{workspace_said(args)}"
        )
    return create_run(workspace, kind="prune", title=f"{args.model} on {args.data}", params=params, path=folder)
