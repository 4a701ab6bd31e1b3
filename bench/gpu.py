"""What a GPU makes of DiT-XL/2 with random weights: each task's time, its floor, and the peak of memory.

    python bench/gpu.py [--precision bf16 …] [--compile] [--batch-size 32] [--tiny]

A floor is the least time the task could take here: its multiply-adds over the rate of a large matrix product, or the
bytes that have to come and go over the speed of a large copy, whichever is more; both are measured first. Tasks: CED of
every block (256 samples × 10 timesteps), the NTK of 16 samples (in fp32, whatever the precision), steps of fine-tuning,
latents of pictures in 20 steps with guidance. Beside them: how far CED in each precision is from that in the first.

``--tiny`` does all of it with a small network in under a minute on a CPU: to see that it works, not how fast.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import CedConfig, Compute, FinetuneConfig, Protocol, Trainer, compute_ced, finetune
from engine.compute import PRECISIONS
from engine.data.dataset import Data, unnamed_classes
from engine.evaluation.efficiency import count_parameters
from engine.evaluation.sampling import trajectory
from engine.importance.streams import part_evaluations
from engine.models.arithmetic import plain_fp32, working_in
from engine.models.autoencoder import PixelSpace
from engine.models.compiled import why_not
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model
from engine.models.presets import PRESETS
from engine.process import make_process
from engine.pruning.decision import macs_by_depth
from engine.pruning.proxies import NoisedBatch, ntk_condition_number, weight_layers

_FP32 = 4  # bytes
#: over a weight's fp32 numbers in a step: AdamW reads four and writes three, the average reads two and writes one, the
#: gradient's norm reads one
_PASSES_OF_A_STEP = 11


@dataclass(frozen=True, kw_only=True)
class Size:
    network: dict
    samples: int
    timesteps: int
    num_proxy_samples: int
    batch_size: int
    train_steps: int
    images: int
    num_steps: int
    side: int  # of the matrices whose product is timed
    megabytes: int  # that are copied to time that


LARGE = Size(
    network=PRESETS["XL/2"],
    samples=256,
    timesteps=10,
    num_proxy_samples=16,
    batch_size=32,
    train_steps=8,
    images=32,
    num_steps=20,
    side=8192,
    megabytes=4096,
)
TINY = Size(
    network=dict(input_size=8, hidden_size=32, depth=4, num_heads=4, num_classes=10),
    samples=16,
    timesteps=2,
    num_proxy_samples=4,
    batch_size=4,
    train_steps=2,
    images=2,
    num_steps=2,
    side=256,
    megabytes=16,
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured of it: FLOP/s of products in one precision, bytes/s of a copy (read and written)."""

    rate: float
    bandwidth: float

    def floor(self, *, flops: float, num_bytes: float) -> float:
        """Seconds."""
        return max(flops / self.rate, num_bytes / self.bandwidth)


@dataclass(frozen=True, kw_only=True)
class Row:
    task: str
    seconds: float
    floor: float
    images: int | None  # that came of it, where their number a second is what is asked
    peak_bytes: int | None
    note: str = ""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="default: all that the device has")
    parser.add_argument("--compile", action="store_true", help="bf16 with compiled blocks, too")
    parser.add_argument("--batch-size", type=int, help="of fine-tuning")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args(argv)
    device, size = torch.device(args.device), TINY if args.tiny else LARGE
    if device.type != "cuda" and not args.tiny:
        print("no GPU here, so there is nothing to measure; --tiny shows that this works")
        return
    if args.batch_size:
        size = replace(size, batch_size=args.batch_size)
    plain_fp32()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    bandwidth = copy_speed(device, size.megabytes * 2**20)
    print(f"copies {bandwidth / 1e9:,.0f} GB/s, read and written")
    model, data = made_up(size, device), encoded(size)
    exact: np.ndarray | None = None
    for compute in computes(args, device):
        machine = Machine(rate=product_rate(device, size.side, compute.precision), bandwidth=bandwidth)
        words = compute.precision + (", compiled blocks" if compute.compile else "")
        print(f"\n{words}: products {machine.rate / 1e12:,.2f} TFLOP/s\n")
        print("| task | took | floor | took ÷ floor | peak, GiB |\n|---|---|---|---|---|")
        of_compute = replace(model, compute=compute)
        scores: list[np.ndarray] = []
        for row in rows(of_compute, data, size, machine, scores):
            print(in_table(row), flush=True)
        if exact is None:
            exact = scores[0]
        else:
            print(f"\nlargest change of a CED cell against {first(args, device)}: {np.abs(scores[0] - exact).max():.2g}"
                  " nats")  # fmt: skip
        if compute.compile and why_not():
            print(f"\nblocks weren't compiled: {why_not()}")


