"""CED with shared prefixes against the naive loop (N + 1 whole forwards), both in one run: ``python bench/ced.py``.

The two ways take turns, and the best of five turns counts: whatever else the machine does only ever adds time. Prints
the ratio and the largest difference between the two ways' CED cells in nats. The bound is the ratio of block
evaluations, N² / (N + N(N−1)/2).
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.importance.entropy import gaussian_entropy_of_variance
from engine.importance.streams import outputs_without_each, outputs_without_each_naively
from engine.models.dit import DiT, DiTConfig

MODELS = {
    "12 blocks, 16 tokens (the bundled models' size)": DiTConfig(
        input_size=8, hidden_size=96, depth=12, num_heads=4, num_classes=10
    ),
    "28 blocks, 64 tokens": DiTConfig(input_size=16, hidden_size=192, depth=28, num_heads=6, num_classes=10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(f"{'model':50} {'naive':>8} {'shared':>8} {'ratio':>6} {'bound':>6}  largest difference")
    for name, config in MODELS.items():
        compare(name, config, num_samples=256 if config.depth < 20 else 32, repeats=args.repeats, device=args.device)


@torch.inference_mode()
def compare(name: str, config: DiTConfig, *, num_samples: int, repeats: int, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    network = DiT(config).initialize(generator, gate_std=0.05).eval().to(device)
    x = torch.randn(num_samples, *config.latent_shape, generator=generator).to(device)
    target = torch.randn(x.shape, generator=generator).to(device)
    t = torch.full((num_samples,), 500.0, device=device)
    y = torch.zeros(num_samples, dtype=torch.long, device=device)
    seconds: dict[str, list[float]] = {"naive": [], "shared": []}
    cells = {}
    for _ in range(repeats + 1):
        for way, compute in (("naive", outputs_without_each_naively), ("shared", outputs_without_each)):
            synchronize(device)
            started = time.perf_counter()
            streams = compute(network, x, t, y)
            synchronize(device)
            seconds[way].append(time.perf_counter() - started)
            errors = (streams[:, :, : config.in_channels] - target).double().square().flatten(1).mean(1)
            entropy = gaussian_entropy_of_variance(errors)
            cells[way] = entropy[1:] - entropy[0]
    naive, shared = (min(seconds[way][1:]) for way in ("naive", "shared"))  # the first warms up
    N = config.depth
    bound = N * N / (N + N * (N - 1) / 2)
    difference = (cells["naive"] - cells["shared"]).abs().max().item()
    print(f"{name:50} {naive:7.2f}s {shared:7.2f}s {naive / shared:5.2f}× {bound:5.2f}×  {difference:.1e} nats")


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
