"""Pre-trains ``demo-dit`` and ``demo-sit`` on shapes, and adapts each to digits; resumes from ``build/``."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from engine.models.autoencoder import read_autoencoder
from engine.models.dit import DiT, DiTConfig
from engine.process import make_process
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune

ASSETS = Path(__file__).parent
BUILD = ASSETS.parent / "build"
SIZE = dict(input_size=8, patch_size=2, in_channels=4, hidden_size=96, depth=12, num_heads=4)
PRETRAIN = dict(batch_size=128, learning_rate=1.2e-3, warmup_steps=200, schedule="cosine", ema_decay=0.999)
ADAPT = dict(batch_size=128, learning_rate=7e-4, warmup_steps=50, schedule="cosine", ema_decay=0.995)
CHECKPOINT_EVERY = 250  # steps


def train_model(name: str, *, process: str, dataset: str, num_steps: int, seed: int, parent: str | None = None) -> None:
    """Writes ``models/<name>/``: config.json and weights.safetensors (the moving average, fp16)."""
    data = np.load(ASSETS / "data" / f"{dataset}.npz")
    class_names = json.loads((ASSETS / "data" / f"{dataset}.json").read_text())["class_names"]
    latents = read_autoencoder(ASSETS / "autoencoder", content_hash="").encode(data["arr_0"])
    config = FinetuneConfig(num_steps=num_steps, seed=seed, **(ADAPT if parent else PRETRAIN))
    network = DiT(DiTConfig(**SIZE, num_classes=len(class_names), learn_sigma=True, drop_sigma=process == "flow"))
    network.initialize(torch.Generator().manual_seed(seed))
    if parent:  # other classes than the parent's: every weight but the label table
        inherited = load_file(ASSETS / "models" / parent / "weights.safetensors")
        inherited.pop("y_embedder.embedding_table.weight")
        network.load_state_dict({key: value.float() for key, value in inherited.items()}, strict=False)
    trainer = Trainer(
        network, make_process(process), latents=latents, labels=torch.from_numpy(data["labels"]), config=config
    )
    _train_with_checkpoints(trainer, BUILD / f"{name}.safetensors", name)
    folder = ASSETS / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half() for key, value in trainer.ema_state_dict().items()}, folder / "weights.safetensors")
    about = {
        "process": process,
        "network": asdict(network.config),
        "class_names": class_names,
        "autoencoder": "autoencoder",
        "trained_on": dataset,
        "parent": parent,
        "training": asdict(config),
    }
    (folder / "config.json").write_text(json.dumps(about, indent=1) + "\n")


def _train_with_checkpoints(trainer: Trainer, checkpoint: Path, name: str) -> None:
    checkpoint.parent.mkdir(exist_ok=True)
    if checkpoint.exists():
        trainer.load_state_dict(load_file(checkpoint))
        print(f"{name}: goes on from step {trainer.step}", flush=True)
    losses, started = [], time.time()
    for done in finetune(trainer):
        losses.append(done.loss)
        if done.step % CHECKPOINT_EVERY == 0 or done.step == trainer.config.num_steps:
            partial = checkpoint.with_suffix(".partial")
            save_file(trainer.state_dict(), partial)
            partial.rename(checkpoint)
            rate = (time.time() - started) / len(losses[-CHECKPOINT_EVERY:])
            print(f"{name} {done.step}/{trainer.config.num_steps} loss {np.mean(losses[-CHECKPOINT_EVERY:]):.4f} "
                  f"lr {done.learning_rate:.2e} {rate:.3f} s/step", flush=True)  # fmt: skip
            started = time.time()
