"""Shared out over processes the work gives the same bits, and leaves nothing behind. The tests of Ray itself are
skipped where it isn't installed, unless ENTPRUNER_REQUIRE_RAY=1."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import cli
from engine.arena.arena import Known, Scores, run_arena
from engine.arena.config import ArenaConfig
from engine.cluster import connect
from engine.cluster.connect import check_address, cluster
from engine.cluster.executor import Here, executor, in_order, using
from engine.errors import ClusterError, InputError
from engine.evaluation.protocol import Protocol
from engine.evaluation.sampling import sample
from engine.importance.ced import CedColumn, ced_columns, compute_ced
from engine.importance.config import CedConfig
from engine.models.autoencoder import read_autoencoder
from engine.process.flow import Flow
from engine.pruning.config import PruneConfig
from engine.pruning.decision import Decision, decide
from engine.training.config import FinetuneConfig
from engine.training.finetune import Trainer, finetune
from tests.conftest import make_network

SMALL = dict(samples=24, timesteps=3, num_bootstrap=30)
REPOSITORY = Path(__file__).parents[2]


def count(shared: int, item: int) -> Iterator[int]:
    for step in range(item):
        yield shared + step


class Shuffled(Here):
    """What a cluster may do: the last item is ready first."""

    def run(self, work, items, *, shared):
        left = {number: work(shared, item) for number, item in enumerate(items)}
        while left:
            for number in sorted(left, reverse=True):
                try:
                    yield number, next(left[number])
                except StopIteration:
                    del left[number]


@pytest.mark.parametrize("other", [Here(), Shuffled()])
def test_steps_come_in_the_order_of_the_items_whatever_is_ready_first(other):
    with using(other):
        assert list(in_order(count, [2, 0, 3, 1], shared=10)) == [10, 11, 10, 11, 12, 10]
    assert isinstance(executor(), Here)


def test_here_an_item_begins_when_it_is_asked_for():
    begun = []

    def work(shared, item):
        begun.append(item)
        yield item

    steps = in_order(work, [1, 2, 3], shared=None)
    assert next(steps) == 1 and begun == [1]
    steps.close()
    assert begun == [1]


def test_the_number_of_threads_does_not_change_bits(make_model, digits):
    """A task has one thread; the process that would do the work itself may have more."""
    model, before, found = make_model(hidden_size=128, depth=6), torch.get_num_threads(), []
    config = CedConfig(variable="prediction", samples=128, timesteps=1, num_bootstrap=20)
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            drawn = sample(model, Protocol(num_images=16, num_steps=2)).images
            found.append((answer(compute_ced(model, digits, config)), drawn.tobytes()))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def answer(result) -> dict:
    return {name: value for name, value in asdict(result).items() if name != "seconds"}


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:99999", "ray://host:10001", "a b:6379"])
def test_an_address_that_is_none_is_one_line(address):
    with pytest.raises(InputError, match="should be auto, or host:port"):
        check_address(address)


def test_an_address_where_nobody_listens_is_one_line_within_seconds(capsys, monkeypatch):
    monkeypatch.setattr(connect, "find_spec", lambda name: True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = time.monotonic()
    assert cli.main(["ced", "demo-sit-digits", "digits", "--cluster", address]) == 2
    assert time.monotonic() - started < 10
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and f"nothing answers at {address}" in said and "ray start --head" in said


@pytest.mark.parametrize("command", [["ced", "demo-sit-digits", "digits"], ["sample", "demo-sit-digits"], ["worker"]])
def test_without_ray_it_says_what_to_install(command, capsys, monkeypatch):
    monkeypatch.setattr(connect, "find_spec", lambda name: None)
    assert cli.main([*command, "--cluster", "auto"]) == 2
    assert capsys.readouterr().err.strip() == ("error: Ray is not installed; pip install -r requirements-cluster.txt")


def test_train_workers_need_a_cluster(capsys, monkeypatch):
    monkeypatch.delenv("ENTPRUNER_CLUSTER", raising=False)
    assert cli.main(["prune", "demo-sit-digits", "digits", "--train-workers", "2"]) == 2
    assert "needs a cluster; add --cluster" in capsys.readouterr().err


def test_a_worker_passes_it_on_to_the_processes_of_its_runs(monkeypatch, tmp_path):
    told = {}
    for name in ("ENTPRUNER_CLUSTER", "ENTPRUNER_TRAIN_WORKERS"):
        monkeypatch.setenv(name, "")  # so that both are put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(connect, "find_spec", lambda name: True)
    monkeypatch.setattr("engine.runs.worker.run_worker", lambda *a, **k: told.update(os.environ))
    assert cli.main(["worker", "--workspace", str(tmp_path), "--cluster", "auto", "--train-workers", "3"]) == 0
    assert (told["ENTPRUNER_CLUSTER"], told["ENTPRUNER_TRAIN_WORKERS"]) == ("auto", "3")
    asked = {}

    @contextmanager
    def connected(address, **settings):
        asked.update(settings, address=address)
        raise ClusterError("far enough")
        yield

    monkeypatch.setattr(connect, "cluster", connected)
    assert cli.main(["run", str(tmp_path), "--device", "cpu"]) == 2  # as the worker's child, with its environment
    assert (asked["address"], asked["train_workers"]) == ("auto", 3)


# From here on with Ray


@pytest.fixture(scope="module")
def two():
    """A Ray of two processes on this machine."""
    if find_spec("ray") is None and os.environ.get("ENTPRUNER_REQUIRE_RAY") != "1":
        pytest.skip("Ray isn't installed: pip install -r requirements-cluster.txt")
    before = dict(os.environ)
    with cluster("auto", train_workers=2, num_cpus=2) as found:
        yield found
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def alone():
    """Within it the work is done here."""
    return lambda: using(Here())


def test_it_listens_on_this_machine_only_and_asks_for_a_token(two):
    import psutil
    import ray

    heard = [
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert heard and {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}
    assert os.environ["RAY_AUTH_MODE"] == "token" and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert ray.get_runtime_context().gcs_address == two.address


@pytest.mark.parametrize("variable", ["target", "prediction"])
def test_ced_is_the_same_to_the_last_bit(two, alone, make_model, digits, variable):
    model, config = make_model(), CedConfig(variable=variable, **SMALL)
    with alone():
        wanted = compute_ced(model, digits, config)
    found = list(ced_columns(model, digits, config))
    assert [column.column for column in found] == [1, 2, 3]
    assert all(isinstance(column, CedColumn) for column in found)
    assert answer(found[-1].result) == answer(wanted)


@pytest.mark.parametrize(
    "way",
    [
        dict(variable="samples"),
        dict(variable="target", timesteps=1),  # fewer columns than processes
        dict(variable="samples", order="greedy", num_candidates=2),
        dict(variable="target", order="greedy", num_candidates=2),
        dict(variable="target", method="racing", num_candidates=2, samples=150),
    ],
    ids=["samples", "one column", "greedy samples", "greedy target", "racing"],
)
def test_ced_shared_out_by_samples_is_the_same_to_the_last_bit(two, alone, make_model, digits, monkeypatch, way):
    model, config = make_model(depth=3), CedConfig(**{**SMALL, "timesteps": 2, "samples": 130, **way})
    with alone():
        wanted = compute_ced(model, digits, config)
    pieces = []
    run = type(two).run

    def counting(self, work, items, *, shared):
        pieces.append(len(items))
        yield from run(self, work, items, shared=shared)

    monkeypatch.setattr(type(two), "run", counting)
    assert answer(compute_ced(model, digits, config)) == answer(wanted)
    assert min(pieces) >= 2


def test_samples_in_any_number_of_groups_give_the_same_bits(make_model, digits):
    """130 samples are three chunks: an executor with room for one, two, three and more of them at a time."""
    model, found = make_model(depth=3), []
    config = CedConfig(variable="samples", **{**SMALL, "samples": 130})
    for num_slots in (1, 2, 3, 8):
        other = Shuffled()
        other.num_slots = num_slots
        with using(other):
            found.append(answer(compute_ced(model, digits, config)))
    assert found[1:] == found[:1] * 3


def test_images_are_the_same_to_the_last_bit(two, alone, make_model):
    model = make_model("diffusion")
    model = replace(model, autoencoder=Seen())
    protocol = Protocol(num_images=41, num_steps=3, cfg_scale=2.0, seed=5)
    with alone():
        wanted = sample(model, protocol)
    found = sample(model, protocol, batch_size=8)
    assert np.array_equal(found.images, wanted.images)
    assert np.array_equal(found.seeds, wanted.seeds) and np.array_equal(found.labels, wanted.labels)
    assert len(np.unique(found.images.reshape(41, -1), axis=0)) == 41


class Seen:
    """Decoding left out: whole numbers from 0 to 255 would hide a difference in the last bits."""

    def decode(self, latents):
        return latents.numpy().copy()


def test_weights_are_sent_and_not_paths(two, alone, make_model, tmp_path):
    """As on a node that hasn't got the files: they are gone before the pieces begin."""
    folder = tmp_path / "autoencoder"
    shutil.copytree(REPOSITORY / "assets" / "autoencoder", folder)
    model = replace(make_model(), autoencoder=read_autoencoder(folder, content_hash="test"))
    protocol = Protocol(num_images=20, num_steps=2)
    with alone():
        wanted = sample(model, protocol).images
    shutil.rmtree(folder)
    assert np.array_equal(sample(model, protocol, batch_size=8).images, wanted)


