"""Whole runs on a tiny model: what lands in the folder, and what survives being stopped at any moment."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.torch import load_file

from engine.errors import Cancelled, InputError
from engine.importance.config import CedConfig
from engine.models.checkpoints import load_model, save_model
from engine.runs import prune_job as prune_job_module
from engine.runs.jobs import execute_run
from engine.runs.store import create_run
from engine.runs.workspace import open_workspace, read_json
from engine.training.config import FinetuneConfig

CED = asdict(CedConfig(samples=16, timesteps=2, num_bootstrap=20))
PROTOCOL = {"num_images": 16, "num_steps": 2, "cfg_scale": 1.5}
RECOVERY = asdict(FinetuneConfig(num_steps=8, batch_size=8, learning_rate=1e-3))


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def tiny(make_model, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(make_model(), folder)
    return str(folder)


def prune_run(workspace, tiny, **changes):
    params = {"model": tiny, "data": "digits", "finetune": RECOVERY, "protocol": PROTOCOL, "ced": CED}
    params |= changes or {"target_depth": 2, "num_stages": 2}
    return create_run(workspace, kind="prune", title="tiny", params=params)


def test_a_ced_run_leaves_its_result_and_shows_columns_as_they_come(workspace, tiny):
    params = {"model": tiny, "data": "digits", "config": CED}
    run = create_run(workspace, kind="ced", title="tiny", params=params)
    phases = {progress.phase for progress in execute_run(run, workspace)}
    assert phases == {"scoring"}
    result = read_json(run.path / "ced.json")
    assert sorted(result["order"]) == [0, 1, 2, 3]
    assert [event["column"] for event in run.events()[0] if event["event"] == "column"] == [1, 2]
    assert run.status().state == "done"
    assert run.status().progress == 1.0


def test_a_prune_run_is_a_tree_of_complete_stages(workspace, tiny):
    run = prune_run(workspace, tiny)
    list(execute_run(run, workspace))
    stages = run.stages()
    assert stages[0].depth == 4
    assert stages[-1].depth == 2
    for stage in stages:
        images, labels, seeds = stage.samples()
        assert images.shape == (16, 32, 32, 3)
        assert labels.tolist() == [k % 10 for k in range(16)]
        assert seeds.tolist() == list(range(16))
        metrics = stage.metrics()
        assert metrics["protocol"]["num_images"] == 16
        assert metrics["protocol"]["sampler"] == "euler"
        assert "FID (demo-cnn)" in metrics["fidelity"]
    first, last = stages[0], stages[-1]
    assert last.metrics()["efficiency"]["macs"] < first.metrics()["efficiency"]["macs"]
    gone = sorted(block for stage in stages for block in stage.info["dropped_blocks"])
    assert sorted([*gone, *last.kept_blocks]) == [0, 1, 2, 3]
    decision = stages[1].info["decision"]
    assert decision["mode"] == "adaptive"
    assert decision["candidates"][decision["chosen"]]["dropped"] == stages[1].info["dropped_blocks"]
    pruned = load_model(f"{run.id}@{last.number}", workspace=workspace.root)
    assert pruned.config.depth == 2
    assert pruned.kept_blocks == last.kept_blocks
    events = [event["event"] for event in run.events()[0]]
    assert {"decision", "train", "samples", "stage", "column"} <= set(events)
    picture = next(event["picture"] for event in run.events()[0] if event["event"] == "samples")
    assert (run.path / picture).exists()
    assert not (run.path / "train_state.safetensors").exists()


def test_before_and_after_are_drawn_from_the_same_seeds(workspace, tiny):
    run = prune_run(workspace, tiny, drop=[3], finetune={**RECOVERY, "num_steps": 0})
    list(execute_run(run, workspace))
    before, after = (stage.samples()[0].astype(float) for stage in run.stages())
    same = np.abs(before - after).mean()
    shuffled = np.abs(before - np.roll(after, 3, axis=0)).mean()
    assert 0 < same < shuffled


def final_weights(run):
    last = run.stages()[-1]
    return load_file(last.path / "weights.safetensors"), load_file(last.path / "train_state.safetensors")


@pytest.fixture(scope="module")
def unbroken(make_model, tmp_path_factory):
    """The weights at the end of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("unbroken")
    (root / "tiny").mkdir()
    save_model(make_model(), root / "tiny")
    workspace = open_workspace(root / "workspace")
    run = prune_run(workspace, str(root / "tiny"))
    list(execute_run(run, workspace))
    return final_weights(run)


@pytest.mark.parametrize("stop_after", [1, 9, 14, 20])
def test_a_run_stopped_anywhere_goes_on_and_ends_bit_identical(workspace, tiny, monkeypatch, unbroken, stop_after):
    monkeypatch.setattr(prune_job_module, "_CHECKPOINT_EVERY_SECONDS", 0.0)
    broken = prune_run(workspace, tiny)
    work = execute_run(broken, workspace)
    for _ in range(stop_after):
        next(work)
    work.close()
    assert broken.status().state == "interrupted"
    list(execute_run(broken, workspace))
    assert broken.status().state == "done"
    assert [stage.info["train"]["num_steps"] for stage in broken.stages()[1:]] == [8] * (len(broken.stages()) - 1)
    for expected, found in zip(unbroken, final_weights(broken), strict=True):
        assert expected.keys() == found.keys()
        assert all(expected[name].equal(found[name]) for name in expected)


def test_kill_minus_9_leaves_a_run_that_goes_on(workspace, tiny):
    run = prune_run(workspace, tiny, target_depth=2, num_stages=2, finetune={**RECOVERY, "num_steps": 400})
    command = [sys.executable, "-m", "engine", "run", str(run.path)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(event["event"] == "train" for event in run.events()[0]):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert run.status().state == "running"  # it had no chance to say otherwise: the worker does
    assert [stage.number for stage in run.stages()] == [0]
    short = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    run.request_cancel()
    assert short.wait(timeout=120) == 2
    assert "cancelled" in short.stderr.read()
    assert run.status().state == "cancelled"


def test_cancelling_keeps_finished_stages(workspace, tiny):
    run = prune_run(workspace, tiny)
    work = execute_run(run, workspace)
    for progress in work:
        if progress.phase == "recovery":
            break
    run.request_cancel()
    with pytest.raises(Cancelled):
        next(work)
    assert run.status().state == "cancelled"
    assert [stage.number for stage in run.stages()] == [0]
    assert not run.cancel_requested


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"drop": [0, 1, 2, 3]}, "keep at least one"),
        ({"drop": [7]}, "blocks 0 … 3"),
        ({"target_depth": 4}, "not below"),
        ({"drop": [1], "protocol": {"num_images": 0}}, "images"),
        ({"drop": [1], "protocol": {"num_imges": 9}}, "num_imges"),
        ({"drop": [1], "data": "cats"}, "cats"),
        ({"drop": [1], "model": "nobody"}, "nobody"),
    ],
)
def test_what_cannot_be_done_fails_with_one_line_and_no_stage(workspace, tiny, changes, line):
    run = prune_run(workspace, tiny, **changes)
    with pytest.raises(InputError, match=line):
        list(execute_run(run, workspace))
    status = run.status()
    assert status.state == "failed"
    assert line in status.error
    assert "\n" not in status.error
    assert run.stages() == []
