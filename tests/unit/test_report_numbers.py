"""The command that a report prints asks for the same run, and its tables of numbers hold what was measured."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engine.arena.config import ArenaConfig
from engine.cli import main
from engine.cli.evaluating import evaluate_params
from engine.cli.importance import ced_config
from engine.cli.parser import make_parser
from engine.cli.runs import arena_params, prune_params
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.importance.config import CedConfig
from engine.pruning.config import PruneConfig
from engine.report.commands import command_of
from engine.report.numbers import COLUMNS, rows_of
from engine.runs.workspace import open_workspace
from engine.training.config import FinetuneConfig, usual_recovery
from tests.app import fixtures


def asked_again(kind: str, params: dict) -> dict:
    """The params of the run that the printed command asks for."""
    args = make_parser().parse_args(command_of(kind, params))
    found = {"prune": prune_params, "evaluate": evaluate_params, "arena": arena_params}[kind](args)
    return json.loads(json.dumps(found))


def prune_run(**changes) -> dict:
    usual = {
        "prune": PruneConfig(target_depth=6),
        "finetune": usual_recovery(2_000_000),
        "protocol": Protocol(),
        "ced": CedConfig(),
    }
    parts = {**usual, **changes}
    params = {"model": "demo-sit-digits", "data": "digits", **asdict(parts["prune"]), "step": False}
    params |= {name: asdict(parts[name]) for name in ("finetune", "protocol", "ced")}
    return json.loads(json.dumps(params | {key: value for key, value in changes.items() if key not in usual}))


PRUNE_RUNS = [
    prune_run(),
    prune_run(prune=PruneConfig(drop=(3, 7), num_stages=1), step=True, model="some where/a model", data="--odd"),
    prune_run(prune=PruneConfig(target_speedup=1.5, num_stages=2, max_per_stage=2, weights={"cost": 0.1, "ntk": 0.0,
                                "zico": 2.5}, num_proxy_samples=8, recovery_shares="even", adapt_steps=30)),
    prune_run(finetune=FinetuneConfig()),
    prune_run(finetune=FinetuneConfig(num_steps=7, batch_size=3, learning_rate=1.5e-7, warmup_steps=9, ema_decay=0.5,
                                      schedule="cosine", label_dropout=0.3, distill_weight=0.7, seed=4)),
    prune_run(protocol=Protocol(num_images=33, sampler="heun", num_steps=5, cfg_scale=1.0, guided_channels=None,
                                seed=11, precision="bf16"), compute={"precision": "bf16", "compile": True}),
    prune_run(protocol=Protocol(guided_channels=2, features="inception", seed=3), ced=CedConfig(seed=5)),
    prune_run(ced=CedConfig(variable="samples", samples=64, timesteps=4, estimator="knn", condition="class",
                            order="greedy", num_candidates=3, num_bootstrap=50, confidence=0.8)),
    prune_run(process="flow", autoencoder="none"),
]  # fmt: skip


@pytest.mark.parametrize("params", PRUNE_RUNS, ids=range(len(PRUNE_RUNS)))
def test_the_printed_command_asks_for_the_same_pruning(params, monkeypatch):
    """``find_model`` is asked for the usual numbers of a model's size alone, all of which the command says itself."""
    from engine.models import checkpoints
    from engine.models.bundled import read_model_info

    info = read_model_info(Path(checkpoints.__file__).parents[2] / "assets" / "models" / "demo-sit-digits")
    monkeypatch.setattr(checkpoints, "find_model", lambda ref, workspace=None: info)
    assert asked_again("prune", params) == params


def test_an_old_run_that_says_no_limit_as_0_gives_a_command_that_is_taken():
    params = prune_run()
    assert asked_again("prune", params | {"max_per_stage": 0}) == params


def test_the_printed_command_of_a_default_run_says_little():
    words = command_of("prune", prune_run())
    assert words[:3] == ["prune", "demo-sit-digits", "digits"] and "--num" not in words and "--set" in words
    assert command_of("evaluate", {"model": "m", "data": "d", "protocol": asdict(Protocol())}) == ["evaluate", "m", "d"]


@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol(features="dinov2", num_images=50_000, cfg_scale=1.5, sampler="sde", num_steps=250, seed=9)],
    ids=["usual", "unusual"],
)
def test_the_printed_command_asks_for_the_same_evaluation(protocol):
    params = {"model": "runs@2", "data": "digits", "protocol": asdict(protocol)}
    assert asked_again("evaluate", params) == params


