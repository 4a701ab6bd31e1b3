"""What a model costs: parameters, multiply-adds, latency, throughput, memory.

Before and after are timed in turns (A, B, A, B, …) in one go, so that a busy machine hurts both alike; latencies from
different runs say little about each other.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.models.dit import DiT
from engine.models.model import Model

_LEAST_REPEATS = 3
_WARM_UP_SECONDS = 2.0
_ENOUGH_SECONDS = 30.0  # of timing, after which no further repeat begins
_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Of one forward of a batch, in milliseconds: median, 5th and 95th percentile of the repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    parameters: int
    macs: int  # multiply-adds of one forward for one image
    latency_ms: Latency  # of one forward for batch_size images
    images_per_second: float  # through one forward, at the median latency; a picture takes many forwards
    batch_size: int
    device: str
    precision: str
    peak_memory_bytes: int | None  # of one forward, weights included; None where the device doesn't say

    def as_dict(self) -> dict:
        """The ``efficiency`` part of metrics.json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class SamplingSpeed:
    """From noise to pictures, decoding included. ``speedup`` is over the first of the models compared."""

    images_per_second: float  # at the median of the turns
    seconds: float  # median of a turn
    speedup: float  # median over the turns of (first model's seconds / this one's), each pair side by side in time
    speedup_low: float  # least and most of the turns
    speedup_high: float
    batch_size: int
    turns: int


def count_parameters(network: DiT) -> int:
    """All of them, the fixed position table excepted."""
    return sum(parameter.numel() for parameter in network.parameters()) - network.pos_embed.numel()


def count_macs(network: DiT, *, batch_size: int = 1) -> int:
    """Multiply-adds of one forward for one image, attention included, elementwise work not."""
    # as plain products: fused attention kernels differ by device, and not all of them are counted
    with _evaluating(network), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(*_inputs(network, batch_size))
    flops = counter.get_total_flops()  # two per multiply-add
    assert flops % (2 * batch_size) == 0, flops
    return flops // (2 * batch_size)


def measure_latency(
    network: DiT, *, batch_size: int, device: torch.device | str, repeats: int = 20, warmup: int = 3
) -> Latency:
    """The network must be on ``device`` already."""
    return _time_in_turns(
        [network], batch_size=batch_size, device=torch.device(device), repeats=repeats, warmup=warmup
    )[0]


def measure_efficiency(model: Model, *, batch_size: int = 8, repeats: int = 20) -> Efficiency:
    return compare_efficiency([model], batch_size=batch_size, repeats=repeats)[0]


def compare_efficiency(models: Sequence[Model], *, batch_size: int = 8, repeats: int = 20) -> list[Efficiency]:
    """One result per model, timed in turns. All models must be on the same device."""
    device = _on_one_device(models)
    if batch_size < 1 or repeats < 1:
        raise InputError(f"batch_size {batch_size} and repeats {repeats} must be at least 1")
    networks = [model.network for model in models]
    latencies = _time_in_turns(networks, batch_size=batch_size, device=device, repeats=repeats, warmup=3)
    return [
        Efficiency(
            parameters=count_parameters(network),
            macs=count_macs(network),
            latency_ms=latency,
            images_per_second=1000 * batch_size / latency.median,
            batch_size=batch_size,
            device=str(device),
            precision=_PRECISIONS[network.pos_embed.dtype],
            peak_memory_bytes=_peak_memory(network, batch_size, device),
        )
        for network, latency in zip(networks, latencies, strict=True)
    ]


def compare_sampling(
    models: Sequence[Model], protocol: Protocol, *, batch_size: int = 16, turns: int = 5
) -> list[SamplingSpeed]:
    """One result per model: the same seeds and classes drawn in turns (A, B, A, B, …), ``batch_size`` images at once.

    The sampler, its steps and the guidance are the protocol's; its ``num_images`` doesn't count. Raises InputError for
    models on different devices and for a protocol that doesn't fit one of them.
    """
    _on_one_device(models)
    if batch_size < 1 or turns < 1:
        raise InputError(f"batch_size {batch_size} and turns {turns} must be at least 1")
    seconds = np.array(
        [[_seconds_of_drawing(model, protocol, batch_size) for model in models] for _ in range(1 + turns)]
    )[1:]  # (turns, models); the first turn warms up
    ratios = seconds[:, :1] / seconds
    return [
        SamplingSpeed(
            images_per_second=batch_size / float(np.median(seconds[:, k])),
            seconds=float(np.median(seconds[:, k])),
            speedup=float(np.median(ratios[:, k])),
            speedup_low=float(ratios[:, k].min()),
            speedup_high=float(ratios[:, k].max()),
            batch_size=batch_size,
            turns=turns,
        )
        for k in range(len(models))
    ]


def _seconds_of_drawing(model: Model, protocol: Protocol, batch_size: int) -> float:
    index = np.arange(batch_size)
    with _evaluating(model.network):
        _synchronize(model.device)
        started = time.perf_counter()
        draw(model, labels=index % model.config.num_classes, seeds=protocol.seed + index, protocol=protocol)
        _synchronize(model.device)
        return time.perf_counter() - started


def _on_one_device(models: Sequence[Model]) -> torch.device:
    devices = {model.device for model in models}
    if len(devices) != 1:
        raise InputError(f"models on {', '.join(map(str, devices))} can't be timed together; load them on one device")
    return devices.pop()


def _time_in_turns(
    networks: Sequence[DiT], *, batch_size: int, device: torch.device, repeats: int, warmup: int
) -> list[Latency]:
    """Fewer repeats than asked for, though at least three, where a large model on a slow device would take minutes."""
    inputs = [_inputs(network, batch_size) for network in networks]
    milliseconds = np.zeros((len(networks), repeats))
    begun, turn = time.perf_counter(), -warmup
    while turn < repeats:
        for index, network in enumerate(networks):
            with _evaluating(network):
                _synchronize(device)
                started = time.perf_counter()
                network(*inputs[index])
                _synchronize(device)
            if turn >= 0:
                milliseconds[index, turn] = 1000 * (time.perf_counter() - started)
        turn += 1
        if turn < 0 and time.perf_counter() - begun > _WARM_UP_SECONDS:
            turn = 0
        if turn >= _LEAST_REPEATS and time.perf_counter() - begun > _ENOUGH_SECONDS:
            break
    return [
        Latency(median=median, low=low, high=high)
        for low, median, high in np.percentile(milliseconds[:, :turn], (5, 50, 95), axis=1).T.tolist()
    ]


def _inputs(network: DiT, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    device, dtype = network.pos_embed.device, network.pos_embed.dtype
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, *network.config.latent_shape, generator=generator).to(device, dtype)
    t = torch.full((batch_size,), 0.5, device=device, dtype=dtype)
    return x, t, torch.zeros(batch_size, dtype=torch.long, device=device)


def _peak_memory(network: DiT, batch_size: int, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    with _evaluating(network):
        network(*_inputs(network, batch_size))
    _synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _evaluating(network: DiT) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)
