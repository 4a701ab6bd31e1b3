"""Precision and compiled blocks: done as asked, said truly, and given up with one line where it can't be."""

import copy
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.cli.evaluating import evaluate_params
from engine.cli.parser import make_parser
from engine.cli.runs import arena_params, prune_params
from engine.compute import USUAL, Compute
from engine.errors import Cancelled, InputError, OutOfMemory
from engine.evaluation.comparing import differences
from engine.evaluation.efficiency import compare_efficiency, count_macs
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import draw
from engine.importance.ced import cache_key, compute_ced
from engine.importance.config import CedConfig, CriteriaConfig
from engine.importance.criteria import compute_criteria
from engine.models import compiled
from engine.models.arithmetic import called_in, working_in
from engine.models.checkpoints import load_model, save_model
from engine.process import make_process
from engine.pruning.proxies import NoisedBatch, ntk_condition_number
from engine.report.commands import command_of
from engine.runs.arena_job import arena_config
from engine.runs.jobs import execute_run
from engine.runs.prune_plan import plan_of
from engine.runs.run_compute import compute_of, protocol_in
from engine.runs.store import create_run
from engine.runs.workspace import open_workspace, read_json
from engine.training.batches import Batches
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune
from tests.conftest import make_network

CPU = torch.device("cpu")
BF16, COMPILED = Compute(precision="bf16"), Compute(compile=True)
FEW = CedConfig(samples=32, timesteps=2, num_bootstrap=20)


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch):
    """As in a process that compiled nothing yet."""
    monkeypatch.setattr(compiled, "_reasons", [])
    compiled._compiled.cache_clear()
    yield
    compiled._compiled.cache_clear()


def compiled_by(monkeypatch, backend) -> None:
    monkeypatch.setattr(compiled.torch, "compile", lambda work: backend(work))


def make_trainer(compute: Compute = USUAL, *, config: FinetuneConfig | None = None, **more) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    return Trainer(
        make_network(drop_sigma=True, gate_std=0.05),
        make_process("flow"),
        latents=torch.randn(40, 4, 8, 8, generator=generator),
        labels=torch.randint(0, 10, (40,), generator=generator),
        config=config or FinetuneConfig(num_steps=4, batch_size=10, learning_rate=1e-3),
        compute=compute,
        **more,
    )


@pytest.mark.parametrize("wrong", [{"precision": "fp8"}, {"precision": "FP32"}, {"compile": "yes"}, {"compile": 1}])
def test_what_a_compute_cannot_be_is_one_line(wrong):
    with pytest.raises(InputError) as stopped:
        Compute(**wrong)
    assert "\n" not in str(stopped.value)


def test_numbers_that_the_device_has_not_are_refused_when_the_model_is_opened():
    with pytest.raises(InputError, match="tf32 is for NVIDIA GPUs"):
        load_model("demo-sit-digits", compute=Compute(precision="tf32"))


def test_what_is_usual_is_the_network_itself(make_model):
    """So that on a CPU every number stays what it was, to the bit."""
    model = make_model()
    assert model.compute == USUAL and model.forward is model.network
    assert called_in(model.network, BF16, CPU) is not model.network


def test_bf16_rounds_products_and_keeps_the_residual_stream_in_fp32(make_model):
    model = replace(make_model(), compute=BF16)
    seen = {}
    block = model.network.blocks[2]
    block.register_forward_hook(lambda layer, inputs, output: seen.update(passed=output.dtype))
    block.mlp.fc1.register_forward_hook(lambda layer, inputs, output: seen.update(product=output.dtype))
    x, t, y = torch.randn(6, 4, 8, 8), torch.rand(6), torch.arange(6)
    output, exact = model.forward(x, t, y), model.network(x, t, y)
    assert seen == {"passed": torch.float32, "product": torch.float32}  # of the second, plain call
    model.forward(x, t, y)
    assert seen == {"passed": torch.float32, "product": torch.bfloat16}
    assert output.dtype == torch.float32 and not torch.equal(output, exact)
    assert (output - exact).abs().max() < 0.02 * exact.abs().max()
    assert not torch.is_autocast_enabled("cpu")


