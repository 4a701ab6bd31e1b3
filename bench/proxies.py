"""NTK condition number and ZiCo, ours against one backward per sample, in one run: ``python bench/proxies.py``.

Three ways of one κ, weights only:
  published    one forward of the batch, then one backward a sample through the batch's graph (AutoProg-Zero, TE-NAS)
  per sample   one forward and one backward a sample, each alone: the quickest way to one backward per sample
  ours         one forward and one backward of the batch, per-layer Gram matrices

One thread, and time on the processor, so that other programs count as little as can be; the ways take turns and the
best turn of each counts. Peak memory is what a way adds to a process of its own, in which nothing else ran. Last, a
stage's candidates scored one by one and with what they share.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.models.dit import DiT, DiTConfig
from engine.process import make_process
from engine.pruning.proxies import (
    NoisedBatch,
    condition_number,
    ntk_condition_number,
    score_candidates,
    weight_layers,
    zico,
)

CONFIG = DiTConfig(input_size=8, hidden_size=96, depth=12, num_heads=4, num_classes=10, drop_sigma=True)
PROCESS = make_process("flow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--memory-of", choices=WAYS, help="print the MiB that one way adds at most, and leave")
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = DiT(CONFIG).initialize(torch.Generator().manual_seed(0), gate_std=0.05).eval().requires_grad_(False)
    if args.memory_of:
        print(added_memory(lambda: WAYS[args.memory_of](network, make_batch(args.batch, seed=0))))
        return
    compare_ntk(network, args.batch, args.repeats)
    compare_candidates(network, args.batch, max(3, args.repeats // 5))


def compare_ntk(network: DiT, num_samples: int, repeats: int) -> None:
    batch = make_batch(num_samples, seed=0)
    seconds, _ = in_turns({name: (lambda way=way: way(network, batch)) for name, way in WAYS.items()}, repeats)
    memory = {name: memory_in_own_process(name, num_samples) for name in WAYS}
    exact = DiT(CONFIG).double()
    exact.load_state_dict(network.state_dict())
    exact.eval().requires_grad_(False)
    values = {name: way(exact, make_batch(num_samples, seed=0, dtype=torch.float64)) for name, way in WAYS.items()}
    print(f"NTK, B = {num_samples}, {CONFIG.depth} blocks × {CONFIG.num_tokens} tokens, best of {repeats} turns:")
    for name in WAYS:
        line = f"  {name:10} {1000 * seconds[name]:6.0f} ms  {memory[name]:5.0f} MiB added at the peak"
        if name != "ours":
            difference = abs(values[name] - values["ours"]) / values["ours"]
            line += f"  ours: {seconds[name] / seconds['ours']:.1f}× less time"
            line += f", {memory[name] / memory['ours']:.1f}× less memory"
            line += f", κ {values['ours']:.6g} differs by {difference:.0e} (float64)"
        print(line)


def compare_candidates(network: DiT, num_samples: int, repeats: int) -> None:
    """Four candidates, as one stage has them: nothing, and the one to three least important blocks left out."""
    batches = [make_batch(num_samples, seed=seed) for seed in range(4)]
    order = (5, 8, 3)
    candidates = [[block for block in range(CONFIG.depth) if block not in order[:number]] for number in range(4)]

    def one_by_one() -> list[tuple[float, float]]:
        networks = [network.with_blocks(kept) for kept in candidates]
        return [(ntk_condition_number(n, PROCESS, batches[0]), zico(n, PROCESS, batches)) for n in networks]

    def shared() -> list[tuple[float, float]]:
        return [(s.ntk, s.zico) for s in score_candidates(network, PROCESS, batches, candidates)]

    seconds, values = in_turns({"one by one": one_by_one, "shared": shared}, repeats)
    difference = max(
        abs(a - b) / abs(a)
        for alone, together in zip(values["one by one"], values["shared"], strict=True)
        for a, b in zip(alone, together, strict=True)
    )
    print(
        f"NTK and ZiCo of 4 candidates (blocks {', '.join(map(str, order))} going in turn), best of {repeats}: "
        f"{seconds['one by one']:.2f} s one by one, {seconds['shared']:.2f} s with what they share, "
        f"ratio {seconds['one by one'] / seconds['shared']:.2f}×, scores differ by {difference:.0e}"
    )


def published(network: DiT, batch: NoisedBatch) -> float:
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    x_t = PROCESS.noise(batch.x0, batch.t, batch.eps)
    out = network(x_t, batch.t, batch.y)[:, : x_t.shape[1]]
    rows = [_flat(torch.autograd.grad(one.sum(), weights, retain_graph=True)) for one in out]
    network.requires_grad_(False)
    return _condition_of(rows)


def per_sample(network: DiT, batch: NoisedBatch) -> float:
    weights = [layer.weight.requires_grad_(True) for layer in weight_layers(network)]
    rows = []
    for k in range(len(batch.x0)):
        one = slice(k, k + 1)
        x_t = PROCESS.noise(batch.x0[one], batch.t[one], batch.eps[one])
        out = network(x_t, batch.t[one], batch.y[one])[:, : x_t.shape[1]]
        rows.append(_flat(torch.autograd.grad(out.sum(), weights)))
    network.requires_grad_(False)
    return _condition_of(rows)


def ours(network: DiT, batch: NoisedBatch) -> float:
    return ntk_condition_number(network, PROCESS, batch)


WAYS = {"published": published, "per sample": per_sample, "ours": ours}


def _flat(gradients: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def _condition_of(rows: list[torch.Tensor]) -> float:
    jacobian = torch.stack(rows)
    return condition_number(jacobian @ jacobian.T)


def make_batch(num_samples: int, *, seed: int, dtype: torch.dtype = torch.float32) -> NoisedBatch:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_samples, *CONFIG.latent_shape)
    return NoisedBatch(
        x0=torch.randn(shape, generator=generator).to(dtype),
        t=torch.rand(num_samples, generator=generator).to(dtype),
        eps=torch.randn(shape, generator=generator).to(dtype),
        y=torch.randint(0, CONFIG.num_classes, (num_samples,), generator=generator),
    )


def in_turns(ways: dict[str, Callable], repeats: int) -> tuple[dict[str, float], dict]:
    """Processor seconds of each way's best turn, after one that warms up, and what each returned."""
    seconds, values = dict.fromkeys(ways, float("inf")), {}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            started = time.process_time()
            values[name] = way()
            if turn:
                seconds[name] = min(seconds[name], time.process_time() - started)
    return seconds, values


def memory_in_own_process(name: str, num_samples: int) -> float:
    command = [sys.executable, __file__, "--memory-of", name, "--batch", str(num_samples)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def added_memory(work: Callable) -> float:
    """MiB by which the process grew at its peak (Linux: the peak is reset before)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mib("VmRSS")
    work()
    return _status_mib("VmHWM") - before


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


if __name__ == "__main__":
    main()
