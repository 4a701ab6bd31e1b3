"""What a pruning is made of; free of torch, so that the app can build and check one."""

from dataclasses import dataclass, field

from engine.errors import InputError
from engine.pruning.vote import check_weights

#: the three voters and their weights (our reading, after AutoProg-Zero): cost in MACs, NTK condition number, ZiCo
DEFAULT_WEIGHTS = {"cost": 1.0, "ntk": 0.5, "zico": 0.5}

#: how the steps of recovery are shared out between the stages (our reading: the paper's summary doesn't say)
RECOVERY_SHARES = {
    "even": "every stage gets the same number of steps",
    "last-heavy": "stage n gets n shares, and the stage that reaches the target all that is left: the final depth "
    "needs its share most",
}


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """``drop`` (these blocks, in one stage), or adaptive stages towards ``target_depth`` or ``target_speedup``."""

    drop: tuple[int, ...] = ()
    target_depth: int | None = None
    target_speedup: float | None = None  # MACs of the intact model over MACs of the pruned one, at least
    num_stages: int = 3
    max_per_stage: int = 0  # most blocks that one stage may drop; 0: just enough to reach the target, plus one
    num_proxy_samples: int = 16  # images in the NTK and in each ZiCo batch
    weights: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    recovery_shares: str = "even"  # one of RECOVERY_SHARES

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
        if self.max_per_stage < 0:
            raise InputError(
                f"max_per_stage is {self.max_per_stage}; expected 1 or more, or 0 for no limit of your own"
            )
        if self.num_proxy_samples < 2:
            raise InputError(f"num_proxy_samples is {self.num_proxy_samples}; the NTK needs at least 2")
        if self.recovery_shares not in RECOVERY_SHARES:
            raise InputError(
                f"recovery_shares {self.recovery_shares!r} is unknown; choose {' or '.join(RECOVERY_SHARES)}"
            )
        check_weights(self.weights)

    def check_against(self, depth: int) -> None:
        """Raises unless this can be done to a model of ``depth`` blocks."""
        check_blocks(self.drop, depth)
        if self.target_depth is not None and self.target_depth >= depth:
            raise InputError(f"target depth {self.target_depth} is not below the model's {depth} blocks")
        if self.target_speedup is not None and self.target_speedup >= depth:
            raise InputError(
                f"target speed-up {self.target_speedup:g}× is out of reach: one block of {depth} must stay, which is "
                f"less than {depth}×; ask for less"
            )

    def recovery_steps(self, stage: int, num_steps: int, *, last: bool) -> int:
        """Steps of recovery in ``stage`` (from 1) where an even share is ``num_steps``; their sum is the same.

        ``last``: this stage reaches the target, so that no other follows.
        """
        if self.drop or self.recovery_shares == "even":
            return num_steps
        num_stages = self.num_stages
        all_shares, total = num_stages * (num_stages + 1) // 2, num_steps * num_stages
        before = -(-total * (stage * (stage - 1) // 2) // all_shares)
        until = total if last else -(-total * (stage * (stage + 1) // 2) // all_shares)
        return until - before


def check_blocks(drop: tuple[int, ...] | list[int], depth: int) -> None:
    """Raises unless ``drop`` names different existing blocks and leaves at least one."""
    outside = [block for block in drop if not 0 <= block < depth]
    if outside:
        raise InputError(f"block {outside[0]} doesn't exist: this model has blocks 0 … {depth - 1}")
    if len(set(drop)) != len(drop):
        raise InputError(f"a block is named twice in {list(drop)}")
    if len(drop) >= depth:
        raise InputError(f"all {depth} blocks would be dropped; keep at least one")
