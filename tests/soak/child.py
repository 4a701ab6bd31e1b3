"""``python -m engine run`` with a checkpoint every few steps, so that a kill in a short training finds one.

Also as the process that stands by.
"""

import sys

from engine import cli
from engine.runs.standby import load_gently, wait_for_run

_SECONDS = 0.2  # instead of twenty


def main() -> int:
    if sys.argv[1:] == ["--standby"]:
        load_gently("engine.runs.jobs")
        arguments = wait_for_run()
    else:
        arguments = sys.argv[1:]
    from engine.runs import prune_job

    prune_job._CHECKPOINT_EVERY_SECONDS = _SECONDS
    return cli.main(["run", *arguments])


if __name__ == "__main__":
    sys.exit(main())
