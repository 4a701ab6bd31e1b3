"""What CED costs, each way against another in one run: ``python bench/ced.py [--part racing]``. All parts by default:

prefixes  shared prefixes against the naive loop (N + 1 whole forwards). The two ways take turns, and the best of five
          turns counts: whatever else the machine does only ever adds time. Prints the ratio and the largest difference
          between the two ways' CED cells in nats. The bound is the ratio of block evaluations, N² / (N + N(N−1)/2).
criteria  the other criteria on top of CED, in turns likewise.
racing    against the exact way on a bundled model: the share of seeds (each draws its own samples and noise) with the
          same set of the k least important blocks, and the share of block evaluations it took, for k = 3 and half the
          depth.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.data import load_data
from engine.data.dataset import Data
from engine.importance.ced import compute_ced
from engine.importance.config import CRITERIA, CedConfig, CriteriaConfig
from engine.importance.criteria import compute_criteria
from engine.importance.entropy import gaussian_entropy_of_variance
from engine.importance.streams import outputs_without_each, outputs_without_each_naively
from engine.models.checkpoints import load_model
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model

PARTS = ("prefixes", "criteria", "racing")
MODELS = {
    "12 blocks, 16 tokens (the bundled models' size)": DiTConfig(
        input_size=8, hidden_size=96, depth=12, num_heads=4, num_classes=10
    ),
    "28 blocks, 64 tokens": DiTConfig(input_size=16, hidden_size=192, depth=28, num_heads=6, num_classes=10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all of them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="demo-sit-digits", help="for criteria and racing")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=20, help="of the race")
    args = parser.parse_args()
    parts = args.part or PARTS
    if "prefixes" in parts:
        print(f"{'model':50} {'naive':>8} {'shared':>8} {'ratio':>6} {'bound':>6}  largest difference")
        for name, config in MODELS.items():
            num_samples = 256 if config.depth < 20 else 32
            compare(name, config, num_samples=num_samples, repeats=args.repeats, device=args.device)
    model, data = load_model(args.model, device=args.device), load_data(args.data)
    if "criteria" in parts:
        time_criteria(model, data, repeats=args.repeats)
    if "racing" in parts:
        race(model, data, num_seeds=args.seeds)


def time_criteria(model: Model, data: Data, *, repeats: int) -> None:
    settings = dict(samples=128, timesteps=3)
    shared, every = ("bi", "output-mse", "loss"), tuple(CRITERIA)
    ways = {
        "CED alone": lambda: compute_ced(model, data, CedConfig(**settings)),
        "CED, BI, output and loss": lambda: compute_criteria(
            model, data, CriteriaConfig(criteria=shared, variables=("target",), **settings)
        ),
        "CED and all criteria": lambda: compute_criteria(
            model, data, CriteriaConfig(criteria=every, variables=("target",), **settings)
        ),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats + 1):
        for way, compute in ways.items():
            synchronize(str(model.device))
            started = time.perf_counter()
            compute()
            synchronize(str(model.device))
            seconds[way].append(time.perf_counter() - started)
    best = {way: min(taken[1:]) for way, taken in seconds.items()}  # the first warms up
    print(f"\n{model.ref} on {data.name}: {settings['samples']} samples, {settings['timesteps']} columns")
    for way, taken in best.items():
        print(f"{way:50} {taken:7.2f}s {taken / best['CED alone'] - 1:+6.0%}")


def race(model: Model, data: Data, *, num_seeds: int) -> None:
    print(f"\nracing on {model.ref}, {data.name}, CED target, {CedConfig.samples} samples, seeds 0 … {num_seeds - 1}")
    numbers = (3, model.config.depth // 2)
    same: dict[int, list[bool]] = {k: [] for k in numbers}
    shares: dict[int, list[float]] = {k: [] for k in numbers}
    for seed in range(num_seeds):
        exact = compute_ced(model, data, CedConfig(seed=seed))
        for k in numbers:
            raced = compute_ced(model, data, CedConfig(seed=seed, method="racing", num_candidates=k))
            same[k].append(set(raced.order[:k]) == set(exact.order[:k]))
            shares[k].append(raced.racing["share"])
    for k in numbers:
        print(
            f"{k} least important: same set in {statistics.mean(same[k]):.0%} of {num_seeds} seeds, block evaluations "
            f"{statistics.mean(shares[k]):.0%} of the exact way's (median {statistics.median(shares[k]):.0%}, at most "
            f"{max(shares[k]):.0%})"
        )


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
