import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from engine.errors import AssetError, InputError, WorkspaceError
from engine.evaluation.comparing import compared
from engine.report.gallery import NUM_SEEDS, picture
from engine.report.plots import colour_limit
from engine.report.report import render_report, write_report
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, open_workspace
from tests.app import fixtures

DEPTH, STAGES = 12, ([], [2, 7], [0, 9])  # blocks dropped in each stage
TITLE = "Half of <SiT> & more"
CANDIDATES = [
    {"num_dropped": 1, "dropped": [2], "macs": 9_100_000, "seconds_per_step": 0.031, "ntk": 812.5, "zico": 40.2,
     "ranks": {"cost": 2, "ntk": 1, "zico": 2}, "total": 3.5},
    {"num_dropped": 2, "dropped": [2, 7], "macs": 8_300_000, "seconds_per_step": 0.029, "ntk": 901.0, "zico": 44.9,
     "ranks": {"cost": 1, "ntk": 2, "zico": 1}, "total": 2.5},
]  # fmt: skip


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def run(workspace) -> Run:
    return make_prune_run(workspace)


def make_prune_run(workspace: Workspace, *, kind: str = "prune", stages=STAGES, cfg_scale=(1.5, 1.5, 1.5)) -> Run:
    params = {"model": "demo-sit-digits", "data": "digits", "target_depth": 8, "finetune": {"num_steps": 40}}
    run = create_run(workspace, kind=kind, title=TITLE, params=params)
    kept = list(range(DEPTH))
    for number, dropped in enumerate(stages):
        kept = [block for block in kept if block not in dropped]
        with run.new_stage(number) as folder:
            _write_stage(folder, number, kept, dropped, cfg_scale[number])
        if number:
            for step in (10, 20, 30, 40):
                run.append("train", stage=number, step=step, num_steps=40, loss=1 / step, learning_rate=1e-4)
            run.append("band", stage=number, mean=0.05, low=0.04, high=0.06)
    run.update(state="done")
    return run


def _write_stage(folder: Path, number: int, kept: list[int], dropped: list[int], cfg_scale: float) -> None:
    decision = {"mode": "adaptive", "order": [2, 7], "scores": {}, "candidates": CANDIDATES, "chosen": 1,
                "weights": {"cost": 1.0, "ntk": 0.5, "zico": 0.5}, "reason": "Two blocks save most."}  # fmt: skip
    info = {"stage": number, "title": f"{len(kept)} blocks", "kept_blocks": kept, "dropped_blocks": dropped,
            "depth": len(kept), "decision": decision if number else None}  # fmt: skip
    (folder / "stage.json").write_text(json.dumps(info))
    about = {
        "process": "flow",
        "network": {"depth": len(kept)},
        "class_names": list("0123456789"),
        "trained_on": "digits",
    }
    (folder / "config.json").write_text(json.dumps(about))
    rng = np.random.default_rng(number)
    images = rng.integers(0, 255, (30, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "samples.npz", arr_0=images, labels=np.arange(30) % 10, seeds=np.arange(30))
    (folder / "metrics.json").write_text(json.dumps(_metrics(number, len(kept), cfg_scale)))
    if number:
        (folder / "ced.json").write_text(json.dumps(_ced(len(kept) + len(dropped))))


def _metrics(number: int, depth: int, cfg_scale: float) -> dict:
    def cost(depth: int) -> dict:
        milliseconds = {"median": depth * 1.5, "low": depth * 1.4, "high": depth * 1.9}
        return {"parameters": depth * 150_000, "macs": depth * 700_000, "latency_ms": milliseconds, "batch_size": 8,
                "images_per_second": 8000 / milliseconds["median"], "device": "cpu", "precision": "fp32"}  # fmt: skip

    return {
        "protocol": {"num_images": 200, "cfg_scale": cfg_scale, "num_steps": 20, "sampler": "euler"},
        "fidelity": {
            "FID (demo-cnn)": {"value": 3.25 + number, "low": 3.0 + number, "high": 3.5 + number},
            "class accuracy (demo-cnn)": {"value": 0.97, "low": 0.95, "high": 0.985},
        },
        "noise_floor": {"FID (demo-cnn)": {"value": 0.33, "low": 0.3, "high": 0.4, "num_images": 200}},
        "warnings": ["FID at N=200 is biased upwards"],
        "per_class": {
            str(digit): {
                "class accuracy (demo-cnn)": {"value": 0.9 - 0.01 * digit * number, "low": 0.8, "high": 0.95},
                "num_images": 20,
                "num_reference": 180,
                "left_out": "FID: too few",
            }
            for digit in range(10)
        },
        "features": {"name": "demo-cnn", "weights": "demo-cnn.safetensors", "sha256": "5e" * 32},
        "reference": {"name": "digits", "hash": "0123456789abcdef", "num_images": 1797},
        "efficiency": cost(depth),
        "efficiency_of_intact": cost(DEPTH) if number else None,
    }


def _ced(depth: int) -> dict:
    delta = np.random.default_rng(0).normal(0.05, 0.1, (depth, 10)).round(4).tolist()
    delta[3][9] = None  # a column that isn't done
    ced = [0.01 * (n + 1) for n in range(depth)]
    return {"variable": "target", "blocks": list(range(depth)), "timesteps": [100.0 * k for k in range(10)],
            "delta": delta, "ced": ced, "ci_low": [v - 0.005 for v in ced], "ci_high": [v + 0.005 for v in ced],
            "order": list(range(depth)), "confidence": 0.9, "warnings": ["few samples"], "note": ""}  # fmt: skip


class _Page(HTMLParser):
    """Tags that are open, all tags, the text, and every address the page mentions."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open, self.tags, self.addresses, self.words, self.code = [], [], [], [], []
        self.feed(content)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data", "srcset", "action")]
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.code.append((self.tags[-1], data))
        else:
            self.words.append(data)

    @property
    def figures(self) -> list[dict]:
        """What is drawn, as the page's own script reads it."""
        held = [text for (_, found), text in self.code if found.get("id") == "figures"]
        return json.loads(held[0])

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.tags)