def computes(args: argparse.Namespace, device: torch.device) -> list[Compute]:
    usual = [name for name in PRECISIONS if name != "tf32" or device.type == "cuda"]
    found = [Compute(precision=name) for name in args.precision or usual]
    return [*found, Compute(precision="bf16", compile=True)] if args.compile else found


def first(args: argparse.Namespace, device: torch.device) -> str:
    return computes(args, device)[0].precision


def rows(model: Model, data: Data, size: Size, machine: Machine, scores: list[np.ndarray]) -> Iterator[Row]:
    yield ced(model, data, size, machine, scores)
    if model.compute.precision == "fp32" and not model.compute.compile:
        yield ntk(model, size, machine)
    yield training(model, data, size, machine)
    yield drawing(model, size, machine)


def ced(model: Model, data: Data, size: Size, machine: Machine, scores: list[np.ndarray]) -> Row:
    config, depth = CedConfig(samples=size.samples, timesteps=size.timesteps), model.config.depth
    compute_ced(model, data, replace(config, timesteps=1))  # warms up, and compiles
    seconds, peak = timed(lambda: scores.append(np.array(compute_ced(model, data, config).delta)), model.device)
    evaluations = part_evaluations(depth, range(depth)) * size.samples * size.timesteps
    macs = macs_by_depth(model.network)
    tokens = _FP32 * model.config.num_tokens * model.config.hidden_size
    floor = machine.floor(flops=2 * (macs[2] - macs[1]) * evaluations, num_bytes=2 * tokens * evaluations)
    task = f"CED of {depth} blocks × {size.timesteps} timesteps × {size.samples} samples"
    return Row(task=task, seconds=seconds, floor=floor, images=None, peak_bytes=peak)


def ntk(model: Model, size: Size, machine: Machine) -> Row:
    B, generator = size.num_proxy_samples, torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(B, *model.config.latent_shape, generator=generator).to(model.device) for _ in range(2))
    t = model.process.draw_timesteps(B, generator).to(model.device)
    batch = NoisedBatch(x0=x0, t=t, eps=eps, y=torch.arange(B, device=model.device) % model.config.num_classes)
    found: list[float] = []

    def work() -> None:
        found.append(ntk_condition_number(model.network, model.process, batch))

    work()
    seconds, peak = timed(work, model.device)
    grams = sum(
        flops_of_gram(layer.weight.numel(), layer.weight.shape[0], B, tokens) for layer, tokens in layers(model)
    )
    passes = 2 * 2 * macs_by_depth(model.network)[model.config.depth] * B  # forward, and back to the layers' outputs
    floor = machine.floor(flops=passes + grams, num_bytes=2 * _FP32 * count_parameters(model.network))
    note = f"κ {found[0]:.4g}"
    return Row(task=f"NTK of {B} samples", seconds=seconds, floor=floor, images=None, peak_bytes=peak, note=note)


def layers(model: Model) -> Iterator[tuple[torch.nn.Module, int]]:
    """Each with the vectors of a sample that go through it."""
    names = {module: name for name, module in model.network.named_modules()}
    for layer in weight_layers(model.network):
        of_sample = "adaLN" in names[layer] or "t_embedder" in names[layer]
        yield layer, 1 if of_sample else model.config.num_tokens


def flops_of_gram(num_weights: int, num_out: int, B: int, T: int) -> float:
    """Of the cheaper way to a layer's share of the kernel: the samples' gradients, or products of tokens."""
    num_in = num_weights // num_out
    return min(2 * B * T * num_weights + B * B * num_weights, 2 * (B * T) ** 2 * (num_in + num_out))


