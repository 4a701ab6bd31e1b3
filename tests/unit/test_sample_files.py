"""Images into files: stopped anywhere and gone on with, the result has the same bits."""

import io
import itertools
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from engine.cli import long_work, main
from engine.data import load_data
from engine.errors import AssetError, InputError
from engine.evaluation import sample_files, sample_formats
from engine.evaluation.protocol import Protocol
from engine.evaluation.sample_files import estimate_seconds, num_sampled, sample_into, where_kept
from engine.evaluation.sampling import images_at_a_time, sample
from engine.models.checkpoints import save_model
from engine.steps import result_of

PROTOCOL = Protocol(num_images=29, num_steps=2, seed=100, sampler="sde")
OUTS = ["images.npz", "images", "flat"]


@pytest.fixture(autouse=True)
def written_often(monkeypatch):
    monkeypatch.setattr(sample_files, "_IMAGES_AT_RISK", 8)


def content(out: Path) -> dict[str, bytes]:
    """Every file's bytes; an archive is one file."""
    if out.is_file():
        return {"": out.read_bytes()}
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def made(out: Path, model, protocol=PROTOCOL, **settings) -> dict[str, bytes]:
    assert result_of(sample_into(out, model, protocol, flat=out.name == "flat", **settings)) == out
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # nothing is left beside it
    return content(out)


def begun(out: Path, model, groups: int, protocol=PROTOCOL) -> None:
    steps = sample_into(out, model, protocol, flat=out.name == "flat")
    for _ in range(groups):
        next(steps)
    steps.close()


