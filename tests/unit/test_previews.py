"""What the worker answers itself, and which models it keeps open for it."""

import json
import os

import pytest
from PIL import Image

from engine.errors import EngineError, InputError
from engine.models.checkpoints import save_model
from engine.runs import warm_models
from engine.runs.previews import answer_preview
from engine.runs.queue import claim_next_preview, submit_preview, withdraw_preview
from engine.runs.workspace import open_workspace


@pytest.fixture
def ask(make_model, tmp_path):
    workspace = open_workspace(tmp_path / "workspace")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_model(make_model(seed=len(name)), tmp_path / name)
    warm_models._warm.clear()

    def answer(kind="drop", **params):
        folder = workspace.previews / "key"
        folder.mkdir(exist_ok=True)
        if kind == "drop":
            defaults = {
                "model": str(tmp_path / "one"),
                "data": "digits",
                "drop": [1],
                "seeds": [0, 1],
                "classes": [3, 4],
            }
            params = {**defaults, "num_steps": 2, **params}
        found = answer_preview(kind, params, folder=folder, device="cpu")
        json.dumps(found, allow_nan=False)
        return found, folder

    return answer


def test_the_answer_shows_pairs_of_the_same_seeds_and_the_signed_effect(ask):
    found, folder = ask()
    assert len(found["delta"]) == len(found["timesteps"]) == 10
    assert found["ced"] > 0
    for name in ("intact", "pruned"):
        assert [Image.open(folder / file).size for file in found["images"][name]] == [(32, 32)] * 2
    nothing, _ = ask(drop=[])
    assert nothing["ced"] == 0
    assert nothing["output_mse"] == [0.0] * 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": [9]}, "block 9 doesn't exist"),
        ({"drop": [0, 1, 2, 3]}, "keep at least one"),
        ({"classes": [10, 0]}, "classes must be 0 … 9"),
        ({"classes": [0]}, "one class for each seed"),
        ({"model": "nobody"}, "nobody"),
    ],
)
def test_a_question_that_makes_no_sense_costs_one_line(ask, change, words):
    with pytest.raises(InputError, match=words):
        ask(**change)


def test_a_model_is_opened_once_and_again_when_its_files_changed(ask, tmp_path, monkeypatch):
    opened = []
    load = warm_models.load_model
    monkeypatch.setattr(warm_models, "load_model", lambda ref, **more: opened.append(ref) or load(ref, **more))
    ask()
    ask(drop=[2])
    assert len(opened) == 1
    os.utime(tmp_path / "one", ns=(1, 1))
    ask()
    assert len(opened) == 2
    assert len(warm_models._warm) == 1


def test_models_that_take_too_much_room_make_way(ask, tmp_path, monkeypatch):
    ask()
    ask(model=str(tmp_path / "two"))
    assert len(warm_models._warm) == 2
    monkeypatch.setattr(warm_models, "_MOST_BYTES", 1)
    ask(model=str(tmp_path / "two"), drop=[0])  # nothing new is opened: nothing has to go
    assert len(warm_models._warm) == 2
    ask(model="demo-sit-digits")
    assert [key[0] for key in warm_models._warm] == ["demo-sit-digits"]


def test_what_a_model_and_a_dataset_are(ask):
    found, _ = ask("inspect_model", ref="demo-dit")
    assert found["facts"]["depth"] == 12
    assert found["facts"]["process"] == "diffusion"
    found, folder = ask("look_data", ref="digits")
    assert found["facts"]["num_images"] == 1797
    assert all((folder / file).exists() for files in found["thumbnails"].values() for file in files)


def test_a_look_that_nobody_waits_for_is_given_up(tmp_path):
    """Somebody named a folder with a million files, saw the mistake and named another."""
    workspace, folder = open_workspace(tmp_path / "workspace"), tmp_path / "many"
    folder.mkdir()
    for number in range(1100):
        (folder / f"{number}.txt").touch()
    params = {"ref": str(folder)}
    key = submit_preview(workspace, "look_data", params, client="me")
    answers = workspace.previews / key
    answers.mkdir(exist_ok=True)
    assert claim_next_preview(workspace, "w").key == key
    withdraw_preview(workspace, "me")
    with pytest.raises(EngineError, match="nobody waits"):
        answer_preview("look_data", params, folder=answers, device="cpu")
    submit_preview(workspace, "look_data", params, client="you")
    with pytest.raises(EngineError, match="pictures"):  # looked at to its end: there are none
        answer_preview("look_data", params, folder=answers, device="cpu")


def test_a_wrong_process_is_plain_to_see(ask):
    found, folder = ask("check_process", ref="demo-sit", data="shapes", process="diffusion", num_steps=2)
    assert "flow" in found["verdict"]
    assert "change the process" in found["verdict"]
    assert max(found["relative_loss"]["flow"]) < 0.6 < 1 < min(found["relative_loss"]["diffusion"])
    assert all((folder / file).exists() for files in found["images"].values() for file in files)
