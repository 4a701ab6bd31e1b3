"""Small models with open gates: a zero-initialised adaLN block is the identity, and no test of surgery could fail."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.data.bundled import bundled_data
from engine.data.dataset import Data, unnamed_classes
from engine.models.autoencoder import read_autoencoder
from engine.models.dit import DiT, DiTConfig
from engine.models.model import Model
from engine.process import make_process

ASSETS = Path(__file__).parents[1] / "assets"


def make_network(*, seed: int = 0, gate_std: float = 0.2, **changes) -> DiT:
    settings = dict(
        input_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        depth=4,
        num_heads=4,
        num_classes=10,
        learn_sigma=True,
    )
    config = DiTConfig(**{**settings, **changes})
    return DiT(config).initialize(torch.Generator().manual_seed(seed), gate_std=gate_std).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def digits() -> Data:
    return bundled_data("digits")


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    autoencoder = read_autoencoder(ASSETS / "autoencoder", content_hash="test")

    def make(
        process: str = "flow", *, data: str = "digits", num_classes: int | None = None, seed: int = 0, **changes
    ) -> Model:
        names = bundled_data(data).class_names if num_classes is None else unnamed_classes(num_classes)
        network = make_network(seed=seed, num_classes=len(names), drop_sigma=process == "flow", **changes)
        return Model(
            ref=f"tiny-{process}",
            network=network,
            process=make_process(process, learn_sigma=network.config.learn_sigma),
            autoencoder=autoencoder,
            class_names=names,
            content_hash=f"tiny-{process}-{len(names)}-{seed}-{sorted(changes.items())}",
            trained_on=data,
            kept_blocks=tuple(range(network.config.depth)),
        )

    return make
