"""Weights of published features: only the published file is opened, whatever the network or a person gives."""

import errno
import hashlib
import io
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_clip import CLIPVisual
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from engine.cli import main
from engine.errors import AssetError, Cancelled, InputError, WorkspaceError
from engine.evaluation import weights
from engine.evaluation.dinov2 import DinoV2
from engine.evaluation.features import FEATURES, extract, extract_all, load_features
from engine.evaluation.fidelity import evaluate_fidelity
from engine.evaluation.weights import PUBLISHED, check_weights, fetch_weights, find_weights, keep_weights, weights_file
from engine.models.checkpoints import save_model
from engine.runs.jobs import execute_run
from engine.runs.store import create_run
from engine.runs.workspace import open_workspace

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(HTTPServer):
    """Sends ``content`` and, where it is told to, closes the connection ``after`` that many bytes."""

    content = CONTENT
    after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.after])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("ENTPRUNER_FEATURES_WEIGHTS", raising=False)
    load_features.cache_clear()
    yield
    load_features.cache_clear()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(monkeypatch):
    """Says that ``content`` is what is published, at ``url``."""

    def publish(content: bytes, *, name: str = "inception", url: str = "http://127.0.0.1:9/nobody") -> str:
        digest = hashlib.sha256(content).hexdigest()
        published = replace(PUBLISHED[name], url=url, sha256=digest, num_bytes=len(content))
        monkeypatch.setitem(PUBLISHED, name, published)
        return published.file

    return publish


def _left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_feature_is_known_to_both_lists():
    assert tuple(FEATURES) == weights.NAMES
    for published in PUBLISHED.values():
        assert (
            len(published.sha256) == 64
            and published.url.startswith("https://")
            and published.url.endswith(published.file)
        )
    assert PUBLISHED["inception"].sha256[:8] in PUBLISHED["inception"].file  # what the release itself states
    assert PUBLISHED["clip"].sha256 in PUBLISHED["clip"].url


