"""What keeps runs from being lost, piece by piece: versions, full disks, small memories, the bin, the command line."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from engine.cli import main
from engine.errors import DiskFull, InputError, OutOfMemory, Paused
from engine.models.checkpoints import save_model
from engine.models.dit import DiT
from engine.runs import jobs, listing
from engine.runs import prune_job as prune_job_module
from engine.runs.child import _close
from engine.runs.jobs import execute_run
from engine.runs.listing import list_runs
from engine.runs.recovery import recover
from engine.runs.schema import NewerRun
from engine.runs.spare import free_spare, keep_spare, words_about
from engine.runs.store import Run, create_run, open_run
from engine.runs.train_state import read_train_state, so_far_in
from engine.runs.workspace import Workspace, open_workspace, read_json, write_json
from engine.training.config import FinetuneConfig

RECOVERY = asdict(FinetuneConfig(num_steps=8, batch_size=8, learning_rate=1e-3))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def run(workspace: Workspace) -> Run:
    return create_run(workspace, kind="ced", title="x", params={})


@pytest.fixture
def prune(workspace: Workspace, make_model, tmp_path: Path) -> Run:
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(make_model(), folder)
    params = {"model": str(folder), "data": "digits", "drop": [1], "finetune": RECOVERY}
    params |= {"protocol": {"num_images": 16, "num_steps": 2}}
    return create_run(workspace, kind="prune", title="tiny", params=params)


def with_schema(run: Run, schema: object) -> None:
    write_json(run.path / "config.json", {**read_json(run.path / "config.json"), "schema": schema})


# --- versions ---


def test_a_newer_run_is_refused_politely_everywhere(workspace: Workspace, run: Run, capsys) -> None:
    with_schema(run, 2)
    line = f"run {run.id} was made by a newer version (schema 2); this one reads 1"
    with pytest.raises(NewerRun) as refused:
        open_run(workspace, run.id)
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value)
    (summary,) = list_runs(workspace)
    assert (summary.state, summary.kind, summary.message) == ("newer", "", str(refused.value))
    for command in (["run", run.id], ["report", run.id], ["pack", run.id], ["run", str(run.path)]):
        assert main([*command, "--workspace", str(workspace.root)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {line}")


@pytest.mark.parametrize("schema", [0, -1, "1", 1.5, None, True])
def test_a_version_that_never_was_is_damage(workspace: Workspace, run: Run, schema: object) -> None:
    with_schema(run, schema)
    (summary,) = list_runs(workspace)
    assert summary.state == "damaged" and "expected a whole number from 1 to 1" in summary.message


def test_what_an_older_run_said_otherwise_is_read_as_it_is_said_today(workspace: Workspace) -> None:
    run = create_run(workspace, kind="prune", title="x", params={"max_per_stage": 0, "target_depth": 3})
    before = (run.path / "config.json").read_bytes()
    assert open_run(workspace, run.id).params == {"max_per_stage": None, "target_depth": 3}
    assert (run.path / "config.json").read_bytes() == before
    other = create_run(workspace, kind="ced", title="x", params={"max_per_stage": 0})
    assert open_run(workspace, other.id).params == {"max_per_stage": 0}


# --- the list ---


def test_the_list_remembers_and_never_tells_of_yesterday(workspace: Workspace, run: Run, monkeypatch) -> None:
    monkeypatch.setattr(listing, "_SETTLED_SECONDS", -1.0)
    read = []
    monkeypatch.setattr(listing, "_summarise", lambda path, real=listing._summarise: read.append(path) or real(path))
    for _ in range(3):
        list_runs(workspace)
    assert read == [run.path]
    for state in ("running", "paused", "failed", "queued"):
        run.update(state=state, message=f"now {state}")
        assert [(found.state, found.message) for found in list_runs(workspace)] == [(state, f"now {state}")]
    with run.new_stage(0) as folder:
        write_json(folder / "stage.json", {})
    assert list_runs(workspace)[0].num_stages == 1
    (run.path / "status.json").write_text("{")
    assert list_runs(workspace)[0].state == "damaged"


def test_what_was_written_this_moment_is_not_remembered(workspace: Workspace, run: Run, monkeypatch) -> None:
    monkeypatch.setattr(listing, "_SETTLED_SECONDS", 3600.0)
    read = []
    monkeypatch.setattr(listing, "_summarise", lambda path, real=listing._summarise: read.append(path) or real(path))
    for _ in range(3):
        list_runs(workspace)
    assert len(read) == 3


# --- full disks ---


def test_a_full_disk_makes_a_run_rest_with_its_line_written_into_the_space_put_by(
    workspace: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes nothing any more, until something on it is deleted."""
    full, sync, unlink = [False], os.fsync, Path.unlink

    def fsync(descriptor: int) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    def unlinking(path: Path, **more: bool) -> None:
        full[0] = full[0] and path.name != ".spare"
        unlink(path, **more)

    def job(run: Run, workspace: Workspace, device: str):
        assert (run.path / ".spare").stat().st_size == 65536
        yield jobs.Progress(phase="scoring", message="", done=1, total=2)
        full[0] = True
        write_json(run.path / "ced.json", {})

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "unlink", unlinking)
    monkeypatch.setitem(jobs.JOBS, "ced", job)
    with pytest.raises(Paused, match=r"disk full while writing .*ced\.json; free at least \d+ MB and resume"):
        list(execute_run(run, workspace))
    status = run.status()
    assert status.state == "paused" and status.error is None and status.message.startswith("disk full while writing")
    assert not (run.path / ".spare").exists() and not (run.path / "ced.json").exists()


