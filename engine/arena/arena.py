"""The arena: which criterion, and which way of pruning, gives the best quality after recovery?

Each entrant names the blocks it would drop, or prunes in stages; each gets the same recovery and is measured, once per
seed. Sets that several entrants agree on are computed once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from engine.arena.bout import Bout, Step, hold_bout, key_of
from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.arena.result import arena_result
from engine.cluster.executor import executor
from engine.data.dataset import Data
from engine.data.latents import Examples, encoding_examples
from engine.importance.ced import compute_ced
from engine.importance.config import CRITERIA, CriteriaConfig
from engine.importance.criteria import compute_criteria
from engine.models.model import Model
from engine.pruning.progressive import adaptation
from engine.pruning.surgery import recovered, tell_classes, with_classes_of
from engine.seeds import derived_seed
from engine.steps import result_of
from engine.training.config import check_batch
from engine.training.finetune import finetune


@dataclass(frozen=True, kw_only=True)
class Scores:
    """``of[entrant]``: importance of each block, where there is one that adds up over blocks; ``dropped[entrant]``: the
    blocks it would drop at once, ascending."""

    of: dict[str, list[float]]
    dropped: dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an interrupted arena goes on from, as far as it got."""

    start: Model | None = None  # the intact model, adapted
    scores: Scores | None = None
    bouts: tuple[Bout, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ArenaProgress:
    phase: str  # "adapting", "scoring" or "recovering"
    done: float  # bouts, the one under way counted by its steps
    total: int
    message: str
    known: Known
    result: dict | None  # after each bout, as far as it is known


def run_arena(
    model: Model, data: Data, config: ArenaConfig, *, known: Known | None = None, cache: Path | None = None
) -> Iterator[ArenaProgress]:
    """Yields progress; the last item's ``result`` is whole. ``known`` is what an earlier, interrupted arena knew
    already. Raises InputError before anything runs where the model hasn't enough blocks."""
    config.check_against(model.config.depth)
    check_batch(config.finetune, len(data))
    known = known or Known()
    examples = result_of(encoding_examples(model, data, cache=cache))
    if known.start is None:
        known = replace(known, start=(yield from _adapted(model, data, config, examples)))
        yield _progress("adapting", "the intact model is ready", known)
    if known.scores is None:
        yield _progress("scoring", "scoring the blocks by every criterion", known)
        known = replace(known, scores=score_entrants(known.start, data, config, cache=cache))
    bouts = list(known.bouts)
    plan = _plan(config, known.scores)
    held = {bout.key for bout in bouts}
    missing = [entry for entry in plan if key_of(*entry) not in held]
    shares: dict[int, float] = {}  # of the bouts under way: more than one on a cluster
    for number, item in executor().run(_held, missing, shared=(known.start, data, config, examples, cache)):
        if not isinstance(item, Bout):
            strategy, dropped, seed = missing[number]
            shares[number] = 0.8 * item.done / max(1, item.total)
            message = f"{_words(strategy, dropped)}, seed {seed}: step {item.done}"
            yield _progress("recovering", message, known, done=len(bouts) + sum(shares.values()), total=len(plan))
            continue
        shares.pop(number, None)
        bouts.append(item)
        known = replace(known, bouts=tuple(bouts))
        result = arena_result(config, asdict(known.scores), [asdict(bout) for bout in bouts])
        message = f"{len(bouts)} of {len(plan)} recovered and measured"
        yield _progress("recovering", message, known, done=len(bouts), total=len(plan), result=result)


def _held(
    shared: tuple[Model, Data, ArenaConfig, Examples, Path | None], entry: tuple[str, tuple[int, ...], int]
) -> Iterator[Step | Bout]:
    (start, data, config, examples, cache), (strategy, dropped, seed) = shared, entry
    if cache is not None and not cache.is_dir():
        cache = None  # another machine's
    yield from hold_bout(
        start, data, config, strategy=strategy, dropped=dropped, seed=seed, examples=examples, cache=cache
    )


def _plan(config: ArenaConfig, scores: Scores) -> list[tuple[str, tuple[int, ...], int]]:
    """(strategy, blocks to drop at once, seed): a whole round first, so that an early look compares like with like."""
    strategies = [name for name in config.entrants if ENTRANTS[name].progressive]
    sets = [(), *dict.fromkeys(scores.dropped.values())]
    one_round = [("", blocks) for blocks in sets] + [(name, ()) for name in strategies]
    return [(*entry, seed) for seed in range(config.num_seeds) for entry in one_round]


def _words(strategy: str, dropped: tuple[int, ...]) -> str:
    if strategy:
        return ENTRANTS[strategy].title
    return f"without {', '.join(map(str, dropped))}" if dropped else "intact"


def _progress(
    phase: str, message: str, known: Known, *, done: float = 0.0, total: int = 1, result: dict | None = None
) -> ArenaProgress:
    return ArenaProgress(phase=phase, done=done, total=total, message=message, known=known, result=result)


def _adapted(model: Model, data: Data, config: ArenaConfig, examples: Examples) -> Iterator[ArenaProgress]:
    """The model with the data's classes, trained on it for ``adapt_steps``: where everybody starts."""
    tell_classes(model, data)
    start = with_classes_of(model, data, seed=config.finetune.seed)
    if not config.adapt_steps:
        return start
    # batches of its own: those of the first round's bouts would be seen twice there, and in no other round
    training = replace(config.finetune, seed=derived_seed(config.finetune.seed, 0))
    copy, trainer = adaptation(start, examples, training, num_steps=config.adapt_steps)
    for step in finetune(trainer):
        message = f"the intact model learns {data.name}: step {step.step} of {config.adapt_steps}"
        yield _progress("adapting", message, Known(), done=step.step / config.adapt_steps)
    return recovered(copy, trainer)


def score_entrants(model: Model, data: Data, config: ArenaConfig, *, cache: Path | None = None) -> Scores:
    """Every entrant's scores, computed once on the same samples, and the sets that follow from them."""
    sampling = dict(samples=min(config.samples, len(data)), timesteps=config.timesteps, seed=config.seed)
    of: dict[str, list[float]] = {}
    dropped: dict[str, tuple[int, ...]] = {}
    criteria = tuple(name for name in config.entrants if name in CRITERIA)
    if criteria:
        found = compute_criteria(model, data, CriteriaConfig(criteria=criteria, variables=(), **sampling)).criteria
        of |= {name: found[name].scores for name in criteria}
    for name in config.entrants:
        entrant = ENTRANTS[name]
        if entrant.progressive or name in of:
            continue
        ced = compute_ced(model, data, entrant.scoring(config.num_dropped, **sampling), cache=cache)
        dropped[name] = tuple(sorted(ced.order[: config.num_dropped]))
        if not entrant.greedy:  # joint scores don't add up over blocks
            of[name] = ced.ced
    dropped |= {name: _lowest(of[name], config.num_dropped) for name in criteria}
    rng = np.random.default_rng(config.seed)
    for index in range(config.num_random):
        chosen = rng.choice(model.config.depth, config.num_dropped, replace=False)
        dropped[f"random {index + 1}"] = tuple(sorted(chosen.tolist()))
    return Scores(of=of, dropped=dropped)


def _lowest(values: list[float], num: int) -> tuple[int, ...]:
    return tuple(sorted(np.argsort(values, kind="stable")[:num].tolist()))
