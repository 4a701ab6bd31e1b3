"""The batches of a training: drawn from (seed, step) alone, and for a GPU one step ahead of the one under way.

B images of a batch. Whether a batch is drawn ahead or when it is asked for, it is the same one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.process import Process
from engine.training.config import FinetuneConfig

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # x0 (B, C, H, W), t (B,), eps like x0, y (B,)


class Batches:
    def __init__(
        self,
        process: Process,
        config: FinetuneConfig,
        *,
        latents: Tensor,  # (n, C, H, W), on the device or, where they are too many, on the CPU
        labels: Tensor,  # (n,) on the device
        flipped: Tensor | None,  # like latents
        null_class: int | None,
        ahead: bool | None = None,  # None: on a GPU
        send: Callable[[Tensor], Tensor] | None = None,  # from the CPU to the device; None: what is usual there
    ) -> None:
        self.process, self.config, self.null_class = process, config, null_class
        self.latents, self.labels, self.flipped = latents, labels, flipped
        on_gpu = labels.device.type == "cuda"
        self._ahead = on_gpu if ahead is None else ahead
        self._send = send or (self._unawaited if on_gpu else self._moved)
        self._drawn: tuple[int, Batch] | None = None  # step and batch, drawn ahead

    def of(self, step: int) -> Batch:
        """Of a step, counted from 0."""
        if self._drawn is not None and self._drawn[0] == step:
            return self._drawn[1]
        return self._draw(step)

    def prepare(self, step: int) -> None:
        """Draws a step's batch now, for ``of``. To be called when the device has been given its work and before anybody
        waits for it: drawing takes the CPU meanwhile, and the copies queue up behind that work."""
        if self._ahead and step < self.config.num_steps and (self._drawn is None or self._drawn[0] != step):
            self._drawn = (step, self._draw(step))

    def _draw(self, step: int) -> Batch:
        config, send = self.config, self._send
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.randint(len(self.latents), (config.batch_size,), generator=generator)
        x0, y = self._images(self.latents, chosen), self.labels[send(chosen)]
        t = self.process.draw_timesteps(config.batch_size, generator)
        eps = torch.randn(x0.shape, generator=generator)
        if self.null_class is not None:
            dropped = torch.rand(config.batch_size, generator=generator) < config.label_dropout
            y = torch.where(send(dropped), self.null_class, y)
        if self.flipped is not None:  # drawn last, so that runs without mirrored images stay what they were
            mirrored = torch.rand(config.batch_size, generator=generator) < 0.5
            x0 = torch.where(send(mirrored)[:, None, None, None], self._images(self.flipped, chosen), x0)
        return x0, send(t), send(eps), y

    def _images(self, latents: Tensor, chosen: Tensor) -> Tensor:
        if latents.device == self.labels.device:
            return latents[self._send(chosen)]
        return self._send(latents[chosen])

    def _moved(self, drawn: Tensor) -> Tensor:
        return drawn.to(self.labels.device)

    def _unawaited(self, drawn: Tensor) -> Tensor:
        """From pinned memory, whose copy nobody waits for; torch keeps that memory until the copy was made."""
        return drawn.pin_memory().to(self.labels.device, non_blocking=True)
