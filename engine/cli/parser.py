"""The arguments of every command."""

import argparse
from collections.abc import Callable

from engine.arena.config import ArenaConfig
from engine.cli import demo, evaluating, importance, keeping, models, runs
from engine.compute import PRECISIONS, Compute
from engine.evaluation.protocol import Protocol
from engine.evaluation.timing import PRECISIONS as TIMED
from engine.evaluation.timing import Timing
from engine.importance.config import (
    CONDITIONS,
    ESTIMATORS,
    GRANULARITIES,
    METHODS,
    ORDERS,
    VARIABLES,
    WEIGHTINGS,
    CedConfig,
)
from engine.pruning.config import RECOVERY_SHARES, STAGES_VARIABLE, PruneConfig
from engine.training.config import SCHEDULES, FinetuneConfig

_ABOUT = (
    "EntPruner Studio's engine: which blocks of a diffusion transformer a dataset needs, and life without the rest."
)
_MODEL = "bundled name, a name you gave it, <run>@<stage>, a file or folder, or a hub id"
_CLUSTER = "share the work out over a Ray cluster: host:port of its head node, or auto for one on this machine"
_TRAIN_WORKERS = "of the cluster, each with a share of every batch; default: 1, which trains here"
_DATA = "bundled name, a name you gave it, a folder, .zip, .tar, .npz, or a hub id"


Add = Callable[..., argparse.ArgumentParser]  # (name, command, what it does, *positional arguments)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description=_ABOUT)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable, what: str, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        for argument in positional:
            sub.add_argument(
                argument, help={"model": _MODEL, "data": _DATA, "run": "run id, or a run folder"}[argument]
            )
        sub.add_argument("--workspace", help="default: $ENTPRUNER_WORKSPACE or ./workspace")
        if command is runs.run_command:
            sub.add_argument("--device", help="cpu or cuda; default: the one that the run was asked for")
        else:
            sub.add_argument("--device", default="cpu", help="cpu or cuda")
        if "model" in positional:
            sub.add_argument("--process", help="where the file can't say: diffusion (DiT) or flow (SiT)")
            sub.add_argument("--vae", help="autoencoder: a diffusers folder or hub id, or 'none' for pixel models")
        sub.set_defaults(command=command, out_is_file=False)
        return sub

    for group in (_scores, _prune, _arena, _measures, _keeps, _serves):
        group(add)
    return parser


def _scores(add: Add) -> None:
    """What a model, a dataset and its blocks are."""
    _output(add("inspect", models.inspect_command, "what a model is, before anything runs", "model"))
    _output(add("look", models.look_command, "what a dataset holds: counts, sizes, unreadable files", "data"))
    sub = add("ced", importance.ced_command, "CED of every block of a model on a dataset", "model", "data")
    _cluster(sub)
    _output(sub)
    _computing(sub)
    _scoring(sub)
    sub.add_argument("--estimator", default=CedConfig.estimator, choices=ESTIMATORS)
    _reading(sub)
    sub.add_argument("--order", default=CedConfig.order, choices=ORDERS, help="greedy: score again after each removal")
    sub.add_argument("--method", default=CedConfig.method, choices=METHODS)
    sub.add_argument("--weighting", default=CedConfig.weighting, choices=WEIGHTINGS, help="of the noise levels")
    sub.add_argument("--num-candidates", type=int, help="rows that racing looks for, or greedy removes")
    sub.add_argument("--no-cache", action="store_true", help="compute again even if the answer is known")
    sub = add("criteria", importance.criteria_command, "CED beside the other criteria", "model", "data")
    _output(sub)
    _computing(sub)
    sub.add_argument("--samples", type=int, default=CedConfig.samples)
    sub.add_argument("--timesteps", type=int, default=CedConfig.timesteps)
    sub.add_argument("--variables", default="target,prediction", help="readings of CED to compare with, with commas")
    _reading(sub)


