"""Commands about the runs that there are: listing, the bin, packing and unpacking."""

import argparse
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from engine.cli.arguments import run_named, workspace_of, workspace_said
from engine.cli.output import give
from engine.errors import InputError
from engine.runs.bin import BinnedRun, delete_run, empty_bin, list_bin, restore_run
from engine.runs.listing import RunSummary, list_runs
from engine.runs.pack import pack_run_into
from engine.runs.unpack import unpack_run


def runs_command(args: argparse.Namespace) -> None:
    workspace = workspace_of(args)
    if args.delete:
        kept, said = delete_run(workspace, args.delete), workspace_said(args)
        print(f"run {args.delete} is in the bin; take it out again with: python -m engine runs --restore {kept}{said}")
    elif args.restore:
        print(f"run {restore_run(workspace, args.restore)} is back")
    elif args.empty_bin:
        _empty(args)
    elif args.bin:
        found = list_bin(workspace)
        give(args, {"runs": [asdict(run) for run in found]}, _bin_table(found))
    else:
        summaries = list_runs(workspace)
        give(args, {"runs": [asdict(summary) for summary in summaries]}, _table(summaries))


def pack_command(args: argparse.Namespace) -> None:
    run = run_named(args.run, args)
    out = Path(args.out or f"{run.id}.zip")
    pack_run_into(run, out)
    print(f"{out}: {_size(out.stat().st_size)}")


def unpack_command(args: argparse.Namespace) -> None:
    archive = Path(args.archive)
    if not archive.is_file():
        raise InputError(f"{archive} isn't a file; expected one that was made by: python -m engine pack RUN")
    run = unpack_run(workspace_of(args), archive)
    print(f"run {run.id}: {run.title}")


def _empty(args: argparse.Namespace) -> None:
    workspace = workspace_of(args)
    found = list_bin(workspace)
    size = sum(run.num_bytes for run in found)
    if found and not args.yes:
        raise InputError(f"{_runs(found)} with {_size(size)} would be gone for good; say so with --yes")
    print(f"{_size(empty_bin(workspace))} are free again; gone for good: {_runs(found)}")


def _table(summaries: list[RunSummary]) -> str:
    lines = [f"{'run':32}{'state':>12}{'progress':>10}{'stages':>8}  title"]
    for found in summaries:
        lines.append(f"{found.id:32}{found.state:>12}{found.progress:>10.0%}{found.num_stages:>8}  {found.title}")
        if found.message and found.state not in ("done", "running"):
            lines.append(f"{'':32}  {found.message}")
    return "\n".join(lines if summaries else ["no runs yet"])


def _bin_table(found: list[BinnedRun]) -> str:
    lines = [f"{'in the bin':41}{'deleted':>18}{'size':>12}  title"]
    lines += [
        f"{run.id:41}{datetime.fromtimestamp(run.deleted):%Y-%m-%d %H:%M}".ljust(59)
        + f"{_size(run.num_bytes):>12}  {run.title}"
        for run in found
    ]
    total = f"{_runs(found)}, {_size(sum(run.num_bytes for run in found))}; deleted for good by --empty-bin"
    return "\n".join([*lines, total]) if found else "the bin is empty"


def _runs(found: list[BinnedRun]) -> str:
    return f"{len(found)} {'run' if len(found) == 1 else 'runs'}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
