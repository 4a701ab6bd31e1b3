"""Which candidates a stage has, what they score, and which one the vote takes."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch

from engine.data.dataset import Data
from engine.evaluation.efficiency import count_macs
from engine.importance.ced import CedResult
from engine.models.dit import DiT
from engine.models.model import Model
from engine.pruning.config import PruneConfig
from engine.pruning.proxies import NoisedBatch, ntk_condition_number, zico
from engine.pruning.vote import Candidate, count_votes

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


def numbers_to_drop(depth: int, config: PruneConfig, *, stages_left: int) -> range:
    """How many blocks this stage may drop: never below the target, and never so few that later stages can't reach it.

    ``stages_left`` counts this stage. Our reading of "when and how much": an even share of what is left, plus one,
    is the most that a stage may take (``max_per_stage`` overrides it), so that a vote always has a choice.
    """
    assert config.target_depth is not None
    to_go = depth - config.target_depth
    share = -(-to_go // stages_left)
    most = max(config.max_per_stage or share + 1, share)  # a limit that can't reach the target gives way
    least = max(0, to_go - most * (stages_left - 1))
    return range(least, min(most, to_go) + 1)


def decide(
    model: Model, data: Data, ced: CedResult, config: PruneConfig, *, stages_left: int, seed: int
) -> Iterator[CandidateScored | Decision]:
    """Scores each candidate without training it, then yields the Decision last."""
    numbers = numbers_to_drop(model.config.depth, config, stages_left=stages_left)
    batches = proxy_batches(model, data, config, seed=seed)
    candidates = []
    for number in numbers:
        drop = sorted(ced.order[:number])
        candidates.append(_score(model, drop, batches))
        yield CandidateScored(candidate=candidates[-1], done=len(candidates), total=len(numbers))
    vote = count_votes(candidates, config.weights)
    chosen = candidates[vote.chosen]
    scored = [
        {**asdict(candidate), "ranks": ranks, "total": total}
        for candidate, ranks, total in zip(candidates, vote.ranks, vote.totals, strict=True)
    ]
    record = {
        **_scores(model, ced),
        "mode": "adaptive",
        "candidates": scored,
        "weights": config.weights,
        "chosen": vote.chosen,
        "reason": vote.reason,
    }
    yield Decision(drop=sorted(ced.order[: chosen.num_dropped]), record=record)


def chosen_beforehand(model: Model, drop: list[int]) -> Decision:
    named = ", ".join(str(model.kept_blocks[block]) for block in sorted(drop))
    reason = f"Block{'s' if len(drop) > 1 else ''} {named} dropped as chosen beforehand."
    nothing = {"order": [], "scores": {}, "candidates": [], "weights": {}, "chosen": None}
    return Decision(drop=sorted(drop), record={"mode": "chosen", **nothing, "reason": reason})


def _scores(model: Model, ced: CedResult) -> dict:
    blocks = model.kept_blocks
    return {
        "order": [blocks[index] for index in ced.order],
        "scores": {str(blocks[index]): value for index, value in enumerate(ced.ced)},
    }


def proxy_batches(model: Model, data: Data, config: PruneConfig, *, seed: int) -> list[NoisedBatch]:
    """The same small batches for every candidate, drawn from the data with one seed."""
    batches = []
    for number in range(_ZICO_BATCHES):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        chosen = torch.randint(len(data), (config.num_proxy_samples,), generator=generator).numpy()
        x0 = model.latents_of(data, chosen)
        t = model.process.draw_timesteps(len(x0), generator)
        labels = torch.from_numpy(data.labels[chosen])
        if not model.knows_classes_of(data):
            labels = torch.full_like(labels, model.null_class_or_raise())
        eps = torch.randn(x0.shape, generator=generator)
        device = model.device
        batches.append(NoisedBatch(x0=x0.to(device), t=t.to(device), eps=eps.to(device), y=labels.to(device)))
    return batches


def _score(model: Model, drop: list[int], batches: list[NoisedBatch]) -> Candidate:
    network = model.network.with_blocks([block for block in range(model.config.depth) if block not in drop])
    return Candidate(
        num_dropped=len(drop),
        dropped=tuple(model.kept_blocks[block] for block in drop),
        macs=count_macs(network),
        seconds_per_step=_seconds_per_step(network, batches[0]),
        ntk=ntk_condition_number(network, model.process, batches[0]),
        zico=zico(network, model.process, batches),
    )


@torch.inference_mode()
def _seconds_per_step(network: DiT, batch: NoisedBatch, *, repeats: int = 5) -> float:
    """Median of one forward of the batch; measured for the eye, it doesn't vote."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        network(batch.x0, batch.t, batch.y)
        if batch.x0.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times)[repeats // 2]
