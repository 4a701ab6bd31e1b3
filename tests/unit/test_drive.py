"""A pruning run that a person drives: step, pause, decide otherwise, go back and branch."""

import os
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.torch import load_file

from engine.errors import Cancelled, InputError, Paused
from engine.evaluation.kept_samples import num_kept
from engine.importance.config import CedConfig
from engine.models.checkpoints import save_model
from engine.runs.drive import Drive, path_to, pending_decision, read_drive, request_pause
from engine.runs.jobs import execute_run
from engine.runs.queue import cancel_run, drive_run, pause_run, resume_run, submit_run
from engine.runs.store import create_run, open_run
from engine.runs.workspace import open_workspace
from engine.training.config import FinetuneConfig

PARAMS = {
    "data": "digits",
    "target_depth": 2,
    "num_stages": 2,
    "recovery_shares": "even",
    "finetune": asdict(FinetuneConfig(num_steps=6, batch_size=8, learning_rate=1e-3)),
    "protocol": {"num_images": 16, "num_steps": 2, "cfg_scale": 1.5},
    "ced": asdict(CedConfig(samples=16, timesteps=2, num_bootstrap=20)),
}


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def make_run(make_model, workspace, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(make_model(), folder)

    def make(**changes):
        params = {"model": str(folder), **PARAMS, **changes}
        return create_run(workspace, kind="prune", title="tiny", params=params)

    return make


def finish(run, workspace):
    list(execute_run(run, workspace))
    assert run.status().state == "done"


def weights(run, number):
    return load_file(run.stage(number).path / "weights.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_step_rests_at_each_decision_and_ends_like_an_undriven_run(make_run, workspace):
    undriven, stepped = make_run(), make_run(step=True)
    finish(undriven, workspace)
    rests = 0
    while True:
        try:
            list(execute_run(stepped, workspace))
            break
        except Paused:
            rests += 1
            pending = pending_decision(stepped)
            assert stepped.status().state == "paused"
            assert pending["record"]["candidates"]
            assert pending["parent"] == stepped.stages()[-1].number
            resume_run(workspace, stepped.id)
    assert rests == len(undriven.stages()) - 1
    assert pending_decision(stepped) is None
    last = undriven.stages()[-1].number
    assert same(weights(undriven, last), weights(stepped, last))
    assert undriven.stage(last).info["decision"]["reason"] == stepped.stage(last).info["decision"]["reason"]


def test_a_pause_in_mid_recovery_goes_on_bit_for_bit(make_run, workspace):
    unbroken, paused = make_run(), make_run()
    finish(unbroken, workspace)
    with pytest.raises(Paused, match="step 3 of 6"):
        for progress in execute_run(paused, workspace):
            if progress.phase == "recovery" and "step 2" in progress.message:
                request_pause(paused)
    assert paused.status().state == "paused"
    assert paused.status().pid is None
    resume_run(workspace, paused.id)
    finish(paused, workspace)
    last = unbroken.stages()[-1].number
    assert same(weights(unbroken, last), weights(paused, last))


def test_a_pause_in_mid_adaptation_goes_on_bit_for_bit(make_run, workspace):
    unbroken, paused = make_run(adapt_steps=5), make_run(adapt_steps=5)
    finish(unbroken, workspace)
    with pytest.raises(Paused, match="step 3 of 5"):
        for progress in execute_run(paused, workspace):
            if progress.phase == "adapting" and "step 2" in progress.message:
                request_pause(paused)
    assert paused.status().state == "paused"
    assert paused.stages() == [] and pending_decision(paused) is None
    resume_run(workspace, paused.id)
    finish(paused, workspace)
    for stage in unbroken.stages():
        assert same(weights(unbroken, stage.number), weights(paused, stage.number))


def test_a_pause_in_mid_evaluation_keeps_the_training_and_what_was_drawn(make_run, workspace):
    protocol = {**PARAMS["protocol"], "num_images": 48}
    unbroken, paused = (make_run(drop=[1], target_depth=None, protocol=protocol) for _ in range(2))
    finish(unbroken, workspace)
    with pytest.raises(Paused, match="of 48 images of stage 1"):
        for progress in execute_run(paused, workspace):
            if progress.phase == "evaluating" and progress.message.startswith("stage 1"):
                request_pause(paused)
    kept = num_kept(paused.progress_folder / "samples.npz.partial")
    assert 0 < kept < 48
    resume_run(workspace, paused.id)
    phases = [progress.phase for progress in execute_run(paused, workspace)]
    assert "recovery" not in phases
    assert phases.count("evaluating") == (48 - kept) / 8  # the images of a group, guided
    for one, other in zip(unbroken.stage(1).samples(), paused.stage(1).samples(), strict=True):
        assert np.array_equal(one, other)
    assert same(weights(unbroken, 1), weights(paused, 1))
    assert unbroken.stage(1).metrics()["fidelity"] == paused.stage(1).metrics()["fidelity"]
    assert [event["step"] for event in paused.events()[0] if event["event"] == "train"] == [1, 5, 6]
    assert not list(paused.progress_folder.glob("samples.npz*"))


def test_a_branch_from_an_adapted_run_learns_from_the_adapted_model(make_run, workspace):
    """The same decision at the same place: its weights depend on the teacher, which is the model of stage 0."""
    distilled = {**PARAMS["finetune"], "distill_weight": 1.0}
    run = make_run(adapt_steps=5, finetune=distilled, num_stages=2)
    finish(run, workspace)
    second, last = run.stage(2), run.stages()[-1].number
    decision = {"drop": second.info["dropped_blocks"], "record": second.info["decision"]}
    drive_run(workspace, run.id, Drive(head=1, decision=decision))
    finish(run, workspace)
    assert path_to(run, last + 1) == [0, 1, last + 1]
    assert same(weights(run, 2), weights(run, last + 1))


def test_another_decision_than_the_vote_is_carried_out_and_recorded(make_run, workspace):
    run = make_run(step=True)
    with pytest.raises(Paused):
        list(execute_run(run, workspace))
    pending = pending_decision(run)
    block = next(b for b in range(4) if [b] != pending["drop"])
    record = {**pending["record"], "mode": "overridden", "reason": f"Block {block} dropped by hand."}
    drive_run(workspace, run.id, Drive(decision={"drop": [block], "record": record}))
    finish(run, workspace)  # no more rests: the drive says so
    stage = run.stage(1)
    assert stage.info["dropped_blocks"] == [block]
    assert stage.info["decision"]["mode"] == "overridden"
    assert read_drive(run).decision is None  # spent


def test_a_finished_run_grows_a_branch_from_an_earlier_stage(make_run, workspace):
    run = make_run()
    finish(run, workspace)
    before = {stage.number: stage.info for stage in run.stages()}
    last = run.stages()[-1].number
    drop = next([a, b] for a in range(4) for b in range(a + 1, 4) if [a, b] != before[1]["dropped_blocks"])
    record = {"mode": "chosen", "candidates": [], "reason": "by hand"}
    drive_run(workspace, run.id, Drive(head=0, decision={"drop": drop, "record": record}))
    assert run.status().state == "queued"
    finish(run, workspace)
    branch = run.stage(last + 1)
    assert branch.info["parent"] == 0
    assert branch.info["dropped_blocks"] == drop
    assert path_to(run, branch.number) == [0, branch.number]
    assert {number: run.stage(number).info for number in before} == before  # written once, never changed


def test_the_same_decision_on_a_branch_gives_the_same_weights(make_run, workspace):
    """A branch is paired with its sister: the same seed for the same place along the branch."""
    run = make_run()
    finish(run, workspace)
    first, last = run.stage(1), run.stages()[-1].number
    decision = {"drop": first.info["dropped_blocks"], "record": first.info["decision"]}
    drive_run(workspace, run.id, Drive(head=0, decision=decision))
    finish(run, workspace)
    assert same(weights(run, 1), weights(run, last + 1))


def test_changed_params_hold_from_then_on(make_run, workspace):
    run = make_run(step=True)
    with pytest.raises(Paused):
        list(execute_run(run, workspace))
    short = {**PARAMS["finetune"], "num_steps": 2}
    drive_run(workspace, run.id, Drive(changes={"finetune": short}))
    finish(run, workspace)
    assert run.stage(1).info["train"]["num_steps"] == 2


@pytest.mark.parametrize(
    ("drive", "words"),
    [
        (Drive(head=7), "no stage 7"),
        (Drive(decision={"drop": [9], "record": {}}), "block 9 isn't there"),
        (Drive(decision={"drop": [0, 1, 2, 3], "record": {}}), "at least one block"),
    ],
)
def test_a_drive_that_cannot_be_costs_one_line_and_nothing_else(make_run, workspace, drive, words):
    run = make_run(step=True)
    with pytest.raises(Paused):
        list(execute_run(run, workspace))
    with pytest.raises(InputError, match=words):
        drive_run(workspace, run.id, drive)
    assert run.status().state == "paused"
    assert pending_decision(run) is not None


def test_pausing_and_cancelling_what_waits(make_run, workspace):
    run = make_run()
    submit_run(workspace, run)
    pause_run(workspace, run.id)
    assert open_run(workspace, run.id).status().state == "paused"
    resume_run(workspace, run.id)
    assert run.status().state == "queued"
    with pytest.raises(InputError, match="queued; pause it first"):
        drive_run(workspace, run.id, Drive(step=True))
    pause_run(workspace, run.id)
    cancel_run(workspace, run.id)
    assert run.status().state == "cancelled"


def test_a_cancelled_pause_leaves_nothing_behind(make_run, workspace):
    run = make_run()
    with pytest.raises(Cancelled):
        for progress in execute_run(run, workspace):
            if progress.phase == "recovery":
                request_pause(run)
                run.request_cancel()
    assert run.status().state == "cancelled"
    resume_run(workspace, run.id)
    assert not os.path.exists(run.path / "pause")
    finish(run, workspace)
