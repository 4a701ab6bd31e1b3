"""What a cluster costs and gives: the same columns, images and training steps here and on a Ray of 1 and 2 processes on
this machine. Prints for each the seconds, the bytes that were sent, and whether the bits are the same.

    python bench/cluster.py [--model demo-sit-digits] [--samples 256] [--timesteps 8] [--images 96]

Processes on one machine share its cores and memory: this shows overheads, not what more machines would give
(docs/scaling.md). Needs requirements-cluster.txt.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import CedConfig, Protocol, compute_ced, load_data, load_model, sample
from engine.cluster.connect import cluster
from engine.cluster.executor import in_order
from engine.errors import EngineError
from engine.importance.columns import draw_probe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo-sit-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--images", type=int, default=96)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a task has
    model, data = load_model(args.model), load_data(args.data)
    config = CedConfig(samples=args.samples, timesteps=args.timesteps)
    protocol = Protocol(num_images=args.images, num_steps=10)
    works: dict[str, Callable[[], Any]] = {
        f"CED, {args.timesteps} columns of {args.samples} samples": lambda: compute_ced(model, data, config),
        f"{args.images} images, {protocol.num_steps} steps": lambda: sample(model, protocol, batch_size=16),
    }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; 1 thread a process")
    here = {name: timed(work) for name, work in works.items()}
    for name, (seconds, _) in here.items():
        print(f"  here                 {name}: {seconds:.2f} s")
    try:
        for num_slots in (1, 2):
            begun = time.perf_counter()
            with cluster("auto", num_cpus=num_slots):
                started = time.perf_counter() - begun
                first = timed(partial(all_of, range(num_slots), (model, data)))[0]
                each = timed(partial(all_of, range(200), None))[0] / 200
                print(
                    f"  Ray of {num_slots}: starts in {started:.1f} s, its processes have torch and the model after "
                    f"{first:.1f} s more; then {1000 * each:.1f} ms a piece"
                )
                for name, work in works.items():
                    seconds, found = timed(work)
                    same = "the same bits" if as_bytes(found) == as_bytes(here[name][1]) else "OTHER BITS"
                    print(f"  Ray of {num_slots}             {name}: {seconds:.2f} s, {same}")
    except EngineError as error:
        print(f"error: {error}")
        return 2
    import ray.cloudpickle

    probe = draw_probe(model, data, config)
    print(
        f"  sent once to each node: {len(ray.cloudpickle.dumps(model)) / 1e6:.1f} MB of model, "
        f"{len(ray.cloudpickle.dumps(probe)) / 1e6:.1f} MB of samples"
    )
    rows = model.config.depth + 1
    print(f"  back for each column: {8 * rows * (1 + config.num_bootstrap) / 1e3:.0f} kB of entropies")
    return 0


def nothing(shared: Any, item: int) -> Iterator[int]:
    yield item


def all_of(items: Sequence[int], shared: Any) -> list[int]:
    return list(in_order(nothing, items, shared=shared))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def as_bytes(result: Any) -> bytes:
    if hasattr(result, "images"):
        return result.images.tobytes()
    return repr({name: value for name, value in asdict(result).items() if name != "seconds"}).encode()


if __name__ == "__main__":
    sys.exit(main())