def test_the_printed_command_asks_for_the_same_arena():
    usual = ArenaConfig()
    for config in (
        usual,
        replace(usual, num_dropped=3, num_seeds=1, num_random=0, entrants=("bi", "loss"), adapt_steps=5, samples=64,
                timesteps=3, seed=2, finetune=FinetuneConfig(num_steps=9, max_grad_norm=2.0, seed=1),
                protocol=Protocol(num_images=77, cfg_scale=3.0)),
    ):  # fmt: skip
        params = json.loads(json.dumps({"model": "demo-sit", "data": "shapes", "config": asdict(config)}))
        assert asked_again("arena", params) == params


def test_the_printed_command_asks_for_the_same_scores():
    unusual = CedConfig(variable="prediction", estimator="gaussian-full", condition="class", samples=9,
                        timesteps=2, seed=3, granularity="branch", method="racing", num_candidates=2,
                        weighting="noisy")  # fmt: skip
    for config in (CedConfig(), unusual):
        words = command_of("ced", {"model": "m", "data": "d", "config": asdict(config)})
        assert ced_config(make_parser().parse_args(words)) == config


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("finetune.warm=1", "expected the name of a setting"),
        ("finetune", "expected the name of a setting"),
        ("ced.variable.x=1", "expected the name of a setting"),
        ("finetune.schedule=cosine", "isn't JSON"),
        ("finetune.schedule=\"linear\"", "schedule 'linear' is unknown"),
    ],
)  # fmt: skip
def test_a_setting_that_does_not_exist_is_one_line(said, why):
    words = [*command_of("prune", prune_run()), "--set", said]
    with pytest.raises(InputError, match=why) as error:
        prune_params(make_parser().parse_args(words))
    assert "\n" not in str(error.value)


@pytest.fixture
def run(tmp_path):
    return fixtures.add_prune(open_workspace(tmp_path / "workspace"))


def test_every_number_is_a_row_with_its_protocol(run):
    rows = list(rows_of(run))
    assert all(row.keys() <= set(COLUMNS) for row in rows)
    for stage in run.stages():
        metrics, mine = stage.metrics(), [row for row in rows if row.get("stage") == stage.number]
        for name, value in metrics["fidelity"].items():
            row = next(row for row in mine if row["metric"] == name)
            assert {key: row[key] for key in ("value", "low", "high")} == value
            protocol = {key: row[key] for key in ("num_images", "sampler", "num_steps", "cfg_scale", "seed", "device")}
            assert protocol.items() <= metrics["protocol"].items() and row["features"] == "demo-cnn"
            assert row["depth"] == stage.depth and row["kept"].split() == [str(block) for block in stage.kept_blocks]
        latency = next(row for row in mine if row["metric"] == "latency_ms")
        assert latency["value"] == metrics["efficiency"]["latency_ms"]["median"] and latency["device"] == "cpu"
    keys = [tuple(row.get(c) for c in ("stage", "entrant", "class", "block", "column", "metric")) for row in rows]
    assert len(set(keys)) == len(keys)  # tidy: what a row is about, it is about alone


def test_the_command_writes_page_csv_and_json(run, tmp_path, capsys):
    out = {name: str(tmp_path / f"out.{name}") for name in ("html", "csv", "json")}
    assert main(["report", str(run.path), "--out", out["html"], "--csv", out["csv"], "--json", out["json"]]) == 0
    said = capsys.readouterr().out
    assert all(path in said for path in out.values())
    with open(out["csv"], newline="") as file:
        read = list(csv.DictReader(file))
    rows = list(rows_of(run))
    assert len(read) == len(rows) and [row["metric"] for row in read] == [row["metric"] for row in rows]
    assert float(read[0]["value"]) == rows[0]["value"]
    whole = json.loads(Path(out["json"]).read_text())
    assert whole["stages"][2]["metrics"] == run.stage(2).metrics() and whole["params"] == run.params
    assert whole["rows"] == json.loads(json.dumps(rows)) and whole["command"][3] == "prune"
    assert len(whole["training"]) == 3 * 60


def test_arenas_and_scores_have_rows_too(tmp_path):
    workspace = open_workspace(tmp_path / "workspace")
    arena = fixtures.add_arena(workspace)
    table = json.loads((arena.path / "arena.json").read_text())["result"]["table"]
    rows = [row for row in rows_of(arena) if row["metric"] == "fid"]
    assert [(row["entrant"], row["value"]) for row in rows] == [(row["entrant"], row["fid"]["mean"]) for row in table]
    ced = fixtures.add_ced(workspace)
    rows = list(rows_of(ced))
    assert len(rows) == fixtures.DEPTH * (1 + fixtures.COLUMNS)
    assert len([row for row in rows if row["metric"] == "CED (target)"]) == fixtures.DEPTH
    with pytest.raises(InputError, match="of kind 'criteria'"):
        list(rows_of(fixtures.add_criteria(workspace)))
