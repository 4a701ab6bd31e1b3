"""What a pruning is made of; free of torch, so that the app can build and check one."""

from dataclasses import dataclass, field

from engine.errors import InputError

#: the three voters and their weights (our reading, after AutoProg-Zero): cost in MACs, NTK condition number, ZiCo
DEFAULT_WEIGHTS = {"cost": 1.0, "ntk": 0.5, "zico": 0.5}


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Either ``drop`` (these blocks, in one stage) or ``target_depth`` over ``num_stages`` adaptive stages."""

    drop: tuple[int, ...] = ()
    target_depth: int | None = None
    num_stages: int = 3
    max_per_stage: int = 0  # most blocks that one stage may drop; 0: just enough to reach the target, plus one
    num_proxy_samples: int = 16  # images in the NTK and in each ZiCo batch
    weights: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))

    def __post_init__(self) -> None:
        if bool(self.drop) == (self.target_depth is not None):
            raise InputError("say either which blocks to drop or which depth to reach, not both and not neither")
        if self.num_stages < 1:
            raise InputError(f"num_stages is {self.num_stages}; at least 1 is needed")
        if self.target_depth is not None and self.target_depth < 1:
            raise InputError(f"target depth {self.target_depth}: at least one block must stay")
        if set(self.weights) != set(DEFAULT_WEIGHTS) or min(self.weights.values()) < 0:
            raise InputError(f"weights must be numbers ≥ 0 for {', '.join(DEFAULT_WEIGHTS)}")

    def check_against(self, depth: int) -> None:
        """Raises unless this can be done to a model of ``depth`` blocks."""
        check_blocks(self.drop, depth)
        if self.target_depth is not None and self.target_depth >= depth:
            raise InputError(f"target depth {self.target_depth} is not below the model's {depth} blocks")


def check_blocks(drop: tuple[int, ...] | list[int], depth: int) -> None:
    """Raises unless ``drop`` names different existing blocks and leaves at least one."""
    outside = [block for block in drop if not 0 <= block < depth]
    if outside:
        raise InputError(f"block {outside[0]} doesn't exist: this model has blocks 0 … {depth - 1}")
    if len(set(drop)) != len(drop):
        raise InputError(f"a block is named twice in {list(drop)}")
    if len(drop) >= depth:
        raise InputError(f"all {depth} blocks would be dropped; keep at least one")
