"""Rebuilds everything in ``assets/`` from nothing on two CPU cores: ``python assets/build.py [STEP …]``.

Steps run in the order of ``STEPS``; one whose files exist is skipped, so that an interrupted build goes on where it
stopped. The models' training, which takes most of the two hours, goes on from its last checkpoint in ``build/``; the
autoencoder (about 9 minutes) and the features (about 1) start over. ``--force`` does the named steps again. Every step
is seeded; other hardware or another number of threads rounds differently, so weights repeat closely, not bit for bit.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

ASSETS = Path(__file__).parent
sys.path[:0] = [str(ASSETS), str(ASSETS.parent)]

import draw  # noqa: E402

from engine.assets import write_manifest  # noqa: E402

SEED = 2511
DATASETS = {
    "shapes": lambda: draw.shapes(1000, SEED),
    "digits": draw.digits,
    "glyphs": lambda: draw.glyphs(120, SEED),
    "textures": lambda: draw.textures(300, SEED),
}
DATASET_NOTES = {
    "shapes": "Ten drawn shapes in varied colour, size and place. The demo models were pre-trained on it.",
    "digits": "Real handwritten digits from scikit-learn (UCI, 8×8, scaled up).",
    "glyphs": "Capital letters rendered from the DejaVu and STIX fonts in varied style and colour.",
    "textures": "Eight two-coloured patterns without outline or place: far from anything in the pre-training set.",
}


def build_data() -> None:
    folder = ASSETS / "data"
    folder.mkdir(exist_ok=True)
    for name, make in DATASETS.items():
        images, labels, class_names = make()
        np.savez_compressed(folder / f"{name}.npz", arr_0=images, labels=labels)
        about = {"class_names": class_names, "about": DATASET_NOTES[name], "num_images": len(images), "seed": SEED}
        (folder / f"{name}.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        print(f"data/{name}: {len(images)} images, {len(class_names)} classes")


def all_images(*, equal: int = 2400) -> torch.Tensor:
    """(N, 3, 32, 32) uint8: ``equal`` images of each dataset, repeated where it has fewer."""
    parts = []
    for name in DATASETS:
        images = np.load(ASSETS / "data" / f"{name}.npz")["arr_0"]
        chosen = np.random.default_rng(SEED).permutation(np.resize(np.arange(len(images)), max(equal, len(images))))
        parts.append(images[chosen[:equal]])
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()


def build_autoencoder() -> None:
    from train_autoencoder import train_autoencoder

    folder = ASSETS / "autoencoder"
    train_autoencoder(all_images(), num_steps=4000, seed=SEED).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("block_out_channels")  # written by diffusers, which then warns about it at every load
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def build_features() -> None:
    from train_features import train_features

    train_features()


def build_model(name: str) -> None:
    from train_models import train_model

    train_model(name, seed=SEED, **MODELS[name])


MODELS = {
    "demo-sit": dict(process="flow", dataset="shapes", num_steps=6000),
    "demo-dit": dict(process="diffusion", dataset="shapes", num_steps=8000),
    "demo-sit-digits": dict(process="flow", dataset="digits", num_steps=1500, parent="demo-sit"),
    "demo-dit-digits": dict(process="diffusion", dataset="digits", num_steps=2000, parent="demo-dit"),
}


def build_pictures() -> None:
    """pictures/<model>.png: eight samples side by side, for the cards of the start page."""
    from PIL import Image

    from engine.evaluation.protocol import Protocol
    from engine.evaluation.sampling import sample
    from engine.models.checkpoints import load_model

    (ASSETS / "pictures").mkdir(exist_ok=True)
    for name in MODELS:
        model = load_model(name)
        drawn = sample(model, Protocol(num_images=8, num_steps=30, seed=SEED), classes=list(range(8)))
        Image.fromarray(np.concatenate(list(drawn.images), axis=1)).save(ASSETS / "pictures" / f"{name}.png")


STEPS = {
    "data": (build_data, "data/textures.json"),
    "features": (build_features, "features/demo-cnn.safetensors"),
    "autoencoder": (build_autoencoder, "autoencoder/diffusion_pytorch_model.safetensors"),
    **{name: (partial(build_model, name), f"models/{name}/config.json") for name in MODELS},
    "pictures": (build_pictures, "pictures/demo-dit-digits.png"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", choices=[[], *STEPS], help="default: every step that isn't done")
    parser.add_argument("--force", action="store_true", help="do the named steps again")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    for name in args.steps or STEPS:
        build, product = STEPS[name]
        if (ASSETS / product).exists() and not args.force:
            print(f"{name}: already there")
            continue
        build()
        write_manifest()


if __name__ == "__main__":
    main()
