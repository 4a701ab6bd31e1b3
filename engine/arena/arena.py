"""The arena: which criterion predicts the quality after recovery? (method.md's question, asked by experiment)

Each entrant names the blocks it would drop; each such set is dropped, recovered with the same budget and measured,
once per seed. Sets that several entrants agree on are computed once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from engine.arena.config import CED_ENTRANTS, ArenaConfig
from engine.arena.result import arena_result
from engine.data.dataset import Data
from engine.data.latents import encoded
from engine.evaluation.evaluate import evaluate
from engine.importance.config import CRITERIA, CriteriaConfig
from engine.importance.criteria import compute_criteria
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.surgery import keep_blocks, with_classes_of
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune

_LOSS_SAMPLES = 1024
_LOSS_TIMESTEPS = 10


@dataclass(frozen=True, kw_only=True)
class Scores:
    """``of[entrant]``: importance of each block; ``dropped[entrant]``: the blocks it would drop, ascending."""

    of: dict[str, list[float]]
    dropped: dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Bout:
    """One set of blocks, dropped and recovered with one seed. ``dropped`` empty: the intact model, same budget."""

    dropped: tuple[int, ...]
    seed: int
    fid: float
    kid: float
    accuracy: float | None  # None where the features don't know the classes
    loss: float  # mean training loss over a fixed grid of timesteps, on the data


@dataclass(frozen=True, kw_only=True)
class ArenaProgress:
    done: float  # bouts, the one under way counted by its steps
    total: int
    message: str
    bouts: list[Bout]
    result: dict | None  # as far as it is known


def run_arena(
    model: Model,
    data: Data,
    config: ArenaConfig,
    *,
    scores: Scores | None = None,
    done: list[Bout] | None = None,
    cache: Path | None = None,
) -> Iterator[ArenaProgress]:
    """Yields progress; the last item's ``result`` is whole. ``scores`` and ``done`` are what an earlier, interrupted
    arena knew already. Raises InputError before anything runs where the model hasn't enough blocks."""
    config.check_against(model.config.depth)
    start = with_classes_of(model, data, seed=config.finetune.seed)
    scores = scores or score_entrants(model, data, config)
    latents, labels = encoded(start, data, cache=cache), torch.from_numpy(data.labels)
    bouts = list(done or [])
    known = {(bout.dropped, bout.seed) for bout in bouts}
    sets = [(), *dict.fromkeys(scores.dropped.values())]
    total = len(sets) * config.num_seeds
    for seed in range(config.num_seeds):  # a whole round first: an early look compares like with like
        for dropped in sets:
            if (dropped, seed) in known:
                continue
            for step in _recover(start, dropped, seed, config.finetune, latents, labels):
                if isinstance(step, Model):
                    bouts.append(_measure(step, data, dropped, seed, config, latents, labels, cache))
                else:
                    share = 0.8 * step / max(1, config.finetune.num_steps)
                    message = (
                        f"without {list(dropped)}, seed {seed}: step {step}" if dropped else f"intact: step {step}"
                    )
                    yield ArenaProgress(done=len(bouts) + share, total=total, message=message, bouts=bouts, result=None)
            message = f"{len(bouts)} of {total} recovered and measured"
            result = arena_result(config, asdict(scores), [asdict(bout) for bout in bouts])
            yield ArenaProgress(done=len(bouts), total=total, message=message, bouts=bouts, result=result)


def score_entrants(model: Model, data: Data, config: ArenaConfig) -> Scores:
    """Every entrant's scores, computed once on the same samples, and the sets that follow from them."""
    criteria = CriteriaConfig(
        criteria=tuple(name for name in config.entrants if name in CRITERIA),
        variables=tuple(variable for name, variable in CED_ENTRANTS.items() if name in config.entrants),
        samples=min(config.samples, len(data)),
        timesteps=config.timesteps,
        seed=config.seed,
    )
    found = compute_criteria(model, data, criteria).criteria
    of = {name: found[name].scores for name in config.entrants if name in found}
    dropped = {name: _lowest(values, config.num_dropped) for name, values in of.items()}
    rng = np.random.default_rng(config.seed)
    for index in range(config.num_random):
        chosen = rng.choice(model.config.depth, config.num_dropped, replace=False)
        dropped[f"random {index + 1}"] = tuple(sorted(chosen.tolist()))
    return Scores(of=of, dropped=dropped)


def _lowest(values: list[float], num: int) -> tuple[int, ...]:
    return tuple(sorted(np.argsort(values, kind="stable")[:num].tolist()))


def _recover(
    model: Model,
    dropped: tuple[int, ...],
    seed: int,
    config: FinetuneConfig,
    latents: torch.Tensor,
    labels: torch.Tensor,
) -> Iterator[int | Model]:
    """Yields steps done, then the recovered model with averaged weights."""
    kept = [block for block in range(model.config.depth) if block not in dropped]
    pruned = keep_blocks(model, kept)
    trainer = Trainer(
        pruned.network,
        model.process,
        latents=latents,
        labels=labels,
        config=replace(config, seed=config.seed + seed),
    )
    for step in finetune(trainer):
        yield step.step
    network = DiT.holding(pruned.config, trainer.ema_state_dict()).eval().requires_grad_(False)
    recovered = pruned.with_network(network, change=f"recovered {seed} {config}")
    yield replace(recovered, labels_trained=True)


def _measure(
    model: Model,
    data: Data,
    dropped: tuple[int, ...],
    seed: int,
    config: ArenaConfig,
    latents: torch.Tensor,
    labels: torch.Tensor,
    cache: Path | None,
) -> Bout:
    protocol = replace(config.protocol, seed=config.protocol.seed + seed * 1_000_003)
    found = evaluate(model, data, protocol, cache=cache, num_bootstrap=2)  # the spread of interest is over seeds
    return Bout(
        dropped=dropped,
        seed=seed,
        fid=found.fid.value,
        kid=found.kid.value,
        accuracy=found.class_accuracy.value if found.class_accuracy else None,
        loss=mean_loss(model, latents, labels, seed=config.seed),
    )


@torch.inference_mode()
def mean_loss(model: Model, latents: torch.Tensor, labels: torch.Tensor, *, seed: int) -> float:
    """Squared error of the prediction (without a variance term) over a grid of timesteps, the same samples and noise
    for every model that is asked with the same seed."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(latents), generator=generator)[:_LOSS_SAMPLES]
    x0, y = latents[chosen], labels[chosen]
    losses = []
    for t in model.process.timestep_grid(_LOSS_TIMESTEPS).tolist():
        eps = torch.randn(x0.shape, generator=generator)
        times = torch.full((len(x0),), t)
        target = model.process.target(x0, times, eps)
        x_t = model.process.noise(x0, times, eps)
        for part in torch.arange(len(x0)).split(256):
            inputs = (value[part].to(model.device) for value in (x_t, times, y))
            predicted = model.network(*inputs)[:, : x0.shape[1]].cpu()
            losses.append((predicted - target[part]).square().flatten(1).mean(1))
    return torch.cat(losses).double().mean().item()
