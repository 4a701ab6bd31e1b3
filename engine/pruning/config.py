"""What a pruning is made of; free of torch, so that the app can build and check one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import InputError
from engine.importance.config import CedConfig
from engine.pruning.vote import check_weights

#: the three voters and their weights (our reading, after AutoProg-Zero): cost in MACs, NTK condition number, ZiCo
DEFAULT_WEIGHTS = {"cost": 1.0, "ntk": 0.5, "zico": 0.5}

#: how the steps of recovery are shared out between the stages (our reading: the paper's summary doesn't say). Their sum
#: is the same: a stage that reaches the target early gets all that is left
RECOVERY_SHARES = {
    "even": "every stage gets the same number of steps",
    "last-heavy": "stage n gets n shares: the final depth needs its share most",
    "final": "each stage gets four times the steps of the one before, so that of three the last gets three quarters",
}
#: the reading of CED by which stages choose their blocks: the best on balance in the arena (docs/method.md)
STAGES_VARIABLE = "samples"
_SHARES_OF_STAGE: dict[str, Callable[[int], int]] = {
    "even": lambda stage: 1,
    "last-heavy": lambda stage: stage,
    "final": lambda stage: 4 ** (stage - 1),
}


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """``drop`` (these blocks, in one stage), or adaptive stages towards ``target_depth`` or ``target_speedup``."""

    drop: tuple[int, ...] = ()
    target_depth: int | None = None
    target_speedup: float | None = None  # MACs of the intact model over MACs of the pruned one, at least
    num_stages: int = 3
    max_per_stage: int | None = None  # most blocks that one stage may drop; None: an even share of what is left + 1
    num_proxy_samples: int = 16  # images in the NTK and in each ZiCo batch
    weights: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    adapt_steps: int = 0  # of training that the intact model gets on the data before anything is scored or dropped
    recovery_shares: str = "final"  # one of RECOVERY_SHARES; the best in the arena on the bundled models

    def __post_init__(self) -> None:
        if bool(self.drop) + (self.target_depth is not None) + (self.target_speedup is not None) != 1:
            raise InputError(
                "say either which blocks to drop, or which depth or which speed-up to reach, not two of them and not "
                "none"
            )
        if self.num_stages < 1:
            raise InputError(f"num_stages is {self.num_stages}; at least 1 is needed")
        if self.target_depth is not None and self.target_depth < 1:
            raise InputError(f"target depth {self.target_depth}: at least one block must stay")
        if self.target_speedup is not None and not self.target_speedup > 1:
            raise InputError(f"target speed-up {self.target_speedup:g}× is not above 1×")
        if self.max_per_stage is not None and self.max_per_stage < 1:
            raise InputError(
                f"max_per_stage is {self.max_per_stage}; expected 1 or more, or None for an even share of what is "
                "left, plus one"
            )
        if self.num_proxy_samples < 2:
            raise InputError(f"num_proxy_samples is {self.num_proxy_samples}; the NTK needs at least 2")
        if self.recovery_shares not in RECOVERY_SHARES:
            raise InputError(
                f"recovery_shares {self.recovery_shares!r} is unknown; choose {', '.join(RECOVERY_SHARES)}"
            )
        if self.adapt_steps < 0:
            raise InputError(f"adapt_steps is {self.adapt_steps}; expected 0 (no adaptation) or more")
        check_weights(self.weights)

    def check_against(self, depth: int, *, begun: bool = False) -> None:
        """Raises unless this can be done to a model of ``depth`` blocks. ``begun``: stages were done already, of which
        some may have dropped nothing, so that their number says nothing any more."""
        check_blocks(self.drop, depth)
        if self.target_depth is not None and self.target_depth >= depth:
            raise InputError(f"target depth {self.target_depth} is not below the model's {depth} blocks")
        if self.target_speedup is not None and self.target_speedup >= depth:
            raise InputError(
                f"target speed-up {self.target_speedup:g}× is out of reach: one block of {depth} must stay, which is "
                f"less than {depth}×; ask for less"
            )
        if self.target_depth is not None and not begun:
            self.check_stages(depth - self.target_depth)

    def check_stages(self, num_blocks: int) -> None:
        """Raises where a pruning that drops ``num_blocks`` in all has more stages than that."""
        if self.num_stages > num_blocks:
            blocks = "1 block" if num_blocks == 1 else f"{num_blocks} blocks"
            raise InputError(
                f"{self.num_stages} stages for {blocks} to drop: some would drop none; choose at most {num_blocks}"
            )

    def recovery_steps(self, stage: int, num_steps: int, *, last: bool) -> int:
        """Steps of recovery in ``stage`` (from 1) where an even share is ``num_steps``; their sum is the same.

        ``last``: this stage reaches the target, so that no other follows.
        """
        if self.drop:
            return num_steps
        until = num_steps * self.num_stages if last else self.steps_before(stage + 1, num_steps)
        return until - self.steps_before(stage, num_steps)

    def steps_before(self, stage: int, num_steps: int) -> int:
        """Of recovery, in all stages before ``stage`` (from 1)."""
        share = _SHARES_OF_STAGE[self.recovery_shares]
        shares = [share(number) for number in range(1, self.num_stages + 1)]
        return -(-num_steps * self.num_stages * sum(shares[: stage - 1]) // sum(shares))


def check_blocks(drop: tuple[int, ...] | list[int], depth: int) -> None:
    """Raises unless ``drop`` names different existing blocks and leaves at least one."""
    outside = [block for block in drop if not 0 <= block < depth]
    if outside:
        raise InputError(f"block {outside[0]} doesn't exist: this model has blocks 0 … {depth - 1}")
    if len(set(drop)) != len(drop):
        raise InputError(f"a block is named twice in {list(drop)}")
    if len(drop) >= depth:
        raise InputError(f"all {depth} blocks would be dropped; keep at least one")


def usual_stages(depth: int, *, target_depth: int | None = None, target_speedup: float | None = None) -> int:
    """The usual number of stages, or fewer where fewer blocks of ``depth`` go.

    For a speed-up the fewest that may go count: the layers outside the blocks cost too, so that more will.
    """
    left = depth if target_depth is None else target_depth
    if target_speedup is not None and target_speedup > 1:
        left = int(depth / target_speedup)
    return max(1, min(PruneConfig.num_stages, depth - left))


def usual_scoring(**changes) -> CedConfig:
    """The CED that stages choose their blocks by, with ``changes``."""
    return CedConfig(**{"variable": STAGES_VARIABLE, **changes})
