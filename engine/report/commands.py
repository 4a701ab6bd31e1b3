"""The command line that asks for what a run was asked for, from the run's params. Free of torch.

Options are said where they differ from the command's defaults, those whose default depends on the model always; what
has no option of its own is said with --set.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.compute import Compute
from engine.evaluation.protocol import Protocol
from engine.evaluation.timing import Timing, timed_in
from engine.importance.config import CedConfig
from engine.pruning.config import DEFAULT_WEIGHTS, PruneConfig
from engine.training.config import FinetuneConfig

COMMANDS = ("prune", "evaluate", "ced", "arena")
_PRUNE = (
    "drop", "target_depth", "target_speedup", "num_stages", "max_per_stage", "num_proxy_samples", "weights",
    "adapt_steps", "recovery_shares", "step",
)  # fmt: skip
_ELSEWHERE = ("model", "process", "autoencoder", "data", "ced", "protocol", "finetune", "compute")
_CED_OPTIONS = ("estimator", "condition", "granularity", "order", "method", "weighting", "num_candidates")


def command_of(kind: str, params: Mapping[str, Any]) -> list[str]:
    """Arguments after ``python -m engine``; ``kind`` is one of COMMANDS."""
    words = [kind, str(params["model"]), str(params["data"])]
    words += _option("--process", params.get("process")) + _option("--vae", params.get("autoencoder"))
    words += _computing(params.get("compute", {}))
    words += {"prune": _prune, "evaluate": _evaluate, "ced": _ced, "arena": _arena}[kind](params)
    if not str(params["model"]).startswith("-") and not str(params["data"]).startswith("-"):
        return words
    return [kind, *words[3:], "--", *words[1:3]]


def _computing(compute: Mapping[str, Any]) -> list[str]:
    words = _unlike("--precision", compute.get("precision"), Compute.precision)
    return [*words, "--compile"] if compute.get("compile") else words


def _prune(params: Mapping[str, Any]) -> list[str]:
    words = []
    if params.get("drop"):
        words += ["--drop", ",".join(map(str, params["drop"]))]
    for key in ("target_depth", "target_speedup"):
        words += _option(f"--{key.replace('_', '-')}", params.get(key))
    words += ["--stages", str(params.get("num_stages", PruneConfig.num_stages))]
    words += _option("--max-per-stage", params.get("max_per_stage") or None)  # old runs say 0 for None
    weights = params.get("weights", DEFAULT_WEIGHTS)
    if dict(weights) != DEFAULT_WEIGHTS:
        words += ["--weights", ",".join(repr(float(weights[key])) for key in ("cost", "ntk", "zico"))]
    for key in ("num_proxy_samples", "recovery_shares"):
        words += _unlike(f"--{key.replace('_', '-')}", params.get(key), getattr(PruneConfig, key))
    words += _unlike("--adapt-steps", params.get("adapt_steps"), 0)
    words += ["--step"] if params.get("step") else []
    ced, protocol, finetune = (params.get(part, {}) for part in ("ced", "protocol", "finetune"))
    seed = protocol.get("seed", 0)
    words += _option("--variable", ced.get("variable"))
    for key in ("order", "samples", "timesteps"):
        words += _unlike(f"--{key}", ced.get(key), getattr(CedConfig, key))
    words += _others("ced", ced, {**asdict(CedConfig()), "seed": seed}, ("variable", "order", "samples", "timesteps"))
    words += _sampling(protocol, Protocol(), prefix="protocol")
    words += _recovery(finetune, seed, prefix="finetune", steps="--steps-per-stage")
    return words + _others("", params, {}, (*_PRUNE, *_ELSEWHERE))


def _evaluate(params: Mapping[str, Any]) -> list[str]:
    protocol, timing = params.get("protocol", {}), params.get("timing", {})
    words = _unlike("--features", protocol.get("features"), Protocol.features)
    words += _option("--features-weights", params.get("features_weights"))
    words += _unlike("--batch-size", timing.get("batch_size"), Timing.batch_size)
    usual = timed_in(params.get("compute", {}).get("precision", Compute.precision))
    words += _unlike("--timing-precision", timing.get("precision", Timing.precision), usual)
    words += _option("--baseline", params.get("baseline"))
    return words + _sampling(protocol, Protocol(), prefix="protocol", said=("features",))


def _ced(params: Mapping[str, Any]) -> list[str]:
    config, words = params.get("config", {}), []
    for key in ("variable", "samples", "timesteps", "seed", *_CED_OPTIONS):
        words += _unlike(f"--{key.replace('_', '-')}", config.get(key), getattr(CedConfig, key))
    return words


def _arena(params: Mapping[str, Any]) -> list[str]:
    config, usual, words = params.get("config", {}), ArenaConfig(), []
    for key, option in {"num_dropped": "--num-dropped", "num_seeds": "--seeds", "num_random": "--num-random",
                        "adapt_steps": "--adapt-steps"}.items():  # fmt: skip
        words += _unlike(option, config.get(key), getattr(usual, key))
    entrants = list(config.get("entrants", ENTRANTS))
    words += ["--entrants", ",".join(entrants)] if entrants != list(ENTRANTS) else []
    words += _others("config", {k: config[k] for k in ("samples", "timesteps", "seed") if k in config}, asdict(usual))
    words += _sampling(config.get("protocol", {}), usual.protocol, prefix="config.protocol")
    seed = config.get("protocol", {}).get("seed", 0)
    return words + _recovery(config.get("finetune", {}), seed, prefix="config.finetune", steps="--steps")


def _sampling(protocol: Mapping[str, Any], usual: Protocol, *, prefix: str, said: Sequence[str] = ()) -> list[str]:
    options = {"num_images": "--num", "sampler": "--sampler", "num_steps": "--num-steps", "cfg_scale": "--cfg-scale",
               "seed": "--seed", "device": "--device"}  # fmt: skip
    words = []
    for key, option in options.items():
        words += _unlike(option, protocol.get(key), getattr(usual, key))
    done = [*options, *said, "precision"]  # that of the whole run
    if "guided_channels" in protocol and protocol["guided_channels"] is None:
        words, done = [*words, "--guide-all-channels"], [*done, "guided_channels"]
    return words + _others(prefix, protocol, asdict(usual), done)


def _recovery(finetune: Mapping[str, Any], seed: int, *, prefix: str, steps: str) -> list[str]:
    """The learning rate is always said: what is usual depends on the model's size, and so does what goes with it."""
    usual = FinetuneConfig() if prefix == "finetune" else ArenaConfig().finetune
    words = _unlike(steps, finetune.get("num_steps"), usual.num_steps)
    words += _option("--learning-rate", finetune.get("learning_rate", FinetuneConfig.learning_rate))
    for key, option in {"batch_size": "--batch-size", "schedule": "--schedule",
                        "distill_weight": "--distill-weight"}.items():  # fmt: skip
        words += _unlike(option, finetune.get(key), getattr(FinetuneConfig, key))
    done = ("num_steps", "learning_rate", "batch_size", "schedule", "distill_weight")
    return words + _others(prefix, finetune, {**asdict(FinetuneConfig()), "seed": seed}, done)


def _others(prefix: str, values: Mapping[str, Any], usual: Mapping[str, Any], done: Sequence[str] = ()) -> list[str]:
    """What has no option: --set prefix.key=JSON."""
    words = []
    for key, value in values.items():
        if key not in done and value != usual.get(key):
            name = f"{prefix}.{key}" if prefix else key
            words += ["--set", f"{name}={json.dumps(value)}"]
    return words


def _unlike(option: str, value: Any, usual: Any) -> list[str]:
    return [] if value is None or value == usual else _option(option, value)


def _option(option: str, value: Any) -> list[str]:
    """A value that begins with a dash is joined to its option, which it would else be taken for."""
    if value is None:
        return []
    text = repr(value) if isinstance(value, float) else str(value)
    return [f"{option}={text}"] if text.startswith("-") else [option, text]
