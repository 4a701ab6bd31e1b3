"""The command line as a person meets it: exit codes, JSON, one line for every mistake."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from engine.assets import ASSETS
from engine.cli import main
from engine.cli.evaluating import evaluate_params
from engine.cli.parser import make_parser
from engine.errors import Cancelled, DiskFull
from engine.evaluation.protocol import Protocol
from engine.models.checkpoints import save_model
from engine.runs.library import add_entry
from engine.runs.run_compute import asked_device
from engine.runs.run_model import load_run_model
from engine.runs.store import Run
from engine.runs.workspace import open_workspace


@pytest.fixture
def tiny(make_model, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(make_model(), folder)
    return str(folder)


def call(capsys, tmp_path, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--workspace", str(tmp_path / "workspace")])
    out, err = capsys.readouterr()
    return code, out, err


def test_ced_prints_and_writes_the_documented_result(capsys, tmp_path, tiny):
    file = tmp_path / "ced.json"
    options = ["--samples", "16", "--timesteps", "2", "--json", "--out", str(file)]
    code, out, _ = call(capsys, tmp_path, "ced", tiny, "digits", *options)
    assert code == 0
    result = json.loads(out)
    assert json.loads(file.read_text()) == result
    for key in ("model", "data", "variable", "estimator", "protocol", "blocks", "timesteps", "entropy", "order"):
        assert key in result
    assert np.shape(result["entropy_without"]) == np.shape(result["delta"]) == (4, 2)
    assert np.shape(result["ced"]) == np.shape(result["ci_low"]) == np.shape(result["ci_high"]) == (4,)


def test_inspect_says_what_a_model_is(capsys, tmp_path, tiny):
    code, out, _ = call(capsys, tmp_path, "inspect", tiny, "--json")
    about = json.loads(out)
    assert code == 0
    assert (about["depth"], about["process"], about["null_class"], about["num_tokens"]) == (4, "flow", 10, 16)
    assert about["class_names"] == [str(digit) for digit in range(10)]


def test_sample_writes_the_layout_that_fid_tools_read(capsys, tmp_path, tiny):
    file = tmp_path / "few.npz"
    arguments = ["--num", "5", "--classes", "3,7", "--num-steps", "2", "--seed", "40", "--out", str(file)]
    code, _, _ = call(capsys, tmp_path, "sample", tiny, *arguments)
    assert code == 0
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["arr_0"].shape == (5, 32, 32, 3)
        assert arrays["arr_0"].dtype == np.uint8
        assert arrays["labels"].tolist() == [3, 7, 3, 7, 3]
        assert arrays["seeds"].tolist() == [40, 41, 42, 43, 44]


def test_pruning_report_and_a_second_run_in_the_same_folder(capsys, tmp_path, tiny):
    folder, page = tmp_path / "runs-of-mine" / "first", tmp_path / "report.html"
    folder.parent.mkdir()
    arguments = ["prune", tiny, "digits", "--drop", "1", "--steps-per-stage", "2", "--batch-size", "8", "--num", "16"]
    arguments += ["--num-steps", "2", "--run", str(folder), "--json"]
    code, out, _ = call(capsys, tmp_path, *arguments)
    assert code == 0
    stages = json.loads(out)["stages"]
    assert [stage["depth"] for stage in stages] == [4, 3]
    assert stages[1]["dropped_blocks"] == [1]
    code, _, _ = call(capsys, tmp_path, "report", str(folder), "--out", str(page))
    assert code == 0
    assert "FID (demo-cnn)" in page.read_text()
    code, _, err = call(capsys, tmp_path, *arguments)
    assert code == 2
    assert "exists" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["inspect", "nobody"], "nobody"),
        (["inspect", "../../etc"], "no model"),
        (["inspect", "TINY", "--device", "cuda:77"], "cuda:77"),
        (["inspect", "TINY", "--device", "toaster"], "toaster"),
        (["benchmark", "TINY", "--device", "meta"], "device 'meta' can't be used here"),
        (["inspect", "TINY", "--vae", "none"], "works on 4 channels, but a network of pixels gives 3; name the auto"),
        (["inspect", "TINY", "--out", "/no/such/folder/x.json"], "there is no folder /no/such/folder; make it"),
        (["inspect", "TINY", "--out", "/"], "is a folder; name a file in it"),
        (["inspect", "someone@first"], "number of a stage"),
        (["inspect", "no-such-run@1"], "no-such-run"),
        (["ced", "TINY", "cats"], "cats"),
        (["ced", "TINY", "digits", "--samples", "0"], "0 samples"),
        (["ced", "TINY", "digits", "--samples", "99999"], "1797"),
        (["prune", "TINY", "digits"], "which blocks"),
        (["prune", "TINY", "digits", "--drop", "0,1,2,3"], "keep at least one"),
        (["prune", "TINY", "digits", "--drop", "4"], "blocks 0 … 3"),
        (["prune", "TINY", "digits", "--drop", "one"], "whole numbers"),
        (["prune", "TINY", "digits", "--target-depth", "9"], "not below"),
        (["prune", "TINY", "digits", "--target-depth", "0"], "at least one block must stay"),
        (["prune", "TINY", "digits", "--target-depth", "2", "--stages", "8"], "8 stages for 2 blocks to drop"),
        (["prune", "TINY", "digits", "--target-depth", "2", "--max-per-stage", "0"], "max_per_stage is 0"),
        (["prune", "TINY", "digits", "--target-depth", "2", "--batch-size", "1798"], "at most 1797"),
        (["prune", "TINY", "digits", "--target-depth", "2", "--num-proxy-samples", "1798"], "at most 1797"),
        (["prune", "TINY", "digits", "--drop", "1", "--adapt-steps", "-1"], "adapt_steps is -1"),
        (["prune", "nobody", "digits", "--drop", "1"], "no model 'nobody'"),
        (["sample", "TINY", "--num", "2", "--classes", "12"], "classes 0 … 9"),
        (["sample", "TINY", "--num", "0"], "0 images"),
        (["sample", "TINY", "--num", "1", "--sampler", "ddim"], "euler"),
        (["sample", "TINY", "--num", "1", "--num-steps", "1", "--out", "/no/such/folder/x.npz"], "can't be written"),
        (["run", "../../escape"], "no run named"),
        (["report", "nothing"], "no run named"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, tiny, arguments, line):
    code, _, err = call(capsys, tmp_path, *(tiny if argument == "TINY" else argument for argument in arguments))
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("error: ")
    assert line in last
    assert "Traceback" not in err


def test_damaged_weights_are_one_line(capsys, tmp_path, tiny):
    from pathlib import Path

    file = Path(tiny) / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    code, _, err = call(capsys, tmp_path, "inspect", tiny)
    assert code == 2
    assert "weights.safetensors" in err
    assert len(err.strip().splitlines()) == 1


def test_a_workspace_that_cannot_be_is_one_line(capsys, tmp_path, tiny):
    (tmp_path / "workspace").write_text("a file")
    code, _, err = call(capsys, tmp_path, "ced", tiny, "digits")
    assert code == 2
    assert "choose another folder" in err


def test_looking_at_data_tells_counts(capsys):
    assert main(["look", "digits", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["num_images"] == sum(facts["counts"].values()) == 1797


def test_criteria_come_with_their_agreement(capsys, tmp_path, tiny):
    arguments = ["criteria", tiny, "digits", "--samples", "16", "--timesteps", "2", "--json"]
    assert main([*arguments, "--workspace", str(tmp_path / "w")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"bi", "taylor", "ced-target"} <= found["criteria"].keys()
    assert sorted(found["criteria"]["bi"]["order"]) == [0, 1, 2, 3]
    assert len(found["spearman"]) == len(found["names"])


def test_branches_are_rows_of_their_own(capsys, tmp_path, tiny):
    arguments = ["ced", tiny, "digits", "--samples", "16", "--timesteps", "2", "--granularity", "branch", "--json"]
    assert main([*arguments, "--workspace", str(tmp_path / "w")]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][:3] == ["0 attn", "0 mlp", "1 attn"]


@pytest.mark.parametrize("layout", ["official", "safetensors", "diffusers"])
def test_an_export_opens_again(capsys, tmp_path, tiny, layout):
    workspace = ["--workspace", str(tmp_path / "w")]
    assert main(["export", tiny, "--layout", layout, "--out", str(tmp_path / "out"), *workspace]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out"), "--json", *workspace]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["depth"], facts["process"]) == (4, "flow")


def test_a_stepped_pruning_rests_and_goes_on(capsys, tmp_path, tiny):
    quick = ["--samples", "16", "--timesteps", "2", "--num", "16", "--num-steps", "2", "--steps-per-stage", "2"]
    folder = str(tmp_path / "run")
    arguments = ["prune", tiny, "digits", "--target-depth", "3", "--stages", "1", "--step", "--batch-size", "8"]
    assert main([*arguments, *quick, "--run", folder, "--workspace", str(tmp_path / "w")]) == 0
    assert "the vote is in" in capsys.readouterr().err
    assert main(["run", folder, "--workspace", str(tmp_path / "w")]) == 0
    assert Run(tmp_path / "run").status().state == "done"
    assert Run(tmp_path / "run").stages()[-1].depth == 3


PRUNE = ["prune", "TINY", "digits", "--num", "16", "--num-steps", "2", "--samples", "16", "--timesteps", "2"]
PRUNE += ["--steps-per-stage", "2"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--drop", "1"], (4e-3, "cosine", 20, 64)),  # the tiny model is small
        (["--drop", "1", "--schedule", "constant", "--batch-size", "8"], (4e-3, "constant", 20, 8)),
        (["--drop", "1", "--learning-rate", "1e-3"], (1e-3, "constant", 0, 128)),
        (["--drop", "1", "--learning-rate", "1e-3", "--schedule", "cosine"], (1e-3, "cosine", 0, 128)),
    ],
)
def test_a_pruning_recovers_as_is_usual_for_the_models_size(capsys, tmp_path, tiny, monkeypatch, arguments, expected):
    run = made_by(tiny, tmp_path, monkeypatch, *arguments)
    recovery = run.params["finetune"]
    names = ("learning_rate", "schedule", "warmup_steps", "batch_size")
    assert tuple(recovery[name] for name in names) == expected
    assert recovery["num_steps"] == 2 and run.params["adapt_steps"] == 0 and run.params["max_per_stage"] is None


def made_by(tiny, tmp_path, monkeypatch, *arguments) -> Run:
    """The run that a prune command makes, without the work."""
    monkeypatch.setattr("engine.runs.jobs.execute_run", lambda run, workspace, device: iter(()))
    monkeypatch.setattr("engine.cli.runs.summary_of", lambda run: {})
    monkeypatch.setattr("engine.cli.runs.summary_table", lambda summary: "")
    called = [tiny if argument == "TINY" else argument for argument in (*PRUNE, *arguments)]
    assert main([*called, "--run", str(tmp_path / "run"), "--workspace", str(tmp_path / "w")]) == 0
    return Run(tmp_path / "run")


def test_a_run_finds_its_files_from_another_folder(tiny, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "shapes"):  # what is bundled goes before a folder of that name
        (tmp_path / name).mkdir()
    shutil.copytree(ASSETS / "autoencoder", tmp_path / "vae")
    args = ["./tiny", "pictures", "--vae", "vae"]
    found = evaluate_params(make_parser().parse_args(["evaluate", *args, "--baseline", "tiny"]))
    assert found["model"] == found["baseline"] == tiny
    assert (found["data"], found["autoencoder"]) == (str(tmp_path / "pictures"), str(tmp_path / "vae"))
    for kept in (["demo-sit", "digits"], ["demo-sit", "owner/name", "--vae", "autoencoder"], ["a-run@1", "shapes"]):
        params = evaluate_params(make_parser().parse_args(["evaluate", *kept]))
        assert [params["model"], params["data"]] == kept[:2] and params.get("autoencoder") in (None, "autoencoder")
    run = made_by("tiny", tmp_path, monkeypatch, "--drop", "1")
    monkeypatch.chdir("/")
    assert load_run_model(run, open_workspace(tmp_path / "w"), "cpu").config.depth == 4


def test_a_name_of_the_library_stays_a_name(tiny, tmp_path, monkeypatch):
    workspace = open_workspace(tmp_path / "w")
    for kind in ("models", "data"):
        add_entry(workspace, kind, {"name": "mine", "ref": tiny, "class_names": []})
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    args = make_parser().parse_args(["evaluate", "mine", "mine", "--workspace", str(workspace.root)])
    assert (evaluate_params(args)["model"], evaluate_params(args)["data"]) == ("mine", "mine")


def test_a_run_goes_on_where_it_was_asked_for_and_says_where_that_is_not_there(capsys, tiny, tmp_path, monkeypatch):
    run = made_by(tiny, tmp_path, monkeypatch, "--drop", "1", "--device", "cuda:77")
    capsys.readouterr()
    devices = []
    monkeypatch.setattr("engine.runs.jobs.execute_run", lambda run, workspace, device: devices.append(device) or ())
    again, workspace = ["run", str(run.path)], ["--workspace", str(tmp_path / "w")]
    assert main([*again, *workspace]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "asked for on 'cuda:77', which can't be used here" in error
    assert f"python -m engine run {run.path} --device cpu --workspace {tmp_path / 'w'}" in error
    assert main([*again, "--device", "cpu", *workspace]) == 0 and devices == ["cpu"]
    monkeypatch.setattr("engine.models.checkpoints.usable_device", lambda device: device)
    assert main([*again, *workspace]) == 0 and devices == ["cpu", "cuda:77"]
    assert run.status().state == "queued"


def test_the_device_of_a_run_is_its_protocols():
    assert asked_device({"protocol": {"device": "cuda:1"}}) == "cuda:1"
    assert asked_device({"config": {"protocol": {"device": "cuda"}}}) == "cuda"  # an arena's
    assert asked_device({"config": {"samples": 4}}) == asked_device({}) == asked_device({"protocol": 3}) == "cpu"


def test_words_on_how_to_go_on_name_the_workspace(capsys, tiny, tmp_path, monkeypatch):
    def stopped(run, workspace, device):
        raise Cancelled("cancelled")

    monkeypatch.setattr("engine.cli.evaluating.execute", stopped)
    code, _, error = call(capsys, tmp_path, "evaluate", tiny, "digits")
    (run,) = (tmp_path / "workspace" / "runs").iterdir()
    said = f"--workspace {tmp_path / 'workspace'}\n"
    assert code == 2 and f"python -m engine run {run.name} {said}" in error
    Run(run).update(state="cancelled")
    assert call(capsys, tmp_path, "runs", "--delete", run.name)[1].endswith(said)
    monkeypatch.setenv("ENTPRUNER_WORKSPACE", str(tmp_path / "workspace"))
    assert main(["evaluate", tiny, "digits"]) == 2
    assert "--workspace" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "num_stages"),
    [
        (["--target-depth", "1"], 3),
        (["--target-depth", "3"], 1),
        (["--target-speedup", "1.2"], 1),
        (["--target-depth", "1", "--stages", "2"], 2),
    ],
)
def test_there_are_never_more_stages_than_blocks_that_go_unless_asked_for(
    tiny, tmp_path, monkeypatch, arguments, num_stages
):
    assert made_by(tiny, tmp_path, monkeypatch, *arguments).params["num_stages"] == num_stages


def test_a_run_that_diverged_goes_on_with_a_lower_learning_rate(capsys, tmp_path, tiny):
    folder, workspace = str(tmp_path / "run"), ["--workspace", str(tmp_path / "w")]
    called = [tiny if argument == "TINY" else argument for argument in (*PRUNE, "--batch-size", "8", "--drop", "1")]
    arguments = [*called, "--adapt-steps", "9", "--learning-rate", "0.9", "--run", folder, *workspace]
    assert main(arguments) == 2
    assert "lower the learning rate and go on from the last good state" in capsys.readouterr().err
    assert main(["run", folder, "--learning-rate", "7", *workspace]) == 2
    assert "out of range" in capsys.readouterr().err
    assert main(["run", folder, "--learning-rate", "1e-3", *workspace]) == 0
    stages = Run(tmp_path / "run").stages()
    assert [stage.info["train"]["num_steps"] for stage in stages] == [9, 2]
    assert {stage.info["finetune"]["learning_rate"] for stage in stages} == {1e-3}


def test_what_cannot_be_written_is_said_before_the_work(capsys, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("engine.cli.importance.model_of", lambda args: pytest.fail("the work began"))
    monkeypatch.setattr("engine.cli.demo.create_run", lambda *args, **more: pytest.fail("the work began"))
    for command in (["criteria", tiny, "digits"], ["demo"]):
        code, out, err = call(capsys, tmp_path, *command, "--out", str(tmp_path / "nowhere" / "x.json"))
        assert (code, out) == (2, "") and err.count("\n") == 1 and f"no folder {tmp_path / 'nowhere'}" in err
    assert not list(tmp_path.glob(".x.json*"))


def test_a_result_is_printed_though_its_file_can_no_longer_be_written(capsys, tmp_path, tiny, monkeypatch):
    def full(path, result):
        raise DiskFull(path, num_bytes=10)

    monkeypatch.setattr("engine.cli.output.write_json", full)
    code, out, err = call(capsys, tmp_path, "inspect", tiny, "--json", "--out", str(tmp_path / "x.json"))
    assert code == DiskFull.EXIT_CODE and json.loads(out)["depth"] == 4 and "no space left" in err


def test_a_model_of_pixels_is_opened_as_such_where_its_files_say_otherwise(capsys, tmp_path, make_model):
    save_model(replace(make_model(in_channels=3), autoencoder_ref="autoencoder"), tmp_path)
    assert call(capsys, tmp_path, "inspect", str(tmp_path))[0] == 2
    code, out, _ = call(capsys, tmp_path, "inspect", str(tmp_path), "--vae", "none", "--json")
    assert code == 0 and json.loads(out)["pixels"] is True


def test_an_evaluation_ends_with_the_protocol_that_it_was_measured_with(capsys, tmp_path, tiny):
    settings = ["--set", "protocol.num_steps=4", "--set", "protocol.cfg_scale=1"]
    code, out, _ = call(capsys, tmp_path, "evaluate", tiny, "digits", "--num", "16", "--num-steps", "2", *settings)
    assert code == 0
    (run,) = (tmp_path / "workspace" / "runs").iterdir()
    assert out.splitlines()[-1] == Protocol(**Run(run).stage(0).metrics()["protocol"]).label()
    assert "4 steps" in out.splitlines()[-1]


def test_a_small_arena_ends_with_its_table(capsys, tmp_path, tiny):
    quick = ["--num-dropped", "2", "--seeds", "1", "--num-random", "1", "--steps", "1", "--batch-size", "8"]
    few = ["--num", "16", "--num-steps", "2", "--workspace", str(tmp_path / "w"), "--json"]
    few += ["--entrants", "ced-target,bi"]
    assert main(["arena", tiny, "digits", *quick, *few]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["entrant"]: row for row in found["result"]["table"]}
    assert {"intact, same budget", "bi", "ced-target", "random 1"} <= rows.keys()
    assert all(len(row["dropped"]) == 2 for row in rows.values() if row["kind"] != "intact")


def test_an_arena_goes_on_only_with_the_settings_that_it_was_begun_with(capsys, tmp_path, tiny):
    quick = ["--num-dropped", "2", "--seeds", "1", "--num-random", "1", "--steps", "1", "--batch-size", "8"]
    few = ["--num", "16", "--num-steps", "2", "--workspace", str(tmp_path / "w"), "--entrants", "last"]
    called = ["arena", tiny, "digits", *quick, *few, "--run", str(tmp_path / "run")]
    assert main(called) == 0
    table = capsys.readouterr().out
    assert main(called) == 0 and capsys.readouterr().out == table
    assert main([*called, "--seed", "7"]) == 2
    error = capsys.readouterr().err
    assert "begun with other settings" in error and f"python -m engine run {tmp_path / 'run'}" in error


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ('finetune.num_steps="x"', "FinetuneConfig: num_steps is 'x'; it should be a whole number"),
        ("finetune.seed=true", "FinetuneConfig: seed is True; it should be a whole number"),
        ("protocol.num_steps=2.5", "Protocol: num_steps is 2.5; it should be a whole number"),
        ("finetune=3", "FinetuneConfig is 3; it should be settings by their names"),
        ("protocol=[1]", "protocol is [1]; it should be settings by their names"),
        ("ced.samples=12.5", "CedConfig: samples is 12.5; it should be a whole number"),
        ("num_stages=1.5", "PruneConfig: num_stages is 1.5; it should be a whole number"),
        ("weights.cost=null", "PruneConfig: weights is"),
        ('drop=["1"]', "PruneConfig: drop is ['1']; it should be a list, each of it a whole number"),
        ("finetune.schedule_steps=0.5", "it should be a whole number or null"),
        ("ced.seed=-1", "seed -1 is out of range"),
        ("finetune.seed=1000000000000", "seed 1000000000000 is out of range"),
        ("protocol.seed=-1", "seed -1 is out of range"),
    ],
)
def test_a_setting_of_another_kind_is_one_line_before_anything_begins(capsys, tmp_path, tiny, setting, line):
    called = [tiny if argument == "TINY" else argument for argument in (*PRUNE, "--drop", "1")]
    assert main([*called, "--set", setting, "--workspace", str(tmp_path / "w")]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert not list((tmp_path / "w").glob("runs/*"))
