"""A run as one file: the same run elsewhere, and nothing of a hostile one."""

import io
import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from engine.errors import AssetError, EngineError, InputError, WorkspaceError
from engine.runs.bin import delete_run
from engine.runs.listing import list_runs
from engine.runs.pack import pack_run, pack_run_into, packed_size
from engine.runs.run_files import check_for
from engine.runs.run_shapes import mismatch
from engine.runs.store import KINDS, Run, create_run, open_run
from engine.runs.unpack import unpack_run
from engine.runs.workspace import Workspace, open_workspace, write_json
from tests.app.fixtures import add_arena, add_ced, add_criteria, add_export, add_prune


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "here")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "there")


def files_of(run: Run) -> dict[str, bytes]:
    names = {path.relative_to(run.path).as_posix(): path for path in run.path.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items()}


def packed(run: Run) -> bytes:
    content = io.BytesIO()
    pack_run(run, content)
    return content.getvalue()


def is_untouched(workspace: Workspace) -> bool:
    return list(workspace.runs.iterdir()) == []


def half_done(workspace: Workspace) -> Run:
    """A pruning run in the middle of a stage, with a checkpoint, a log and a torn last event."""
    run = add_prune(workspace, state="interrupted", num_stages=1)
    write_json(run.path / "train_state.json", {"parent": 1, "number": 2, "pending": False, "drop": [1], "record": None,
                                               "ced": None})  # fmt: skip
    (run.path / "train_state.safetensors").write_bytes(save({"step": np.array(3)}))
    (run.path / "log.txt").write_text("0 %  loading\n")
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"time": 1, "event": "tra')
    return run


# --- there and back ---


@pytest.mark.parametrize("make", [add_ced, add_criteria, add_arena, add_prune, half_done])
def test_a_run_is_the_same_elsewhere(
    workspace: Workspace, elsewhere: Workspace, tmp_path: Path, make: Callable
) -> None:
    run = make(workspace)
    out = tmp_path / "packed" / "run.zip"
    pack_run_into(run, out)
    assert out.stat().st_size < packed_size(run) + 20_000
    found = unpack_run(elsewhere, out)
    before, after = files_of(run), files_of(found)
    assert before.keys() == after.keys() and found.id == run.id
    changed = [name for name in before if before[name] != after[name]]
    assert changed in ([], ["status.json"])
    same = ("state", "phase", "message", "progress", "started", "finished", "error")
    assert all(getattr(found.status(), name) == getattr(run.status(), name) for name in same)
    assert found.params == run.params and found.events() == run.events()
    assert [stage.info for stage in found.stages()] == [stage.info for stage in run.stages()]
    assert os.listdir(out.parent) == ["run.zip"]


def test_an_id_that_is_taken_gives_way_and_nobody_is_overwritten(workspace: Workspace) -> None:
    run = add_ced(workspace)
    content = packed(run)
    before = files_of(run)
    second = unpack_run(workspace, io.BytesIO(content))
    assert second.id != run.id and second.id[:19] == run.id[:19]
    assert json.loads((second.path / "config.json").read_text())["id"] == second.id
    assert files_of(run) == before
    delete_run(workspace, run.id)
    third = unpack_run(workspace, io.BytesIO(content))
    assert third.id not in (run.id, second.id)  # the one in the bin can be restored
    assert {summary.id for summary in list_runs(workspace)} == {second.id, third.id}


@pytest.mark.parametrize(("state", "becomes"), [("queued", "interrupted"), ("paused", "paused"), ("done", "done")])
def test_what_waited_rests_where_it_is_taken_in(
    workspace: Workspace, elsewhere: Workspace, state: str, becomes: str
) -> None:
    run = create_run(workspace, kind="ced", title="x", params={})
    if state != "queued":
        run.update(state=state)
    found = unpack_run(elsewhere, io.BytesIO(packed(run)))
    assert found.status().state == becomes and found.status().pid is None


def test_a_run_at_work_and_an_export_are_not_packed(workspace: Workspace, tmp_path: Path) -> None:
    run = create_run(workspace, kind="ced", title="x", params={})
    run.update(state="running")
    with pytest.raises(InputError, match="is running; pause or cancel it first"):
        pack_run_into(run, tmp_path / "run.zip")
    with pytest.raises(InputError, match="is an export: take its files"):
        packed(add_export(workspace, "x@1"))
    run.update(state="paused")
    (tmp_path / "run.zip").touch()
    with pytest.raises(InputError, match="exists"):
        pack_run_into(run, tmp_path / "run.zip")
    (run.path / "notes.docx").touch()
    with pytest.raises(AssetError, match=r"holds 'notes.docx', which isn't a run's"):
        packed(run)


