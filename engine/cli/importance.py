"""Commands that score blocks."""

import argparse

from engine.cli.arguments import data_of, model_of, workspace_of
from engine.cli.output import give, tell
from engine.importance.config import CedConfig, CriteriaConfig


def ced_command(args: argparse.Namespace) -> None:
    from engine.importance.ced import ced_columns

    config = ced_config(args)
    model, data = model_of(args), data_of(args)
    cache = None if args.no_cache else workspace_of(args).cache
    for column in ced_columns(model, data, config, cache=cache):
        tell(f"column {column.column} of {column.num_columns}")
    result = column.result
    lines = [f"CED ({config.variable}) of {model.ref} on {data.name}, least important first:"]
    lines += [
        f"{rank:3}. block {result.labels[block]:7}  {result.ced[block]:.4f} nats  [{result.ci_low[block]:.4f}, "
        f"{result.ci_high[block]:.4f}]  rank {result.rank_low[block]}–{result.rank_high[block]}"
        for rank, block in enumerate(result.order, start=1)
    ]
    lines += [f"note: {text}" for text in [result.note, *result.warnings] if text]
    give(args, result.as_dict(), "\n".join([*lines, f"{result.seconds:.1f} s"]))


def ced_config(args: argparse.Namespace) -> CedConfig:
    return CedConfig(
        variable=args.variable,
        estimator=args.estimator,
        condition=args.condition,
        samples=args.samples,
        timesteps=args.timesteps,
        seed=args.seed,
        granularity=args.granularity,
        order=args.order,
        method=args.method,
        num_candidates=args.num_candidates,
        weighting=args.weighting,
    )


def criteria_command(args: argparse.Namespace) -> None:
    from engine.importance.criteria import criteria_columns

    config = CriteriaConfig(
        variables=tuple(args.variables.split(",")) if args.variables else (),
        condition=args.condition,
        granularity=args.granularity,
        samples=args.samples,
        timesteps=args.timesteps,
        seed=args.seed,
    )
    model, data = model_of(args), data_of(args)
    for step in criteria_columns(model, data, config):
        tell(f"pass {step.column} of {step.num_columns}")
    result = step.result
    lines = [
        f"Criteria for {model.ref} on {data.name}; blocks, least important first, and agreement with CED (target):"
    ]
    reference = result.names.index("ced-target") if "ced-target" in result.names else None
    for name, found in result.criteria.items():
        order = " ".join(result.labels[row] for row in found.order)
        agreement = result.spearman[result.names.index(name)][reference] if reference is not None else None
        lines.append(f"{name:16} {order}" + (f"   ρ {agreement:+.2f}" if agreement is not None else ""))
    lines += [f"note: {text}" for text in [result.note, *result.warnings] if text]
    give(args, result.as_dict(), "\n".join([*lines, f"{result.seconds:.1f} s"]))
