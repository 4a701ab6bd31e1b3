"""A random-weight DiT-XL/2 (675 M parameters) from a checkpoint on disk to a pruned one: seconds and peak memory.

    python bench/xl.py [--device cuda] [--keep FOLDER]

Every step is the command a person would type, in a process of its own. Weights are random with open gates, so times and
memory are those of the real model and the pictures are noise. The autoencoder has the published one's shape with
fewer channels; the dataset is 64 encoded "images".
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.models.dit import DiT, DiTConfig
from engine.models.presets import PRESETS

NUM_IMAGES = 64
CHECKPOINT = "DiT-XL-2-256x256.pt"


def make_inputs(folder: Path) -> None:
    network = DiT(DiTConfig(**PRESETS["XL/2"])).initialize(torch.Generator().manual_seed(0), gate_std=0.02)
    torch.save(network.state_dict(), folder / CHECKPOINT)
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.18215,
    ).save_pretrained(folder / "vae")
    rng = np.random.default_rng(0)
    for name in ("features", "labels"):
        (folder / "data" / name).mkdir(parents=True)
    for index in range(NUM_IMAGES):
        latent = rng.standard_normal((1, 4, 32, 32)).astype(np.float32)
        np.save(folder / "data" / "features" / f"{index}.npy", latent)
        np.save(folder / "data" / "labels" / f"{index}.npy", np.array([index % 1000]))


def steps(folder: Path, device: str) -> list[tuple[str, list[str]]]:
    model, data = str(folder / CHECKPOINT), str(folder / "data")
    of_model = ["--process", "diffusion", "--vae", str(folder / "vae"), "--device", device]
    workspace = ["--workspace", str(folder / "workspace")]
    pruned, here = str(folder / "run" / "stages" / "1"), ["--device", device, *workspace]
    drop = ",".join(str(block) for block in range(1, 28, 2))
    few_scores = ["--samples", "8", "--timesteps", "1"]
    few = ["--num", "8", "--num-steps", "2", "--cfg-scale", "1"]
    return [
        ("inspect", ["inspect", model, *of_model, *workspace]),
        ("CED, 8 samples × 1 timestep", ["ced", model, data, *of_model, *workspace, *few_scores]),
        (
            "prune to 14 blocks, 1 step, 8 images",
            ["prune", model, data, *of_model, *workspace, "--drop", drop, "--steps-per-stage", "1", "--batch-size", "2"]
            + [*few, "--run", str(folder / "run")],
        ),
        ("export, official", ["export", pruned, "--layout", "official", "--out", str(folder / "official"), *here]),
        ("inspect what was exported", ["inspect", str(folder / "official" / "model.pt"), *of_model, *workspace]),
        ("export, diffusers", ["export", pruned, "--layout", "diffusers", "--out", str(folder / "diffusers"), *here]),
        ("inspect that", ["inspect", str(folder / "diffusers"), *here]),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", type=Path, help="work here and leave the files")
    args = parser.parse_args()
    folder = (args.keep or Path(tempfile.mkdtemp(prefix="xl-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not (folder / "vae").exists():
            make_inputs(folder)
        print(f"{'step':40}{'seconds':>9}{'peak GiB':>10}")
        for name, command in steps(folder, args.device):
            started = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-m", "engine", *command], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                return os.waitstatus_to_exitcode(status)
            print(f"{name:40}{time.perf_counter() - started:9.1f}{usage.ru_maxrss / 2**20:10.2f}", flush=True)
    finally:
        if not args.keep:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
