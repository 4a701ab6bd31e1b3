"""Makes the workspaces that the app's tests look at: run folders and models with made-up content, no torch needed.

``python -m tests.app.fixtures FOLDER`` writes one to look at in a browser.
"""

import json
import os
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from engine.arena.config import ArenaConfig
from engine.arena.entrants import ENTRANTS
from engine.arena.result import arena_result
from engine.evaluation.protocol import Protocol
from engine.importance.config import CRITERIA, CedConfig, CriteriaConfig
from engine.importance.criteria_result import CriterionScores, rank_correlations
from engine.runs import library
from engine.runs.queue import WorkerInfo, beat, claim_next_preview, finish_preview
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, open_workspace
from engine.training.config import FinetuneConfig

DEPTH, COLUMNS, NUM_IMAGES = 12, 10, 40
SHAPES = ("circle", "ring", "square", "triangle", "star", "cross", "heart", "moon", "arrow", "hourglass")
NETWORK = dict(
    input_size=8, patch_size=2, in_channels=4, hidden_size=96, depth=DEPTH, num_heads=4, mlp_ratio=4.0,
    num_classes=10, class_dropout_prob=0.1, learn_sigma=True,
)  # fmt: skip


def write_models(folder: Path) -> None:
    """Descriptions of two bundled models, without weights."""
    for name, process in (("demo-sit", "flow"), ("demo-dit", "diffusion")):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(model_config(process, depth=DEPTH)))


def model_config(process: str, *, depth: int) -> dict:
    return {
        "process": process,
        "network": {**NETWORK, "depth": depth},
        "class_names": list(SHAPES),
        "trained_on": "shapes",
        "parent": None,
    }


def ced_result(config: CedConfig, *, model: str = "demo-sit", data: str = "shapes", done: int = COLUMNS) -> dict:
    """As the engine writes it; columns from ``done`` on aren't there yet."""
    rng = np.random.default_rng(1)
    importance = 0.02 + 0.3 * rng.random(DEPTH)
    delta = importance[:, None] * np.sin(np.linspace(0.4, 2.9, COLUMNS))[None, :]
    delta[3] *= -1
    ced = np.abs(delta).mean(1)
    order = np.argsort(ced).tolist()
    ranks = np.argsort(order)

    def columns(values: np.ndarray) -> list:
        return [[float(v) if k < done else None for k, v in enumerate(row)] for row in values]

    return {
        "model": model, "data": data, "variable": config.variable, "estimator": config.estimator,
        "condition": config.condition, "protocol": asdict(config), "blocks": list(range(DEPTH)),
        "timesteps": [float(t) if k < done else None for k, t in enumerate(np.linspace(0.95, 0.05, COLUMNS))],
        "entropy": [1.0 if k < done else None for k in range(COLUMNS)], "entropy_without": columns(1 + delta),
        "delta": columns(delta), "cell_low": columns(delta - 0.01), "cell_high": columns(delta + 0.01),
        "ced": ced.tolist(), "ci_low": (ced - 0.01).tolist(), "ci_high": (ced + 0.01).tolist(),
        "rank_low": [max(1, int(r)) for r in ranks], "rank_high": [min(DEPTH, int(r) + 2) for r in ranks],
        "output_mse": columns(np.abs(delta) * 0.7), "order": order, "confidence": 0.9, "seconds": 3.2, "warnings": [],
        "note": "",
    }  # fmt: skip


def add_ced(workspace: Workspace, *, state: str = "done", data: str = "shapes", **asked: str) -> Run:
    config = CedConfig(**asked)
    params = {"model": "demo-sit", "data": data, "config": asdict(config)}
    run = create_run(workspace, kind="ced", title="CED of demo-sit on shapes", params=params)
    if state == "done":
        _write(run.path / "ced.json", ced_result(config))
        run.update(state="done", progress=1.0, message="finished")
    elif state == "running":
        _write(run.progress_folder / "ced.json", ced_result(config, done=4))
        run.update(state="running", progress=0.4, phase="scoring", message="column 4 of 10")
    else:
        run.update(state=state, error=f"the fixture {state}", message=f"the fixture {state}")
    return run


