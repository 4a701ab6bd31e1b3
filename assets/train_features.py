"""Trains ``features/demo-cnn``: one small CNN over the classes of all bundled datasets, whose features FID rests on.

``python assets/train_features.py [--seed 2511]``; about a minute on one core.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

ASSETS = Path(__file__).parent
sys.path[:0] = [str(ASSETS.parent)]

from engine.evaluation.demo_cnn import SIDE, DemoCnn, DemoCnnConfig  # noqa: E402

CHANNELS = (32, 64, 128)
DATASETS = ("shapes", "digits", "glyphs", "textures")
CHANCES = (0.2, 0.2, 0.4, 0.2)  # of drawing from each dataset; glyphs have the most classes and the fewest images
HELD_OUT = 0.1
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 128, 6e-3, 5e-3, 0.05
MAX_SHIFT = 2  # pixels


def train_features(*, num_steps: int = 900, seed: int = 2511) -> dict[str, float]:
    """Writes demo-cnn.safetensors (fp16) and demo-cnn.json; gives the held-out accuracy on each dataset."""
    torch.manual_seed(seed)
    class_names = {name: tuple(_about(name)["class_names"]) for name in DATASETS}
    cnn = DemoCnn(DemoCnnConfig(channels=CHANNELS, class_names=class_names))
    train, held_out = _split_data(cnn.config, seed)
    _fit(cnn, train, num_steps=num_steps)
    cnn.eval().half().float()  # judged with the weights as they are stored
    accuracy = {name: _accuracy(cnn, *held_out[name], name) for name in DATASETS}
    print("held-out accuracy:", ", ".join(f"{name} {value:.4f}" for name, value in accuracy.items()), flush=True)
    _write(cnn, accuracy, seed=seed, num_steps=num_steps)
    return accuracy


def _about(name: str) -> dict:
    return json.loads((ASSETS / "data" / f"{name}.json").read_text())


def _split_data(config: DemoCnnConfig, seed: int) -> tuple[list, dict[str, tuple[Tensor, Tensor]]]:
    """Per dataset: images uint8 (N, 32, 32, 3) and labels (N,) counted over all classes."""
    rng = np.random.default_rng(seed)
    train, held_out = [], {}
    for name in DATASETS:
        with np.load(ASSETS / "data" / f"{name}.npz", allow_pickle=False) as arrays:
            images = torch.from_numpy(arrays["arr_0"])
            labels = torch.from_numpy(arrays["labels"]) + config.logits_of(name).start
        order = torch.from_numpy(rng.permutation(len(images)))
        cut = round(HELD_OUT * len(images))
        held_out[name] = images[order[:cut]], labels[order[:cut]]
        train.append((images[order[cut:]], labels[order[cut:]]))
    return train, held_out


def _fit(cnn: DemoCnn, train: list[tuple[Tensor, Tensor]], *, num_steps: int) -> None:
    cnn.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(cnn.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps, pct_start=0.2)
    for step in range(num_steps):
        images, labels = _draw_batch(train)
        with torch.autocast("cpu", torch.bfloat16):
            _, logits = cnn(_shifted(images).permute(0, 3, 1, 2))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps - 1:
            right = (logits.argmax(1) == labels).float().mean()
            print(f"demo-cnn step {step}/{num_steps} loss {loss.item():.3f} accuracy {right:.3f}", flush=True)


def _draw_batch(train: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    counts = torch.multinomial(torch.tensor(CHANCES), BATCH_SIZE, replacement=True).bincount(minlength=len(train))
    parts = []
    for (images, labels), count in zip(train, counts.tolist(), strict=True):
        chosen = torch.randint(len(images), (count,))
        parts.append((images[chosen], labels[chosen]))
    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


def _shifted(images: Tensor) -> Tensor:
    """Each image (B, 32, 32, 3) moved by up to MAX_SHIFT pixels; what is uncovered repeats the edge."""
    down, right = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2, len(images), 1))
    rows = (torch.arange(SIDE) + down).clamp(0, SIDE - 1)  # (B, 32)
    columns = (torch.arange(SIDE) + right).clamp(0, SIDE - 1)
    return images[torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


@torch.inference_mode()
def _accuracy(cnn: DemoCnn, images: Tensor, labels: Tensor, dataset: str) -> float:
    own = cnn.config.logits_of(dataset)
    logits = torch.cat([cnn(chunk.permute(0, 3, 1, 2))[1] for chunk in images.split(250)])[:, own]
    return (logits.argmax(1) + own.start == labels).double().mean().item()


def _write(cnn: DemoCnn, accuracy: dict[str, float], *, seed: int, num_steps: int) -> None:
    folder = ASSETS / "features"
    folder.mkdir(exist_ok=True)
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in cnn.state_dict().items()
    }
    save_file(weights, folder / "demo-cnn.safetensors")
    about = {
        "channels": CHANNELS,
        "num_features": cnn.config.num_features,
        "class_names": cnn.config.class_names,
        "held_out_accuracy": accuracy,
        "training": {"num_steps": num_steps, "batch_size": BATCH_SIZE, "seed": seed, "held_out": HELD_OUT},
    }
    (folder / "demo-cnn.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2511)
    parser.add_argument("--num-steps", type=int, default=900)
    args = parser.parse_args()
    train_features(num_steps=args.num_steps, seed=args.seed)


if __name__ == "__main__":
    main()
