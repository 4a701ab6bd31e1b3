"""In which numbers a model's network works, and whether its blocks are compiled. Free of torch.

Weights, AdamW's moments, the moving average, losses, entropies and features stay in 32 or 64 bits whatever is chosen
here; so do NTK, ZiCo and Taylor, which live on small differences of gradients.
"""

from dataclasses import dataclass

from engine.errors import InputError

#: name -> what it means, for whoever chooses
PRECISIONS = {
    "fp32": "32-bit numbers, as the models are saved",
    "tf32": "32-bit numbers, of which matrix products take 10 of the 23 bits after the point; GPUs from Ampere on",
    "bf16": "matrix products in 16-bit numbers (autocast); weights, and what is passed from block to block, in 32",
}


@dataclass(frozen=True, kw_only=True)
class Compute:
    precision: str = "fp32"
    compile: bool = False  # blocks by torch.compile; where that can't be done they run as they are, and a line says why

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown; choose {', '.join(PRECISIONS)}")
        if not isinstance(self.compile, bool):
            raise InputError(f"compile is {self.compile!r}; expected true or false")


#: what is usual, and what runs of before this could be chosen were made with
USUAL = Compute()