def criteria_result(config: CriteriaConfig) -> dict:
    """As the engine writes it: Taylor says the reverse of the loss, "first" has no interval."""
    rng = np.random.default_rng(2)
    base = rng.permutation(DEPTH) / DEPTH + 0.05
    scores = {name: base + 0.1 * rng.random(DEPTH) for name in config.criteria}
    scores |= {"loss": base, "taylor": 2 - base, "first": np.arange(DEPTH, dtype=float)}
    scores |= {f"ced-{name}": base**2 for name in config.variables}
    found = {
        name: asdict(
            CriterionScores(
                title=f"title of {name}", meaning=f"meaning of {name}", origin="fixture", scores=values.tolist(),
                ci_low=None if name == "first" else (values - 0.02).tolist(),
                ci_high=None if name == "first" else (values + 0.02).tolist(), order=np.argsort(values).tolist(),
            )
        )
        for name, values in scores.items()
    }  # fmt: skip
    spearman, kendall = rank_correlations([values.tolist() for values in scores.values()])
    return {
        "model": "demo-sit", "data": "shapes", "protocol": {**asdict(config), "device": "cpu", "precision": "fp32"},
        "blocks": list(range(DEPTH)), "labels": [str(block) for block in range(DEPTH)], "criteria": found,
        "names": list(found), "spearman": spearman, "kendall": kendall, "confidence": 0.9, "seconds": 12.0,
        "warnings": [], "note": "",
    }  # fmt: skip


def add_criteria(workspace: Workspace, **asked: object) -> Run:
    config = CriteriaConfig(**asked)
    params = json.loads(json.dumps({"model": "demo-sit", "data": "shapes", "config": asdict(config)}))
    run = create_run(workspace, kind="criteria", title="Criteria of demo-sit on shapes", params=params)
    _write(run.path / "criteria.json", criteria_result(config))
    run.update(state="done", progress=1.0, message="finished")
    return run


GOOD = (0, 2, 4, 6, 8, 10)  # the blocks that "ced-target" and "bi" name in made-up arenas


def arena_content(
    config: ArenaConfig | None = None,
    *,
    gap: float = 0.0,
    staged_gap: float = 0.0,
    num_bouts: int | None = None,
    old: bool = False,
) -> dict:
    """An arena of made-up bouts. ``gap``: how much better the blocks of "ced-target" are than chance, on a log scale;
    "bi" names the same blocks, every other criterion a set that is no better than chance; one that prunes in stages is
    better by ``staged_gap`` and comes to another set with each seed. Without ``num_bouts`` all of them.

    ``old``: as it was written before any pruned in stages, and of less said."""
    config = config or arena_config()
    if old:
        config = replace(config, entrants=tuple(name for name in config.entrants if name in OLD_ENTRANTS))
    rng = np.random.default_rng(2)

    def some_blocks() -> tuple[int, ...]:
        return tuple(sorted(rng.choice(DEPTH, 6, replace=False).tolist()))

    at_once = [name for name in config.entrants if not ENTRANTS[name].progressive]
    staged = [name for name in config.entrants if ENTRANTS[name].progressive]
    dropped = {name: some_blocks() for name in at_once}
    dropped |= {name: GOOD for name in ("ced-target", "bi") if name in dropped}
    dropped |= {f"random {index + 1}": some_blocks() for index in range(config.num_random)}
    of = {
        name: [float(block not in dropped[name]) + 0.01 * block for block in range(DEPTH)]
        for name in at_once
        if not ENTRANTS[name].greedy
    }
    bouts = []
    for seed in range(config.num_seeds):
        for who in [(), *dict.fromkeys(dropped.values()), *staged]:
            in_stages = isinstance(who, str)
            better = staged_gap if in_stages else gap * (who == GOOD)
            fid = float(np.exp((4.0 - better if who else 3.0) + rng.normal(0, 0.05)))
            blocks = some_blocks() if in_stages else who
            bout = {"dropped": list(blocks), "seed": seed, "fid": fid, "kid": fid / 2000, "accuracy": 0.9,
                    "loss": fid / 100}  # fmt: skip
            if not old:
                stages = [{"dropped": list(blocks[2 * i : 2 * i + 2]), "num_steps": 100 * (i + 1),
                           "reason": "2 blocks go: cost wanted that."} for i in range(3)]  # fmt: skip
                bout |= {"strategy": who if in_stages else "", "stages": stages if in_stages else [], "seconds": 30.0,
                         "train_macs": 1e12 * (1.2 if in_stages else 1.0 if who else 2.0)}  # fmt: skip
            bouts.append(bout)
    bouts = bouts[:num_bouts]
    scores = {"of": of, "dropped": {name: list(blocks) for name, blocks in dropped.items()}}
    result = arena_result(config, scores, bouts)
    if old:
        del result["chance"]
        for row in result["table"]:
            for name in ("num_sets", "against_intact", "train_macs"):
                del row[name]
    return json.loads(json.dumps({"scores": scores, "bouts": bouts, "result": result, "config": asdict(config)}))


