"""What a fine-tuning is made of; free of torch, so that the app can build and check one."""

import math
from dataclasses import dataclass

from engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    num_steps: int = 300
    batch_size: int = 128
    learning_rate: float = 1e-4  # AdamW without weight decay, as in the official DiT
    warmup_steps: int = 0
    schedule: str = "constant"  # or "cosine": down to zero at num_steps
    ema_decay: float = 0.999  # reached gradually: (1 + step) / (10 + step)
    label_dropout: float = 0.1  # chance of the null class, for guidance
    max_grad_norm: float = 1.0
    distill_weight: float = 0.0  # of the squared distance to the teacher's output (TinyFusion, arXiv 2412.01199)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 0 or self.batch_size < 1:
            raise InputError(f"num_steps {self.num_steps} must be ≥ 0 and batch_size {self.batch_size} ≥ 1")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate {self.learning_rate} is out of range; usual values are 1e-5 … 1e-3")
        if self.schedule not in ("constant", "cosine"):
            raise InputError(f"schedule {self.schedule!r} is unknown; choose constant or cosine")
        if not 0 <= self.label_dropout < 1 or not 0 <= self.ema_decay < 1 or self.distill_weight < 0:
            raise InputError("label_dropout and ema_decay lie in [0, 1), distill_weight is at least 0")

    def learning_rate_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