def test_ced_in_bf16_is_close_says_so_and_has_a_cache_of_its_own(make_model, digits, tmp_path):
    model = make_model()
    half = replace(model, compute=BF16)
    for variable in ("target", "prediction", "samples"):
        config = replace(FEW, variable=variable)
        exact = compute_ced(model, digits, config, cache=tmp_path)
        found = compute_ced(half, digits, config, cache=tmp_path)
        assert (exact.protocol["precision"], found.protocol["precision"]) == ("fp32", "bf16")
        assert np.abs(np.array(found.delta) - np.array(exact.delta)).max() < 0.02  # nats
        assert found.delta != exact.delta
    assert cache_key(model, digits, FEW) != cache_key(half, digits, FEW)
    assert cache_key(model, digits, FEW) == cache_key(replace(model, compute=COMPILED), digits, FEW)


def test_gradients_that_are_compared_closely_stay_in_fp32(make_model, digits):
    model = make_model()
    criteria = CriteriaConfig(criteria=("taylor",), variables=(), samples=16, timesteps=1, num_bootstrap=20)
    exact, half = (compute_criteria(each, digits, criteria) for each in (model, replace(model, compute=BF16)))
    assert exact.criteria["taylor"].scores == half.criteria["taylor"].scores
    x0 = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = NoisedBatch(x0=x0, t=torch.rand(4), eps=torch.randn(4, 4, 8, 8), y=torch.arange(4))
    alone = ntk_condition_number(model.network, model.process, batch)
    with compiled.compiled_blocks(False):
        assert ntk_condition_number(model.network, model.process, batch) == alone