OLD_ENTRANTS = ("ced-target", "ced-samples", "ced-prediction", *(name for name in CRITERIA if name != "random"))


def arena_round() -> int:
    """Trainings of one seed in ``arena_content()``, where "ced-target" and "bi" share theirs."""
    return 1 + len(ENTRANTS) - 1 + 4


def arena_config() -> ArenaConfig:
    return ArenaConfig(num_random=4)


def add_arena(workspace: Workspace, *, state: str = "done", gap: float = 0.0) -> Run:
    config = arena_config()
    params = json.loads(json.dumps({"model": "demo-sit", "data": "shapes", "config": asdict(config)}))
    run = create_run(workspace, kind="arena", title="Arena of demo-sit on shapes", params=params)
    if state == "done":
        _write(run.path / "arena.json", arena_content(config, gap=gap))
        run.update(state="done", progress=1.0, message="finished")
    else:
        _write(run.progress_folder / "arena.json", arena_content(config, gap=gap, num_bouts=20))
        message = f"20 of {3 * arena_round()} recovered and measured"
        run.update(state=state, progress=0.4, phase="recovering", message=message,
                   eta_seconds=600.0, error=f"the fixture {state}" if state == "failed" else None)  # fmt: skip
    return run


def add_prune(workspace: Workspace, *, state: str = "done", num_stages: int = 3, adapt_steps: int = 0) -> Run:
    """12 → 10 → 8 → 6 blocks, adaptively; ``num_stages`` −1: in the middle of adapting the intact model."""
    params = {
        "model": "demo-sit", "data": "shapes", "target_depth": 6, "num_stages": 3, "adapt_steps": adapt_steps,
        "finetune": asdict(FinetuneConfig()), "protocol": asdict(Protocol()), "ced": asdict(CedConfig()),
    }  # fmt: skip
    run = create_run(workspace, kind="prune", title="demo-sit on shapes: 12 → 6 blocks", params=params)
    order = ced_result(CedConfig())["order"]
    for number in range(num_stages + 1):
        dropped = order[2 * (number - 1) : 2 * number] if number else []
        kept = [block for block in range(DEPTH) if block not in order[: 2 * number]]
        decision = _decision(order[2 * number - 2 :], number) if number else None
        if number:
            run.append("decision", stage=number, decision=decision)
        if number or adapt_steps:
            _train_events(run, number)
        with run.new_stage(number) as folder:
            _fill_stage(folder, number, kept, dropped, decision, adapt_steps=adapt_steps)
        run.append("stage", stage=number)
    if num_stages < 0:
        _train_events(run, 0, num_steps=120)
        run.update(state=state, progress=0.1, phase="adapting", message="stage 0: step 120 of 300")
    elif state == "running":
        run.append("decision", stage=num_stages + 1, decision=_decision(order, num_stages + 1))
        _train_events(run, num_stages + 1, num_steps=120)
        run.update(state="running", progress=0.7, phase="recovery", message="step 120 of 300", eta_seconds=40.0)
    elif state == "done":
        run.update(state="done", progress=1.0, message="finished")
    else:
        run.update(state=state, progress=0.5, error=f"the fixture {state}", message=f"the fixture {state}")
    return run


