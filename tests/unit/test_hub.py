"""Hub ids: what is taken of a repository, progress, going on after a break, and one line without a network."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file

from engine.errors import AssetError, InputError, WorkspaceError
from engine.models import hub
from engine.models.checkpoints import load_model
from tests.conftest import make_network
from tests.unit.model_files import save_diffusers

REF = "somebody/DiT-tiny"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf-cache"))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A hub that has one pipeline; returns what it was asked for."""
    source = save_diffusers(make_network(), tmp_path / "there", names=[f"thing {index}" for index in range(10)])
    (source / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (source / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    (source / "README.md").write_text("words")
    asked: list[str] = []

    class Api:
        def repo_info(self, ref, *, repo_type, timeout, files_metadata):
            assert timeout <= 5 and files_metadata
            files = [path for path in source.rglob("*") if path.is_file()]
            listed = [SimpleNamespace(rfilename=str(f.relative_to(source)), size=f.stat().st_size) for f in files]
            return SimpleNamespace(siblings=listed)

    def fetch(ref, name, *, repo_type, local_dir):
        asked.append(name)
        target = Path(local_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / name).read_bytes())

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    return asked


@pytest.mark.parametrize("ref", ["facebook/DiT-XL-2-256", "a/b.c_d"])
def test_ids_are_told_from_paths(ref):
    assert hub.is_hub_id(ref)


@pytest.mark.parametrize(
    "ref", ["demo-sit", "a/b/c", "/a/b", "./a", "../b", "a/..", "a/b--c", "a b/c", "", "a/", "a\n/b"]
)
def test_paths_are_no_ids(ref):
    assert not hub.is_hub_id(ref)


def test_of_a_repository_one_form_of_each_part_is_taken():
    names = [
        "README.md", "model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.bin",
        "transformer/diffusion_pytorch_model.safetensors", "transformer/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.bin", "scheduler/scheduler_config.json", "text/model.bin",
    ]  # fmt: skip
    assert hub.wanted_files(names) == [
        "model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.bin", "scheduler/scheduler_config.json",
    ]  # fmt: skip
    assert hub.wanted_files(["SiT-XL-2-256.pt", "a.png"]) == ["SiT-XL-2-256.pt"]
    data = ["README.md", "data/train-0.parquet", "script.py"]
    assert hub.wanted_files(data, kind="dataset") == ["README.md", "data/train-0.parquet"]


def test_a_hub_id_opens_as_a_model(tmp_path, repository):
    model = load_model(REF, workspace=tmp_path / "ws")
    assert model.class_names[3] == "thing 3" and model.process.name == "diffusion" and model.ref == REF
    assert "README.md" not in repository and not any("bin" in name or "fp16" in name for name in repository)
    place = tmp_path / "ws" / "hub" / "somebody--DiT-tiny"
    assert (place / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    repository.clear()
    load_model(REF, workspace=tmp_path / "ws")
    assert repository == []  # what is here isn't asked for again


def test_progress_is_told_in_bytes_up_to_all_of_them(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(hub, "_SECONDS_BETWEEN_NEWS", 0.01)
    steps = list(hub.download(REF, workspace=tmp_path / "ws"))
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == steps[-1].total > 10_000 and steps[-1].folder.is_dir()
    assert all(step.folder is None for step in steps[:-1])


def test_half_a_download_is_no_model_and_is_gone_on_with(tmp_path, repository, monkeypatch):
    whole = hub.download(REF, workspace=tmp_path / "ws")
    next(whole)
    whole.close()
    assert hub.find_snapshot(REF, workspace=tmp_path / "ws") is None
    partial = tmp_path / "ws" / "hub" / ".somebody--DiT-tiny.part"
    assert partial.is_dir()
    *_, last = hub.download(REF, workspace=tmp_path / "ws")
    assert last.folder == tmp_path / "ws" / "hub" / "somebody--DiT-tiny" and not partial.exists()


def test_files_put_there_by_hand_are_found(tmp_path):
    save_diffusers(make_network(), tmp_path / "ws" / "hub" / "somebody--DiT-tiny")
    assert load_model(REF, workspace=tmp_path / "ws").layout == "diffusers"


def test_an_autoencoder_alone_is_no_model_and_the_rest_comes_beside_it(tmp_path, repository):
    """As ``AutoencoderKL.from_pretrained(…, subfolder="vae")`` leaves it in the Hugging Face cache."""
    (tmp_path / "hf-cache").mkdir()
    cached = tmp_path / "hf-cache" / "models--somebody--DiT-tiny"
    snapshot, place = cached / "snapshots" / "abc", tmp_path / "ws" / "hub" / "somebody--DiT-tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    for folder in (snapshot, place):
        (folder / "vae").mkdir(parents=True)
        (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"by hand")
        found = hub.find_snapshot(REF, kind="autoencoder", workspace=tmp_path / "ws")
        assert found == folder == hub.autoencoder_folder(REF, workspace=tmp_path / "ws")
        assert hub.find_snapshot(REF, workspace=tmp_path / "ws") is None
    assert repository == []
    assert hub.model_folder(REF, workspace=tmp_path / "ws") == place
    assert (place / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    assert (place / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() == b"by hand"
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_a_transformer_alone_is_no_autoencoder(tmp_path):
    folder = tmp_path / "ws" / "hub" / "somebody--DiT-tiny"
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    assert hub.find_snapshot(REF, workspace=tmp_path / "ws") == folder
    assert hub.find_snapshot(REF, kind="autoencoder", workspace=tmp_path / "ws") is None


@pytest.mark.parametrize("way", ["refused", "forbidden"])
def test_without_a_network_one_line_names_the_folder_in_seconds(tmp_path, monkeypatch, way):
    if way == "refused":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        from huggingface_hub.utils import close_session

        close_session()
    started = time.perf_counter()
    with pytest.raises(AssetError) as caught:
        load_model(REF, workspace=tmp_path / "ws")
    assert time.perf_counter() - started < 10
    line = str(caught.value)
    assert "\n" not in line and str(tmp_path / "ws" / "hub" / "somebody--DiT-tiny") in line
    assert ("HF_HUB_OFFLINE" if way == "forbidden" else "can't be reached") in line


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path, repository, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(hub, "_SECONDS_TO_WAIT", 0.2)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.repo_info",
        lambda *args, **kwargs: answered.wait(60) and SimpleNamespace(siblings=[]),
    )
    with pytest.raises(AssetError, match="didn't answer within"):
        hub.model_folder(REF, workspace=tmp_path / "ws")
    assert not answered.is_set()  # the line came without an answer
    answered.set()


def test_a_repository_without_a_model_is_called_so(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(hub, "_listing", lambda *args: {"README.md": 3})
    with pytest.raises(InputError, match=r"has no model that can be opened here; it holds README.md"):
        hub.model_folder(REF, workspace=tmp_path / "ws")


def test_a_full_disk_is_one_line(tmp_path, repository, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(WorkspaceError, match="no space left for"):
        hub.model_folder(REF, workspace=tmp_path / "ws")


def test_datasets_come_as_parquet(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(hub, "_listing", lambda *args: {"data/a.parquet": 4, "run.py": 9})
    fetched = []

    def fetch(ref, name, *, repo_type, local_dir):
        fetched.append((repo_type, name))
        (Path(local_dir) / "data").mkdir(parents=True)
        (Path(local_dir) / name).write_bytes(b"PAR1")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    folder = hub.download_dataset("somebody/pictures", workspace=tmp_path / "ws")
    assert fetched == [("dataset", "data/a.parquet")] and (folder / "data" / "a.parquet").is_file()


def test_weights_that_are_no_dits_are_refused_after_download(tmp_path, repository):
    place = tmp_path / "ws" / "hub" / "somebody--DiT-tiny"
    place.mkdir(parents=True)
    save_file({"conv.weight": make_network().pos_embed.clone()}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"process": "flow"}))
    with pytest.raises(AssetError, match="aren't the weights of a DiT"):
        load_model(REF, workspace=tmp_path / "ws")
