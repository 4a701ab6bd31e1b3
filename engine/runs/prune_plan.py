"""What a pruning run was asked to do, as configs, and how much work that is."""

from dataclasses import dataclass

from engine.evaluation.protocol import Protocol
from engine.evaluation.timing import Timing
from engine.importance.config import CedConfig
from engine.pruning.config import PruneConfig
from engine.runs.progress import config_from
from engine.runs.stage_files import evaluation_protocol
from engine.training.config import FinetuneConfig

#: params that are not PruneConfig's
_OF_OTHERS = (
    "model", "process", "autoencoder", "data", "finetune", "protocol", "timing", "features_weights", "ced", "step",
    "compute",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    prune: PruneConfig
    recovery: FinetuneConfig
    ced: CedConfig
    protocol: Protocol
    timing: Timing

    @property
    def num_stages(self) -> int:
        return 1 if self.prune.drop else self.prune.num_stages


def plan_of(params: dict) -> PrunePlan:
    """The configs of a prune run's params. Raises InputError for what they can't be."""
    prune = {key: value for key, value in params.items() if key not in _OF_OTHERS}
    return PrunePlan(
        prune=config_from(PruneConfig, prune),
        recovery=config_from(FinetuneConfig, params.get("finetune", {})),
        ced=config_from(CedConfig, params.get("ced", {})),
        protocol=evaluation_protocol(params),
        timing=config_from(Timing, params.get("timing", {})),
    )


class PruneWork:
    """Work in forwards of one image through all ``depth`` blocks, for progress and time left. Stages are counted along
    the branch."""

    def __init__(self, plan: PrunePlan, depth: int) -> None:
        of_step = plan.recovery.batch_size * 3  # forward, and back for twice as long
        guidance = 1 if plan.protocol.cfg_scale == 1 else 2
        self._adapting = plan.prune.adapt_steps * of_step
        self._recovering = plan.recovery.num_steps * of_step
        self._scoring = 0 if plan.prune.drop else plan.ced.samples * plan.ced.timesteps * depth / 2
        self._evaluating = plan.protocol.num_images * plan.protocol.num_steps * guidance
        self.total = self.done(plan.num_stages + 1)

    def done(self, stage: int, *, scored: float = 0.0, trained: float = 0.0, evaluated: float = 0.0) -> float:
        """With all stages before ``stage``, and these shares of its own parts."""
        if stage == 0:
            return trained * self._adapting + evaluated * self._evaluating
        before = self._adapting + self._evaluating
        before += (stage - 1) * (self._scoring + self._recovering + self._evaluating)
        return before + scored * self._scoring + trained * self._recovering + evaluated * self._evaluating
