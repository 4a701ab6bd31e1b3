"""Between the blocks: each reading is what a network cut off there would answer, at the sampler's own states."""

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.trajectory import following
from engine.learn.block_states import block_states
from engine.runs.previews import answer_preview
from engine.runs.workspace import open_workspace
from engine.steps import result_of

PROTOCOL = Protocol(num_steps=5, cfg_scale=2.0)


@pytest.mark.parametrize("process", ["flow", "diffusion"])
def test_each_reading_is_the_answer_of_the_network_cut_off_there(make_model, process):
    model = make_model(process)
    frames = result_of(following(model, label=3, seed=17, protocol=PROTOCOL))
    (states,) = block_states(model, label=3, seed=17, steps=[2], protocol=PROTOCOL)
    assert states.time == frames[2].time
    assert states.noise_left == pytest.approx(frames[2].noise_left)
    x = _state_at(model, 2)
    t, y = torch.tensor([states.time]), torch.tensor([3])
    t = t.long() if process == "diffusion" else t
    for num in range(5):
        with torch.inference_mode():
            said = model.network(x, t, y, skip=range(num, 4))
            expected = model.autoencoder.decode(model.process.estimate_x0(said, x, t))[0]
        assert np.abs(states.readings[num].astype(int) - expected.astype(int)).max() <= 1
    assert len(np.unique(states.readings.reshape(5, -1), axis=0)) == 5  # gates are open: every block changes it


def _state_at(model, step):
    """The latent after ``step`` steps, drawn by hand."""
    from engine.evaluation.sampling import start_of

    start = start_of(model, labels=np.array([3]), seeds=np.array([17]), protocol=PROTOCOL)
    with torch.inference_mode():
        way = model.process.sample(
            start.network, start.noise, start.y, num_steps=PROTOCOL.num_steps, sampler=start.sampler,
            generators=start.generators,
        )  # fmt: skip
        return [x for _, x in way][step - 1]


def test_change_is_the_relative_length_of_what_a_block_adds(make_model):
    model = make_model("flow")
    with torch.no_grad():
        for parameter in model.network.blocks[1].adaLN_modulation.parameters():
            parameter.zero_()  # closed gates: this block adds nothing
    (states,) = block_states(model, label=3, seed=17, steps=[0], protocol=PROTOCOL)
    assert states.change.shape == (4, 16)
    assert np.all(states.change[1] == 0)
    assert np.all(states.change[[0, 2, 3]] > 0)
    assert np.array_equal(states.readings[1], states.readings[2])
    x = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(17))[None]
    with torch.inference_mode():
        h, c = model.network.embed(x, torch.zeros(1), torch.tensor([3]))
        after = model.network.blocks[0](h, c)
    expected = np.linalg.norm((after - h).numpy()[0], axis=1) / np.linalg.norm(h.numpy()[0], axis=1)
    assert np.allclose(states.change[0], expected, rtol=1e-4)


@pytest.mark.parametrize(("change", "words"), [({"label": 10}, "class"), ({"steps": [5]}, "steps 0 … 4"),
                                               ({"steps": []}, "steps 0 … 4")])  # fmt: skip
def test_a_question_that_makes_no_sense_costs_one_line(make_model, change, words):
    asked = {"label": 3, "seed": 1, "steps": [0], "protocol": PROTOCOL, **change}
    with pytest.raises(InputError, match=words):
        block_states(make_model("flow"), **asked)


def test_the_preview_writes_a_strip_for_each_step(tmp_path, monkeypatch, make_model):
    import json

    from engine.models.checkpoints import save_model

    workspace = open_workspace(tmp_path / "workspace")
    (tmp_path / "one").mkdir()
    save_model(make_model("flow"), tmp_path / "one")
    folder = workspace.previews / "key"
    folder.mkdir()
    params = {"model": str(tmp_path / "one"), "class": 3, "seed": 7, "steps": [1, 3],
              "protocol": {"num_images": 1, "num_steps": 4}}  # fmt: skip
    found = answer_preview("block_states", params, folder=folder, device="cpu")
    json.dumps(found, allow_nan=False)
    from PIL import Image

    for states in found["steps"]:
        with Image.open(folder / states["image"]) as strip:
            assert strip.size == (5 * 32, 32)
        assert np.shape(states["change"]) == (4, 16)
