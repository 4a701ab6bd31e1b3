"""Whole runs on a tiny model: what lands in the folder, and what survives being stopped at any moment."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file

from engine.cli.runs import summary_of, summary_table
from engine.errors import Cancelled, InputError, Paused, TrainingDiverged
from engine.evaluation import sampling
from engine.evaluation.comparing import UNTRAINED_LABELS, differences
from engine.evaluation.kept_samples import num_kept
from engine.importance.config import CedConfig
from engine.models.checkpoints import load_model, save_model
from engine.models.export import export_model
from engine.pruning import progressive
from engine.runs import prune_job as prune_job_module
from engine.runs.drive import Drive, request_pause
from engine.runs.jobs import execute_run
from engine.runs.queue import drive_run
from engine.runs.store import create_run
from engine.runs.train_state import read_checkpoint
from engine.runs.workspace import open_workspace, read_json, write_json
from engine.training.config import FinetuneConfig

CED = asdict(CedConfig(samples=16, timesteps=2, num_bootstrap=20))
PROTOCOL = {"num_images": 16, "num_steps": 2, "cfg_scale": 1.5}
RECOVERY = asdict(FinetuneConfig(num_steps=8, batch_size=8, learning_rate=1e-3))
#: glyphs are other classes than the tiny model's; after the adaptation there is a teacher that knows them
ADAPTED = {"data": "glyphs", "target_depth": 2, "num_stages": 2, "adapt_steps": 6}
ADAPTED |= {"finetune": {**RECOVERY, "distill_weight": 1.0}}
HOT = {**RECOVERY, "learning_rate": 0.9}  # one step with it, and the pruned tiny model's gradient is NaN
_FAR = 1e20  # a learning rate after which every product of two layers overflows


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
    params |= {"recovery_shares": "even", **(changes or {"target_depth": 2, "num_stages": 2})}
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


class Clock:
    """Seconds that pass only where somebody says so: one for each step, ``write_seconds`` for each checkpoint."""

    def __init__(self, monkeypatch, *, write_seconds: float) -> None:
        self.now, self.saved_at = 0.0, []
        monkeypatch.setattr(prune_job_module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(prune_job_module, "write_checkpoint", self.write)
        self.write_seconds = write_seconds

    def write(self, folder, checkpoint):
        self.saved_at.append(int(checkpoint.state["step"]))
        self.now += self.write_seconds


@pytest.mark.parametrize(("write_seconds", "steps"), [(0.1, [22, 43, 56]), (1.5, [22, 54, 56])])
def test_checkpoints_that_take_long_to_write_come_less_often(workspace, tiny, monkeypatch, write_seconds, steps):
    clock = Clock(monkeypatch, write_seconds=write_seconds)
    run = prune_run(workspace, tiny, drop=[1], finetune={**RECOVERY, "num_steps": 56})
    work = execute_run(run, workspace)
    while 56 not in clock.saved_at:
        clock.now += next(work).phase == "recovery"
    work.close()
    assert clock.saved_at == steps


@pytest.fixture(scope="module")
def unbroken_adapted(make_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("unbroken-adapted")
    (root / "tiny").mkdir()
    save_model(make_model(), root / "tiny")
    workspace = open_workspace(root / "workspace")
    run = prune_run(workspace, str(root / "tiny"), **ADAPTED)
    shares = [progress.done / progress.total for progress in execute_run(run, workspace)]
    return workspace, run, shares


def test_an_adapted_stage_0_is_written_like_the_others(unbroken_adapted):
    _, run, shares = unbroken_adapted
    stage, first = run.stage(0), run.stage(1)
    assert stage.title == "intact, adapted"
    assert stage.info["finetune"] == {**ADAPTED["finetune"], "num_steps": 6}
    assert stage.info["train"]["num_steps"] == 6 and stage.info["train"]["final_loss"] > 0
    assert (stage.info["parent"], stage.info["decision"], stage.info["dropped_blocks"]) == (None, None, [])
    assert "efficiency_of_intact" not in stage.metrics()
    assert int(load_file(stage.path / "train_state.safetensors")["step"]) == 6
    assert read_json(stage.path / "config.json")["labels_trained"] is True
    assert first.info["finetune"]["num_steps"] == first.info["train"]["num_steps"] == 8
    assert first.ced()["protocol"]["given_class"] == "own"
    events = run.events()[0]
    assert [event["step"] for event in events if event["event"] == "train" and event["stage"] == 0] == [1, 5, 6]
    pictures = [event for event in events if event["event"] == "samples" and event["stage"] == 0]
    assert [event["step"] for event in pictures] == [1, 2, 3, 4, 5, 6]
    assert all((run.path / event["picture"]).exists() for event in pictures)
    assert [event["stage"] for event in events if event["event"] == "band"] == [1, 2][: len(run.stages()) - 1]
    assert shares == sorted(shares) and 0 <= shares[0] < 0.02 and shares[-1] <= 1


@pytest.mark.parametrize(
    ("phase", "message"),
    [("adapting", "step 3 of 6"), ("scoring", "stage 1"), ("recovery", "stage 2: step 3 of 8")],
)
def test_an_adapted_run_goes_on_bit_identical_too(monkeypatch, unbroken_adapted, phase, message):
    monkeypatch.setattr(prune_job_module, "_CHECKPOINT_EVERY_SECONDS", 0.0)
    workspace, whole, _ = unbroken_adapted
    broken = prune_run(workspace, whole.params["model"], **ADAPTED)
    work = execute_run(broken, workspace)
    next(progress for progress in work if progress.phase == phase and message in progress.message)
    work.close()
    if phase == "adapting":
        about = read_json(broken.path / "train_state.json")
        assert (about["parent"], about["number"], about["drop"], about["record"]) == (None, 0, [], None)
        assert broken.stages() == []
    list(execute_run(broken, workspace))
    assert broken.stage(0).info["train"]["num_steps"] == 6
    assert not (broken.path / "train_state.json").exists()
    for stage in whole.stages():
        for name in ("weights.safetensors", "train_state.safetensors"):
            expected, found = load_file(stage.path / name), load_file(broken.stage(stage.number).path / name)
            assert expected.keys() == found.keys()
            assert all(expected[key].equal(found[key]) for key in expected), (stage.number, name)


def test_a_run_of_before_there_was_an_adaptation_opens_and_goes_on(workspace, tiny):
    """Its params lack what came later, and say 0 where they mean no limit; what it asks for is refused today."""
    params = {"model": tiny, "data": "digits", "finetune": RECOVERY, "protocol": PROTOCOL, "ced": CED}
    params |= {"drop": [], "target_depth": 2, "target_speedup": None, "num_stages": 3, "max_per_stage": 0}
    params |= {"num_proxy_samples": 4, "recovery_shares": "even"}
    run = create_run(workspace, kind="prune", title="old", params=params | {"num_stages": 2})
    work = execute_run(run, workspace)
    next(progress for progress in work if progress.phase == "scoring")
    work.close()
    about = read_json(run.path / "config.json")
    write_json(run.path / "config.json", about | {"params": params})
    list(execute_run(run := type(run)(run.path), workspace))
    assert run.status().state == "done"
    assert run.stages()[-1].depth == 2
    assert run.stage(0).title == "intact" and run.stage(0).info["finetune"] is run.stage(0).info["train"] is None


def test_an_intact_model_that_does_not_know_the_classes_says_that_its_numbers_mean_nothing(workspace, tiny):
    run = prune_run(workspace, tiny, drop=[1], data="glyphs")
    list(execute_run(run, workspace))
    intact, pruned = (run.stage(number).metrics() for number in (0, 1))
    assert intact["labels_trained"] is False and intact["warnings"][0] == UNTRAINED_LABELS
    assert pruned["labels_trained"] is True and UNTRAINED_LABELS not in pruned["warnings"]
    said = [event["message"] for event in run.events()[0] if event["event"] == "log"]
    assert ["0 of the 26 classes were found by name" in line for line in said[:2]] == [True, False]
    assert "--adapt-steps (Adapt first in the form) is recommended" in said[1]
    table = summary_table(summary_of(run))
    assert f"stage 0 is compared with nothing. {UNTRAINED_LABELS}" in table and "stage 1 is compared" not in table
    assert not differences(pruned, pruned) and differences(intact, pruned) == ["label table"]


def test_nothing_is_recommended_where_the_intact_model_is_adapted_or_knows_the_classes(workspace, tiny):
    for changes in ({"data": "glyphs", "drop": [1], "adapt_steps": 2}, {"drop": [1]}):
        run = prune_run(workspace, tiny, **changes)
        list(execute_run(run, workspace))
        said = [event["message"] for event in run.events()[0] if event["event"] == "log"]
        assert not any("--adapt-steps" in line for line in said)
        assert run.stage(0).metrics()["labels_trained"] is True


def fail(run, workspace):
    with pytest.raises(TrainingDiverged) as stopped:
        list(execute_run(run, workspace))
    status = run.status()
    assert (status.state, status.error) == ("failed", str(stopped.value))
    assert "\n" not in status.error
    return status.error


def test_a_training_that_diverges_goes_on_from_the_last_good_state_with_a_lower_rate(workspace, tiny):
    run = prune_run(workspace, tiny, target_depth=2, num_stages=1, finetune=HOT)
    line = fail(run, workspace)
    assert re.search(r" is (nan|inf) at step \d with learning rate 0\.9; lower the learning rate and go on", line)
    assert line.endswith(f"the last good state, which is kept: step 0 (the beginning) of stage 1 in {run.path}")
    kept = read_checkpoint(run.path, parent=0, number=1)
    assert kept.decision.record["candidates"] and not kept.pending
    assert fail(run, workspace) == line  # the same again as long as nothing was changed
    drive_run(workspace, run.id, Drive(changes={"finetune": {**HOT, "learning_rate": 1e-3}}))
    list(execute_run(run, workspace))
    cool = prune_run(workspace, tiny, target_depth=2, num_stages=1)
    list(execute_run(cool, workspace))
    for expected, found in zip(final_weights(cool), final_weights(run), strict=True):
        assert all(expected[name].equal(found[name]) for name in expected)
    assert run.stage(1).info["finetune"]["learning_rate"] == 1e-3
    assert run.stage(1).info["decision"]["reason"] == kept.decision.record["reason"]


def test_the_last_checkpoint_that_a_step_leads_on_from_is_what_is_kept(workspace, tiny, monkeypatch):
    usual = FinetuneConfig.learning_rate_at
    monkeypatch.setattr(prune_job_module, "_CHECKPOINT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(FinetuneConfig, "learning_rate_at", lambda self, step: 1e-3 if step < 3 else _FAR)
    run = prune_run(workspace, tiny, drop=[1])
    assert f"kept: step 3 of stage 1 in {run.path}" in fail(run, workspace)  # step 4 led astray
    assert int(read_checkpoint(run.path, parent=0, number=1).state["step"]) == 3
    monkeypatch.setattr(FinetuneConfig, "learning_rate_at", usual)
    list(execute_run(run, workspace))
    undisturbed = prune_run(workspace, tiny, drop=[1])
    list(execute_run(undisturbed, workspace))
    for expected, found in zip(final_weights(undisturbed), final_weights(run), strict=True):
        assert all(expected[name].equal(found[name]) for name in expected)


def test_the_very_state_at_which_a_step_fails_is_not_kept(workspace, tiny, monkeypatch):
    """A step from it fails with any learning rate: paused there, the run begins the stage again."""
    usual = FinetuneConfig.learning_rate_at
    monkeypatch.setattr(FinetuneConfig, "learning_rate_at", lambda self, step: _FAR if step == 2 else 1e-3)
    run = prune_run(workspace, tiny, drop=[1])
    with pytest.raises(Paused, match="step 3 of 8"):
        for progress in execute_run(run, workspace):
            if "step 2 of 8" in progress.message:
                request_pause(run)
    assert int(read_checkpoint(run.path, parent=0, number=1).state["step"]) == 3
    monkeypatch.setattr(FinetuneConfig, "learning_rate_at", usual)
    line = fail(run, workspace)
    assert "at step 4 with learning rate 0.001" in line
    assert f"kept: step 0 (the beginning) of stage 1 in {run.path}" in line
    list(execute_run(run, workspace))
    assert run.stage(1).info["train"]["num_steps"] == 8


def test_an_adaptation_that_diverges_begins_again_with_a_lower_rate(workspace, tiny):
    run = prune_run(workspace, tiny, drop=[1], adapt_steps=5, finetune=HOT)
    line = fail(run, workspace)
    assert line.endswith(f"kept: step 0 (the beginning) of stage 0 in {run.path}")
    assert run.stages() == [] and not (run.path / "train_state.json").exists()
    drive_run(workspace, run.id, Drive(changes={"finetune": RECOVERY}))
    list(execute_run(run, workspace))
    assert [stage.info["train"]["num_steps"] for stage in run.stages()] == [5, 8]


def test_scores_that_are_not_finite_stop_the_run_and_name_the_stage_that_is_kept(workspace, tiny, monkeypatch):
    scored = []

    def damaging(model, *given, **more):
        scored.append(model)
        if len(scored) == 2:
            model.network.blocks[0].attn.proj.bias.data.fill_(float("nan"))
        return ced_columns(model, *given, **more)

    ced_columns = progressive.ced_columns
    monkeypatch.setattr(progressive, "ced_columns", damaging)
    run = prune_run(workspace, tiny)
    line = fail(run, workspace)
    block = run.stage(1).kept_blocks[0]
    assert line.startswith(f"the score of block {block} at noise level ")
    assert line.endswith(f"; stage 1 of run {run.id} is kept")
    assert [stage.number for stage in run.stages()] == [0, 1]
    list(execute_run(run, workspace))  # what was kept is sound
    assert run.stages()[-1].depth == 2


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
        ({"target_depth": 2, "num_stages": 3}, "choose at most 2"),
        ({"drop": [1], "finetune": {**RECOVERY, "batch_size": 1798}}, "choose a batch_size of at most 1797"),
        ({"target_depth": 2, "num_stages": 2, "num_proxy_samples": 1798}, "choose at most 1797"),
        ({"drop": [1], "adapt_steps": -1}, "adapt_steps is -1"),
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


def evaluate_run(workspace, tiny, **changes):
    params = {"model": tiny, "data": "digits", "protocol": {**PROTOCOL, "num_images": 64}} | changes
    return create_run(workspace, kind="evaluate", title="tiny", params=params)


def stopped_half_way(run, workspace):
    """Cancelled once half of the images are drawn; how many are kept."""
    with pytest.raises(Cancelled):
        for progress in execute_run(run, workspace):
            if progress.phase == "evaluating" and progress.done >= progress.total / 2:
                run.request_cancel()
    assert run.status().state == "cancelled" and run.stages() == []
    return num_kept(run.progress_folder / "samples.npz.partial")


def test_features_of_the_data_are_told_on_their_way_and_cancelled_there_within_two_seconds(
    workspace, tiny, monkeypatch
):
    from engine.evaluation import reference

    extract = reference.extract

    def slow(*arguments):
        time.sleep(0.5)
        return extract(*arguments)

    monkeypatch.setattr(reference, "extract", slow)
    run, told = evaluate_run(workspace, tiny), []
    with pytest.raises(Cancelled):
        for progress in execute_run(run, workspace):
            if progress.message.startswith("features of"):
                told.append((progress.message, time.monotonic()))
                run.request_cancel()
    assert told[0][0] == "features of 256 of 1,797 pictures of digits"
    assert time.monotonic() - told[0][1] < 2
    monkeypatch.setattr(sampling, "draw", lambda *arguments, **more: pytest.fail("drawn again"))
    list(execute_run(run, workspace))
    assert run.stage(0).metrics()["reference"]["num_images"] == 1797


def test_an_evaluation_cancelled_half_way_keeps_what_was_drawn_and_uses_it(workspace, tiny, monkeypatch):
    run = evaluate_run(workspace, tiny)
    kept = stopped_half_way(run, workspace)
    assert 32 <= kept < 64
    drawn = []

    def counting(model, *, labels, seeds, protocol):
        drawn.extend(seeds)
        return draw(model, labels=labels, seeds=seeds, protocol=protocol)

    draw = sampling.draw
    monkeypatch.setattr(sampling, "draw", counting)
    list(execute_run(run, workspace))
    assert drawn == list(range(kept, 64))
    whole = evaluate_run(workspace, tiny)
    list(execute_run(whole, workspace))
    for one, other in zip(run.stage(0).samples(), whole.stage(0).samples(), strict=True):
        assert np.array_equal(one, other)
    assert run.stage(0).metrics()["fidelity"] == whole.stage(0).metrics()["fidelity"]
    assert not list(run.progress_folder.glob("samples*"))


def test_what_another_model_of_that_name_had_drawn_is_not_used(workspace, tiny, make_model):
    run = evaluate_run(workspace, tiny)
    assert stopped_half_way(run, workspace) >= 32
    save_model(make_model(seed=1), Path(tiny))
    list(execute_run(run, workspace))
    whole = evaluate_run(workspace, tiny)
    list(execute_run(whole, workspace))
    assert np.array_equal(run.stage(0).samples()[0], whole.stage(0).samples()[0])


def test_kept_images_that_are_damaged_are_drawn_again(workspace, tiny):
    run = evaluate_run(workspace, tiny)
    stopped_half_way(run, workspace)
    (run.progress_folder / "samples.npz.partial" / "request.json").write_bytes(b"{")
    list(execute_run(run, workspace))
    assert len(run.stage(0).samples()[0]) == 64


def test_an_evaluation_is_timed_as_asked_and_in_turns_with_its_baseline(workspace, tiny, make_model, tmp_path):
    model = make_model()
    (tmp_path / "half").mkdir()
    half = model.with_network(model.network.with_blocks([0, 2]), change="half", kept=[0, 2])
    save_model(half, tmp_path / "half")
    timing = {"batch_size": 3, "precision": "bf16"}
    run = evaluate_run(workspace, str(tmp_path / "half"), baseline=tiny, timing=timing)
    list(execute_run(run, workspace))
    metrics = run.stage(0).metrics()
    after, before = metrics["efficiency"], metrics["efficiency_of_intact"]
    assert {(part["batch_size"], part["precision"], part["device"]) for part in (after, before)} == {(3, "bf16", "cpu")}
    assert after["macs"] < before["macs"] and after["file_bytes"] < before["file_bytes"]
    assert after["peak_memory_bytes"] < before["peak_memory_bytes"]
    assert before["sampling"]["speedup"] == 1
    assert after["sampling"]["speedup_low"] <= after["sampling"]["speedup"] <= after["sampling"]["speedup_high"]
    assert metrics["protocol"]["precision"] == "fp32"  # of the images


def test_what_was_said_of_a_model_holds_for_a_baseline_that_cant_say_it(workspace, make_model, tmp_path):
    """Two checkpoints in the official layout: neither says its process or its autoencoder."""
    model = make_model()
    for name, kept in (("whole", [0, 1, 2]), ("half", [0, 2])):
        part = model.with_network(model.network.with_blocks(kept), change=name, kept=kept)
        export_model(part, tmp_path / name, layout="official")
    files = {name: str(next((tmp_path / name).glob("*.pt"))) for name in ("whole", "half")}
    said = {"process": "flow", "autoencoder": "autoencoder"}
    run = evaluate_run(workspace, files["half"], baseline=files["whole"], **said)
    list(execute_run(run, workspace))
    assert run.stage(0).metrics()["efficiency_of_intact"]["sampling"]["speedup"] == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"timing": {"batch_size": 0}}, "a batch of 0 images"),
        ({"timing": {"precision": "fp8"}}, "fp32 or bf16"),
        ({"timing": {"batch": 1}}, "no setting 'batch'"),
        ({"baseline": "nobody"}, "nobody"),
        ({"baseline": "demo-dit"}, "take a baseline of the same process"),
        ({"protocol": {"num_images": -3}}, "-3 images"),
        ({"protocol": {"num_images": 7}}, "at least 8"),
        ({"protocol": {"features": "vgg"}}, "'vgg' are unknown"),
        ({"features_weights": "/nowhere"}, "need no weights"),
    ],
)
def test_an_evaluation_that_cannot_be_fails_with_one_line_before_anything_is_drawn(workspace, tiny, changes, line):
    run = evaluate_run(workspace, tiny, **changes)
    with pytest.raises(InputError, match=line):
        list(execute_run(run, workspace))
    assert line in run.status().error and "\n" not in run.status().error
    assert run.stages() == [] and not list(run.path.glob("progress/samples*"))