def test_what_belongs_to_the_moment_stays(workspace: Workspace, elsewhere: Workspace) -> None:
    run = half_done(workspace)
    for name in ("cancel", "pause", ".spare", ".status.json.ab.tmp"):
        (run.path / name).touch()
    (run.path / "stages" / ".new-2-ab").mkdir()
    (run.path / "stages" / ".new-2-ab" / "stage.json").write_text("{")
    found = unpack_run(elsewhere, io.BytesIO(packed(run)))
    assert not any(name.startswith(("cancel", "pause", ".")) or "/." in name for name in files_of(found))


def test_kinds_are_those_that_the_engine_does() -> None:
    from engine.runs.jobs import JOBS

    assert set(KINDS) == set(JOBS)


# --- what isn't to be trusted ---

RUN = "20260101-120000-ced-abcd"
CONFIG = {"schema": 1, "id": RUN, "kind": "ced", "title": "x", "created": 1.0, "params": {}}
STATUS = {"state": "done", "phase": "done", "message": "", "progress": 1.0, "error": None}
STAGE = {
    "stage": 0, "parent": None, "title": "x", "model": "m", "data": "d", "process": "flow", "kept_blocks": [0],
    "dropped_blocks": [], "depth": 1, "decision": None, "finetune": None, "train": None, "created": 1.0,
}  # fmt: skip


def archive(files: dict[str, bytes | dict], *, whole: bool = True, root: str = RUN) -> bytes:
    content = io.BytesIO()
    files = {"config.json": CONFIG, "status.json": STATUS, **files} if whole else files
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicates
        for name, data in files.items():
            name = name if name.startswith(("/", "..", "@")) else f"{root}/{name}"
            packed.writestr(name.lstrip("@"), json.dumps(data) if isinstance(data, dict) else data)
    return content.getvalue()


def link(target: str) -> bytes:
    content = io.BytesIO(archive({}))
    with zipfile.ZipFile(content, "a") as packed:
        info = zipfile.ZipInfo(f"{RUN}/log.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, target)
    return content.getvalue()


def twice() -> bytes:
    content = io.BytesIO(archive({"log.txt": b"one"}))
    with zipfile.ZipFile(content, "a") as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed.writestr(f"{RUN}/log.txt", b"two")
    return content.getvalue()


def locked() -> bytes:
    content = bytearray(archive({"log.txt": b"x"}))
    place = content.rindex(b"PK\x01\x02") + 8
    content[place] |= 1
    return bytes(content)


def lying() -> bytes:
    """A member that claims ten bytes and holds a megabyte."""
    content = bytearray(archive({"log.txt": bytes(2**20)}))
    content[content.rindex(b"PK\x01\x02") + 24 :][:4] = struct.pack("<I", 10)
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 10)
    return bytes(content)


def safetensors_lying() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def stage(**changes: object) -> dict[str, dict]:
    return {"stages/0/stage.json": {**STAGE, **changes}}


PICKLED = io.BytesIO()
np.savez(PICKLED, np.array([{}], dtype=object), labels=np.zeros(1), seeds=np.zeros(1))