def test_a_download_tells_how_far_it_is_and_is_there_at_once_the_next_time(tmp_path, server, publish, monkeypatch):
    monkeypatch.setattr(weights, "_PIECE", 100_000)
    file = publish(CONTENT, url=server.url)
    steps = list(fetch_weights("inception", workspace=tmp_path))
    assert [step.done for step in steps] == [100_000, 200_000, 300_000, 300_000]
    assert all(step.total == 300_000 for step in steps) and steps[-1].folder == tmp_path / "hub" / "features"
    assert _left(tmp_path) == [f"hub/features/{file}"]
    assert weights_file("inception", workspace=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_connection_that_is_cut_leaves_no_file_and_the_next_time_goes_on(tmp_path, server, publish):
    file = publish(CONTENT, url=server.url)
    server.after = 120_000
    with pytest.raises(AssetError, match=r"stopped at 0 MB of 0 MB.*ask again and it goes on") as caught:
        weights_file("inception", workspace=tmp_path)
    assert "\n" not in str(caught.value) and "--features-weights PATH" in str(caught.value)
    assert find_weights("inception", workspace=tmp_path) is None
    assert _left(tmp_path) == [f"hub/features/.{file}.part"]
    server.after = None
    assert weights_file("inception", workspace=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=120000-"]
    assert _left(tmp_path) == [f"hub/features/{file}"]


def test_of_two_who_ask_one_downloads_and_the_other_waits(tmp_path, server, publish, monkeypatch):
    monkeypatch.setattr(weights, "_PIECE", 100_000)
    monkeypatch.setattr(weights, "_WAIT_SECONDS", 0.0)
    file = publish(CONTENT, url=server.url)
    first, second = (fetch_weights("inception", workspace=tmp_path) for _ in range(2))
    assert next(first).done == 100_000
    assert all(0 <= next(second).done <= 100_000 for _ in range(3))
    assert list(first)[-1].done == 300_000
    (last,) = second
    assert last.done == 300_000 and last.folder == tmp_path / "hub" / "features"
    assert server.ranges == [None] and _left(tmp_path) == [f"hub/features/{file}"]


def test_who_waits_goes_on_where_the_other_stopped(tmp_path, server, publish, monkeypatch):
    monkeypatch.setattr(weights, "_PIECE", 100_000)
    monkeypatch.setattr(weights, "_WAIT_SECONDS", 0.0)
    publish(CONTENT, url=server.url)
    first, second = (fetch_weights("inception", workspace=tmp_path) for _ in range(2))
    assert [next(first).done for _ in range(2)] == [100_000, 200_000]
    next(second)
    first.close()  # cancelled
    assert list(second)[-1].done == 300_000
    assert len(server.ranges) == 2 and server.ranges[1] == "bytes=200000-"
    assert weights_file("inception", workspace=tmp_path).read_bytes() == CONTENT


def test_a_whole_part_whose_process_was_killed_is_taken_after_its_check(tmp_path, publish):
    file = publish(CONTENT)
    part = tmp_path / "hub" / "features" / f".{file}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert weights_file("inception", workspace=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"x", CONTENT + b"more", b"<html>log in</html>" * 20_000])
def test_what_isnt_the_published_file_is_thrown_away(tmp_path, server, publish, sent):
    publish(CONTENT, url=server.url)
    server.content = sent
    with pytest.raises(AssetError, match=r"isn't the published .* and was thrown away") as caught:
        weights_file("inception", workspace=tmp_path)
    assert "\n" not in str(caught.value)
    assert _left(tmp_path) == []


def test_a_part_of_something_else_doesnt_stay_in_the_way(tmp_path, server, publish):
    file = publish(CONTENT, url=server.url)
    part = tmp_path / "hub" / "features" / f".{file}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"another" * 1000)
    with pytest.raises(AssetError, match="thrown away"):
        weights_file("inception", workspace=tmp_path)
    assert weights_file("inception", workspace=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_network_one_line_says_what_is_missing_and_what_to_do(tmp_path, publish, name):
    file = publish(CONTENT, name=name)
    with pytest.raises(AssetError) as caught:
        load_features(name, workspace=tmp_path)
    line = str(caught.value)
    assert line.startswith(
        f"{name} needs {file} (0 MB), which isn't on this machine, and http://127.0.0.1:9/nobody can't"
    )
    assert "refused" in line and f"give a path to {file}: in the form, --features-weights PATH" in line
    assert "\n" not in line
    assert _left(tmp_path) == []


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(tmp_path, server, publish, monkeypatch):
    publish(CONTENT, url=server.url)
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 10**5, 10**5)
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(WorkspaceError, match="only 0 MB are free"):
        weights_file("inception", workspace=tmp_path)
    assert server.ranges == [] and _left(tmp_path) == []


def test_a_disk_that_fills_up_keeps_nothing(tmp_path, server, publish, monkeypatch):
    publish(CONTENT, url=server.url)
    real = open

    class FullDisk:
        def __init__(self, *arguments):
            self.file = real(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            self.file.write(content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "open", FullDisk, raising=False)
    with pytest.raises(WorkspaceError, match="no space left"):
        weights_file("inception", workspace=tmp_path)
    assert _left(tmp_path) == []


def test_a_wrong_or_cut_file_is_never_opened(tmp_path, publish, monkeypatch):
    file = publish(CONTENT)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    given = tmp_path / file
    given.write_bytes(CONTENT[:1000])
    with pytest.raises(AssetError, match=r"isn't the published .*1,000 bytes of 300,000.*wasn't opened; get it again"):
        keep_weights("inception", given, workspace=tmp_path)
    given.write_bytes(CONTENT[:-1] + b"x")
    monkeypatch.setenv("ENTPRUNER_FEATURES_WEIGHTS", str(given))
    with pytest.raises(AssetError, match=r"isn't the published .*SHA-256 .*wasn't opened") as caught:
        load_features("inception", workspace=tmp_path)
    assert "\n" not in str(caught.value)
    given.unlink()
    with pytest.raises(AssetError, match="is missing; give a path"):
        load_features("inception", workspace=tmp_path)
    with pytest.raises(AssetError, match="can't be read"):
        check_weights("inception", tmp_path / "nowhere")


def test_a_path_given_once_is_kept_and_found_again(tmp_path, publish):
    file = publish(CONTENT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / file).write_bytes(CONTENT)
    kept = keep_weights("inception", tmp_path / "mine", workspace=tmp_path / "ws")  # a folder that holds it
    assert kept == tmp_path / "ws" / "hub" / "features" / file == find_weights("inception", workspace=tmp_path / "ws")
    assert keep_weights("inception", kept, workspace=tmp_path / "ws") == kept  # itself
    with pytest.raises(InputError, match="'demo-cnn' need no weights"):
        keep_weights("demo-cnn", kept)
    with pytest.raises(InputError, match="'vgg' are unknown; choose one of demo-cnn, inception"):
        keep_weights("vgg", kept)


def test_what_torch_fidelity_downloaded_is_found_and_checked(tmp_path, publish):
    file = publish(CONTENT)
    place = tmp_path / "torch" / "hub" / "checkpoints" / file
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert weights_file("inception", workspace=tmp_path) == place


def test_the_command_line_refuses_before_anything_is_drawn(tmp_path, publish, capsys):
    file = publish(CONTENT)
    (tmp_path / file).write_bytes(b"something else")
    command = ["evaluate", "demo-sit-digits", "digits", "--workspace", str(tmp_path), "--features", "inception"]
    assert main([*command, "--features-weights", str(tmp_path / file)]) == 2
    assert "wasn't opened" in capsys.readouterr().err
    assert main(command) == 2
    assert "inception needs" in capsys.readouterr().err
    assert main([*command[:-1], "vgg"]) == 2
    assert "'vgg' are unknown" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


def _saved(state: dict, *, legacy: bool = False) -> bytes:
    content = io.BytesIO()
    torch.save(state, content, _use_new_zipfile_serialization=not legacy)
    return content.getvalue()


class _Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code ran",))


def test_code_in_a_file_is_not_run_even_if_its_hash_is_right(tmp_path, publish):
    file = publish(_saved({"a": _Harmful()}))
    place = tmp_path / "hub" / "features" / file
    place.parent.mkdir(parents=True)
    place.write_bytes(_saved({"a": _Harmful()}))
    with pytest.raises(AssetError, match="is the published file, but inception can't be made of it") as caught:
        load_features("inception", workspace=tmp_path)
    assert "\n" not in str(caught.value)


def test_inception_is_torch_fidelitys_on_the_same_weights(tmp_path, publish, monkeypatch, digits):
    """Random weights in the published format, which is the one of before PyTorch 1.6."""
    torch.manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    content = _saved(theirs.state_dict(), legacy=True)
    file = publish(content)
    (tmp_path / file).write_bytes(content)
    keep_weights("inception", tmp_path / file, workspace=tmp_path)
    features = load_features("inception", workspace=tmp_path)
    images = digits.images[:3]
    found, logits = extract_all(features, images)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert found.shape == (3, 2048) and logits.shape == (3, 1008)
    assert np.allclose(found, expected[0].numpy(), atol=1e-5) and np.allclose(logits, expected[1].numpy(), atol=1e-4)
    assert (features.weights, features.sha256) == (file, hashlib.sha256(content).hexdigest())


def _dinov2_state(width: int = 64, depth: int = 2) -> dict:
    network = DinoV2(width=width, depth=depth, patch_size=14, num_patches=25)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(value.shape, generator=generator) * 0.05 for name, value in network.state_dict().items()}


def test_dinov2_measures_without_a_line_of_downloaded_code(tmp_path, publish, digits, monkeypatch):
    content = _saved(_dinov2_state())
    file = publish(content, name="dinov2")
    (tmp_path / file).write_bytes(content)
    monkeypatch.setenv("ENTPRUNER_FEATURES_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load", lambda *a, **k: pytest.fail("torch.hub ran code"))
    features = load_features("dinov2", workspace=tmp_path)
    few = replace(digits, images=digits.images[:24], labels=digits.labels[:24], content_hash="few")
    assert extract(features, few.images).shape == (24, 64)
    found = evaluate_fidelity(
        few.images[:12], few.labels[:12], few, features="dinov2", seed=0, num_bootstrap=2, cache=tmp_path / "cache"
    )
    assert found.inception_score is None
    assert "there is no Inception score: dinov2 doesn't tell classes apart" in found.warnings
    assert set(found.as_dict()["fidelity"]) == {f"{name} (dinov2)" for name in ("FID", "KID", "precision", "recall")}
    assert found.as_dict()["features"]["sha256"] == hashlib.sha256(content).hexdigest()
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(names) == 3 and all(f"dinov2-{found.weights_sha256[:8]}-few" in name for name in names)


def test_dinov2_is_the_formula_written_out():
    """One block by hand on a grid that needs no interpolation."""
    state = _dinov2_state(depth=1)
    network = DinoV2.from_state(state).eval()
    images = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(1))
    norm = torch.nn.functional.layer_norm
    with torch.inference_mode():
        found = network(images)
        patches = torch.nn.functional.unfold(images, 14, stride=14).transpose(1, 2)  # (B, 25, 588)
        x = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
        x = torch.cat([state["cls_token"].expand(2, 1, 64), x], 1) + state["pos_embed"]
        block = {name.removeprefix("blocks.0."): value for name, value in state.items() if name.startswith("blocks")}
        y = norm(x, (64,), block["norm1.weight"], block["norm1.bias"], 1e-6)
        q, k, v = (y @ block["attn.qkv.weight"].T + block["attn.qkv.bias"]).chunk(3, -1)
        y = ((q @ k.transpose(1, 2)) / 8).softmax(-1) @ v
        x = x + (y @ block["attn.proj.weight"].T + block["attn.proj.bias"]) * block["ls1.gamma"]
        y = norm(x, (64,), block["norm2.weight"], block["norm2.bias"], 1e-6)
        y = torch.nn.functional.gelu(y @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"])
        x = x + (y @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]) * block["ls2.gamma"]
        expected = norm(x, (64,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 0]
    assert torch.allclose(found, expected, atol=1e-5)


class _Clip(CLIPVisual):
    """As much of CLIP as its image half, in the file's own names."""

    def __init__(self) -> None:
        super().__init__(32, 64, 1, 64, 32)
        self.text_projection = torch.nn.Parameter(torch.zeros(8, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_clip_measures_through_torch_fidelity(tmp_path, publish, digits):
    torch.manual_seed(0)
    content = io.BytesIO()
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.trace(_Clip().eval(), torch.zeros(1)), content)
    file = publish(content.getvalue(), name="clip")
    (tmp_path / file).write_bytes(content.getvalue())
    keep_weights("clip", tmp_path / file, workspace=tmp_path)
    found = extract(load_features("clip", workspace=tmp_path), digits.images[:4])
    assert found.shape == (4, 32) and np.isfinite(found).all() and found.std(axis=0).max() > 0


def _run(workspace, tmp_path, make_model, *, kind: str = "evaluate", **params):
    (tmp_path / "tiny").mkdir(exist_ok=True)
    save_model(make_model(), tmp_path / "tiny")
    protocol = {"num_images": 8, "num_steps": 2, "features": "inception"}
    asked = {"model": str(tmp_path / "tiny"), "data": "digits", "protocol": protocol} | params
    return create_run(workspace, kind=kind, title="t", params=asked)


@pytest.mark.parametrize(("kind", "more"), [("evaluate", {}), ("prune", {"drop": [1]})])
def test_a_run_downloads_first_telling_how_far_it_is_and_goes_on_where_it_was_cut(
    tmp_path, server, publish, monkeypatch, make_model, kind, more
):
    monkeypatch.setattr(weights, "_PIECE", 100_000)
    publish(CONTENT, url=server.url)
    workspace = open_workspace(tmp_path / "workspace")
    run = _run(workspace, tmp_path, make_model, kind=kind, **more)
    server.after, told = 150_000, []
    with pytest.raises(AssetError, match="ask again and it goes on"):
        list(execute_run(run, workspace))
    status = run.status()
    assert (status.state, status.phase) == ("failed", "downloading") and "\n" not in status.error
    assert status.message == status.error and run.stages() == []
    server.after = None
    with pytest.raises(AssetError, match="can't be made of it"):  # the content is that of no network
        for progress in execute_run(run, workspace):
            told.append((progress.phase, progress.message, progress.done))
    downloading = [step for step in told if step[0] == "downloading"]
    assert len(downloading) >= 2 and all(done == 0 for *_, done in downloading)
    assert downloading[-1][1].endswith(": 0 of 0 MB") and server.ranges == [None, "bytes=150000-"]


def test_a_run_that_is_cancelled_while_it_downloads_keeps_the_part(tmp_path, server, publish, monkeypatch, make_model):
    monkeypatch.setattr(weights, "_PIECE", 100_000)
    file = publish(CONTENT, url=server.url)
    workspace = open_workspace(tmp_path / "workspace")
    run = _run(workspace, tmp_path, make_model)
    work = execute_run(run, workspace)
    assert next(work).phase == "downloading"
    run.request_cancel()
    with pytest.raises(Cancelled):
        next(work)
    assert run.status().state == "cancelled"
    part = workspace.root / "hub" / "features" / f".{file}.part"
    assert 0 < part.stat().st_size < len(CONTENT)


def test_a_run_takes_a_path_and_refuses_what_isnt_published(tmp_path, publish, make_model):
    file = publish(CONTENT)
    workspace = open_workspace(tmp_path / "workspace")
    (tmp_path / "given.pth").write_bytes(CONTENT[:1000])
    run = _run(workspace, tmp_path, make_model, features_weights=str(tmp_path / "given.pth"))
    with pytest.raises(AssetError, match="1,000 bytes of 300,000"):
        list(execute_run(run, workspace))
    (tmp_path / "given.pth").write_bytes(CONTENT)
    with pytest.raises(AssetError, match="can't be made of it"):
        list(execute_run(run, workspace))
    assert (workspace.root / "hub" / "features" / file).read_bytes() == CONTENT


def test_a_run_without_a_network_fails_with_one_line_that_says_how_to_give_a_path(tmp_path, publish, make_model):
    publish(CONTENT)
    workspace = open_workspace(tmp_path / "workspace")
    run = _run(workspace, tmp_path, make_model)
    with pytest.raises(AssetError, match="can't be reached"):
        list(execute_run(run, workspace))
    error = run.status().error
    assert error.startswith("inception needs weights-inception") and "\n" not in error
    assert "connect, or give a path to" in error and "in the form" in error
