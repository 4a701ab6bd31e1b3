"""The whole story in the terminal: rivals beside CED, stages with their votes, before and after, a report."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.cli.arguments import info_of, lasting_data, model_params, workspace_of
from engine.cli.runs import execute, summary_of, summary_table
from engine.evaluation.protocol import Protocol
from engine.importance.config import CriteriaConfig
from engine.pruning.config import STAGES_VARIABLE, PruneConfig, usual_scoring
from engine.runs.store import create_run
from engine.runs.workspace import read_json
from engine.training.config import usual_recovery

_STEPS_PER_STAGE = 150


def demo_command(args: argparse.Namespace) -> None:
    from engine.report.report import write_report

    started, workspace, title = time.monotonic(), workspace_of(args), f"demo: {args.model} on {args.data}"
    asked = {**model_params(args), "data": lasting_data(args)}
    print(f"1. Which blocks of {args.model} does {args.data} need, and do the criteria agree?", flush=True)
    criteria = create_run(workspace, kind="criteria", title=title, params={**asked, "config": asdict(CriteriaConfig())})
    execute(criteria, workspace, args.device)
    print(_agreement(read_json(criteria.path / "criteria.json"), args.target_depth))
    print("\n2. Blocks go in stages: scored afresh, the vote decides how many, the rest recovers.", flush=True)
    info = info_of(args)
    prune = PruneConfig(target_depth=args.target_depth)
    params = {
        **asked,
        **asdict(prune),
        "finetune": asdict(usual_recovery(info.num_parameters, num_steps=_STEPS_PER_STAGE)),
        "protocol": asdict(Protocol(num_images=500, device=args.device)),
        "ced": asdict(usual_scoring()),
    }
    run = create_run(workspace, kind="prune", title=title, params=params)
    execute(run, workspace, args.device)
    out = Path(args.out) if args.out else run.path / "report.html"
    write_report(run.path, out)
    print(f"\n3. Before and after:\n\n{summary_table(summary_of(run))}")
    print(f"report: {out}\n{time.monotonic() - started:.0f} s in all; run {run.id}")


def _agreement(result: dict[str, Any], target_depth: int) -> str:
    """The blocks that each criterion would drop, and how far its order agrees with that of the stages' scores."""
    names, num_dropped = result["names"], len(result["blocks"]) - target_depth
    usual = names.index(f"ced-{STAGES_VARIABLE}") if f"ced-{STAGES_VARIABLE}" in names else 0
    lines = [f"{'criterion':18}{f'its {num_dropped} least important blocks':36}rank correlation with {names[usual]}"]
    for index, name in enumerate(names):
        least = sorted(result["criteria"][name]["order"][:num_dropped])
        correlation = result["spearman"][usual][index]
        said = "–" if correlation is None else f"{correlation:.2f}"
        lines.append(f"{name:18}{', '.join(map(str, least)):36}{said}")
    return "\n".join(lines)