def _prune(add: Add) -> None:
    """Pruning."""
    sub = add("prune", runs.prune_command, "drop blocks, recover, compare", "model", "data")
    _cluster(sub, trains=True)
    _output(sub)
    _computing(sub)
    _scoring(sub, variable=STAGES_VARIABLE)
    sub.add_argument("--order", default=CedConfig.order, choices=ORDERS, help="greedy: score again after each removal")
    _sampling(sub)
    sub.add_argument("--target-depth", type=int, help="adaptive pruning down to this many blocks")
    sub.add_argument("--target-speedup", type=float, help="or until it needs so many times fewer MACs")
    sub.add_argument("--max-per-stage", type=int, default=PruneConfig.max_per_stage, help="most blocks of one stage")
    sub.add_argument("--weights", help="of the vote's cost, NTK and ZiCo, as in 1,0.5,0.5")
    sub.add_argument(
        "--recovery-shares", default=PruneConfig.recovery_shares, choices=RECOVERY_SHARES, help="of the stages"
    )
    sub.add_argument("--step", action="store_true", help="stop at each decision; go on with: engine run RUN")
    sub.add_argument("--stages", type=int, help=f"default: {PruneConfig.num_stages}, fewer where fewer blocks go")
    sub.add_argument("--num-proxy-samples", type=int, default=PruneConfig.num_proxy_samples, help="of NTK and ZiCo")
    sub.add_argument("--drop", help="or these blocks at once, as in 3,7")
    sub.add_argument("--adapt-steps", type=int, default=0, help="of training the intact model on the data first")
    sub.add_argument("--steps-per-stage", type=int, default=FinetuneConfig.num_steps)
    _recovery(sub)
    _settings(sub)
    sub.add_argument("--run", help="run folder to make (default: a new one in the workspace)")


def _arena(add: Add) -> None:
    """The arena."""
    sub = add("arena", runs.arena_command, "what gives the best quality after recovery?", "model", "data")
    _cluster(sub)
    _output(sub)
    _computing(sub)
    _sampling(sub)
    usual = ArenaConfig()
    sub.set_defaults(cfg_scale=usual.protocol.cfg_scale, num=usual.protocol.num_images)
    sub.add_argument("--num-dropped", type=int, default=usual.num_dropped)
    sub.add_argument("--seeds", type=int, default=usual.num_seeds)
    sub.add_argument("--entrants", help="who takes part, with commas (default: all)")
    sub.add_argument("--num-random", type=int, default=usual.num_random, help="random sets that take part")
    sub.add_argument("--adapt-steps", type=int, default=0, help="of training the intact model on the data first")
    steps = usual.finetune.num_steps
    sub.add_argument("--steps", dest="steps_per_stage", type=int, default=steps, help="of recovery, for every entrant")
    _recovery(sub)
    _settings(sub)
    sub.add_argument("--run", help="run folder to make, or to go on with (default: a new one in the workspace)")


def _measures(add: Add) -> None:
    """Drawing, measuring, exporting."""
    sub = add("sample", models.sample_command, "draw images into an .npz or a folder of PNG files", "model")
    _cluster(sub)
    _computing(sub)
    _sampling(sub)
    sub.add_argument("--classes", help="as in 0,1; default: all, more than 100 of them spread")
    sub.add_argument("--out", help="FILE.npz (arr_0, labels, seeds) or FOLDER; the same command again goes on with it")
    sub.add_argument("--flat", action="store_true", help="a folder's files side by side, not in folders of classes")
    sub.add_argument("--yes", action="store_true", help="even if it takes hours")
    sub = add(
        "evaluate", evaluating.evaluate_command, "fidelity and efficiency of a model on a dataset", "model", "data"
    )
    _cluster(sub)
    _output(sub)
    _computing(sub)
    _sampling(sub)
    sub.add_argument("--features", default=Protocol.features, help="demo-cnn, or from the net: inception, dinov2, clip")
    sub.add_argument("--features-weights", help="file with their weights, or its folder; a copy stays in the workspace")
    _timing(sub)
    sub.add_argument("--timing-precision", choices=TIMED, help="of a forward that is timed; default: as --precision")
    sub.add_argument("--baseline", help="another model, timed in turns with this one: what it is faster than")
    sub.add_argument("--yes", action="store_true", help="even if it takes hours")
    _settings(sub)
    sub = add("benchmark", models.benchmark_command, "parameters, MACs, latency, throughput", "model")
    _output(sub)
    _timing(sub)
    sub.add_argument(
        "--precision",
        dest="timing_precision",
        default=Timing.precision,
        choices=TIMED,
        help="of a forward that is timed",
    )
    _compiling(sub)
    sub = add("export", models.export_command, "a model as files that other programs open", "model")
    sub.add_argument("--layout", required=True, help="official, safetensors or diffusers")
    sub.add_argument("--out", required=True, help="folder to make (official: may also be a .pt file)")


