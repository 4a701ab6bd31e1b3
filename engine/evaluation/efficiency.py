"""What a model costs: parameters, multiply-adds, latency, throughput, memory.

Before and after are timed in turns (A, B, A, B, …) in one go, so that a busy machine hurts both alike; latencies from
different runs say little about each other.
"""

import copy
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
from engine.evaluation.class_order import class_labels
from engine.evaluation.interval import Interval, median_interval
from engine.evaluation.peak_memory import peak_memory
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw, images_at_a_time
from engine.evaluation.timing import Timing
from engine.models.compiled import compiled_blocks, why_not
from engine.models.dit import DiT
from engine.models.model import Model

_LEAST_REPEATS = 3
_WARM_UP_SECONDS = 2.0
_ENOUGH_SECONDS = 30.0  # of timing, after which no further repeat begins
_SAMPLING_SECONDS = 20.0  # of drawing in turns, beyond which it is left out
_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Of one forward of a batch, in milliseconds: median, 5th and 95th percentile of the repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SamplingSpeed:
    """From noise to pictures as each model's ``compute`` says, decoding included. ``speedup`` is over the first of the
    models compared."""

    images_per_second: float  # at the median of the turns
    seconds: float  # median of a turn
    speedup: float  # median over the turns of (first model's seconds / this one's), each pair side by side in time
    speedup_low: float  # least and most of the turns
    speedup_high: float
    batch_size: int
    turns: int


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    parameters: int
    macs: int  # multiply-adds of one forward for one image
    latency_ms: Latency  # of one forward for batch_size images
    speedup: Interval | None  # of one forward over the first model's, turn by turn; None for the first itself
    images_per_second: float  # through one forward, at the median latency; a picture takes many forwards
    batch_size: int
    device: str
    precision: str  # of the forward that was timed
    peak_memory_bytes: int | None  # of tensors alive in one forward, weights included; None: the device doesn't say
    file_bytes: int  # of the weights as they are saved here: fp32 safetensors, without its header of some KiB
    sampling: SamplingSpeed | None  # None where it wasn't timed: not asked for, or it would have taken too long
    notes: tuple[str, ...]  # what to know before these numbers are used, one sentence each

    def as_dict(self) -> dict:
        """The ``efficiency`` part of metrics.json."""
        return asdict(self) | {"notes": list(self.notes)}


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
    device = torch.device(device)
    return _latency(_time_in_turns([network], batch_size=batch_size, device=device, repeats=repeats, warmup=warmup)[0])


def measure_efficiency(model: Model, timing: Timing | None = None, *, repeats: int = 20) -> Efficiency:
    return compare_efficiency([model], timing, repeats=repeats)[0]


def compare_efficiency(
    models: Sequence[Model],
    timing: Timing | None = None,
    *,
    repeats: int = 20,
    sampling: Protocol | None = None,
) -> list[Efficiency]:
    """One result per model, timed in turns. All models must be on the same device; blocks are compiled where the first
    one's ``compute`` says so.

    ``sampling``: also draws images in turns as this protocol says, where that takes seconds rather than minutes.
    """
    timing, device = timing or Timing(), _on_one_device(models)
    if repeats < 1:
        raise InputError(f"repeats {repeats} must be at least 1")
    networks = [_in_precision(model.network, timing.precision) for model in models]
    with compiled_blocks(models[0].compute.compile):
        milliseconds = _time_in_turns(networks, batch_size=timing.batch_size, device=device, repeats=repeats, warmup=3)
    latencies = [_latency(own) for own in milliseconds]
    speedups = [None, *(median_interval(milliseconds[0] / own) for own in milliseconds[1:])]
    speeds, notes = [None] * len(models), _notes(timing, device, compiled=models[0].compute.compile)
    if sampling is not None:
        speeds, why_not = _speeds_of_sampling(models, sampling, timing, latencies)
        notes += why_not
    return [
        Efficiency(
            parameters=count_parameters(model.network),
            macs=count_macs(model.network),
            latency_ms=latency,
            speedup=speedup,
            images_per_second=1000 * timing.batch_size / latency.median,
            batch_size=timing.batch_size,
            device=str(device),
            precision=_PRECISIONS[network.pos_embed.dtype],
            peak_memory_bytes=_peak_memory(network, timing.batch_size, device),
            file_bytes=sum(tensor.nbytes for tensor in model.network.state_dict().values()),
            sampling=speed,
            notes=tuple(notes),
        )
        for model, network, latency, speedup, speed in zip(models, networks, latencies, speedups, speeds, strict=True)
    ]