def training(model: Model, data: Data, size: Size, machine: Machine) -> Row:
    config = FinetuneConfig(num_steps=2 + size.train_steps, batch_size=size.batch_size)
    network = copy.deepcopy(model.network)  # the other tasks' weights stay as they are
    latents, labels = torch.from_numpy(data.latents), torch.from_numpy(data.labels)
    trainer = Trainer(network, model.process, latents=latents, labels=labels, config=config, compute=model.compute)
    steps = finetune(trainer)
    next(steps), next(steps)
    seconds, peak = timed(lambda: list(steps), model.device)
    passes = 4 if trainer.recompute else 3  # of which the backward pass is two
    forward = 2 * macs_by_depth(network)[model.config.depth] * size.batch_size
    one = machine.floor(flops=passes * forward, num_bytes=0)
    one += machine.floor(flops=0, num_bytes=_PASSES_OF_A_STEP * _FP32 * count_parameters(network))
    how = [f"{trainer.micro_batch} at a time"] if trainer.micro_batch < size.batch_size else []
    return Row(
        task=f"fine-tuning in batches of {size.batch_size}",
        seconds=seconds,
        floor=one * size.train_steps,
        images=size.batch_size * size.train_steps,
        peak_bytes=peak,
        note=", ".join(["gradient checkpointing", *how] if trainer.recompute else how),
    )


def drawing(model: Model, size: Size, machine: Machine) -> Row:
    index = np.arange(size.images)
    protocol = Protocol(num_images=size.images, num_steps=size.num_steps, precision=model.compute.precision)
    given = dict(labels=index % model.config.num_classes, seeds=index)

    def work(protocol: Protocol = protocol) -> None:
        for _ in trajectory(model, **given, protocol=protocol):
            pass

    work(replace(protocol, num_steps=1))
    seconds, peak = timed(work, model.device)
    forward = 2 * macs_by_depth(model.network)[model.config.depth]
    weights = _FP32 * count_parameters(model.network)
    floor = machine.floor(flops=2 * forward * size.images, num_bytes=weights) * size.num_steps
    task = f"latents, {size.num_steps} steps, guided, {size.images} at a time"
    return Row(task=task, seconds=seconds, floor=floor, images=size.images, peak_bytes=peak)


def in_table(row: Row) -> str:
    def words(seconds: float) -> str:
        return f"{row.images / seconds:,.1f} images/s" if row.images else f"{seconds:,.2f} s"

    peak = "–" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.1f}"
    task = f"{row.task} ({row.note})" if row.note else row.task
    return f"| {task} | {words(row.seconds)} | {words(row.floor)} | {row.seconds / row.floor:.2f} | {peak} |"


def made_up(size: Size, device: torch.device) -> Model:
    """Gates open a little, so that all of it counts; its latents are never decoded."""
    config = DiTConfig(**size.network)
    network = DiT(config).initialize(torch.Generator().manual_seed(0), gate_std=0.02)
    return Model(
        ref="random weights",
        network=network.to(device).eval().requires_grad_(False),
        process=make_process("diffusion"),
        autoencoder=PixelSpace(),
        class_names=unnamed_classes(config.num_classes),
        content_hash="random",
        trained_on="nothing",
        kept_blocks=tuple(range(config.depth)),
    )


def encoded(size: Size) -> Data:
    rng, config = np.random.default_rng(0), DiTConfig(**size.network)
    num = max(size.samples, size.batch_size)
    return Data(
        name="noise",
        images=None,
        labels=np.arange(num) % config.num_classes,
        class_names=unnamed_classes(config.num_classes),
        content_hash="noise",
        latents=rng.standard_normal((num, *config.latent_shape)).astype(np.float32),
    )


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, int | None]:
    """Seconds, and the most bytes that tensors took meanwhile, all that was there included."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    begun = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - begun
    return seconds, torch.cuda.max_memory_allocated(device) if on_gpu else None


def product_rate(device: torch.device, side: int, precision: str) -> float:
    """FLOP/s of a square product, the best of several."""
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    if precision == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    with working_in(Compute(precision=precision), device):
        return 2 * side**3 / fastest(lambda: a @ b, device)


def copy_speed(device: torch.device, num_bytes: int) -> float:
    """Bytes/s that are read plus those that are written, the best of several."""
    source = torch.empty(num_bytes // _FP32, device=device).zero_()
    target = torch.empty_like(source)
    return 2 * num_bytes / fastest(lambda: target.copy_(source), device)


def fastest(work: Callable[[], object], device: torch.device, *, turns: int = 10) -> float:
    work()
    return min(timed(work, device)[0] for _ in range(turns))


if __name__ == "__main__":
    main()