def test_the_line_says_how_much_to_free(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runs.spare.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10_000_000}))
    asked = words_about(DiskFull(run.path / "weights.safetensors", num_bytes=500_000_000), run)
    assert asked == f"disk full while writing {run.path}/weights.safetensors; free at least 492 MB and resume"
    assert "free at least 2 MB" in words_about(DiskFull(run.path / "no" / "such" / "place"), run)
    with run.new_stage(0) as folder:
        write_json(folder / "stage.json", {})
        with open(folder / "weights.safetensors", "wb") as file:
            file.truncate(100_000_000)  # the next stage takes as much
    assert "free at least 92 MB" in words_about(DiskFull(run.path / "status.json", num_bytes=300), run)


def test_the_space_put_by_is_real_and_goes(run: Run) -> None:
    keep_spare(run)
    keep_spare(run)
    assert (run.path / ".spare").stat().st_blocks * 512 >= 65536
    free_spare(run)
    free_spare(run)


def test_a_process_that_could_not_even_say_so_is_closed_as_resting(run: Run) -> None:
    run.update(state="running")
    _close(run, DiskFull.EXIT_CODE)
    assert run.status().state == "paused" and "the disk was full" in run.status().message


def test_the_command_line_ends_with_a_code_of_its_own(monkeypatch, capsys, tmp_path: Path) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    assert main(["runs", "--workspace", str(tmp_path / "w")]) == DiskFull.EXIT_CODE
    assert capsys.readouterr().err.startswith("error: no space left for")


def test_a_real_disk_that_is_full(tmp_path: Path) -> None:
    """Four megabytes of memory as a disk; skipped where mounting one isn't allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        workspace = open_workspace(place)
        run = create_run(workspace, kind="ced", title="x", params={})
        keep_spare(run)
        with pytest.raises(DiskFull):
            while True:
                run.log("x" * 100_000)
        free_spare(run)
        run.update(state="paused", message="disk full")
        assert run.status().state == "paused" and len(run.events()[0]) > 10
        assert list_runs(workspace)[0].state == "paused"
    finally:
        subprocess.run(["umount", str(place)], check=True)


# --- what killed processes leave ---


def aged(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".tmp" and not path.name.startswith(".probe"):
        path.mkdir()
        (path / "weights.safetensors").write_bytes(bytes(10))
    else:
        path.write_bytes(bytes(10))
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
    return path


def test_what_a_killed_process_left_is_swept_away_and_what_is_being_written_stays(
    workspace: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 90_000.0
    gone = [
        aged(run.path / ".train_state.safetensors.ab.tmp", 100),
        aged(run.path / "progress" / ".ced.json.ab.tmp", 100),
        aged(run.path / "stages" / ".new-1-ab", 0),
        aged(workspace.runs / ".new-ab", day),
        aged(workspace.cache / ".latents-x.npy.ab.tmp", day),
        aged(workspace.root / ".probe-ab", day),
    ]
    kept = [
        aged(run.path / ".cancel.ab.tmp", 1),
        aged(workspace.runs / ".new-cd", 1000),
        aged(workspace.cache / ".latents-y.npy.ab.tmp", 1000),
    ]

    def job(run: Run, workspace: Workspace, device: str):
        yield jobs.Progress(phase="scoring", message="", done=1, total=2)

    monkeypatch.setitem(jobs.JOBS, "ced", job)
    list(execute_run(run, workspace))
    recover(workspace, "me")
    assert not [path for path in gone if path.exists()] and all(path.exists() for path in kept)
    assert run.status().state == "done"


def test_two_processes_never_work_on_one_run(workspace: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def job(run: Run, workspace: Workspace, device: str):
        for done in range(3):
            yield jobs.Progress(phase="scoring", message=str(done), done=done, total=3)

    monkeypatch.setitem(jobs.JOBS, "ced", job)
    first = execute_run(run, workspace)
    next(first)
    with pytest.raises(InputError, match=rf"is being worked on by another process \({os.getpid()}\); wait for it"):
        next(execute_run(Run(run.path), workspace))
    assert run.status().state == "running" and len(list(first)) == 2
    assert run.status().state == "done"
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from engine.runs.store import Run; "
         "from engine.runs.run_lock import working_alone\n"
         "with working_alone(Run(Path(sys.argv[1]))): print('held', flush=True); sys.stdin.read()", str(run.path)],
        cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="another process;"):
        next(execute_run(run, workspace))
    child.kill()
    child.wait()
    assert len(list(execute_run(run, workspace))) == 3


# --- small memories ---


class _Memory:
    """Holds the training of three images at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most, real = 3, DiT.forward

        def forward(network: DiT, x: torch.Tensor, *rest: torch.Tensor, **options: bool) -> torch.Tensor:
            if torch.is_grad_enabled() and len(x) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 is full")
            return real(network, x, *rest, **options)

        monkeypatch.setattr(DiT, "forward", forward)


