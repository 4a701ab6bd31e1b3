"""How long a cancelled run takes to end: from the file ``cancel`` to state "cancelled", in every phase of every kind.

The runs are made long enough that each phase can be met; the moment in it is random.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from engine.importance.config import CedConfig
from engine.runs.queue import cancel_run, submit_run
from engine.runs.store import RESTING_STATES, Run, create_run
from tests.soak.kills import Soak
from tests.soak.world import World, make_world

_CED = asdict(CedConfig(samples=60, timesteps=60))
#: kind -> what makes its phases long, and the phases
_LONG = {
    "ced": ({"config": _CED}, ("scoring",)),
    "prune": (
        {"adapt_steps": 300, "ced": _CED, "protocol": {"num_images": 400, "num_steps": 20}, "num_proxy_samples": 60},
        ("adapting", "evaluating", "scoring", "deciding", "recovery"),
    ),
    "evaluate": ({"protocol": {"num_images": 2000, "num_steps": 10}}, ("evaluating", "measuring")),
    "export": ({}, ("exporting",)),
}


def measure(world: World, *, times: int, seed: int, say: Callable[[str], None]) -> dict[tuple[str, str], list[float]]:
    """(kind, phase) -> seconds of each time. A run that ended before it could be cancelled doesn't count."""
    host, chance, found = Soak(world, seed=seed, say=say), random.Random(seed), {}
    host.start_worker()
    try:
        for kind, (changes, phases) in _LONG.items():
            for phase in ("starting", *phases):
                for _ in range(times):
                    run = create_run(world.workspace, kind=kind, title=phase, params={**world.params(kind), **changes})
                    seconds = _cancelled_in(run, world, phase, chance)
                    if seconds is not None:
                        found.setdefault((kind, phase), []).append(seconds)
                say(f"{kind:10}{phase:12}" + "  ".join(f"{seconds:.2f} s" for seconds in found.get((kind, phase), [])))
    finally:
        host.stop()
    return found


def _cancelled_in(run: Run, world: World, phase: str, chance: random.Random) -> float | None:
    submit_run(world.workspace, run)
    while not _is_in(run, phase):
        if run.status().state in RESTING_STATES:
            return None
        time.sleep(0.005)
    time.sleep(chance.uniform(0.0, 0.4))
    began = time.monotonic()
    cancel_run(world.workspace, run.id)
    while run.status().state not in RESTING_STATES:
        time.sleep(0.005)
    return time.monotonic() - began if run.status().state == "cancelled" else None


def _is_in(run: Run, phase: str) -> bool:
    """ "measuring" is what an evaluation does after its last picture was drawn."""
    status = run.status()
    if phase == "measuring":
        return status.phase == "measuring" or (status.phase == "evaluating" and status.progress >= 0.97)
    return status.phase == phase


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.cancels", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="in each phase")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="entpruner-cancel-") as root:
        found = measure(
            make_world(Path(root)), times=args.times, seed=args.seed, say=lambda line: print(line, flush=True)
        )
    every = [seconds for some in found.values() for seconds in some]
    print(f"{len(every)} runs cancelled; longest {max(every):.2f} s, median {sorted(every)[len(every) // 2]:.2f} s")
    return 1 if max(every) > 2 else 0


if __name__ == "__main__":
    sys.exit(main())
