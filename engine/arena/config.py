"""What an arena is made of; free of torch, so that the app can build and check one."""

from dataclasses import dataclass, field

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.training.config import FinetuneConfig

#: the readings of CED that take part under these names, beside the criteria
CED_ENTRANTS = {"ced-target": "target", "ced-samples": "samples", "ced-prediction": "prediction"}
DEFAULT_ENTRANTS = (
    *CED_ENTRANTS, "bi", "output-mse", "loss", "magnitude", "taylor", "first", "last", "every-other",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ArenaConfig:
    """Every entrant drops as many blocks and gets the same recovery, once for each seed."""

    num_dropped: int = 6
    num_seeds: int = 3  # of recovery and of the samples that are measured
    num_random: int = 5  # random sets that take part: what chance gets, and points for the correlation
    entrants: tuple[str, ...] = DEFAULT_ENTRANTS
    finetune: FinetuneConfig = field(default_factory=lambda: FinetuneConfig(learning_rate=5e-4))
    # without guidance: it pulls every model's samples towards the classes' middles, and hides what a set cost
    protocol: Protocol = field(default_factory=lambda: Protocol(num_images=1000, cfg_scale=1.0))
    samples: int = 256  # images that the scores rest on
    timesteps: int = 10
    seed: int = 0  # of the scores and of the random sets

    def __post_init__(self) -> None:
        unknown = [name for name in self.entrants if name not in DEFAULT_ENTRANTS]
        if unknown:
            raise InputError(f"no criterion named {unknown[0]!r}; choose among {', '.join(DEFAULT_ENTRANTS)}")
        if len(self.entrants) + self.num_random < 2:
            raise InputError("an arena needs at least two entrants")
        if self.num_dropped < 1 or self.num_seeds < 1 or self.num_random < 0:
            raise InputError("num_dropped and num_seeds are at least 1, num_random at least 0")

    def check_against(self, depth: int) -> None:
        if self.num_dropped >= depth:
            raise InputError(f"{self.num_dropped} of {depth} blocks can't be dropped; at least one must stay")
