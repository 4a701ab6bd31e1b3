"""The command line as a person meets it: exit codes, JSON, one line for every mistake."""

import json

import numpy as np
import pytest

from engine.cli import main
from engine.models.checkpoints import save_model


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