def test_training_in_bf16_keeps_weights_moments_and_average_in_fp32():
    exact, half = make_trainer(), make_trainer(BF16)
    losses = [[step.loss for step in finetune(trainer)] for trainer in (exact, half)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2) and losses[0] != losses[1]
    assert {value.dtype for value in half.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert half.loss_of(half.network, step=0) == pytest.approx(exact.loss_of(exact.network, step=0), rel=2e-2)


def test_pictures_drawn_in_another_precision_never_stand_in_one_column(make_model):
    model = make_model()
    given = dict(labels=np.arange(4), seeds=np.arange(4), protocol=Protocol(num_images=4, num_steps=2))
    exact, half = (draw(each, **given).images for each in (model, replace(model, compute=BF16)))
    assert not np.array_equal(exact, half)
    assert np.abs(exact.astype(int) - half.astype(int)).mean() < 3  # grey levels
    first, second = ({"protocol": asdict(Protocol(precision=name))} for name in ("fp32", "bf16"))
    assert differences(first, second) == ["precision"] and differences(first, first) == []


# Compiled blocks


def test_one_compilation_serves_all_blocks_copies_and_pruned_networks(monkeypatch, make_model):
    calls = []

    def backend(work):
        calls.append(work)
        return work

    compiled_by(monkeypatch, backend)
    model = replace(make_model(), compute=COMPILED)
    names = list(model.network.state_dict())
    x, t, y = torch.randn(3, 4, 8, 8), torch.rand(3), torch.arange(3)
    assert torch.equal(model.forward(x, t, y), model.network(x, t, y))
    pruned = model.with_network(copy.deepcopy(model.network.with_blocks([0, 2])), change="", kept=[0, 2])
    assert torch.equal(pruned.forward(x, t, y), pruned.network(x, t, y))
    assert len(calls) == 1
    assert list(model.network.state_dict()) == names
    assert compiled.why_not() is None and not compiled.are_wanted()


def test_without_a_compiler_blocks_run_as_they_are_and_one_line_says_why(monkeypatch, caplog, make_model, digits):
    def backend(work):
        def broken(*args):
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

        return broken

    compiled_by(monkeypatch, backend)
    model = make_model()
    with caplog.at_level(logging.WARNING):
        found = compute_ced(replace(model, compute=COMPILED), digits, FEW)
    assert found.delta == compute_ced(model, digits, FEW).delta
    assert [record.getMessage() for record in caplog.records] == [
        "blocks can't be compiled here, so they run as they are, with the same results: RuntimeError: Failed to find C "
        "compiler."
    ]
    notes = compare_efficiency([replace(model, compute=COMPILED)], repeats=1)[0].notes
    assert "blocks couldn't be compiled: RuntimeError: Failed to find C compiler." in notes


@pytest.mark.parametrize("stop", [Cancelled("on request"), torch.OutOfMemoryError("full")])
def test_a_compiler_is_not_blamed_for_a_cancelled_run_or_full_memory(monkeypatch, make_model, stop):
    def backend(work):
        def interrupted(*args):
            raise RuntimeError("backend failed") from stop

        return interrupted

    compiled_by(monkeypatch, backend)
    model = replace(make_model(), compute=COMPILED)
    with pytest.raises(type(stop)):
        model.forward(torch.randn(2, 4, 8, 8), torch.rand(2), torch.arange(2))
    assert compiled.why_not() is None


def test_a_block_that_fails_by_itself_fails(make_model):
    model = replace(make_model(), compute=COMPILED)
    model.network.blocks[0].mlp.fc1.register_forward_hook(lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.forward(torch.randn(2, 4, 8, 8), torch.rand(2), torch.arange(2))


def test_counting_and_hooks_see_blocks_as_they_are_written(make_model):
    model = make_model()
    with working_in(COMPILED, CPU):
        assert compiled.are_wanted()
    assert not compiled.are_wanted()
    assert count_macs(replace(model, compute=COMPILED).network) == count_macs(model.network)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("gcc") is None, reason="there is no compiler here")
def test_blocks_really_compiled_give_the_same_up_to_rounding():
    """In a process of its own: to forward, training whole, and training that works out again what it didn't keep."""
    script = """
import torch
from torch._dynamo.utils import counters
from engine.compute import Compute
from engine.models import compiled
from tests.unit.test_compute import make_trainer

def gradients(compute, recompute=False):
    trainer = make_trainer(compute)
    trainer.recompute = recompute
    loss = trainer._backward(1e-3)
    return {"loss": loss.detach()} | {name: p.grad for name, p in trainer._named if p.grad is not None}

plain, fast, again = gradients(Compute()), gradients(Compute(compile=True)), gradients(Compute(compile=True), True)
assert compiled.why_not() is None, compiled.why_not()
assert counters["stats"]["unique_graphs"] == 1, counters["stats"]
for name, value in plain.items():
    assert (value - fast[name]).abs().max() <= 1e-5 * value.abs().max().clamp_min(1e-6), name
    assert torch.equal(fast[name], again[name]), name
assert not all(torch.equal(value, fast[name]) for name, value in plain.items())
print("compiled")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0 and "compiled" in done.stdout, done.stderr[-2000:]


# Batches drawn ahead


def same(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def drawing_ahead(trainer: Trainer) -> list[int]:
    """Makes it draw as it does for a GPU, with memory that only pretends to be pinned; the steps that were drawn."""
    batches, drawn = trainer._batches, []
    sent: list[torch.Tensor] = []

    def send(tensor: torch.Tensor) -> torch.Tensor:
        sent.append(tensor)
        return tensor.clone()

    ahead = Batches(
        batches.process,
        batches.config,
        latents=batches.latents,
        labels=batches.labels,
        flipped=batches.flipped,
        null_class=batches.null_class,
        ahead=True,
        send=send,
    )
    draw = ahead._draw
    ahead._draw = lambda step: drawn.append(step) or draw(step)
    trainer._batches = ahead
    return drawn


@pytest.mark.parametrize("flipped", [False, True])
def test_batches_drawn_ahead_are_the_same_in_the_same_order(flipped):
    mirrored = torch.randn(40, 4, 8, 8) if flipped else None
    usual, ahead = make_trainer(flipped=mirrored), make_trainer(flipped=mirrored)
    drawn = drawing_ahead(ahead)
    assert [step.loss for step in finetune(usual)] == [step.loss for step in finetune(ahead)]
    assert drawn == [0, 1, 2, 3]  # each once, and none beyond the last step
    assert all(same(usual._draw(step), ahead._draw(step)) for step in (3, 0, 2))
    for name, value in usual.state_dict().items():
        assert torch.equal(value, ahead.state_dict()[name]), name


def test_batches_drawn_ahead_are_the_same_after_a_resume_and_in_pieces():
    usual = make_trainer()
    losses = [step.loss for step in finetune(usual)]
    first, second = make_trainer(), make_trainer()
    drawn = drawing_ahead(first)
    steps = finetune(first)
    next(steps), next(steps)
    assert drawn == [0, 1, 2]  # the third is on its way, and is drawn again by whoever goes on
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    second.micro_batch = 3
    drawn = drawing_ahead(second)
    assert [step.loss for step in finetune(second)] == pytest.approx(losses[2:], rel=1e-5)
    assert drawn == [2, 3]
    assert second.loss_of(second.network, step=3) == pytest.approx(usual.loss_of(usual.network, step=3), rel=1e-4)


def test_a_batch_that_did_not_fit_is_the_same_when_it_is_tried_again():
    usual, ahead = make_trainer(), make_trainer()
    drawn = drawing_ahead(ahead)
    seen, real, most = [], ahead._loss, 4

    def loss(*batch):
        seen.append(batch)
        if len(batch[0]) > most:
            raise torch.OutOfMemoryError("full")
        return real(*batch)

    ahead._loss = loss
    expected = [step.loss for step in finetune(usual)]
    assert [step.loss for step in finetune(ahead)] == pytest.approx(expected, rel=1e-4)
    assert [len(batch[0]) for batch in seen[:7]] == [10, 10, 5, 3, 3, 3, 1]
    assert same(seen[0], usual._draw(0)) and torch.equal(torch.cat([batch[0] for batch in seen[3:7]]), seen[0][0])
    assert set(drawn) == {0, 1, 2, 3} and drawn[-3:] == [1, 2, 3]
    most = 0
    with pytest.raises(OutOfMemory):
        ahead.train_step()


# Requests


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def tiny(make_model, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(make_model(), folder)
    return str(folder)


def test_a_run_works_in_what_its_params_say(workspace, tiny, monkeypatch):
    def backend(work):
        def broken(*args):
            raise RuntimeError("no compiler")

        return broken

    compiled_by(monkeypatch, backend)
    half = {"model": tiny, "data": "digits", "compute": {"precision": "bf16", "compile": True}}
    ced = create_run(workspace, kind="ced", title="tiny", params={**half, "config": asdict(FEW)})
    list(execute_run(ced, workspace))
    assert read_json(ced.path / "ced.json")["protocol"]["precision"] == "bf16"
    logged = [event["message"] for event in ced.events()[0] if event["event"] == "log"]
    assert len(logged) == 1 and logged[0].endswith("RuntimeError: no compiler")
    params = {**half, "drop": [1], "protocol": {"num_images": 8, "num_steps": 2}}
    params["finetune"] = asdict(FinetuneConfig(num_steps=2, batch_size=8))
    run = create_run(workspace, kind="prune", title="tiny", params=params)
    list(execute_run(run, workspace))
    assert [stage.metrics()["protocol"]["precision"] for stage in run.stages()] == ["bf16", "bf16"]
    whole = create_run(workspace, kind="evaluate", title="tiny", params={"model": tiny, "data": "digits"}
                       | {"protocol": params["protocol"]})  # fmt: skip
    list(execute_run(whole, workspace))
    assert differences(whole.stage(0).metrics(), run.stage(0).metrics()) == ["precision"]


def test_params_of_before_mean_fp32_and_a_protocol_cannot_say_otherwise():
    assert compute_of({}) == USUAL
    assert compute_of({"compute": {"precision": "bf16"}}) == BF16
    with pytest.raises(InputError, match="no setting 'dtype'"):
        compute_of({"compute": {"dtype": "bf16"}})
    assert protocol_in(BF16, {"num_images": 9}) == Protocol(num_images=9, precision="bf16")
    for compute, said in ((USUAL, "bf16"), (BF16, "fp32")):
        with pytest.raises(InputError, match=f"the protocol says precision '{said}'"):
            protocol_in(compute, {"precision": said})
    assert plan_of({"drop": (1,), "compute": {"precision": "bf16"}}).protocol.precision == "bf16"
    assert arena_config({}, compute=BF16).protocol.precision == "bf16"
    assert arena_config({}).protocol.cfg_scale == 1


@pytest.mark.parametrize("kind", ["prune", "evaluate", "arena", "ced"])
@pytest.mark.parametrize("options", [[], ["--precision", "bf16"], ["--precision", "bf16", "--compile"]])
def test_the_command_line_asks_for_it_and_a_report_prints_the_same_command(kind, options):
    more = {"prune": ["--drop", "3"], "arena": ["--seeds", "1"]}.get(kind, [])
    args = make_parser().parse_args([kind, "demo-sit-digits", "digits", *more, *options])
    if kind == "ced":
        assert (args.precision, args.compile) == ("bf16" if options else "fp32", "--compile" in options)
        return
    asked = {"prune": prune_params, "evaluate": evaluate_params, "arena": arena_params}[kind]
    params = json.loads(json.dumps(asked(args)))
    assert ("compute" in params) == bool(options)
    protocol = params["config"]["protocol"] if kind == "arena" else params["protocol"]
    assert protocol["precision"] == compute_of(params).precision == ("bf16" if options else "fp32")
    again = make_parser().parse_args(command_of(kind, params))
    assert json.loads(json.dumps(asked(again))) == params


@pytest.mark.parametrize(
    ("options", "drawn", "timed"),
    [
        ([], "fp32", "fp32"),
        (["--precision", "bf16"], "bf16", "bf16"),
        (["--timing-precision", "bf16"], "fp32", "bf16"),
        (["--precision", "bf16", "--timing-precision", "fp32"], "bf16", "fp32"),
        (["--precision", "tf32"], "tf32", "fp32"),
    ],
)
def test_an_evaluation_draws_and_times_as_asked(options, drawn, timed):
    args = make_parser().parse_args(["evaluate", "demo-sit-digits", "digits", *options])
    params = evaluate_params(args)
    assert params["protocol"]["precision"] == drawn
    assert params.get("timing", {"precision": "fp32"})["precision"] == timed
    assert evaluate_params(make_parser().parse_args(command_of("evaluate", params))) == params


def test_a_bench_for_whoever_has_a_gpu_works_and_says_where_there_is_none(capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_gpu", Path(__file__).parents[2] / "bench" / "gpu.py")
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", bench)  # where its dataclasses look themselves up
    spec.loader.exec_module(bench)
    bench.main(["--device", "cpu"])
    assert capsys.readouterr().out == "no GPU here, so there is nothing to measure; --tiny shows that this works\n"
    bench.main(["--device", "cpu", "--tiny"])
    said = capsys.readouterr().out
    for task in ("CED of 4 blocks", "fine-tuning in batches", "latents, 2 steps"):
        assert said.count(f"| {task}") == 2  # in fp32 and in bf16
    assert said.count("| NTK of 4 samples") == 1
    assert "largest change of a CED cell against fp32: " in said