HOSTILE = {
    "no zip": (b"PK not really", "damaged"),
    "nothing": (b"", "damaged"),
    "cut short": (archive({"log.txt": b"x" * 5000})[:-30], "damaged"),
    "no run": (archive({"a.txt": b"x"}, whole=False), "isn't a run"),
    "bare files": (archive({"@config.json": CONFIG}, whole=False), "isn't a run"),
    "two folders": (archive({"@other/log.txt": b"x"}), "isn't a run"),
    "hidden id": (archive({}, root=".new-1"), "isn't a run"),
    "climbs out": (archive({"../x.json": b"{}"}), "points outside"),
    "climbs out later": (archive({f"@{RUN}/stages/../../../x.json": b"{}"}), "points outside"),
    "absolute": (archive({"/etc/cron.d/x": b"x"}), "points outside"),
    "backslash": (archive({f"@{RUN}\\..\\..\\x": b"x"}), "points outside"),
    "link": (link("/etc/passwd"), "is a link"),
    "twice": (twice(), "twice"),
    "locked": (locked(), "password"),
    "bomb": (archive({"log.txt": bytes(80 * 2**20)}), "more than 100 times its size"),
    "lies about its size": (lying(), "damaged"),
    "unknown file": (archive({"run.py": b"import os"}), "'20260101-120000-ced-abcd/run.py', which no run has"),
    "pickle": (archive({"stages/0/weights.pt": b"\x80\x02."}), "which no run has"),
    "hidden file": (archive({".bashrc": b"x"}), "which no run has"),
    "someone's cancel": (archive({"cancel": b""}), "which no run has"),
    "no status": (archive({"config.json": CONFIG}, whole=False), "status.json is missing"),
    "status that is none": (archive({"status.json": {**STATUS, "state": "sleeping"}}), "sleeping"),
    "config without params": (archive({"config.json": {**CONFIG, "params": []}}), "params is []; expected an object"),
    "newer": (archive({"config.json": {**CONFIG, "schema": 2}}), "made by a newer version"),
    "unknown kind": (archive({"config.json": {**CONFIG, "kind": "wipe"}}), "its kind is 'wipe'"),
    "JSON that is none": (archive({"ced.json": b"{"}), "ced.json is no JSON"),
    "JSON without end": (archive({"ced.json": b"[" * 100_000}), "ced.json is no JSON"),
    "list for an object": (archive({"arena.json": b"[]"}), "holds a list"),
    "NaN": (archive({"status.json": {**STATUS, "progress": float("nan")}}), "progress is nan; expected a number"),
    "wrong stage": (archive(stage(stage=3)), "says that it is stage 3"),
    "blocks of text": (archive(stage(kept_blocks=["<script>"])), "kept_blocks[0] is '<script>'"),
    "true as a number": (archive(stage(depth=True)), "depth is True; expected a whole number"),
    "weights that lie": (archive({**stage(), "stages/0/weights.safetensors": safetensors_lying()}), "safetensors"),
    "weights that are a pickle": (archive({**stage(), "stages/0/weights.safetensors": b"\x80\x02."}), "safetensors"),
    "no stage.json": (archive({"stages/0/metrics.json": {}}), "metrics.json: it lacks 'protocol'"),
    "stage without description": (archive({"stages/0/ced.json": b"{}", }), "ced.json: it lacks"),
    "samples that are none": (archive({**stage(), "stages/0/samples.npz": b"PK\x03\x04"}), "samples"),
    "samples that are pickled": (archive({**stage(), "stages/0/samples.npz": PICKLED.getvalue()}), "samples"),
    "picture that is none": (archive({"progress/stage1-step000001.png": b"GIF89a"}), "is no PNG"),
    "event that names another file": (
        archive({"events.jsonl": b'{"event": "samples", "step": 1, "picture": "../../../etc/passwd"}\n'}),
        "which isn't the run's",
    ),
    "event of text": (archive({"events.jsonl": b'{"event": "train", "step": "x"}\n'}), "lacks 'num_steps'"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_one_line_and_leaves_nothing(elsewhere: Workspace, tmp_path: Path, name: str) -> None:
    content, words = HOSTILE[name]
    file = tmp_path / "run.zip"
    file.write_bytes(content)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for given in (file, io.BytesIO(content)):
        with pytest.raises(EngineError) as refused:
            unpack_run(elsewhere, given, name="run.zip")
        line = str(refused.value)
        assert words in line and "\n" not in line and len(line) < 400 and ".new-" not in line, line
    assert is_untouched(elsewhere) and sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_archive_that_is_right_is_taken(elsewhere: Workspace) -> None:
    """So that none of the above is refused for something else."""
    run = unpack_run(elsewhere, io.BytesIO(archive({**stage(), "log.txt": b"x", "events.jsonl": b'{"event": "lo'})))
    assert run.id == RUN and [found.number for found in run.stages()] == [0]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_archives_are_one_line_or_the_run(workspace: Workspace, elsewhere: Workspace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = np.frombuffer(packed(add_prune(workspace, num_stages=1)), np.uint8)
    for _ in range(15):
        content = whole.copy()
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            content[place] = rng.integers(256)
        if rng.random() < 0.3:
            content = content[: rng.integers(len(content))]
        try:
            run = unpack_run(elsewhere, io.BytesIO(content.tobytes()), name="run.zip")
        except EngineError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
            assert is_untouched(elsewhere)
        else:
            assert open_run(elsewhere, run.id).stages()
            delete_run(elsewhere, run.id)


def test_a_full_disk_is_said_and_leaves_nothing(
    workspace: Workspace, elsewhere: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed(add_ced(workspace))
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr("engine.runs.unpack.shutil.disk_usage", lambda path: usage)
    with pytest.raises(WorkspaceError, match=r"no space left for .*runs: it needs"):
        unpack_run(elsewhere, io.BytesIO(content))
    assert is_untouched(elsewhere)


def test_shapes_say_what_is_wrong_and_where() -> None:
    shape = {"a": [{"b": (None, int)}], "c": {str: float}}
    assert mismatch({"a": [{"b": None}, {"b": 3}], "c": {"x": 1.5}, "more": 1}, shape) == ""
    assert mismatch({"a": [{"b": "x"}], "c": {}}, shape) == "a[0].b is 'x'; expected a whole number"
    assert mismatch({"a": [], "c": {"x": float("nan")}}, shape) == "c.x is nan; expected a number"
    assert mismatch({"a": {}}, shape) == "it lacks 'c'"


def test_names_are_matched_whole() -> None:
    assert check_for("stages/0/stage.json") and check_for("progress/stage1-step000030.png")
    for name in ("stages/0/stage.json.exe", "x/stages/0/stage.json", "stages/x/stage.json", "progress/../config.json",
                 "config.json\n", "stages/0/sub/stage.json", "progress/.png", ""):  # fmt: skip
        assert check_for(name) is None, name
