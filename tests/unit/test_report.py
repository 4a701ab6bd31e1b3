import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from engine.errors import AssetError, InputError, WorkspaceError
from engine.evaluation.report import write_report
from engine.evaluation.report_figures import colour_limit, diverging
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, open_workspace

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
        self.open, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(content)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data", "srcset", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.tags)


def report_of(run: Run, out: Path) -> _Page:
    write_report(run.path, out)
    return _Page(out.read_text())


def test_report_is_whole_and_fetches_nothing(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text()
    assert page.open == []
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(|<script|<link", content)
    assert "@media print" in content and "color-scheme: light dark" in content


def test_report_tells_the_story(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    assert TITLE in page.text  # escaped in the file, whole for the reader
    for words in (
        "12 blocks became 8 in 2 stages",
        "12 → 8",
        "67%",
        "1.50×",
        "3.25 → 5.25",
        "FID (demo-cnn)",
        "200 images · euler 20 steps · cfg 1.5",
        "[3, 3.5]",
        "noise floor of FID (demo-cnn)",
        "Two blocks save most.",
        "812.5",
        "few samples",
        "FID at N=200 is biased upwards",
        "not on Inception",
        "Our reading",
    ):
        assert words in page.text, words
    assert page.count("tr", **{"class": "chosen"}) == 2
    assert page.count("svg") == 2
    assert page.count("polyline") == 2  # a loss curve for each stage


def test_strips_show_what_went_when(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    kinds = {kind: page.count("span", **{"class": kind}) for kind in ("kept", "dropped", "gone")}
    assert kinds == {"kept": 12 + 10 + 8, "dropped": 4, "gone": 2}
    assert page.count("span", title="block 7: dropped") == 1
    assert page.count("span", title="block 7: gone") == 1


def test_heatmap_has_a_cell_for_every_block_and_column(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    titles = re.findall(r"block (\d+), (\S+): ΔH (\S+)", page.text)
    assert len(titles) == DEPTH * 10
    assert sum(value == "not" for _, _, value in titles) == 1


def test_gallery_pairs_the_same_seeds(run, tmp_path):
    page = report_of(run, tmp_path / "report.html")
    captions = [words for words in page.words if re.fullmatch(r"\d · seed \d+", words)]
    assert captions == [f"{seed % 10} · seed {seed}" for seed in range(24)]
    assert page.count("img") == 48 and page.count("img", alt="3, intact") == page.count("img", alt="3, pruned") == 3


def test_stages_with_another_protocol_are_not_put_side_by_side(workspace, tmp_path):
    page = report_of(make_prune_run(workspace, cfg_scale=(1.5, 1.5, 4.0)), tmp_path / "report.html")
    assert "Stage 2 is left out : its protocol differs in cfg_scale." in page.text
    assert "3.25 → 5.25" not in page.text


def test_a_resumed_step_counts_once(run, tmp_path):
    before = report_of(run, tmp_path / "a.html")
    run.append("train", stage=1, step=20, num_steps=40, loss=0.05, learning_rate=1e-4)
    after = report_of(run, tmp_path / "b.html")
    points = [[tag["points"] for name, tag in page.tags if name == "polyline"] for page in (before, after)]
    assert points[0] == points[1]


def test_an_intact_model_that_was_adapted_is_told_apart(workspace, tmp_path):
    untouched = report_of(make_prune_run(workspace), tmp_path / "untouched.html").text
    assert "adapted" not in untouched and "Above the intact model, below" in untouched
    run = make_prune_run(workspace)
    file = run.stage(0).path / "stage.json"
    info = json.loads(file.read_text()) | {"title": "intact, adapted", "train": {"num_steps": 60, "final_loss": 0.5}}
    file.write_text(json.dumps(info))
    run.append("train", stage=0, step=60, num_steps=60, loss=0.5, learning_rate=1e-4)
    text = report_of(run, tmp_path / "adapted.html").text
    assert "The intact model was adapted to the data before, in 60 training steps." in text
    assert "Above the intact model, adapted to the data, below the pruned" in text
    assert "Stage 0: intact, adapted" in text and "stage 0" in text  # the latter in the losses


def test_an_unfinished_run_says_so(workspace, tmp_path):
    run = make_prune_run(workspace, stages=STAGES[:1])
    run.update(state="interrupted")
    page = report_of(run, tmp_path / "report.html")
    assert "The run is interrupted" in page.text and "Nothing was fine-tuned" in page.text
    assert page.open == []


def test_what_cannot_be_reported_is_one_line(workspace, run, tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(InputError, match="is of kind 'ced'"):
        write_report(make_prune_run(workspace, kind="ced").path, out)
    with pytest.raises(InputError, match="is done and has no finished stage"):
        write_report(make_prune_run(workspace, stages=()).path, out)
    with pytest.raises(WorkspaceError):
        write_report(run.path, tmp_path / "nowhere" / "report.html")
    (run.path / "stages" / "1" / "stage.json").write_text('{"depth": 10, "kept_blocks": [1], "title": ""}')
    with pytest.raises(AssetError, match="lacks 'dropped_blocks'"):
        write_report(run.path, out)
    run = make_prune_run(workspace)
    (run.path / "stages" / "2" / "samples.npz").write_bytes(b"PK")
    with pytest.raises(AssetError, match=r"samples\.npz is damaged"):
        write_report(run.path, out)
    assert not out.exists()


def test_colours_are_signed_and_saturate():
    assert diverging(0.0, 1.0) == "#f7f7f7"
    assert diverging(5.0, 1.0) == diverging(1.0, 1.0) == "#b2182b"
    assert diverging(-1.0, 1.0) == "#2166ac"
    assert colour_limit(np.array([np.nan, -2.0, 2.0])) == 2.0
    assert colour_limit(np.full(3, np.nan)) == 1.0 and colour_limit(np.zeros(3)) == 1.0


def test_report_needs_no_torch():
    code = "import sys, engine.evaluation.report; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