def rest_at_decision(run: Run, *, parent: int | None = None) -> dict:
    """The run rests with a vote on its next stage; returns the record."""
    stages = run.stages()
    head = stages[-1] if parent is None else run.stage(parent)
    order = [block for block in ced_result(CedConfig())["order"] if block in head.kept_blocks]
    number, record = stages[-1].number + 1, _decision(order, stages[-1].number + 1)
    record |= {"reason": "2 blocks go: cost wanted that.", "order": order}
    about = {"parent": head.number, "number": number, "pending": True, "record": record, "ced": None}
    drop = record["candidates"][record["chosen"]]["dropped"]
    _write(run.path / "train_state.json", {**about, "drop": [head.kept_blocks.index(block) for block in drop]})
    run.append("decision", stage=number, parent=head.number, decision=record)
    run.update(state="paused", phase="deciding", progress=0.4, message="the vote is in")
    return record


def add_branch(run: Run, *, parent: int, drop: list[int]) -> int:
    """Another stage that grows from ``parent``; returns its number."""
    head, number = run.stage(parent), run.stages()[-1].number + 1
    kept = [block for block in head.kept_blocks if block not in drop]
    record = {"mode": "chosen", "order": [], "scores": {}, "candidates": [], "weights": {}, "chosen": None}
    with run.new_stage(number) as folder:
        _fill_stage(folder, number, kept, drop, {**record, "reason": "chosen by hand."}, parent=parent)
    run.append("stage", stage=number)
    return number


