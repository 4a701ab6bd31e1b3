"""The way of one picture: it ends at the bits of the sample, and each estimate is what the network said there."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.evaluation.trajectory import following
from engine.models.checkpoints import load_model, save_model
from engine.process import PROCESSES, adaptive, make_process
from engine.runs import drawing_previews
from engine.runs.previews import answer_preview
from engine.runs.workspace import open_workspace
from engine.steps import result_of

EVERY = [(process.name, sampler) for process in PROCESSES.values() for sampler in process.samplers]


@pytest.fixture
def latents(make_model):
    """Models whose decoder shows the latents themselves: whole grey levels would hide a difference in the last bits."""

    def make(process, **changes):
        seen = type("Seen", (), {"decode": lambda self, latents: latents.cpu().numpy().copy()})()
        return replace(make_model(process, **changes), autoencoder=seen)

    return make


def protocol_of(sampler, *, num_steps=5, cfg_scale=2.5):
    return Protocol(sampler=sampler, num_steps=num_steps, cfg_scale=cfg_scale, seed=11)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.5])
@pytest.mark.parametrize(("process", "sampler"), EVERY)
def test_the_way_ends_at_the_bits_of_the_sample(latents, process, sampler, cfg_scale):
    model, protocol = latents(process), protocol_of(sampler, cfg_scale=cfg_scale)
    frames = result_of(following(model, label=3, seed=17, protocol=protocol))
    among_others = draw(model, labels=[1, 3, 5], seeds=[16, 17, 18], protocol=protocol).images[1]
    assert np.array_equal(frames[-1].state, among_others)
    assert np.array_equal(frames[-1].estimate, among_others)
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(17)).numpy()
    assert np.array_equal(frames[0].state, noise)


@pytest.mark.parametrize(("process", "sampler"), EVERY)
def test_every_estimate_is_what_the_network_says_at_that_state_and_time(latents, process, sampler):
    """Asked again by hand, with the formulas of the papers."""
    model, protocol = latents(process), protocol_of(sampler, cfg_scale=1.0)
    frames = result_of(following(model, label=3, seed=17, protocol=protocol))
    alphas_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    for frame in frames[:-1]:
        x = torch.from_numpy(frame.state)[None]
        t = torch.tensor([frame.time], dtype=torch.float32)
        with torch.inference_mode():
            said = model.network(x, t, torch.tensor([3]))[:, :4]
        if process == "flow":
            expected = x + (1 - frame.time) * said
        else:
            a = float(alphas_bar[int(frame.time)])
            expected = (x - (1 - a) ** 0.5 * said) / a**0.5
        assert np.allclose(frame.estimate, expected[0].numpy(), rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("process", "sampler"), EVERY)
def test_times_go_from_noise_to_the_picture_without_a_state_twice(latents, process, sampler):
    frames = result_of(following(latents(process), label=0, seed=1, protocol=protocol_of(sampler)))
    left = [frame.noise_left for frame in frames]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) >= len(left) - (sampler == "ddpm")  # its last step starts at timestep 0
    assert left[0] > 0.99 and left[-1] == 0
    assert [frame.step for frame in frames] == list(range(len(frames)))
    if sampler != "dopri5":
        assert len(frames) == 5 + 1
    assert all(not np.array_equal(a.state, b.state) for a, b in pairwise(frames))


def test_a_step_that_dopri5_takes_back_is_no_frame(latents, monkeypatch):
    """A first step far too long is taken back, so that the first rounds end where they began."""
    monkeypatch.setattr(adaptive, "_first_step", lambda velocity, x, *more, **options: torch.ones(len(x)).double())
    model, protocol = latents("flow", gate_std=2.0), protocol_of("dopri5")
    frames, rounds = [], []

    def watched():
        frames.extend((yield from following(model, label=0, seed=1, protocol=protocol)))

    rounds.extend(watched())
    assert rounds[:2] == [0, 0]
    assert rounds[-1] == len(frames) - 1 == len(set(rounds)) - 1
    assert len({frame.time for frame in frames}) == len(frames)
    assert np.array_equal(frames[-1].state, draw(model, labels=[0], seeds=[1], protocol=protocol).images[0])


def test_a_long_way_is_shown_in_evenly_chosen_frames(latents):
    protocol = protocol_of("euler", num_steps=250, cfg_scale=1.0)
    steps = following(latents("flow", depth=1), label=0, seed=1, protocol=protocol, most_frames=50)
    done = [next(steps) for _ in range(250)]
    assert done == list(range(1, 251))
    frames = result_of(steps)
    chosen = [frame.step for frame in frames]
    assert len(chosen) == 50 and chosen[0] == 0 and chosen[-1] == 250
    assert set(np.diff(chosen)) == {5, 6}
    whole = draw(latents("flow", depth=1), labels=[0], seeds=[1], protocol=protocol).images[0]
    assert np.array_equal(frames[-1].state, whole)


def test_pictures_have_the_size_of_the_sample(make_model):
    frames = result_of(following(make_model("flow"), label=2, seed=5, protocol=protocol_of("euler")))
    assert {picture.shape for frame in frames for picture in (frame.state, frame.estimate)} == {(32, 32, 3)}
    assert frames[0].state.dtype == np.uint8
    sample = draw(make_model("flow"), labels=[2], seeds=[5], protocol=protocol_of("euler")).images[0]
    assert np.array_equal(frames[-1].state, sample)


@pytest.mark.parametrize("name", list(PROCESSES))
def test_an_output_that_hits_its_target_speaks_for_the_clean_latent(name):
    process = make_process(name)
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 4, 8, 8, generator=generator)
    t = process.timestep_grid(3)
    output = torch.cat([process.target(x0, t, eps), torch.randn(3, 4, 8, 8, generator=generator)], dim=1)
    x_t = process.noise(x0, t, eps)
    assert torch.allclose(process.estimate_x0(output, x_t, t), x0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": 10}, "classes 0 … 9"),
        ({"protocol": protocol_of("ddim")}, "doesn't fit a flow model"),
        ({"most_frames": 1}, "at least 2"),
    ],
)
def test_what_makes_no_sense_is_one_line(make_model, change, words):
    asked = {"label": 0, "seed": 0, "protocol": protocol_of("euler"), **change}
    with pytest.raises(InputError, match=words):
        result_of(following(make_model("flow"), **asked))


@pytest.fixture
def workspace(make_model, tmp_path):
    workspace = open_workspace(tmp_path / "workspace")
    for process in PROCESSES:
        (tmp_path / process).mkdir()
        save_model(make_model(process), tmp_path / process)
    return workspace


@pytest.mark.parametrize(("process", "sampler"), [("flow", "sde"), ("flow", ""), ("diffusion", "ddpm")])
def test_the_worker_answers_with_strips_that_end_at_the_sample(workspace, tmp_path, process, sampler):
    folder = workspace.previews / "key"
    folder.mkdir(parents=True)
    asked = {"sampler": sampler, "num_steps": 5, "cfg_scale": 2.5, "guided_channels": 3}
    model = str(tmp_path / process)
    params = {"model": model, "class": 3, "seed": 17, "protocol": asked}
    found = answer_preview("trajectory", params, folder=folder, device="cpu")
    json.dumps(found, allow_nan=False)
    assert [frame["step"] for frame in found["frames"]] == list(range(6))
    assert (found["protocol"]["sampler"], found["process"]) == (sampler or "euler", process)
    kept = draw(load_model(model), labels=[3], seeds=[17], protocol=Protocol(**asked)).images[0]
    for file in found["images"].values():
        strip = np.asarray(Image.open(folder / file))
        assert strip.shape == (32, 6 * 32, 3)
        assert np.array_equal(strip[:, -32:], kept)
        assert not np.array_equal(strip[:, :32], kept)


def test_a_question_about_a_way_that_makes_no_sense_costs_one_line(workspace, tmp_path):
    params = {"model": str(tmp_path / "flow"), "class": 3, "seed": 0, "protocol": {"sampler": "ddim"}}
    with pytest.raises(InputError, match="doesn't fit a flow model"):
        answer_preview("trajectory", params, folder=workspace.previews / "key", device="cpu")
    with pytest.raises(InputError, match="no setting 'steps'"):
        answer_preview("trajectory", {**params, "protocol": {"steps": 3}}, folder=workspace.previews, device="cpu")


def test_how_far_it_is_is_written_for_whoever_waits(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing_previews, "_TELL_SECONDS", -1.0)
    folder = workspace.previews / "key"
    folder.mkdir(parents=True)
    asked = {"sampler": "euler", "num_steps": 5, "cfg_scale": 1.0}
    params = {"model": str(tmp_path / "flow"), "class": 3, "seed": 0, "protocol": asked}
    answer_preview("trajectory", params, folder=folder, device="cpu")
    assert json.loads((folder / "progress.json").read_text()) == {"message": "step 5 of 5", "progress": 1.0}
