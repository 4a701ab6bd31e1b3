"""What a fine-tuning is made of; free of torch, so that the app can build and check one."""

import math
from dataclasses import dataclass

from engine.errors import InputError
from engine.seeds import check_seed

SCHEDULES = ("constant", "cosine")
#: steps that teach a small intact model classes it doesn't know
USUAL_ADAPTATION = 300

#: parameters below which a model is small: it bears a larger learning rate than the published models were trained with
SMALL_MODEL = 20_000_000
#: what recovers a small model better than the published rate in the same number of steps (our reading, measured on the
#: bundled models: docs/method.md)
_SMALL_MODEL_RECOVERY = {
    "batch_size": 64,
    "learning_rate": 4e-3,
    "schedule": "cosine",
    "warmup_steps": 20,
    "distill_weight": 4.0,
}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    num_steps: int = 300
    batch_size: int = 128
    learning_rate: float = 1e-4  # AdamW without weight decay, as in the official DiT
    warmup_steps: int = 0  # at most as many as there are steps
    schedule: str = "constant"  # or "cosine": down to zero at the end
    schedule_start: int = 0  # steps that went before, where this is a part of a longer training with one schedule
    schedule_steps: int | None = None  # of that whole training; None: num_steps
    ema_decay: float = 0.999  # reached gradually: (1 + step) / (10 + step)
    label_dropout: float = 0.1  # chance of the null class, for guidance
    max_grad_norm: float = 1.0
    distill_weight: float = 0.0  # of the squared distance to the teacher's output (TinyFusion, arXiv 2412.01199)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 0 or self.batch_size < 1:
            raise InputError(f"num_steps {self.num_steps} must be ≥ 0 and batch_size {self.batch_size} ≥ 1")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate {self.learning_rate} is out of range; usual values are 1e-5 … 4e-3")
        if self.warmup_steps < 0:
            raise InputError(f"warmup_steps is {self.warmup_steps}; expected 0 or more")
        if self.schedule_start < 0 or (self.schedule_steps is not None and self.schedule_steps < 0):
            raise InputError("schedule_start and schedule_steps are at least 0")
        check_seed(self.seed)
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule {self.schedule!r} is unknown; choose constant or cosine")
        if not 0 <= self.label_dropout < 1 or not 0 <= self.ema_decay < 1 or self.distill_weight < 0:
            raise InputError("label_dropout and ema_decay lie in [0, 1), distill_weight is at least 0")

    def learning_rate_at(self, step: int) -> float:
        """For steps of this training counted from 0."""
        length, step = self.schedule_steps or self.num_steps, self.schedule_start + step
        warmup_steps = min(self.warmup_steps, length)
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        done = min(1.0, (step - warmup_steps) / max(1, length - warmup_steps))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def usual_recovery(num_parameters: int | None, **changes) -> FinetuneConfig:
    """What is usual for a model of this size, with ``changes``; a model of unknown size (None) counts as large."""
    small = num_parameters is not None and num_parameters < SMALL_MODEL
    return FinetuneConfig(**{**(_SMALL_MODEL_RECOVERY if small else {}), **changes})


def check_batch(config: FinetuneConfig, num_images: int) -> None:
    """Raises InputError where data of ``num_images`` is smaller than one batch, and any training is asked for."""
    if config.num_steps and num_images < config.batch_size:
        raise InputError(
            f"batch_size is {config.batch_size}, but the data has only {num_images} images; choose a batch_size of at "
            f"most {num_images}"
        )
