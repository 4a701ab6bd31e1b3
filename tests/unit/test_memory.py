"""What a model is, in plain values; and whether the memory that is promised is what is taken."""

import copy
import ctypes
import gc
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from engine.evaluation.efficiency import count_macs, count_parameters
from engine.models.checkpoints import load_model
from engine.models.dit import DiT, DiTConfig
from engine.models.memory import describe, expected_memory
from engine.models.presets import PRESETS
from engine.process import make_process
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer
from tests.conftest import make_network
from tests.unit.model_files import save_official

CONFIG = DiTConfig(hidden_size=512, depth=6, num_heads=8, input_size=32, num_classes=10)
SHALLOW = replace(CONFIG, depth=2, hidden_size=256, num_heads=4)  # a pass of 128 images in a second
BATCH = 4


def peak(work: Callable[[], None]) -> int:
    """Bytes that the process took at most beyond what it had before; counts everything, unlike torch's own counters."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forgets the highest mark so far
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


@pytest.fixture(scope="module")
def network() -> DiT:
    return DiT(CONFIG).initialize(torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected() -> dict[str, int]:
    return expected_memory(CONFIG, batch_size=BATCH, autoencoder=False)


def test_a_training_step_takes_what_is_expected(network, expected):
    def train() -> None:
        trainer = Trainer(
            copy.deepcopy(network), make_process("flow"), latents=torch.randn(8, *CONFIG.latent_shape),
            labels=torch.zeros(8, dtype=torch.long), config=FinetuneConfig(batch_size=BATCH, num_steps=1),
        )  # fmt: skip
        trainer.train_step()

    promised = expected[f"pruning (batches of {BATCH})"] - expected["opening"]
    assert 0.5 < peak(train) / promised < 2


def test_a_forward_of_guided_drawing_takes_what_is_expected():
    network = DiT(SHALLOW).initialize(torch.Generator().manual_seed(0))
    expected = expected_memory(SHALLOW, autoencoder=False)

    def draw() -> None:
        with torch.inference_mode():
            network(torch.randn(128, *SHALLOW.latent_shape), torch.zeros(128), torch.zeros(128, dtype=torch.long))

    assert 0.5 < peak(draw) / (expected["drawing"] - expected["opening"]) < 2


def test_opening_takes_the_weights_once(network, tmp_path, expected):
    file = save_official(network, tmp_path / "a.pt")
    kept = []
    taken = peak(lambda: kept.append(load_model(file, process="flow")))
    weights = 4 * count_parameters(network)
    assert expected["opening"] == weights
    # the copy, and pages of the mapped file that the system may take back at any moment
    assert taken < 2.5 * weights


def test_estimates_grow_as_they_must():
    small = expected_memory(CONFIG, batch_size=4)
    assert all(size >= small["opening"] for size in small.values())
    assert max(expected_memory(CONFIG, batch_size=64).values()) > 4 * max(small.values())
    assert expected_memory(CONFIG, device="cuda:0")["heatmap"] >= small["heatmap"]
    xl = expected_memory(DiTConfig(**PRESETS["XL/2"]), batch_size=1)
    assert 2.69e9 < xl["opening"] < 2.71e9  # 675 million float32
    assert 16e9 < xl["pruning (batches of 1)"] < 17.2e9  # beside the intact one: weights, gradients, moments, average


def test_the_facts_are_plain_and_right(tmp_path):
    network = make_network(depth=7, learn_sigma=False)
    facts = describe(load_model(save_official(network, tmp_path / "a.pt", licence="CC BY-NC"), process="flow"))
    json.dumps(facts)
    assert (facts["depth"], facts["hidden_size"], facts["patch_size"], facts["num_heads"]) == (7, 32, 2, 4)
    assert (facts["num_classes"], facts["null_class"], facts["learn_sigma"]) == (10, 10, False)
    assert (facts["layout"], facts["taken"], facts["licence"]) == ("official", "bare", "CC BY-NC")
    assert (facts["parameters"], facts["macs"]) == (count_parameters(network), count_macs(network))
    assert facts["image_side"] == 64 and facts["autoencoder"] == "stabilityai/sd-vae-ft-ema"
    assert (facts["process"], facts["process_reason"]) == ("flow", "chosen by hand")
    assert facts["source"].endswith("a.pt") and facts["named"] is False and len(facts["notes"]) == 2
    assert facts["network"]["depth"] == 7 and facts["memory"]["opening"] == 4 * facts["parameters"]


def test_a_bundled_models_facts(tmp_path):
    facts = describe(load_model("demo-sit"))
    assert (facts["layout"], facts["process"], facts["autoencoder"], facts["named"]) == (
        "ours",
        "flow",
        "autoencoder",
        True,
    )
    assert facts["process_reason"] == "its description says so" and facts["image_side"] == 32