def _keeps(add: Add) -> None:
    """Runs there are: reported, gone on with, kept, sent."""
    sub = add("report", runs.report_command, "one HTML file about a run", "run")
    sub.add_argument("--out", help="default: <run>.html")
    sub.add_argument("--csv", help="also write every number to this file, one a row")
    sub.add_argument("--json", help="also write all that is known of the run to this file")
    sub = add("replay", runs.replay_command, "a pruning run as one small file that the lessons show again", "run")
    sub.add_argument("--out", help="default: <run>-replay.json")
    sub = add("run", runs.run_command, "do the work of a run folder, or go on with it", "run")
    _cluster(sub, trains=True)
    sub.add_argument("--learning-rate", type=float, help="from now on, where a pruning run goes on")
    sub = add("runs", keeping.runs_command, "the runs there are, and the bin of those deleted")
    _output(sub)
    sub.add_argument("--bin", action="store_true", help="those in the bin, with their sizes")
    sub.add_argument("--delete", metavar="RUN", help="move a run to the bin")
    sub.add_argument("--restore", metavar="RUN", help="move a run out of the bin")
    sub.add_argument("--empty-bin", action="store_true", help="delete for good what is in the bin; needs --yes")
    sub.add_argument("--yes", action="store_true", help="yes, for good")
    sub = add("pack", keeping.pack_command, "a run as one file, to keep or to send", "run")
    sub.add_argument("--out", help="default: <run>.zip")
    sub = add("unpack", keeping.unpack_command, "take in a run that was packed; it is looked through first")
    sub.add_argument("archive", help="file that was made by: engine pack RUN")


def _serves(add: Add) -> None:
    """The worker, and the whole story."""
    sub = add("worker", runs.worker_command, "serve the queue of a workspace")
    _cluster(sub, trains=True, connects=False)
    sub.add_argument("--idle-exit", type=float, help="seconds without a request after which the worker ends")
    sub = add("demo", demo.demo_command, "the whole story in a few minutes, without a browser")
    sub.set_defaults(process=None, vae=None)
    sub.add_argument("--model", default="demo-sit-digits")
    sub.add_argument("--data", default="digits")
    sub.add_argument("--target-depth", type=int, default=6)
    sub.add_argument("--out", help="where the report goes (default: into the run folder)")
    sub.set_defaults(out_is_file=True)


def _cluster(sub: argparse.ArgumentParser, *, trains: bool = False, connects: bool = True) -> None:
    """``connects``: the command's own process works on the cluster, and not only those that it starts."""
    sub.add_argument("--cluster", metavar="ADDRESS", help=_CLUSTER)
    if trains:
        sub.add_argument("--train-workers", type=int, help=_TRAIN_WORKERS)
    sub.set_defaults(connects=connects)


def _output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print the result as JSON")
    sub.add_argument("--out", help="also write the result to this file")
    sub.set_defaults(out_is_file=True)


def _settings(sub: argparse.ArgumentParser) -> None:
    help_text = "any other setting of the run, by its name in config.json; the value in JSON. May be repeated"
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=help_text)


def _computing(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--precision", default=Compute.precision, choices=PRECISIONS, help="of the network's products")
    _compiling(sub)


def _compiling(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--compile", action="store_true", help="compile the blocks: slow to begin with, then faster")


def _scoring(sub: argparse.ArgumentParser, *, variable: str = CedConfig.variable) -> None:
    sub.add_argument("--variable", default=variable, choices=VARIABLES, help="the reading of CED")
    sub.add_argument("--samples", type=int, default=CedConfig.samples)
    sub.add_argument("--timesteps", type=int, default=CedConfig.timesteps)


def _reading(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--condition", default="none", choices=CONDITIONS)
    sub.add_argument("--granularity", default=CedConfig.granularity, choices=GRANULARITIES)
    sub.add_argument("--seed", type=int, default=0)


def _sampling(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--num", type=int, default=Protocol.num_images, help="images")
    sub.add_argument("--sampler", default="", help="ddim, ddpm, dpm++ (DiT); euler, heun, dopri5, sde (SiT)")
    sub.add_argument("--num-steps", type=int, default=Protocol.num_steps, help="sampling steps")
    sub.add_argument("--cfg-scale", type=float, default=Protocol.cfg_scale)
    sub.add_argument("--guide-all-channels", action="store_true", help="not three of them, as the official code does")
    sub.add_argument("--seed", type=int, default=0)


def _timing(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--batch-size", type=int, default=Timing.batch_size, help="images in a forward that is timed")


def _recovery(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--batch-size", type=int, help="default: what is usual for the model's size")
    sub.add_argument("--learning-rate", type=float, help="default: what is usual for a model of this size")
    sub.add_argument("--schedule", choices=SCHEDULES, help="default: the usual one beside the usual learning rate")
    sub.add_argument("--distill-weight", type=float, help="default: what is usual for the model's size; 0 is without")