def report_of(run: Run, out: Path) -> _Page:
    write_report(run.path, out)
    return _Page(out.read_text())


def test_report_is_whole_and_may_fetch_nothing(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    assert page.open == []
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    policy = next(tag["content"] for name, tag in page.tags if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-")
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    scripts = [text for (name, tag), text in page.code if name == "script" and "type" not in tag]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert hashes == allowed and len(scripts) == 2
    styles = "".join(text for (name, _), text in page.code if name == "style")
    assert not re.search(r"https?://|@import|url\(", styles + scripts[1])
    assert "@media print" in styles and "color-scheme: light dark" in styles


def test_report_tells_the_story(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    assert TITLE in page.text  # escaped in the file, whole for the reader
    for words in (
        "12 blocks became 8 in 2 stages",
        "12 → 8",
        "67%",
        "1.50×",
        "3.25 → 5.25",
        "Quality, beyond noise: worse in FID (demo-cnn).",
        "No difference beyond noise in class accuracy (demo-cnn).",
        "FID (demo-cnn)",
        "200 images · euler 20 steps · cfg 1.5",
        "[3, 3.5]",
        "real images score 0.33",
        "Two blocks save most.",
        "812.5",
        "few samples",
        "FID at N=200 is biased upwards",
        "not on Inception",
        "Our reading",
        "python -m engine prune demo-sit-digits digits --target-depth 8",
        "5e" * 32,
        "0123456789abcdef",
        "arXiv 2511.21122",
        "Hashes of the weights were not noted in this run",
    ):
        assert words in page.text, words
    assert page.count("tr", **{"class": "chosen"}) == 2
    headings = [name for name, _ in page.tags if re.fullmatch("h[1-6]", name)]
    assert headings.count("h1") == 1 and "h4" not in headings


def test_every_figure_is_one_for_plotly_has_words_and_a_table(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    figures = page.figures
    assert len(figures) == 2 + 2 + 1 + 1 + 1  # heatmaps, bars, losses, quality against speed, classes
    colours = json.loads(next(text for (_, tag), text in page.code if tag.get("id") == "colours"))
    for figure in figures:
        text = json.dumps({"data": figure["data"], "layout": figure["layout"]})
        names = set(re.findall(r'"(\$[a-z]+)"', text))
        assert names and names <= colours["light"].keys() == colours["dark"].keys()
        for name in names:
            text = text.replace(f'"{name}"', '"#123456"')
        go.Figure(json.loads(text))  # raises for what plotly doesn't know
        assert page.count("div", id=figure["id"], role="img") == 1
    labels = [tag["aria-label"] for name, tag in page.tags if tag.get("role") == "img"]
    assert len(labels) == len(figures) + len(STAGES) and all(labels)
    assert page.count("details", **{"class": "numbers", "open": None}) == len(figures)


def test_heatmaps_name_the_blocks_of_the_loaded_model(run, tmp_path):
    figures = report_of(run, tmp_path / "report.html").figures
    heatmaps = [figure for figure in figures if figure["data"][0]["type"] == "heatmap"]
    rows = [figure["layout"]["yaxis"]["ticktext"] for figure in heatmaps]
    assert rows == [[str(block) for block in range(12)], ["0", "1", "3", "4", "5", "6", "8", "9", "10", "11"]]
    assert heatmaps[0]["data"][0]["z"] == _ced(12)["delta"]
    assert heatmaps[0]["data"][0]["z"][3][9] is None and "not computed" in heatmaps[0]["data"][0]["text"][3][9]
    bars = [figure["data"][0] for figure in figures if figure["data"][0]["type"] == "bar"]
    dropped = [[row for row, colour in zip(names, bar["marker"]["color"], strict=True) if colour == "$dropped"]
               for names, bar in zip(rows, bars, strict=True)]  # fmt: skip
    assert dropped == [["2", "7"], ["0", "9"]]


@pytest.mark.parametrize("said_in", ["metrics.json", "config.json"])  # the latter: runs of before metrics said it
def test_nothing_is_concluded_from_an_intact_model_that_does_not_know_the_classes(run, tmp_path, said_in):
    path = run.stage(0).path / said_in
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels_trained": False}))
    page = report_of(run, tmp_path / "report.html")
    assert "Nothing is said about quality: the intact model's numbers" in page.text
    assert "hasn't been trained" in page.text
    assert "beyond noise: " not in page.text and "went from" not in page.text
    assert "Stage 0 stands beside none" in page.text
    assert not any("FID" in words and "→" in words for words in page.words)
    assert "of the parameters" in page.text  # costs are known all the same
    heads = [words for words in page.words if re.fullmatch(r"stage \d · \d+ blocks", words)]
    assert not any(words.startswith("stage 0") for words in heads) and len(heads) >= 2


def test_a_report_where_no_stage_was_trained_says_why_it_concludes_nothing(run, tmp_path):
    for stage in run.stages():
        path = stage.path / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"labels_trained": False}))
    page = report_of(run, tmp_path / "report.html")
    assert "Nothing is said about quality" in page.text and "Stage 2 stands beside none" in page.text
    assert page.count("span", **{"class": "best"}) == 0


def test_strips_show_what_went_when(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    kinds = {kind: page.count("span", **{"class": kind}) for kind in ("kept", "kept pruned", "dropped", "gone")}
    assert kinds == {"kept": 12, "kept pruned": 10 + 8, "dropped": 4, "gone": 2}
    assert page.count("span", title="block 7: dropped") == 1
    assert page.count("span", title="block 7: gone") == 1


def test_gallery_pairs_the_same_seeds(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    seeds = [int(words.removeprefix("seed ")) for words in page.words if re.fullmatch(r"seed \d+", words)]
    assert sorted(seeds) == list(range(24)) and "24 of 30 seeds are shown" in page.text
    assert page.count("img") == 24 * 3
    for stage in range(3):
        assert page.count("img", alt=f"3, stage {stage}, seed 13") == 1


def test_a_gallery_stays_small(workspace, tmp_path):
    run = make_prune_run(workspace)
    images = np.random.default_rng(0).integers(0, 255, (200, 256, 256, 3), dtype=np.uint8)  # noise packs worst
    for stage in run.stages():
        labels = np.arange(200) % 10
        np.savez(stage.path / "samples.npz", arr_0=images, labels=labels, seeds=np.arange(200))
    page = report_of(run, tmp_path / "report.html")
    assert f"{NUM_SEEDS} of 200 seeds are shown" in page.text and "Shown at 192 of 256 pixels." in page.text
    assert page.count("img") == NUM_SEEDS * 3
    assert (tmp_path / "report.html").stat().st_size < 10e6
    with Image.open(io.BytesIO(base64.b64decode(picture(images[0], "").split(",")[1].split('"')[0]))) as shown:
        assert shown.size == (192, 192)


def test_small_pictures_are_kept_bit_by_bit():
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    data = base64.b64decode(picture(image, "").split(",")[1].split('"')[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_stages_with_another_protocol_are_not_put_side_by_side(workspace, tmp_path):
    page = report_of(make_prune_run(workspace, cfg_scale=(1.5, 1.5, 4.0)), tmp_path / "report.html")
    assert "Stage 2 is left out : it was measured differently: cfg_scale." in page.text
    assert "3.25 → 5.25" not in page.text and "Quality, beyond noise" not in page.text


def test_a_resumed_step_counts_once(run, tmp_path):
    before = report_of(run, tmp_path / "a.html").figures
    run.append("train", stage=1, step=20, num_steps=40, loss=0.05, learning_rate=1e-4)
    assert report_of(run, tmp_path / "b.html").figures == before
    run.append("train", stage=1, step=20, num_steps=40, loss=0.06, learning_rate=1e-4)
    assert report_of(run, tmp_path / "b.html").figures != before


def test_losses_stand_one_stage_after_the_other_with_the_intact_band(run, tmp_path):
    figures = report_of(run, tmp_path / "report.html").figures
    data = next(f["data"] for f in figures if f["layout"]["yaxis"].get("title", {}).get("text") == "training loss")
    lines = [trace for trace in data if trace["line"]["width"] == 1]
    assert [trace["x"] for trace in lines] == [[10, 20, 30, 40], [50, 60, 70, 80]]
    assert [trace["y"] for trace in lines] == [[1 / step for step in (10, 20, 30, 40)]] * 2
    bands = [trace for trace in data if trace.get("fill") == "toself"]
    assert [trace["x"] for trace in bands] == [[0, 40, 40, 0], [40, 80, 80, 40]]
    assert bands[0]["y"] == [0.04, 0.04, 0.06, 0.06]


def test_an_intact_model_that_was_adapted_is_told_apart(workspace, tmp_path):
    untouched = report_of(make_prune_run(workspace), tmp_path / "untouched.html").text
    assert "adapted" not in untouched
    run = make_prune_run(workspace)
    file = run.stage(0).path / "stage.json"
    info = json.loads(file.read_text()) | {"title": "intact, adapted", "train": {"num_steps": 60, "final_loss": 0.5}}
    file.write_text(json.dumps(info))
    run.append("train", stage=0, step=60, num_steps=60, loss=0.5, learning_rate=1e-4)
    page = report_of(run, tmp_path / "adapted.html")
    assert "The intact model was adapted to the data before, in 60 training steps." in page.text
    assert "Stage 0: intact, adapted" in page.text
    assert "intact model adapts" in json.dumps(page.figures)


def test_an_unfinished_run_says_so(workspace, tmp_path):
    run = make_prune_run(workspace, stages=STAGES[:1])
    run.update(state="interrupted")
    page = report_of(run, tmp_path / "report.html")
    assert "The run is interrupted" in page.text and "Nothing was fine-tuned" in page.text
    assert "nothing was dropped yet" in page.text and page.open == []


def test_stages_without_metrics_or_pictures_are_reported(workspace, tmp_path):
    run = make_prune_run(workspace)
    for stage in run.stages():
        for name in ("metrics.json", "samples.npz", "ced.json"):
            (stage.path / name).unlink(missing_ok=True)
    page = report_of(run, tmp_path / "report.html")
    assert "No stage was evaluated." in page.text and "nothing was measured" in page.text and page.open == []


def test_a_branch_is_told_from_the_way_to_the_last_stage(workspace, tmp_path):
    run = make_prune_run(workspace, stages=([], [2], [3], [4, 5]), cfg_scale=(1.5,) * 4)
    for number, parent in enumerate((None, 0, 0, 2)):
        file = run.stage(number).path / "stage.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"parent": parent}))
    page = report_of(run, tmp_path / "report.html")
    assert "in 2 stages" in page.text and "1 more stage on other branches" in page.text
    assert "Stage 2: 10 blocks, grew from stage 0" in page.text and "The run has branches" in page.text


def test_what_a_person_decided_is_said(workspace, tmp_path):
    run = make_prune_run(workspace)
    file = run.stage(1).path / "stage.json"
    info = json.loads(file.read_text())
    info["decision"] |= {"mode": "overridden", "chosen": None, "vote": {"chosen": 0, "reason": "One block is enough."}}
    file.write_text(json.dumps(info))
    page = report_of(run, tmp_path / "report.html")
    assert "Overridden by a person." in page.text and "One block is enough." in page.text
    assert "Stage 1 was decided by a person: blocks 2, 7 went." in page.text
    assert page.count("tr", **{"class": "chosen"}) == 1


def test_versions_and_hashes_of_the_run_are_shown_where_they_were_noted(run, tmp_path):
    about = {"versions": {"torch": "9.8.7"}, "machine": {"cores": 3}, "weights_sha256": "ab" * 32,
             "source": {"file": "mine.pt", "sha256": "cd" * 32}}  # fmt: skip
    (run.stage(0).path / "provenance.json").write_text(json.dumps(about))
    text = report_of(run, tmp_path / "report.html").text
    for words in ("versions that made the run", "torch 9.8.7", "cores 3", "ab" * 32, "cd" * 32, "loaded: mine.pt"):
        assert words in text, words


HOSTILE = "</script><img src=x onerror=alert(1)>${'$kept'}\u2028&\"'<a href=//evil.example>"


def _poisoned(value, keep=()):
    """Every word in it is hostile, names of fields too where they come from the run."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [_poisoned(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key in keep else _poisoned(item) for key, item in value.items()}
    return value


def test_text_of_a_run_stays_text_wherever_it_stands(workspace, tmp_path):
    run = make_prune_run(workspace)
    config = json.loads((run.path / "config.json").read_text())
    config |= {"title": HOSTILE, "params": _poisoned(config["params"])}
    (run.path / "config.json").write_text(json.dumps(config))
    for stage in run.stages():
        for name in ("stage.json", "metrics.json", "ced.json", "config.json"):
            file = stage.path / name
            if file.exists():
                about = _poisoned(json.loads(file.read_text()), keep=("mode",))
                if name == "metrics.json":
                    about["fidelity"][f"FID {HOSTILE}"] = about["fidelity"].pop("FID (demo-cnn)")
                    about["per_class"] = {f"{HOSTILE}{k}": v for k, v in about["per_class"].items()}
                    about["features"] = {key: HOSTILE for key in about["features"]}
                if name == "ced.json":
                    about["labels"] = [HOSTILE for _ in about["blocks"]]
                file.write_text(json.dumps(about))
        (stage.path / "provenance.json").write_text(json.dumps({
            "versions": {HOSTILE: HOSTILE}, "machine": {HOSTILE: HOSTILE}, "weights_sha256": HOSTILE,
            "source": {"file": HOSTILE, "sha256": HOSTILE}}))  # fmt: skip
    page = report_of(Run(run.path), tmp_path / "report.html")
    assert page.open == [] and page.text.count("onerror=alert(1)") > 20
    assert not [tag for name, tag in page.tags if "onerror" in tag or name in ("a", "iframe")]
    assert page.count("script") == 4 and all(address.startswith("data:") for address in page.addresses)
    drawn = json.dumps(page.figures, ensure_ascii=False)
    assert "onerror" in drawn and "<img" not in drawn and "<a " not in drawn and "</script" not in drawn


def test_what_cannot_be_reported_is_one_line(workspace, run, tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(
        InputError, match="is of kind 'criteria'; a report is made of a run of kind prune, evaluate, ced"
    ):
        write_report(make_prune_run(workspace, kind="criteria").path, out)
    with pytest.raises(InputError, match="is done and has no finished stage"):
        write_report(make_prune_run(workspace, stages=()).path, out)
    with pytest.raises(InputError, match="is done and has no result to report"):
        write_report(make_prune_run(workspace, kind="ced").path, out)
    with pytest.raises(WorkspaceError):
        write_report(run.path, tmp_path / "nowhere" / "report.html")
    (run.path / "stages" / "1" / "stage.json").write_text('{"depth": 10, "kept_blocks": [1], "title": ""}')
    with pytest.raises(AssetError, match="lacks 'dropped_blocks'"):
        write_report(run.path, out)
    run = make_prune_run(workspace)
    (run.path / "stages" / "2" / "metrics.json").write_text('{"fidelity": 3}')
    with pytest.raises(AssetError, match="another version wrote it") as error:
        write_report(run.path, out)
    assert "\n" not in str(error.value)
    run = make_prune_run(workspace)
    (run.path / "stages" / "2" / "samples.npz").write_bytes(b"PK")
    with pytest.raises(AssetError, match=r"samples\.npz is damaged"):
        write_report(run.path, out)
    assert not out.exists()


def test_an_evaluate_run_is_reported(workspace, tmp_path):
    run = make_prune_run(workspace, kind="evaluate", stages=STAGES[:1])
    (run.stage(0).path / "config.json").unlink()
    page = report_of(run, tmp_path / "report.html")
    assert "FID (demo-cnn) 3.25 is worse, beyond noise, than what real images score" in page.text
    assert "python -m engine evaluate demo-sit-digits digits" in page.text
    assert page.count("img", alt="3, stage 0, seed 3") == 1  # the class's name, from the numbers class by class
    assert len(page.figures) == 1 and page.open == []


def test_a_ced_run_is_reported_finished_or_not(workspace, tmp_path):
    run = create_run(workspace, kind="ced", title=TITLE, params={"model": "m", "data": "d", "config": {"samples": 64}})
    (run.progress_folder / "ced.json").write_text(json.dumps(_ced(5)))
    page = report_of(run, tmp_path / "report.html")
    assert "The run is queued" in page.text and "blocks 0, 1, 2 matter least" in page.text
    assert len(page.figures) == 2 and "python -m engine ced m d --samples 64" in page.text


def test_an_arena_is_reported_with_who_is_best_beyond_noise(workspace, tmp_path):
    for gap, words in ((3.0, "is best, beyond noise"), (0.0, "no difference beyond noise from")):
        run = fixtures.add_arena(workspace, gap=gap)
        page = report_of(run, tmp_path / "report.html")
        assert words in page.text, words
        entrants = json.loads((run.path / "arena.json").read_text())["result"]["table"]
        assert page.figures[0]["data"][0]["x"] == [row["fid"]["mean"] for row in entrants]
        assert "python -m engine arena demo-sit shapes" in page.text


def test_stages_that_were_left_out_by_the_caller_are_not_reported(run):
    page = _Page(render_report(run, run.stages()[:2]))
    assert "12 blocks became 10 in 1 stage" in page.text


def test_better_and_worse_are_said_beyond_noise_only():
    def value(middle: float, half: float = 0.5) -> dict:
        return {"value": middle, "low": middle - half, "high": middle + half}

    assert compared("FID (x)", value(3), value(3.9)) == 0
    assert compared("FID (x)", value(3), value(5)) == -1 and compared("FID (x)", value(5), value(3)) == 1
    assert compared("recall (x)", value(3), value(5)) == 1
    assert compared("FID (x)", value(3), value(5), floor=value(0, 1.1)) == 0  # a gap as wide as the floor's range
    assert compared("FID (x)", value(3), value(5), floor=value(0, 0.9)) == -1


def test_colours_are_full_where_most_cells_lie():
    assert colour_limit([[None, -2.0, 2.0]]) == 2.0
    assert colour_limit([[None] * 3]) == 1.0 and colour_limit([[0.0] * 3]) == 1.0


def test_report_needs_no_torch():
    code = "import sys, engine.report.report; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
