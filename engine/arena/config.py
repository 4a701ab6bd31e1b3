"""What an arena is made of; free of torch, so that the app can build and check one."""

from dataclasses import dataclass, field

from engine.arena.entrants import ENTRANTS
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.seeds import check_seed
from engine.training.config import FinetuneConfig, usual_recovery


@dataclass(frozen=True, kw_only=True)
class ArenaConfig:
    """Every entrant drops as many blocks and gets as many steps of recovery in all, once for each seed."""

    num_dropped: int = 6
    num_seeds: int = 3  # of recovery and of the samples that are measured
    num_random: int = 5  # random sets that take part: what chance gets, and points for the correlation
    entrants: tuple[str, ...] = tuple(ENTRANTS)
    adapt_steps: int = 0  # of training the intact model on the data first, the same start for everybody
    # for small models; a large one wants what is usual for its size
    finetune: FinetuneConfig = field(default_factory=lambda: usual_recovery(0, num_steps=600))
    # without guidance: it pulls every model's samples towards the classes' middles, and hides what a set cost
    protocol: Protocol = field(default_factory=lambda: Protocol(num_images=1000, cfg_scale=1.0))
    samples: int = 256  # images that the scores rest on
    timesteps: int = 10
    seed: int = 0  # of the scores and of the random sets

    def __post_init__(self) -> None:
        unknown = [name for name in self.entrants if name not in ENTRANTS]
        if unknown:
            raise InputError(f"no entrant named {unknown[0]!r}; choose among {', '.join(ENTRANTS)}")
        if len(self.entrants) + self.num_random < 2:
            raise InputError("an arena needs at least two entrants")
        if self.num_dropped < 1 or self.num_seeds < 1 or self.num_random < 0:
            raise InputError("num_dropped and num_seeds are at least 1, num_random at least 0")
        check_seed(self.seed)
        if self.adapt_steps < 0:
            raise InputError(f"adapt_steps is {self.adapt_steps}; 0 trains nothing beforehand")

    def check_against(self, depth: int) -> None:
        if self.num_dropped >= depth:
            raise InputError(f"{self.num_dropped} of {depth} blocks can't be dropped; at least one must stay")
