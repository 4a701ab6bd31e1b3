"""Ships a pruning run with the product, to be looked at again: ``python assets/record_replay.py [RUN_FOLDER]``.

Without a folder the run is made first, by the command below: some minutes on two cores. Writes
``replays/<model>-on-<data>.json`` and the features that the lesson on FID resamples.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ASSETS = Path(__file__).parent
sys.path.insert(0, str(ASSETS.parent))

from engine.assets import write_manifest  # noqa: E402
from engine.learn.kept_features import write_kept_features  # noqa: E402
from engine.learn.replay import write_replay  # noqa: E402
from engine.runs.store import Run  # noqa: E402

COMMAND = ["prune", "demo-sit-digits", "digits", "--target-depth", "6", "--stages", "3", "--steps-per-stage", "200",
           "--num", "500"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished pruning run")
    parser.add_argument("--cut", type=int, nargs="+", default=[0], help="blocks that a third model goes without")
    args = parser.parse_args()
    run = args.run
    if run is None:
        run = Path(tempfile.mkdtemp()) / "run"
        subprocess.run([sys.executable, "-m", "engine", *COMMAND, "--run", str(run)], cwd=ASSETS.parent, check=True)
    record(Run(run), args.cut)


def record(run: Run, cut: list[int]) -> None:
    name = f"{run.params['model']}-on-{run.params['data']}"
    (ASSETS / "replays").mkdir(exist_ok=True)
    file = ASSETS / "replays" / f"{name}.json"
    print(f"{file}: {write_replay(run, file):,} bytes")
    features = file.with_suffix(".npz")
    print(f"{features}: {write_kept_features(run, features, cut=cut):,} bytes")
    write_manifest()


if __name__ == "__main__":
    main()