def test_a_decision_is_the_same(two, alone, make_model, digits):
    model, prune = make_model(depth=6), PruneConfig(target_depth=3, num_stages=1, max_per_stage=3)
    prune = replace(prune, num_stages=2)
    with alone():
        ced = compute_ced(model, digits, CedConfig(**SMALL))
        *_, wanted = decide(model, digits, ced, prune, stages_left=2, seed=0)
    *_, found = decide(model, digits, ced, prune, stages_left=2, seed=0)
    assert isinstance(found, Decision) and found.drop == wanted.drop
    for there, here in zip(found.record["candidates"], wanted.record["candidates"], strict=True):
        assert (there["ntk"], there["zico"], there["dropped"]) == (here["ntk"], here["zico"], here["dropped"])
    assert len(found.record["candidates"]) > 1


def test_bouts_of_an_arena_are_the_same(two, alone, make_model, digits, tmp_path):
    config = ArenaConfig(
        num_dropped=1,
        num_seeds=1,
        num_random=0,
        entrants=("bi", "first"),
        finetune=FinetuneConfig(num_steps=3, batch_size=16),
        protocol=Protocol(num_images=40, num_steps=2),
    )
    known = Known(
        scores=Scores(
            of={"bi": [2.0, 1.0, 3.0, 4.0], "first": [0.0, 1.0, 2.0, 3.0]}, dropped={"bi": (1,), "first": (0,)}
        )
    )
    with alone():
        *_, wanted = run_arena(make_model(), digits, config, known=known, cache=tmp_path)
    *_, found = run_arena(make_model(), digits, config, known=known, cache=tmp_path)

    def sorted_bouts(progress):
        return sorted((replace(bout, seconds=None) for bout in progress.known.bouts), key=lambda bout: bout.dropped)

    assert sorted_bouts(found) == sorted_bouts(wanted) and len(found.known.bouts) == 3


