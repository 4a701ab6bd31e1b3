"""Commands that score blocks."""

import argparse

from engine.cli.arguments import data_of, model_of, workspace_of
from engine.cli.output import give, tell
from engine.importance.config import CedConfig


def ced_command(args: argparse.Namespace) -> None:
    from engine.importance.ced import ced_columns

    config = CedConfig(
        variable=args.variable,
        estimator=args.estimator,
        condition=args.condition,
        samples=args.samples,
        timesteps=args.timesteps,
        seed=args.seed,
    )
    model, data = model_of(args), data_of(args)
    cache = None if args.no_cache else workspace_of(args).cache
    for column in ced_columns(model, data, config, cache=cache):
        tell(f"column {column.column} of {column.num_columns}")
    result = column.result
    lines = [f"CED ({config.variable}) of {model.ref} on {data.name}, least important first:"]
    lines += [
        f"{rank:3}. block {block:2}  {result.ced[block]:.4f} nats  [{result.ci_low[block]:.4f}, "
        f"{result.ci_high[block]:.4f}]  rank {result.rank_low[block]}–{result.rank_high[block]}"
        for rank, block in enumerate(result.order, start=1)
    ]
    lines += [f"note: {text}" for text in [result.note, *result.warnings] if text]
    give(args, result.as_dict(), "\n".join([*lines, f"{result.seconds:.1f} s"]))