def sample_images(number: int) -> np.ndarray:
    """(N, 32, 32, 3): discs that lose contrast from stage to stage."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:32, :32]
    images = np.zeros((NUM_IMAGES, 32, 32, 3), np.uint8)
    for image in images:
        background, colour = rng.integers(0, 120, 3), rng.integers(120, 255, 3)
        image[:] = background
        image[(x - 16) ** 2 + (y - 16) ** 2 < rng.integers(40, 160)] = colour - (colour - background) * number // 6
    return images


def _fill_stage(
    folder: Path,
    number: int,
    kept: list[int],
    dropped: list[int],
    decision: dict | None,
    *,
    parent: int | None = None,
    adapt_steps: int = 0,
) -> None:
    if number and parent is None:
        parent = number - 1
    info = {
        "stage": number, "parent": parent, "data": "shapes", "process": "flow",
        "title": f"{len(kept)} of {DEPTH} blocks" if number else "intact, adapted" if adapt_steps else "intact",
        "model": "demo-sit",
        "kept_blocks": kept, "dropped_blocks": dropped, "depth": len(kept), "decision": decision,
        "finetune": asdict(FinetuneConfig()) if number or adapt_steps else None, "created": time.time(),
        "train": {"num_steps": 300 if number else adapt_steps, "final_loss": 0.3, "seconds": 33.0}
        if number or adapt_steps else None,
    }  # fmt: skip
    _write(folder / "stage.json", info)
    _write(folder / "config.json", model_config("flow", depth=len(kept)))
    labels, seeds = np.arange(NUM_IMAGES) % len(SHAPES), np.arange(NUM_IMAGES)
    np.savez_compressed(folder / "samples.npz", arr_0=sample_images(number), labels=labels, seeds=seeds)
    _write(folder / "metrics.json", metrics(number, len(kept)))


def metrics(number: int, depth: int, **protocol: object) -> dict:
    def around(value: float, half: float) -> dict:
        return {"value": value, "low": value - half, "high": value + half}

    efficiency = {
        "parameters": 170_000 * depth, "macs": 2_600_000 * depth, "images_per_second": 9600.0 / depth,
        "latency_ms": {"median": 0.8 * depth, "low": 0.7 * depth, "high": 1.0 * depth},
        "batch_size": 8, "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return {
        "protocol": asdict(Protocol(sampler="euler", **protocol)),
        "fidelity": {
            "FID (demo-cnn)": around(18.4 + 4 * number, 1.0),
            "KID (demo-cnn)": around(0.010 + 0.001 * number, 0.004),
            "class accuracy (demo-cnn)": around(0.97 - 0.02 * number, 0.008),
        },
        "noise_floor": {"FID (demo-cnn)": around(2.1, 0.2)},
        "warnings": [],
        "efficiency": efficiency,
    }


def _decision(order: list[int], number: int) -> dict:
    candidates = [
        {
            "num_dropped": k, "dropped": sorted(order[:k]), "macs": 2_600_000 * (DEPTH - k), "seconds_per_step": 0.1,
            "ntk": 40.0 + 5 * k, "zico": 900.0 - 30 * k, "ranks": {"cost": 4 - k, "ntk": k + 1, "zico": k + 1},
            "total": 4 - k + 0.5 * (k + 1) + 0.5 * (k + 1),
        }
        for k in range(4)
    ]  # fmt: skip
    return {
        "mode": "adaptive", "order": order, "scores": {str(block): 0.1 for block in order}, "candidates": candidates,
        "weights": {"cost": 1.0, "ntk": 0.5, "zico": 0.5}, "chosen": 2,
        "reason": f"dropping 2 blocks had the lowest vote in stage {number}",
    }  # fmt: skip


def _train_events(run: Run, stage: int, *, num_steps: int = 300) -> None:
    rng = np.random.default_rng(stage)
    for step in range(5, num_steps + 1, 5):
        run.append(
            "train", stage=stage, step=step, num_steps=300,
            loss=0.3 + 0.4 * float(np.exp(-step / 60)) + rng.normal(0, 0.01),
            learning_rate=3e-4, images_per_second=1160.0,
        )  # fmt: skip
        if step % 60 == 0:
            name = f"stage{stage}-step{step:06d}.png"
            Image.fromarray(np.concatenate(list(sample_images(stage)[:16]), axis=1)).save(run.progress_folder / name)
            run.append("samples", stage=stage, step=step, picture=f"progress/{name}")


# --- what was opened ---

BIG_NETWORK = dict(
    input_size=32, patch_size=2, in_channels=4, hidden_size=1152, depth=28, num_heads=16, mlp_ratio=4.0,
    num_classes=1000, class_dropout_prob=0.1, learn_sigma=True,
)  # fmt: skip
FLOWERS = ("daisy", "rose", "tulip")


def inspect_facts(**changes: object) -> dict:
    """As the engine says of a DiT-XL/2 from a training checkpoint."""
    network = BIG_NETWORK | {key: value for key, value in changes.items() if key in BIG_NETWORK}
    names = [f"class {index}" for index in range(network["num_classes"])]
    gigabyte = 10**9
    return {
        "ref": "/models/DiT-XL-2-256x256.pt", "layout": "official", "taken": "ema", "process": "diffusion",
        "process_reason": "on pure noise its output correlates +0.98 with the noise, as an ε-model's does.",
        **{key: network[key] for key in ("depth", "hidden_size", "num_heads", "patch_size", "in_channels",
                                         "input_size", "num_classes", "learn_sigma")},
        "null_class": 1000, "time_embedding": "official", "parameters": 675_129_632, "macs": 118_600_000_000,
        "image_side": 256, "autoencoder": "stabilityai/sd-vae-ft-ema", "class_names": names,
        "memory": {"inspect": 3 * gigabyte, "importance": 5 * gigabyte, "prune": 14 * gigabyte},
        "notes": ["16 heads are assumed: the width is that of XL.", "1001 rows of labels: 1000 classes and the null."],
        "licence": "CC-BY-NC-4.0", "content_hash": "0123456789abcdef", "network": network,
    } | changes  # fmt: skip


def look_facts(**changes: object) -> dict:
    return {
        "ref": "/pictures/flowers", "kind": "folder of class folders", "num_images": 300, "class_names": list(FLOWERS),
        "counts": {"daisy": 120, "rose": 100, "tulip": 80},
        "unreadable": [{"file": "rose/note.png", "reason": "is text, not a picture"}], "num_unreadable": 1,
        "sizes": {"min": [180, 120], "median": [320, 240], "max": [1024, 768]}, "modes": {"RGB": 290, "L": 10},
        "flip": True, "has_latents": False, "warnings": ["1 file is left out: unreadable"], "notes": [],
        "content_hash": "fedcba9876543210", "about": "300 pictures in 3 folders",
    } | changes  # fmt: skip


def answer_as_the_engine(workspace: Workspace, **changes: object) -> dict | None:
    """Answers the newest question as the worker would, ``changes`` in its facts; returns what was asked."""
    request = claim_next_preview(workspace, "worker")
    if request is None:
        return None
    request.folder.mkdir(parents=True, exist_ok=True)
    answer: dict = {"state": "done", "error": None, "seconds": 1.5}
    if request.kind == "inspect_model":
        given = {key: request.params[key] for key in ("ref", "process", "autoencoder") if request.params.get(key)}
        answer["facts"] = inspect_facts(**given, **changes)
    elif request.kind == "look_data":
        answer["facts"] = look_facts(ref=request.params["ref"], **changes)
        names = answer["facts"]["class_names"]
        answer["thumbnails"] = {name: [f"class{i}-{k}.png" for k in range(4)] for i, name in enumerate(names[:12])}
        _pictures(request.folder, [file for files in answer["thumbnails"].values() for file in files])
    elif request.kind == "check_process":
        times = np.linspace(0.05, 0.95, 10)
        answer |= {
            "timesteps": times.tolist(), "verdict": "A diffusion model: its loss is 0.21 of guessing, as flow 3.4.",
            "relative_loss": {"diffusion": (0.05 + 0.4 * times**2).tolist(), "flow": (3.6 - times).tolist()},
            "images": {name: [f"{name}_{i}.png" for i in range(8)] for name in ("diffusion", "flow")},
            "protocol": "16 images, DDIM and Euler 15 steps, cfg 2, seed 0.",
        } | changes  # fmt: skip
        _pictures(request.folder, [file for files in answer["images"].values() for file in files])
    finish_preview(workspace, request.key, answer)
    return {"kind": request.kind, **request.params}


def _pictures(folder: Path, files: list[str]) -> None:
    for file, image in zip(files, np.resize(sample_images(1), (len(files), 32, 32, 3)), strict=True):
        Image.fromarray(image).save(folder / file)


def add_opened(workspace: Workspace) -> None:
    """A model and a dataset in the library."""
    facts = inspect_facts()
    entry = {"name": "dit-xl", "ref": facts["ref"], "process": "diffusion", "autoencoder": None, "classes": "fresh"}
    library.add_entry(workspace, "models", {**entry, "class_names": facts["class_names"], "info": facts})
    folder = library.pictures_folder(workspace, "data", "flowers")
    folder.mkdir(parents=True)
    files = {name: [f"{name}{k}.png" for k in range(4)] for name in FLOWERS}
    _pictures(folder, [file for some in files.values() for file in some])
    entry = {"name": "flowers", "ref": "/pictures/flowers", "class_names": list(FLOWERS), "flip": True}
    library.add_entry(workspace, "data", {**entry, "facts": look_facts(), "thumbnails": files})


def add_export(workspace: Workspace, model: str, *, layout: str = "official", large: bool = False) -> Run:
    run = create_run(workspace, kind="export", title=f"Export of {model}", params={"model": model, "layout": layout})
    readme = "# DiT with 6 blocks\n\n```python\nmodel.load_state_dict(state)\n```\n"
    if large:
        (run.path / "export").mkdir()
        (run.path / "export" / "README.md").write_text(readme)
    else:
        with zipfile.ZipFile(run.path / "export.zip", "w") as packed:
            packed.writestr("README.md", readme)
    size = 2_700_000_000 if large else 2_000_002
    _write(run.path / "export.json", {"layout": layout, "files": ["model.pt", "entpruner.json"], "num_bytes": size,
                                      "notes": ["depth 6"], "path": "export" if large else "export.zip"})  # fmt: skip
    run.update(state="done", progress=1.0, message="finished")
    return run


def _write(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content))


def full_workspace(folder: Path) -> Workspace:
    """One of each: a heatmap, a finished and a running and a failed pruning, a model and a dataset that were opened, a
    folder that isn't a run any more."""
    workspace = open_workspace(folder)
    add_opened(workspace)
    add_ced(workspace)
    add_prune(workspace)
    add_prune(workspace, state="failed", num_stages=1)
    running = add_prune(workspace, state="running", num_stages=1)
    running.update(pid=os.getpid())
    (workspace.runs / "20260101-000000-prune-dead").mkdir()
    return workspace


def play_engine(workspace: Workspace) -> None:
    """Answers every question with something made up, until stopped: for looking at the pages without a model."""
    while True:
        beat(workspace, WorkerInfo(worker_id="play", pid=os.getpid(), device="cpu", heartbeat=time.time(), doing=""))
        if (asked := answer_as_the_engine(workspace)) is not None:
            print(asked, flush=True)
        time.sleep(1.0)


if __name__ == "__main__":
    made = full_workspace(Path(sys.argv[1]))
    if "--play" in sys.argv:
        play_engine(made)
