"""How many bytes of tensors are alive at the most while something runs, beyond those that were alive before.

On a GPU the allocator counts them; on a CPU torch's profiler notes every allocation and release. Both leave out the
libraries, what the allocator keeps for later and the scratch memory inside a kernel.
"""

import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """None where the device doesn't say. ``work`` runs once; its results count as long as it holds them."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return _noted(work) if device.type == "cpu" else None


def _noted(work: Callable[[], object]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler would report that there is no GPU as an error
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as noted:
        work()
    alive = peak = 0
    for event in noted.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak
