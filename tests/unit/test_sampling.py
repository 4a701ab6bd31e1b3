"""Image k is the same image in any company, to the last bit; and what guidance costs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.evaluation import sampling
from engine.evaluation.class_order import class_labels
from engine.evaluation.protocol import ADAPTIVE, Protocol
from engine.evaluation.sampling import draw, images_at_a_time, sample, sample_batches, trajectory
from engine.models.checkpoints import save_model
from engine.process.diffusion import Diffusion
from engine.process.flow import Flow

EVERY = [(process.name, sampler) for process in (Diffusion, Flow) for sampler in process.samplers]


@pytest.fixture
def latents(monkeypatch):
    """Decoding left out: whole numbers from 0 to 255 would hide a difference in the last bits."""

    def see(model):
        autoencoder = type("Seen", (), {"decode": lambda self, latents: latents.numpy().copy()})()
        return replace(model, autoencoder=autoencoder)

    return see


def protocol_of(sampler: str, cfg_scale: float, num: int = 64) -> Protocol:
    return Protocol(num_images=num, sampler=sampler, num_steps=4, cfg_scale=cfg_scale, seed=11)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.5])
@pytest.mark.parametrize(("process", "sampler"), EVERY)
def test_an_image_is_the_same_alone_and_in_batches_of_3_7_and_64(make_model, latents, process, sampler, cfg_scale):
    model = latents(make_model(process))
    protocol = protocol_of(sampler, cfg_scale)
    whole = sample(model, protocol, batch_size=64)
    assert len(np.unique(whole.images.reshape(64, -1), axis=0)) == 64
    for batch_size in (3, 7):
        assert np.array_equal(sample(model, protocol, batch_size=batch_size).images, whole.images)
    for k in (0, 1, 6, 13, 63):
        alone = draw(model, labels=whole.labels[k : k + 1], seeds=whole.seeds[k : k + 1], protocol=protocol)
        assert np.array_equal(alone.images[0], whole.images[k])


@pytest.mark.parametrize("num_classes", [1, 2, 10, 100])
def test_few_classes_come_in_their_order(num_classes):
    index = np.arange(250)
    assert class_labels(index, range(num_classes)).tolist() == (index % num_classes).tolist()
    assert class_labels(np.arange(5), [7, 3]).tolist() == [7, 3, 7, 3, 7]


@pytest.mark.parametrize("num_classes", [101, 102, 360, 1000, 21_841])
def test_of_many_classes_any_beginning_is_spread_and_any_k_images_hold_every_class_once(num_classes):
    labels = class_labels(np.arange(3 * num_classes), range(num_classes))
    for start in (0, 1, num_classes // 2, 2 * num_classes):
        assert len(set(labels[start : start + num_classes].tolist())) == num_classes
    assert class_labels(np.array([5, 77]), range(num_classes)).tolist() == labels[[5, 77]].tolist()
    for beginning in (8, num_classes // 10, num_classes // 2):
        gaps = np.diff(np.sort(labels[:beginning]), append=num_classes)
        assert gaps.max() <= 3 * num_classes / beginning


def test_the_beginning_of_a_thousand_is_what_the_documentation_says():
    assert class_labels(np.arange(4), range(1000)).tolist() == [0, 633, 266, 899]


def test_images_of_many_classes_are_the_same_in_batches_and_from_any_start(make_model, latents):
    model = latents(make_model(num_classes=150))
    protocol = protocol_of("euler", 1.0, num=20)
    whole = sample(model, protocol)
    assert whole.labels.max() > 100 and whole.labels[:3].tolist() == class_labels(np.arange(3), range(150)).tolist()
    (rest,) = sample_batches(model, protocol, start=13)
    assert np.array_equal(rest.labels, whole.labels[13:]) and np.array_equal(rest.images, whole.images[13:])


def test_in_whole_batches_an_image_is_the_same_up_to_rounding(make_model, latents):
    """As a GPU draws; on a CPU the groups are there for the last bits."""
    model = latents(make_model("flow", hidden_size=64, depth=8))
    protocol = protocol_of("euler", 1.0)
    labels, seeds = np.arange(64) % 10, np.arange(64)
    together = sampling.draw_together(model, labels=labels, seeds=seeds, protocol=protocol).images
    alone = sampling.draw_together(model, labels=labels[:1], seeds=seeds[:1], protocol=protocol).images
    assert np.abs(alone[0] - together[0]).max() < 1e-4


def test_any_place_in_the_group_gives_the_same_bits(make_model, latents):
    model = latents(make_model("diffusion"))
    protocol = protocol_of("ddpm", 2.5)
    alone = draw(model, labels=[3], seeds=[99], protocol=protocol).images[0]
    for place in range(images_at_a_time(model, protocol)):
        labels, seeds = np.arange(8), np.arange(8)
        labels[place], seeds[place] = 3, 99
        assert np.array_equal(draw(model, labels=labels, seeds=seeds, protocol=protocol).images[place], alone)


WORKER = """
import sys
import numpy as np
import torch
torch.set_num_threads(int(sys.argv[1]))
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import sample_batches
from engine.models.checkpoints import load_model
model, start, stop = load_model(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
protocol = Protocol(num_images=stop, sampler="sde", num_steps=3, seed=5)
np.save(sys.argv[5], np.concatenate([batch.images for batch in sample_batches(model, protocol, start=start)]))
"""


def test_workers_share_the_images_and_get_the_same(make_model, tmp_path):
    """Two processes with other numbers of threads, each with a part of the images."""
    model = make_model("flow")
    (tmp_path / "model").mkdir()
    save_model(model, tmp_path / "model")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(k + 1), tmp_path / "model", *map(str, span), tmp_path / f"{k}.npy"],
            cwd=Path(__file__).parents[2],
        )
        for k, span in enumerate([(0, 5), (5, 12)])
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    shared = np.concatenate([np.load(tmp_path / f"{k}.npy") for k in range(2)])
    whole = sample(model, Protocol(num_images=12, sampler="sde", num_steps=3, seed=5))
    assert np.array_equal(shared, whole.images)


def test_decoding_belongs_to_the_groups_too(make_model):
    model = make_model("flow")
    sizes = []
    decode = model.autoencoder.decode
    watched = type("Watched", (), {"decode": lambda self, x: (sizes.append(len(x)), decode(x))[1]})()
    drawn = sample(replace(model, autoencoder=watched), replace(protocol_of("euler", 2.0), num_images=19))
    assert sizes == [8, 8, 8] and len(drawn.images) == len(drawn.labels) == len(drawn.seeds) == 19


def test_groups_are_of_a_size_that_suits_the_model(make_model):
    small, large = make_model("flow"), make_model("flow", input_size=64)  # 16 and 1024 tokens
    bare, guided = protocol_of("euler", 1.0), protocol_of("euler", 2.0)
    assert [images_at_a_time(small, protocol) for protocol in (bare, guided)] == [16, 8]
    assert [images_at_a_time(large, protocol) for protocol in (bare, guided)] == [1, 1]  # nothing is ever filled up
    on_gpu = type("OnGpu", (), {"device": torch.device("cuda"), "config": small.config})()
    assert images_at_a_time(on_gpu, bare) is None


@pytest.mark.parametrize(("process", "sampler"), EVERY)
@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_the_null_class_is_computed_only_where_it_guides(make_model, monkeypatch, process, sampler, cfg_scale):
    model, protocol = make_model(process), protocol_of(sampler, cfg_scale)
    num = images_at_a_time(model, protocol)
    labels = (np.arange(num) % 10).tolist()
    calls, forward = [], model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda x, t, y: (calls.append(y.tolist()), forward(x, t, y))[1])
    draw(model, labels=labels, seeds=np.arange(num), protocol=protocol)
    assert all(call == labels + ([10] * num if cfg_scale != 1 else []) for call in calls)  # both halves in one batch
    steps = {"heun": 2 * 4 - 1, **dict.fromkeys(ADAPTIVE)}.get(sampler, 4)
    assert len(calls) == steps if steps else (len(calls) - 2) % 6 == 0


def test_the_trajectory_tells_time_and_stops_when_left(make_model):
    steps = trajectory(make_model("flow"), labels=[1], seeds=[2], protocol=protocol_of("euler", 1.0))
    t, x = next(steps)
    assert t == pytest.approx(0.25) and x.shape == (1, 4, 8, 8)
    steps.close()


def test_a_part_of_the_images_has_the_classes_and_seeds_of_the_whole(make_model):
    model, protocol = make_model("flow"), protocol_of("euler", 1.0, num=10)
    whole = sample(model, protocol, classes=[2, 5, 7])
    (part,) = sample_batches(model, protocol, classes=[2, 5, 7], start=4)
    assert part.labels.tolist() == whole.labels[4:].tolist() and part.seeds.tolist() == [15, 16, 17, 18, 19, 20]
    assert np.array_equal(part.images, whole.images[4:])


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 2**63 - 1])
def test_a_seed_out_of_range_is_one_clear_line(seed):
    with pytest.raises(InputError, match="out of range"):
        Protocol(seed=seed)


def test_an_adaptive_sampler_is_labelled_without_a_number_of_steps():
    assert "dopri5 adaptive steps" in Protocol(sampler="dopri5").label()
    assert "euler 20 steps" in Protocol(sampler="euler").label()