def test_a_batch_that_does_not_fit_is_split_said_once_and_remembered(
    workspace: Workspace, prune: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Memory(monkeypatch)
    monkeypatch.setattr(prune_job_module, "_CHECKPOINT_EVERY_SECONDS", 0.0)
    work = execute_run(prune, workspace)
    told = next(progress for progress in work if "step 4 of 8" in progress.message)
    assert told.message.endswith(", 2 images at a time")
    work.close()
    logged = [event["message"] for event in prune.events()[0] if event["event"] == "log"]
    assert len(logged) == 2 and all("a batch of 8 doesn't fit the device's memory; " in line for line in logged)
    assert "works out again" in logged[0] and "each step takes 2 images" in logged[1]
    so_far = so_far_in(read_train_state(prune.path))
    assert len(so_far.losses) == 5 and so_far.seconds > 0  # the first one twice
    list(execute_run(prune, workspace))
    train = prune.stage(1).info["train"]
    assert train["num_steps"] == 8 and train["seconds"] > so_far.seconds
    losses = {event["step"]: event["loss"] for event in prune.events()[0] if event["event"] == "train"}
    assert set(losses) == {1, 5, 8}


def test_a_memory_too_small_for_one_image_is_one_line_and_can_be_resumed(
    workspace: Workspace, prune: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = _Memory(monkeypatch)
    memory.most = 0
    with pytest.raises(OutOfMemory, match="even one image"):
        list(execute_run(prune, workspace))
    assert prune.status().state == "failed" and "\n" not in prune.status().error
    memory.most = 100
    list(execute_run(prune, workspace))
    assert prune.status().state == "done"


def test_out_of_memory_anywhere_else_is_one_line(workspace: Workspace, run: Run, monkeypatch) -> None:
    def job(run: Run, workspace: Workspace, device: str):
        yield jobs.Progress(phase="scoring", message="", done=1, total=2)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore words")

    monkeypatch.setitem(jobs.JOBS, "ced", job)
    with pytest.raises(OutOfMemory):
        list(execute_run(run, workspace))
    assert run.status().error.startswith("CUDA out of memory: this step doesn't fit the device")


def test_the_final_loss_and_the_seconds_are_those_of_the_whole_training(
    workspace: Workspace, prune: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that was stopped in the middle, too."""
    monkeypatch.setattr(prune_job_module, "_CHECKPOINT_EVERY_SECONDS", 0.0)
    whole = create_run(workspace, kind="prune", title="whole", params=prune.params)
    list(execute_run(whole, workspace))
    work = execute_run(prune, workspace)
    next(progress for progress in work if "step 6 of 8" in progress.message)
    work.close()
    list(execute_run(prune, workspace))
    assert prune.stage(1).info["train"]["final_loss"] == whole.stage(1).info["train"]["final_loss"]
    source = [read_json(each.stage(1).path / "config.json")["source"] for each in (whole, prune)]
    assert source[0] == source[1]


# --- the command line ---


def test_runs_from_the_command_line(workspace: Workspace, run: Run, capsys, tmp_path: Path) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--workspace", str(workspace.root)])
        return code, *capsys.readouterr()

    assert run.id in call("runs")[1] and "queued" in call("runs")[1]
    assert json.loads(call("runs", "--json")[1])["runs"][0]["id"] == run.id
    out = tmp_path / "run.zip"
    assert call("pack", run.id, "--out", str(out))[0] == 0
    assert call("runs", "--delete", run.id)[0] == 0
    assert "no runs yet" in call("runs")[1] and run.id in call("runs", "--bin")[1]
    code, _, complaint = call("runs", "--empty-bin")
    assert code == 2 and "1 run with 0.0 MB would be gone for good; say so with --yes" in complaint
    assert call("runs", "--restore", run.id) == (0, f"run {run.id} is back\n", "")
    call("runs", "--delete", run.id)
    assert call("runs", "--empty-bin", "--yes")[0] == 0
    assert "the bin is empty" in call("runs", "--bin")[1]
    assert call("unpack", str(out))[1] == f"run {run.id}: x\n"
    code, _, complaint = call("unpack", str(tmp_path / "nothing.zip"))
    assert code == 2 and "isn't a file" in complaint
    assert call("runs", "--restore", "nothing")[0] == 2


def test_listing_and_packing_need_no_torch() -> None:
    modules = "engine.cli.keeping, engine.runs.waiting, engine.runs.recovery"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
