"""How speed is measured: the batch and the precision of the forwards that are timed. Free of torch."""

from dataclasses import dataclass

from engine.errors import InputError

#: name -> what it means, for whoever chooses
PRECISIONS = {
    "fp32": "32-bit numbers, as the models are saved and drawn with",
    "bf16": "16-bit numbers: half the memory; faster on a GPU and on a CPU that can do it, else slower",
}
_MOST = 4096


def timed_in(precision: str) -> str:
    """What is usual where pictures are drawn in ``precision``: the same, as far as forwards are timed in it."""
    return precision if precision in PRECISIONS else Timing.precision


@dataclass(frozen=True, kw_only=True)
class Timing:
    batch_size: int = 8  # images in one forward
    precision: str = "fp32"  # of that forward's weights and numbers

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= _MOST:
            raise InputError(f"a batch of {self.batch_size} images can't be timed; take at least 1 and at most {_MOST}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown; choose {' or '.join(PRECISIONS)}")
