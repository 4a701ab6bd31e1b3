"""Which candidates a stage has, what they score, and which one the vote takes."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch

from engine.cluster.executor import executor, in_order
from engine.data.dataset import Data
from engine.errors import InputError
from engine.evaluation.efficiency import count_macs
from engine.importance.ced import CedResult
from engine.models.dit import DiT
from engine.models.model import Model
from engine.process import Process
from engine.pruning.config import PruneConfig
from engine.pruning.proxies import NoisedBatch, Scores, score_candidates
from engine.pruning.vote import Candidate, blocks_going, count_votes

_ZICO_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Decision:
    """``drop`` are blocks of the model as it stands at the stage's start; the record names the loaded model's."""

    drop: list[int]
    record: dict  # what stage.json keeps


@dataclass(frozen=True, kw_only=True)
class CandidateScored:
    candidate: Candidate
    done: int
    total: int


def target_depth_of(network: DiT, config: PruneConfig) -> int | None:
    """Blocks that a pruning of ``network`` (intact) ends with: the most that reach ``target_speedup``, where that is
    asked for; None where the blocks are chosen beforehand. Raises InputError for a speed-up out of reach."""
    if config.target_speedup is None:
        return config.target_depth
    macs, intact = macs_by_depth(network), network.config.depth
    for depth in range(intact - 1, 0, -1):
        if macs[intact] >= config.target_speedup * macs[depth]:
            return depth
    raise InputError(
        f"target speed-up {config.target_speedup:g}× is out of reach: with one block of {intact} the model takes "
        f"{macs[intact] / macs[1]:.2f}× fewer MACs; ask for less"
    )


def macs_by_depth(network: DiT) -> dict[int, int]:
    """MACs of one forward of one image with 1 … N blocks: all blocks are built alike, so two countings tell all."""
    one = count_macs(network.with_blocks([0]))
    if len(network.blocks) == 1:
        return {1: one}
    block = count_macs(network.with_blocks([0, 1])) - one
    return {depth: one + (depth - 1) * block for depth in range(1, len(network.blocks) + 1)}


def numbers_to_drop(depth: int, target_depth: int, *, stages_left: int, max_per_stage: int | None = None) -> range:
    """How many blocks this stage may drop: never below the target, and never so few that later stages can't reach it.

    ``stages_left`` counts this stage. Our reading of "when and how much": an even share of what is left, plus one,
    is the most that a stage may take (``max_per_stage`` overrides it), so that a vote always has a choice.
    """
    to_go = depth - target_depth
    share = -(-to_go // stages_left)
    most = max(max_per_stage or share + 1, share)  # a limit that can't reach the target gives way
    least = max(0, to_go - most * (stages_left - 1))
    return range(least, min(most, to_go) + 1)


def decide(
    model: Model,
    data: Data,
    ced: CedResult,
    config: PruneConfig,
    *,
    stages_left: int,
    seed: int,
    target_depth: int | None = None,
) -> Iterator[CandidateScored | Decision]:
    """Scores each candidate without training it, then yields the Decision last.

    ``target_depth`` is what ``target_depth_of`` the intact model says; it can be left out where the config names a
    depth itself.
    """
    target = config.target_depth if target_depth is None else target_depth
    assert target is not None, "a speed-up needs the depth that reaches it"
    numbers = numbers_to_drop(model.config.depth, target, stages_left=stages_left, max_per_stage=config.max_per_stage)
    drops = [sorted(ced.order[:number]) for number in numbers]
    batches = proxy_batches(model, data, config, seed=seed)
    kept = [[block for block in range(model.config.depth) if block not in drop] for drop in drops]
    macs, candidates = macs_by_depth(model.network), []
    asked = (model.network, model.process, batches)
    scores = in_order(_scored, _shares(kept, executor().num_slots), shared=asked)
    for drop, left, score in zip(drops, kept, scores, strict=True):
        seconds = _seconds_per_step(replace(model, network=model.network.with_blocks(left)), batches[0])
        candidates.append(_candidate(model, drop, macs=macs[len(left)], seconds=seconds, scores=score))
        yield CandidateScored(candidate=candidates[-1], done=len(candidates), total=len(numbers))
    yield _voted(model, ced, config, candidates, target)


def _shares(kept: list[list[int]], num: int) -> list[list[list[int]]]:
    """The candidates in at most ``num`` shares: neighbours have most work in common."""
    size = -(-len(kept) // num)
    return [kept[begin : begin + size] for begin in range(0, len(kept), size)]


def _scored(asked: tuple[DiT, Process, list[NoisedBatch]], kept: list[list[int]]) -> Iterator[Scores]:
    network, process, batches = asked
    yield from score_candidates(network, process, batches, kept)


def decision_from(model: Model, record: dict) -> Decision:
    """The decision that a record tells, an overridden one too, for ``model`` as it stands at the stage's start.

    Raises InputError where the record names blocks that ``model`` doesn't have.
    """
    going = blocks_going(record)
    assert going is not None, "blocks chosen beforehand aren't told by their record"
    missing = [block for block in going if block not in model.kept_blocks]
    if missing:
        raise InputError(
            f"block {missing[0]} is gone already; this stage has {', '.join(map(str, model.kept_blocks))}. Choose "
            "among these"
        )
    return Decision(drop=sorted(model.kept_blocks.index(block) for block in going), record=record)


def chosen_beforehand(model: Model, drop: list[int]) -> Decision:
    named = ", ".join(str(model.kept_blocks[block]) for block in sorted(drop))
    reason = f"Block{'s' if len(drop) > 1 else ''} {named} dropped as chosen beforehand."
    nothing = {"order": [], "scores": {}, "candidates": [], "weights": {}, "chosen": None}
    return Decision(drop=sorted(drop), record={"mode": "chosen", **nothing, "reason": reason})


def _voted(
    model: Model, ced: CedResult, config: PruneConfig, candidates: list[Candidate], target_depth: int
) -> Decision:
    vote = count_votes(candidates, config.weights)
    scored = [
        {**asdict(candidate), "dropped": list(candidate.dropped), "ranks": ranks, "total": total}
        for candidate, ranks, total in zip(candidates, vote.ranks, vote.totals, strict=True)
    ]
    record = {
        **_scores(model, ced),
        "mode": "adaptive",
        "candidates": scored,
        "weights": dict(config.weights),
        "chosen": vote.chosen,
        "reason": vote.reason,
    }
    if config.target_speedup is not None:
        record["target"] = {"speedup": config.target_speedup, "counted_in": "MACs", "depth": target_depth}
    return Decision(drop=sorted(ced.order[: candidates[vote.chosen].num_dropped]), record=record)


def _scores(model: Model, ced: CedResult) -> dict:
    blocks = model.kept_blocks
    return {
        "order": [blocks[index] for index in ced.order],
        "scores": {str(blocks[index]): value for index, value in enumerate(ced.ced)},
    }


def proxy_batches(model: Model, data: Data, config: PruneConfig, *, seed: int) -> list[NoisedBatch]:
    """The same small batches for every candidate, drawn from the data with one seed; in a batch no image twice, which
    would make the NTK's kernel singular."""
    batches = []
    for number in range(_ZICO_BATCHES):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        chosen = torch.randperm(len(data), generator=generator)[: config.num_proxy_samples].numpy()
        x0 = model.latents_of(data, chosen)
        t = model.process.draw_timesteps(len(x0), generator)
        labels = torch.from_numpy(data.labels[chosen])
        if not model.knows_classes_of(data):
            labels = torch.full_like(labels, model.null_class_or_raise())
        eps = torch.randn(x0.shape, generator=generator)
        device = model.device
        batches.append(NoisedBatch(x0=x0.to(device), t=t.to(device), eps=eps.to(device), y=labels.to(device)))
    return batches


def _candidate(model: Model, drop: list[int], *, macs: int, seconds: float, scores: Scores) -> Candidate:
    return Candidate(
        num_dropped=len(drop),
        dropped=tuple(model.kept_blocks[block] for block in drop),
        macs=macs,
        seconds_per_step=seconds,
        ntk=_finite(scores.ntk),
        zico=_finite(scores.zico),
    )


def _finite(score: float) -> float | None:
    """None for what couldn't be worked out, as JSON has it: so a record is the same in memory and read back."""
    return score if math.isfinite(score) else None


@torch.inference_mode()
def _seconds_per_step(model: Model, batch: NoisedBatch, *, repeats: int = 3) -> float:
    """Median of one forward of the batch; measured for the eye, it doesn't vote."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        model.forward(batch.x0, batch.t, batch.y)
        if batch.x0.device.type == "cuda":
            torch.cuda.synchronize(batch.x0.device)
        times.append(time.perf_counter() - started)
    return sorted(times)[repeats // 2]
