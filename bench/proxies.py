"""NTK condition number: one backward against one per sample, in one run: ``python bench/proxies.py``."""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.models.dit import DiT, DiTConfig
from engine.process import make_process
from engine.pruning.proxies import NoisedBatch, condition_number, ntk_condition_number, weight_layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    config = DiTConfig(input_size=8, hidden_size=96, depth=12, num_heads=4, num_classes=10, drop_sigma=True)
    network = DiT(config).initialize(generator, gate_std=0.05).eval().requires_grad_(False)
    process = make_process("flow")
    B = args.batch
    batch = NoisedBatch(
        x0=torch.randn(B, *config.latent_shape, generator=generator),
        t=torch.rand(B, generator=generator),
        eps=torch.randn(B, *config.latent_shape, generator=generator),
        y=torch.randint(0, 10, (B,), generator=generator),
    )
    seconds: dict[str, list[float]] = {"one backward per sample": [], "one backward": []}
    values = {}
    for _ in range(args.repeats + 1):
        for way, compute in (("one backward per sample", by_definition), ("one backward", ntk_condition_number)):
            started = time.perf_counter()
            values[way] = compute(network, process, batch)
            seconds[way].append(time.perf_counter() - started)
    naive, ours = (sorted(times[1:])[args.repeats // 2] for times in seconds.values())
    a, b = values.values()
    print(f"B = {B}: {naive:.2f} s by definition, {ours:.3f} s from one backward, ratio {naive / ours:.1f}×")
    print(f"condition number {a:.6g} and {b:.6g}, relative difference {abs(a - b) / a:.1e} (fp32)")


def by_definition(network: DiT, process, batch: NoisedBatch) -> float:
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    rows = []
    for k in range(len(batch.x0)):
        one = slice(k, k + 1)
        x_t = process.noise(batch.x0[one], batch.t[one], batch.eps[one])
        out = network(x_t, batch.t[one], batch.y[one])[:, : x_t.shape[1]]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(out.sum(), weights)]))
    network.requires_grad_(False)
    jacobian = torch.stack(rows).double()
    return condition_number(jacobian @ jacobian.T)


if __name__ == "__main__":
    main()