def die_once(mark: str, item: int) -> Iterator[int]:
    yield item
    if item == 1 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield item + 100


def test_a_piece_whose_process_is_killed_is_done_again(two, tmp_path):
    mark = tmp_path / "died"
    assert list(in_order(die_once, [0, 1, 2], shared=str(mark))) == [0, 100, 1, 101, 2, 102]
    assert mark.exists()


def refuse(shared: None, item: int) -> Iterator[int]:
    raise InputError(f"item {item} can't be")
    yield


def test_what_a_piece_says_is_said_here(two):
    with pytest.raises(InputError) as found:
        list(in_order(refuse, [7], shared=None))
    assert str(found.value) == "item 7 can't be"


def work_for_ever(folder: str, item: int) -> Iterator[int]:
    Path(folder, str(os.getpid())).touch()
    yield os.getpid()
    time.sleep(600)
    yield 0


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_closed_before_its_end_nothing_goes_on(two, tmp_path):
    steps = executor().run(work_for_ever, [0, 1, 2, 3], shared=str(tmp_path))
    next(steps)
    steps.close()
    deadline = time.monotonic() + 20
    while not all(is_gone(int(path.name)) for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline, "a piece is still at work"
        time.sleep(0.1)
    time.sleep(1)
    begun = list(tmp_path.iterdir())
    assert begun and all(is_gone(int(path.name)) for path in begun)


class DoubleFlow(Flow):
    """In float64, where rounding is too small to hide a mistake."""

    def noise(self, x0, t, eps):
        return super().noise(x0, t, eps.to(x0))

    def target(self, x0, t, eps):
        return super().target(x0, t, eps.to(x0))


def double_trainer() -> Trainer:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(64, 4, 8, 8, generator=generator, dtype=torch.float64)
    return Trainer(
        make_network(drop_sigma=True).double(),
        DoubleFlow(),
        latents=latents,
        labels=torch.randint(0, 10, (64,), generator=generator),
        config=FinetuneConfig(num_steps=4, batch_size=15, learning_rate=1e-3, distill_weight=0.5),  # shares of 8 and 7
        teacher=make_network(seed=1, drop_sigma=True).double(),
    )


def difference(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def test_two_workers_learn_what_one_learns_up_to_rounding(two, alone):
    by_one, states = double_trainer(), []
    with alone():
        wanted = []
        for step in finetune(by_one):
            wanted.append(step)
            states.append({name: value.clone() for name, value in by_one.state_dict().items()})
    by_two = double_trainer()
    for step, here in zip(finetune(by_two), wanted, strict=True):
        assert (step.step, step.learning_rate) == (here.step, here.learning_rate)
        assert step.loss == pytest.approx(here.loss, rel=1e-12)
        assert step.grad_norm == pytest.approx(here.grad_norm, rel=1e-10)
        if step.step == 2:  # looked at in the middle, as for a checkpoint
            assert difference(by_two.state_dict(), states[1]) < 1e-11
    assert difference(by_two.state_dict(), states[-1]) < 1e-11
    assert difference(states[-1], states[1]) > 1e-4


def test_a_killed_training_worker_is_one_line_and_the_training_goes_on_from_a_checkpoint(two, alone):
    import psutil

    with alone():
        wanted = double_trainer()
        list(finetune(wanted))
    broken = double_trainer()
    steps = finetune(broken)
    next(steps)
    checkpoint = {name: value.clone() for name, value in broken.state_dict().items()}
    # Ray names a process after what it runs
    workers = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "RayTrainWorker" in " ".join(process.cmdline())
    ]
    assert len(workers) == 2, [process.cmdline()[:1] for process in workers]
    workers[1].kill()
    with pytest.raises(ClusterError, match=r"a worker of the training was lost.*the last checkpoint is kept"):
        list(steps)
    resumed = double_trainer()
    resumed.load_state_dict(checkpoint)
    list(finetune(resumed))
    assert difference(resumed.state_dict(), wanted.state_dict()) < 1e-11


LOSING = """
import os, signal, sys, time
import psutil
from engine.cluster.connect import cluster
from engine.cluster.executor import executor
from engine.errors import ClusterError
from tests.unit.test_cluster import work_for_ever
with cluster("auto") as found:
    steps = executor().run(work_for_ever, [0], shared=sys.argv[1])
    next(steps)
    (head,) = [p for p in psutil.Process().children(recursive=True) if p.name() == "gcs_server"]
    head.kill()
    started = time.monotonic()
    try:
        next(steps)
    except ClusterError as error:
        print(f"after {time.monotonic() - started:.0f} s: {error}", flush=True)
        os._exit(7)
"""


def test_a_lost_cluster_is_one_line_and_leaves_nothing(two, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, "-c", LOSING, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 7, ended.stderr[-2000:]
    assert "is gone; what was finished is kept" in ended.stdout
    deadline = time.monotonic() + 20
    while not all(is_gone(int(path.name)) for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline, "a piece is still at work"
        time.sleep(0.1)


def test_more_train_workers_than_slots_are_refused(two):
    import ray

    from engine.cluster.connect import _check_fit

    with pytest.raises(ClusterError, match="take at most"):
        _check_fit(ray, two, train_workers=999, ours=True)
    with pytest.raises(ClusterError, match="has no GPU"):
        _check_fit(ray, type("Asked", (), {"gpus": True, "address": two.address}), train_workers=1, ours=True)