def _in_precision(network: DiT, precision: str) -> DiT:
    """The network itself in fp32, else a copy with its weights in that precision."""
    return network if precision == "fp32" else copy.deepcopy(network).to(torch.bfloat16)


def _notes(timing: Timing, device: torch.device, *, compiled: bool) -> list[str]:
    notes = []
    if compiled:
        reason = why_not()
        notes.append(f"blocks couldn't be compiled: {reason}" if reason else "blocks were compiled")
    if timing.precision == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        notes.append("this processor has no bf16 arithmetic of its own: bf16 is worked out in fp32 and may be slower")
    return notes


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(said and ("bf16" in name or "amx" in name) for name, said in capabilities.items())


def _speeds_of_sampling(
    models: Sequence[Model], protocol: Protocol, timing: Timing, latencies: Sequence[Latency]
) -> tuple[list[SamplingSpeed | None], list[str]]:
    """In whole groups, so that no image is drawn to be thrown away; and why not, where it would take too long."""
    size = max(images_at_a_time(model, protocol) or 1 for model in models)
    batch_size = -(-timing.batch_size // size) * size
    forwards = protocol.num_steps * (1 if protocol.cfg_scale == 1 else 2) * batch_size / timing.batch_size
    turn = sum(latency.median for latency in latencies) / 1000 * forwards
    turns = int(min(5, _SAMPLING_SECONDS / turn - 1))  # one more warms up
    if turns < 3:
        note = f"sampling wasn't timed: drawing {batch_size} images takes about {turn / len(models):,.0f} s here"
        return [None] * len(models), [note]
    return list(compare_sampling(models, protocol, batch_size=batch_size, turns=turns)), []


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
    labels = class_labels(index, range(model.config.num_classes))
    with _evaluating(model.network):
        _synchronize(model.device)
        started = time.perf_counter()
        draw(model, labels=labels, seeds=protocol.seed + index, protocol=protocol)
        _synchronize(model.device)
        return time.perf_counter() - started


def _on_one_device(models: Sequence[Model]) -> torch.device:
    devices = {model.device for model in models}
    if len(devices) != 1:
        raise InputError(f"models on {', '.join(map(str, devices))} can't be timed together; load them on one device")
    return devices.pop()


def _time_in_turns(
    networks: Sequence[DiT], *, batch_size: int, device: torch.device, repeats: int, warmup: int
) -> np.ndarray:
    """Milliseconds (networks, repeats). Fewer repeats than asked for, though at least three, where a large model on a
    slow device would take minutes."""
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
    return milliseconds[:, :turn]


def _latency(milliseconds: np.ndarray) -> Latency:
    low, median, high = np.percentile(milliseconds, (5, 50, 95)).tolist()
    return Latency(median=median, low=low, high=high)


def _inputs(network: DiT, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    device, dtype = network.pos_embed.device, network.pos_embed.dtype
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, *network.config.latent_shape, generator=generator).to(device, dtype)
    t = torch.full((batch_size,), 0.5, device=device, dtype=dtype)
    return x, t, torch.zeros(batch_size, dtype=torch.long, device=device)


def _peak_memory(network: DiT, batch_size: int, device: torch.device) -> int | None:
    inputs = _inputs(network, batch_size)
    resident = sum(tensor.nbytes for tensor in (*network.state_dict().values(), *inputs))
    with _evaluating(network):
        of_forward = peak_memory(lambda: network(*inputs), device)
    return None if of_forward is None else resident + of_forward


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