def test_an_npz_has_the_layout_of_adm(make_model, tmp_path):
    model = make_model("flow")
    made(tmp_path / "few.npz", model, classes=[3, 7])
    expected = sample(model, PROTOCOL, classes=[3, 7])
    with np.load(tmp_path / "few.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["arr_0", "labels", "seeds"]
        assert arrays["arr_0"].dtype == np.uint8 and np.array_equal(arrays["arr_0"], expected.images)
        assert np.array_equal(arrays["labels"], expected.labels) and np.array_equal(arrays["seeds"], expected.seeds)
    assert len(load_data(str(tmp_path / "few.npz"))) == 29


def test_a_folder_has_a_png_for_each_seed_in_its_class(make_model, tmp_path):
    model = make_model("flow")
    made(tmp_path / "images", model)
    expected = sample(model, PROTOCOL)
    for image, label, seed in zip(expected.images, expected.labels, expected.seeds, strict=True):
        with Image.open(tmp_path / "images" / str(label) / f"{seed}.png") as picture:
            assert np.array_equal(np.asarray(picture), image)
    data = load_data(str(tmp_path / "images"))
    assert len(data) == 29 and data.class_names == model.class_names  # and opens as a dataset


def test_a_flat_folder_has_them_side_by_side(make_model, tmp_path):
    names = made(tmp_path / "flat", make_model("flow")).keys()
    assert names == {f"{seed}.png" for seed in range(100, 129)} | {"samples.json"}


@pytest.mark.parametrize("names", [("a/b", "c"), ("crane", "Crane"), ("", "x"), ("..", "x")])
def test_class_names_that_cannot_be_folders_become_numbers(make_model, tmp_path, names):
    model = replace(make_model("flow"), class_names=(*names, *"23456789"))
    found = made(tmp_path / "images", model, replace(PROTOCOL, num_images=2))
    assert found.keys() == {"0000/100.png", "0001/101.png", "samples.json"}


@pytest.mark.parametrize("name", OUTS)
def test_what_was_stopped_anywhere_ends_with_the_same_bits(make_model, tmp_path, name):
    model = make_model("flow")
    (tmp_path / "whole").mkdir()
    whole = made(tmp_path / "whole" / name, model)
    for groups in (1, 2, 3, 4):
        folder = tmp_path / str(groups)
        folder.mkdir()
        begun(folder / name, model, groups)
        assert num_sampled(folder / name) == min(8 * groups, 29) and not (folder / name).exists()
        assert made(folder / name, model) == whole


@pytest.mark.parametrize("name", OUTS)
def test_more_images_are_added_to_those_that_are_there(make_model, tmp_path, name):
    model = make_model("flow")
    (tmp_path / "whole").mkdir()
    whole = made(tmp_path / "whole" / name, model)
    (tmp_path / "grown").mkdir()
    made(tmp_path / "grown" / name, model, replace(PROTOCOL, num_images=13))
    steps = list(sample_into(tmp_path / "grown" / name, model, PROTOCOL, flat=name == "flat"))
    assert [step.num_done for step in steps] == [21, 29] and steps[-1].num_new == 16
    assert content(tmp_path / "grown" / name) == whole


@pytest.mark.parametrize("name", OUTS)
def test_images_of_many_classes_are_added_in_their_order(make_model, tmp_path, name):
    model = make_model("flow", num_classes=150)
    whole = tmp_path / "whole" / name
    for folder in ("whole", "grown"):
        (tmp_path / folder).mkdir()
    made(whole, model)
    made(tmp_path / "grown" / name, model, replace(PROTOCOL, num_images=13))
    assert made(tmp_path / "grown" / name, model) == content(whole)
    expected = sample(model, PROTOCOL)
    assert [label for _, batch in sample_formats.read_result(whole, model=model, classes=list(range(150)))
            for label in batch.labels] == expected.labels.tolist()  # fmt: skip


def test_images_of_many_classes_in_the_order_of_before_are_not_gone_on_with(make_model, tmp_path, monkeypatch):
    model, out = make_model("flow", num_classes=150), tmp_path / "images.npz"
    monkeypatch.setattr(sample_files, "in_turn", lambda num_classes: True)
    begun(out, model, 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match="was begun with class_order None, not spread"):
        list(sample_into(out, model, PROTOCOL))


@pytest.mark.parametrize("name", OUTS)
def test_the_same_command_once_more_draws_nothing(make_model, tmp_path, name):
    model = make_model("flow")
    before = made(tmp_path / name, model)
    assert list(sample_into(tmp_path / name, model, PROTOCOL, flat=name == "flat")) == []
    assert content(tmp_path / name) == before


@pytest.mark.parametrize("num_before", [0, 13])
def test_the_finishing_can_be_killed_too(make_model, tmp_path, monkeypatch, num_before):
    model, out = make_model("flow"), tmp_path / "images"
    if num_before:  # a finished result that is to grow
        result_of(sample_into(out, model, replace(PROTOCOL, num_images=num_before)))

    fromarray, pictures = Image.fromarray, []

    def killed(image):
        pictures.append(image)
        if len(pictures) == 10:
            raise KeyboardInterrupt
        return fromarray(image)

    monkeypatch.setattr(sample_formats.Image, "fromarray", killed)
    with pytest.raises(KeyboardInterrupt):
        result_of(sample_into(out, model, PROTOCOL))
    assert num_sampled(out) == 29 and len(list(out.rglob("*.png"))) == num_before
    assert len(list((where_kept(out) / "pictures").rglob("*.png"))) == 9  # half a result, under no name of its own
    (where_kept(out) / "pictures" / "rubbish.png").write_bytes(b"half")
    assert list(sample_into(out, model, PROTOCOL)) == []  # nothing is drawn again
    assert len(list(out.rglob("*.png"))) == 29 and not where_kept(out).exists()


@pytest.mark.parametrize("name", OUTS[:2])
def test_other_settings_are_never_mixed(make_model, tmp_path, name):
    model, out = make_model("flow"), tmp_path / name
    begun(out, model, 1)
    for other, word in [
        (replace(PROTOCOL, num_steps=3), "num_steps 2, not 3"),
        (replace(PROTOCOL, sampler="euler"), "sampler sde, not euler"),
        (replace(PROTOCOL, seed=5), "seed 100, not 5"),
    ]:
        with pytest.raises(InputError, match=f"partial was begun with {word}"):
            result_of(sample_into(out, model, other))
    with pytest.raises(InputError, match="weights"):
        result_of(sample_into(out, make_model("flow", seed=4), PROTOCOL))
    with pytest.raises(InputError, match="classes"):
        result_of(sample_into(out, model, PROTOCOL, classes=[1]))
    made(out, model)
    with pytest.raises(InputError, match=r"was made with cfg_scale 2\.0, not 1\.0"):
        result_of(sample_into(out, model, replace(PROTOCOL, cfg_scale=1.0)))
    with pytest.raises(InputError, match="29 images already"):
        result_of(sample_into(out, model, replace(PROTOCOL, num_images=5)))


def test_files_of_others_are_left_alone(make_model, tmp_path):
    model = make_model("flow")
    np.savez(tmp_path / "mine.npz", arr_0=np.zeros(3))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    (tmp_path / "text.npz").write_text("not an archive")
    for name in ("mine.npz", "photos", "text.npz"):
        before = content(tmp_path / name)
        with pytest.raises(InputError, match="wasn't made by this command"):
            result_of(sample_into(tmp_path / name, model, PROTOCOL))
        assert content(tmp_path / name) == before
    (tmp_path / "empty").mkdir()
    assert len(content(result_of(sample_into(tmp_path / "empty", model, PROTOCOL)))) == 30


def test_damage_is_one_line(make_model, tmp_path):
    model = make_model("flow")
    begun(tmp_path / "a.npz", model, 2)
    (kept,) = where_kept(tmp_path / "a.npz").glob("*000016.npz")
    kept.write_bytes(kept.read_bytes()[:500])
    with pytest.raises(AssetError, match="damaged"):
        result_of(sample_into(tmp_path / "a.npz", model, PROTOCOL))
    result_of(sample_into(tmp_path / "b", model, PROTOCOL))
    (tmp_path / "b" / "3" / "103.png").unlink()
    with pytest.raises(AssetError, match="damaged"):
        result_of(sample_into(tmp_path / "b", model, replace(PROTOCOL, num_images=40)))


def test_a_mistake_leaves_nothing_behind(make_model, tmp_path):
    model = make_model("flow")
    for wrong in ({"classes": [12]}, {"classes": []}):
        with pytest.raises(InputError, match="classes 0 … 9"):
            result_of(sample_into(tmp_path / "x.npz", model, PROTOCOL, **wrong))
    with pytest.raises(InputError, match="euler"):
        result_of(sample_into(tmp_path / "x.npz", model, replace(PROTOCOL, sampler="ddim")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("process", "sampler"), [("flow", "euler"), ("flow", "dopri5"), ("diffusion", "dpm++")])
def test_the_estimate_is_of_the_right_size(make_model, monkeypatch, process, sampler):
    """By a clock that counts steps: how fast the machine is has no part in it."""
    model, protocol = make_model(process), Protocol(num_images=64, num_steps=12, sampler=sampler)
    steps = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(steps)), monotonic=time.monotonic)
    monkeypatch.setattr("engine.evaluation.sample_files.time", clock)
    num_groups = -(-64 // images_at_a_time(model, protocol))
    found = estimate_seconds(model, protocol, 64)
    if sampler == "dopri5":  # chooses its steps itself, and its first ones are short
        monkeypatch.setattr(sample_files, "_SECONDS_OF_ESTIMATE", 1e9)
        found = estimate_seconds(model, protocol, 64)
        assert 3 * num_groups < found < 60 * num_groups
    else:
        assert found == pytest.approx(12 * num_groups, rel=0.2)
    assert estimate_seconds(model, protocol, 8) == estimate_seconds(model, protocol, -3) == 0.0
    assert estimate_seconds(model, replace(protocol, num_steps=1), 800) > 0


@pytest.fixture
def tiny(make_model, tmp_path):
    (tmp_path / "tiny").mkdir()
    save_model(make_model("flow"), tmp_path / "tiny")
    return str(tmp_path / "tiny")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def command(tiny, tmp_path, *more: str) -> list[str]:
    return ["sample", tiny, "--num-steps", "2", "--out", str(tmp_path / "o.npz"), *more]


def test_a_million_images_are_not_begun_by_accident(tiny, tmp_path, capsys, monkeypatch):
    million = command(tiny, tmp_path, "--num", "1000000", "--num-steps", "1000")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal
    assert main(million) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: 1,000,000 images would take about") and "--yes" in line and "up to 3.1 GB" in line
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    assert main(million) == 2
    assert "(y/N)" in (err := capsys.readouterr().err) and err.strip().endswith("nothing was drawn")
    assert not (tmp_path / "o.npz.partial").exists()


@pytest.mark.parametrize(("answer", "more"), [("y\n", []), ("", ["--yes"])])
def test_whoever_means_it_gets_it(tiny, tmp_path, capsys, monkeypatch, answer, more):
    monkeypatch.setattr(long_work, "LONG", -1.0)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(command(tiny, tmp_path, "--num", "9", *more)) == 0
    assert ("(y/N)" in capsys.readouterr().err) is not more
    assert (tmp_path / "o.npz").exists()


def test_ctrl_c_keeps_what_was_drawn_and_says_where(tiny, tmp_path):
    """As a person does it: a real process, a real signal, the same command again."""
    whole = tmp_path / "whole.npz"
    arguments = ["--num", "1200", "--num-steps", "20", "--seed", "3"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *command(tiny, tmp_path, *arguments)],
        cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    partial = tmp_path / "o.npz.partial"
    begun = time.monotonic()
    while not partial.exists() and time.monotonic() < begun + 120:
        time.sleep(0.05)
    # a tenth of the start: some images are drawn by then and most are not, on a quick machine as on a busy one
    time.sleep(0.1 * (time.monotonic() - begun))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = num_sampled(tmp_path / "o.npz")
    assert 0 < kept < 1200
    assert f"{kept:,} of 1,200 images are kept in {partial}; repeat the command to go on" in err
    assert "Traceback" not in err
    assert main(command(tiny, tmp_path, *arguments)) == 0
    assert main([*command(tiny, tmp_path, *arguments), "--out", str(whole)]) == 0
    assert (tmp_path / "o.npz").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("num", "line"), [("0", "0 images"), ("-4", "-4 images")])
def test_no_images_are_one_line(tiny, tmp_path, capsys, num, line):
    assert main(command(tiny, tmp_path, "--num", num)) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith(f"error: {line}") and len(err.splitlines()) == 1


def test_what_a_result_says_of_itself(make_model, tmp_path):
    made(tmp_path / "images", make_model("flow"))
    about = json.loads((tmp_path / "images" / "samples.json").read_text())
    assert about["num_images"] == 29
    assert about["request"]["sampler"] == "sde" and about["request"]["classes"] == list(range(10))
    assert about["request"]["model"] == "tiny-flow" and "features" not in about["request"]


@pytest.mark.parametrize(
    ("num", "line"), [("0", "0 images"), ("-4", "-4 images"), ("1000000", "1,000,000 images would take about")]
)
def test_an_evaluation_asks_before_hours_too(tiny, tmp_path, capsys, monkeypatch, num, line):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    arguments = ["evaluate", tiny, "digits", "--workspace", str(tmp_path / "ws"), "--num-steps", "1000", "--num", num]
    assert main(arguments) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"error: {line}")
    assert not list((tmp_path / "ws" / "runs").glob("*"))
