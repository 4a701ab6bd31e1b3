"""What is taken away opens in the official class, in diffusers and here, and is whole or not there."""

import json
import re
import resource
import shutil
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from engine.assets import ASSETS
from engine.errors import InputError, WorkspaceError
from engine.evaluation.protocol import Protocol
from engine.models.autoencoder import PixelSpace, open_autoencoder
from engine.models.checkpoints import load_model
from engine.models.export import export_model
from engine.models.model import Model
from engine.process.guidance import guided
from engine.pruning.surgery import keep_blocks
from engine.runs.stage_record import StageRecord, record_of
from engine.runs.workspace import open_workspace
from tests.app import fixtures
from tests.unit.plain_dit import PlainDiT
from tests.unit.test_official_parity import inputs, relative

LAYOUTS = ("official", "safetensors", "diffusers")
STAGES = [
    {"stage": 0, "parent": None, "model": "facebook/DiT-XL-2-256", "data": "me/flowers", "depth": 5, "finetune": None,
     "train": None, "dropped_blocks": [], "decision": None, "title": "intact", "kept_blocks": [0, 1, 2, 3, 4]},
    {"stage": 1, "parent": 0, "model": "facebook/DiT-XL-2-256", "data": "me/flowers", "depth": 3, "title": "3 of 5",
     "finetune": {"num_steps": 70, "batch_size": 32, "learning_rate": 0.0004, "schedule": "cosine", "warmup_steps": 6,
                  "distill_weight": 0.25, "seed": 11}, "kept_blocks": [0, 2, 4], "dropped_blocks": [1, 3],
     "train": {"num_steps": 70, "final_loss": 0.125, "seconds": 9.0},
     "decision": {"mode": "adaptive", "reason": "2 blocks go: cost wanted that."}},
]  # fmt: skip
RESULTS = {"protocol": {"num_images": 500}, "fidelity": {"FID (demo-cnn)": {"value": 12.5}}, "warnings": []}


def code_of(folder: Path) -> str:
    """The lines of README.md that are there to be copied and run."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]


def same_tensors(ours: Model, other: Model) -> bool:
    mine, theirs = ours.network.state_dict(), other.network.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def drawn(
    model: Model,
    labels: list[int],
    *,
    cfg_scale: float,
    num_steps: int,
    guided_channels: int | None = None,
) -> np.ndarray:
    """uint8 (n, H, W, 3): what this product draws from the noise that diffusers draws from seed 0."""
    shape = (len(labels), *model.config.latent_shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    null = model.config.null_class
    network = guided(model.network, null_class=null, cfg_scale=cfg_scale, num_guided_channels=guided_channels)
    with torch.inference_mode():
        *_, (_, x) = model.process.sample(network, noise, torch.tensor(labels), num_steps=num_steps)
    return model.autoencoder.decode(x)


def differences(ours: np.ndarray, theirs: np.ndarray) -> int:
    return np.abs(ours.astype(int) - theirs.astype(int)).max()


@pytest.mark.parametrize("process", ["diffusion", "flow"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_exported_opens_here_as_it_was(make_model, tmp_path, process, layout):
    model = replace(keep_blocks(make_model(process, depth=5), [0, 2, 4]), licence="MIT, of tiny")
    path = tmp_path / "new" / "taken.away"
    summary = export_model(model, path, layout=layout, results=RESULTS, depth_of_parent=5)
    assert sorted(summary.files) == sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    assert summary.num_bytes == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert [p.name for p in path.parent.iterdir()] == ["taken.away"]

    opened = load_model(path)
    assert same_tensors(model, opened) and opened.config == model.config
    assert opened.process.name == process and opened.class_names == model.class_names
    assert opened.kept_blocks == (0, 2, 4) and opened.licence == "MIT, of tiny"
    images = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 3), dtype=np.uint8)
    assert torch.equal(opened.autoencoder.encode(images), model.autoencoder.encode(images))

    about = json.loads((path / "entpruner.json").read_text())
    assert about["layout"] == layout and about["process"] == process and about["prediction"] == model.process.prediction
    assert about["network"]["depth"] == 3 and about["kept_blocks"] == [0, 2, 4] and about["depth_of_parent"] == 5
    assert about["num_classes"] == about["null_class"] == 10 and about["class_names"] == list(model.class_names)
    assert about["protocol"] == {"num_images": 500} and about["metrics"]["fidelity"] == RESULTS["fidelity"]
    assert about["autoencoder"]["scaling_factor"] == pytest.approx(0.7567, abs=1e-4)
    assert about["parent"] == f"tiny-{process}" and about["time_embedding"] == "official"


def test_the_manifest_has_the_scale_that_the_pictures_were_encoded_with(make_model, tmp_path):
    bundled = ASSETS / "autoencoder"
    shutil.copytree(bundled, tmp_path / "vae")
    about = json.loads((bundled / "config.json").read_text())
    del about["scaling_factor"]
    (tmp_path / "vae" / "config.json").write_text(json.dumps(about))
    model = replace(make_model(), autoencoder=open_autoencoder(str(tmp_path / "vae")))
    export_model(model, tmp_path / "out.pt", layout="official")
    said = json.loads((tmp_path / "out.json").read_text())["autoencoder"]
    assert said["scaling_factor"] == model.autoencoder.module.config.scaling_factor is not None


def test_a_measured_number_that_is_missing_stays_missing(make_model, tmp_path):
    export_model(make_model(), tmp_path / "out", layout="safetensors")
    about = json.loads((tmp_path / "out" / "entpruner.json").read_text())
    assert about["protocol"] is None and about["metrics"] is None
    assert about["depth_of_parent"] == 4  # nothing was cut, so it is its own depth
    assert "not known" in about["licence"]
    pruned = keep_blocks(make_model(), [0, 3])
    export_model(replace(pruned, depth_of_parent=None), tmp_path / "pruned", layout="safetensors")
    assert json.loads((tmp_path / "pruned" / "entpruner.json").read_text())["depth_of_parent"] is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_without_its_last_blocks_is_not_called_whole(make_model, tmp_path, layout):
    """Its blocks are 0, 1, 2 …, as those of an intact one; an export of the export knows it, too."""
    model = keep_blocks(make_model("diffusion", depth=5), [0, 1, 2])
    for folder in (tmp_path / "once", tmp_path / "twice"):
        export_model(model, folder, layout=layout)
        card = ModelCard.load(folder / "README.md")
        assert "Kept: 3 of 5 blocks, numbers 0, 1, 2" in card.text and "blocks 0, 1, 2 of the unpruned" in card.text
        assert "all its blocks" not in card.text and "pruned" in card.data.tags
        assert json.loads((folder / "entpruner.json").read_text())["depth_of_parent"] == 5
        model = load_model(folder)
        assert model.depth_of_parent == 5 and not model.is_intact
    assert keep_blocks(model, [0, 1]).depth_of_parent == 5


def test_a_stage_of_before_its_parents_depth_was_noted_is_told_by_its_run(make_model, tmp_path):
    model = replace(keep_blocks(make_model(depth=5), [0, 1, 2]), depth_of_parent=None)
    stages = [STAGES[0], {**STAGES[1], "kept_blocks": [0, 1, 2], "dropped_blocks": [3, 4]}]
    for name, said in (("known", {"depth_of_parent": 5, "stages": stages}), ("unknown", {"stages": stages})):
        export_model(model, tmp_path / name, layout="safetensors", **said)
        text = (tmp_path / name / "README.md").read_text()
        assert "all its blocks" not in text and "stage 1: blocks 3, 4" in text
        assert load_model(tmp_path / name).depth_of_parent == said.get("depth_of_parent")


@pytest.mark.parametrize(("process", "name"), [("diffusion", "DiT"), ("flow", "SiT")])
def test_the_official_file_loads_strictly_by_the_lines_of_its_readme(make_model, tmp_path, monkeypatch, process, name):
    model = make_model(process, depth=7, patch_size=4)
    export_model(model, tmp_path / "out", layout="official")
    official = types.SimpleNamespace(**{name: lambda **arguments: PlainDiT(**arguments, flow=process == "flow")})
    monkeypatch.setitem(sys.modules, "models", official)
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    exec(code_of(tmp_path / "out"), names)  # noqa: S102
    x, t, y = inputs(model.config, 3)
    assert len(names["model"].blocks) == 7
    assert relative(model.network(x, t, y), names["model"](x, t, y)) <= 1e-5


def test_a_path_that_ends_in_pt_is_one_file_with_its_manifest(make_model, tmp_path):
    model = make_model("flow")
    summary = export_model(model, tmp_path / "tiny.pt", layout="official")
    assert summary.files == ("tiny.pt", "tiny.json") and {p.name for p in tmp_path.iterdir()} == set(summary.files)
    state = torch.load(tmp_path / "tiny.pt", weights_only=True)
    assert type(state) is dict and all(type(tensor) is torch.Tensor for tensor in state.values())
    opened = load_model(tmp_path / "tiny.pt")
    assert same_tensors(model, opened) and opened.config == model.config and opened.process.name == "flow"
    assert opened.class_names == model.class_names


def test_official_to_ours_to_official_is_bit_equal(make_model, tmp_path):
    torch.save(make_model("diffusion").network.state_dict(), tmp_path / "theirs.pt")
    (tmp_path / "theirs.json").write_text('{"num_heads": 4, "process": "diffusion", "autoencoder": "autoencoder"}')
    export_model(load_model(tmp_path / "theirs.pt"), tmp_path / "ours", layout="official")
    before = torch.load(tmp_path / "theirs.pt", weights_only=True)
    after = torch.load(tmp_path / "ours" / "model.pt", weights_only=True)
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("process", ["diffusion", "flow"])
def test_diffusers_to_ours_to_diffusers_is_bit_equal(make_model, tmp_path, process):
    export_model(make_model(process), tmp_path / "first", layout="diffusers")
    for part in ("entpruner.json", "README.md"):  # now it is a folder like any other
        (tmp_path / "first" / part).unlink()
    opened = load_model(tmp_path / "first")
    assert opened.config.time_embedding == "diffusers"
    summary = export_model(opened, tmp_path / "second", layout="diffusers")
    for part in ("transformer", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        before, after = load_file(tmp_path / "first" / file), load_file(tmp_path / "second" / file)
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not any("frequencies" in note for note in summary.notes)

    x, t, y = inputs(opened.config, 3, time=999.0 if process == "diffusion" else 1.0)
    y = y.clamp(max=10)
    theirs = DiTTransformer2DModel.from_pretrained(tmp_path / "second" / "transformer")(x, timestep=t, class_labels=y)
    assert relative(opened.network(x, t, y), theirs.sample[:, : 8 if process == "diffusion" else 4]) <= 1e-5


def test_an_exported_pipeline_runs_and_knows_its_classes(tmp_path):
    export_model(load_model("demo-dit"), tmp_path / "out", layout="diffusers")
    pipeline = DiTPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    assert len(pipeline.transformer.transformer_blocks) == 12
    assert pipeline.get_label_ids(["circle", "star"]) == [0, 4]
    pictures = pipeline(class_labels=[0, 1], guidance_scale=4.0, num_inference_steps=3).images
    assert [picture.size for picture in pictures] == [(32, 32), (32, 32)]


@pytest.mark.parametrize("name", ["demo-dit", "tiny"])
def test_a_pipeline_set_right_by_its_readme_draws_what_we_draw(make_model, tmp_path, monkeypatch, name):
    model = make_model("diffusion") if name == "tiny" else load_model(name)
    summary = export_model(model, tmp_path / "out", layout="diffusers")
    assert any("padded to 1001 rows" in note for note in summary.notes)
    assert any("position table of its own" in note for note in summary.notes) == (name == "demo-dit")
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    exec(code_of(tmp_path / "out"), names)  # noqa: S102
    assert Image.open("sample.png").size == (32, 32)
    pipeline = names["pipe"]
    settings = dict(class_labels=[0, 7], guidance_scale=2.0, num_inference_steps=8, output_type="np")
    theirs = pipeline(**settings, generator=torch.Generator().manual_seed(0)).images
    ours = drawn(model, [0, 7], cfg_scale=2.0, num_steps=8)
    assert differences(ours, (theirs * 255).round()) <= 1
    as_it_is = DiTPipeline.from_pretrained(tmp_path / "out")
    unlike = as_it_is(**settings, generator=torch.Generator().manual_seed(0)).images
    assert differences(ours, (unlike * 255).round()) > 8  # what the lines of the README are for


@pytest.mark.parametrize("name", ["demo-sit", "tiny"])
@pytest.mark.parametrize("measured", [None, Protocol(sampler="euler", num_steps=9, cfg_scale=2.5), Protocol(
    sampler="heun", num_steps=9, cfg_scale=1.5, guided_channels=None)])  # fmt: skip
def test_the_flow_script_of_the_readme_draws_as_it_was_measured(make_model, tmp_path, monkeypatch, name, measured):
    model = make_model("flow") if name == "tiny" else load_model(name)
    results = {"protocol": asdict(measured), "fidelity": {}} if measured else None
    export_model(model, tmp_path / "out", layout="diffusers", results=results)
    monkeypatch.chdir(tmp_path / "out")
    exec(code_of(tmp_path / "out"), {})  # noqa: S102
    theirs = np.asarray(Image.open("sample-0.png"))
    protocol = replace(measured or Protocol(cfg_scale=4.0, num_steps=25), sampler="euler")
    settings = {name: getattr(protocol, name) for name in ("num_steps", "cfg_scale", "guided_channels")}
    assert differences(drawn(model, [0], **settings)[0], theirs) <= 1
    said = (tmp_path / "out" / "README.md").read_text()
    assert ("as these lines draw" in said) == (measured is not None and measured.sampler == "euler")
    assert ("these lines draw by euler: expect other pictures" in said) == bool(measured and measured.sampler == "heun")


def test_the_label_table_is_padded_with_the_null_row_only_where_the_pipeline_needs_it(make_model, tmp_path):
    def table(model: Model, folder: str) -> tuple[torch.Tensor, list[str]]:
        summary = export_model(model, tmp_path / folder, layout="diffusers")
        state = load_file(tmp_path / folder / "transformer" / "diffusion_pytorch_model.safetensors")
        return state["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"], list(summary.notes)

    model = make_model("diffusion")
    ours = model.network.y_embedder.embedding_table.weight
    padded, _ = table(model, "padded")
    assert len(padded) == 1001 and torch.equal(padded[:11], ours) and torch.equal(padded[10:], ours[10].expand(991, -1))
    assert len(table(make_model("flow"), "flow")[0]) == 11
    bare, notes = table(make_model("diffusion", class_dropout_prob=0.0), "bare")
    assert len(bare) == 10 and any("no null class" in note for note in notes)
    assert load_model(tmp_path / "bare").config.null_class is None

    many = make_model("diffusion")
    many = many.with_network(many.network.with_num_classes(1200), change="many")
    many = replace(many, class_names=tuple(f"class {index}" for index in range(1200)))
    rows, notes = table(many, "many")
    assert len(rows) == 1201 and any("guidance doesn't work" in note for note in notes)


def test_half_precision_halves_the_file_and_is_refused_where_values_do_not_fit(make_model, tmp_path):
    model = make_model("diffusion", hidden_size=64)
    sizes = {}
    for dtype in ("fp16", "fp32", None):
        for layout in LAYOUTS:
            folder = tmp_path / f"{layout}-{dtype}"
            sizes[layout, dtype] = export_model(model, folder, layout=layout, dtype=dtype).num_bytes
            opened = load_model(folder)
            expected = model.network.blocks[1].attn.qkv.weight
            expected = expected.half().float() if dtype == "fp16" else expected
            assert torch.equal(opened.network.blocks[1].attn.qkv.weight, expected)
    weights = 4 * sum(tensor.numel() for tensor in model.network.state_dict().values())
    for layout in LAYOUTS:
        assert sizes[layout, "fp32"] == pytest.approx(sizes[layout, None], abs=64)
        assert sizes[layout, None] - sizes[layout, "fp16"] > 0.45 * weights
    model.network.blocks[0].mlp.fc1.bias[3] = 1e6
    with pytest.raises(InputError, match=r"blocks\.0\.mlp\.fc1\.bias has values that are too large for fp16"):
        export_model(model, tmp_path / "large", layout="official", dtype="fp16")
    assert not (tmp_path / "large").exists()


def test_a_part_of_a_large_tensor_takes_its_own_size_only(make_model, tmp_path):
    model = make_model()
    large = torch.randn(1000, 1000)
    large[:32, :32] = model.network.blocks[0].attn.proj.weight
    model.network.blocks[0].attn.proj.weight.data = large[:32, :32]
    model.network.blocks[0].attn.proj.bias.data = large.view(-1)[:32]
    assert export_model(model, tmp_path / "part.pt", layout="official").num_bytes < 1e6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_readme_is_a_model_card_that_the_hub_reads(make_model, tmp_path, layout):
    model = replace(keep_blocks(make_model("diffusion", depth=5), [0, 2, 4]), licence="CC-BY-NC-4.0", ref="run@1")
    results = {
        "protocol": {"num_images": 300, "features": "inception", "cfg_scale": 1.0},
        "fidelity": {"FID (inception)": {"value": 12.5, "low": 12.0, "high": 13.25},
                     "class accuracy (demo-cnn)": {"value": 0.75, "low": 0.5, "high": 0.875}},
        "noise_floor": {"FID (inception)": {"value": 2.5, "low": 2.0, "high": 3.0}},
        "reference": {"name": "my flowers"}, "warnings": ["FID at N=300 is biased upwards"],
    }  # fmt: skip
    export_model(model, tmp_path / "out", layout=layout, results=results, depth_of_parent=5, stages=STAGES)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    data = card.data
    assert data.license == "cc-by-nc-4.0" and data.pipeline_tag == "unconditional-image-generation"
    assert data.base_model == "facebook/DiT-XL-2-256" and data.datasets == ["me/flowers"]
    assert {"class-conditional", "dit", "pruned"} <= set(data.tags)
    assert (data.library_name == "diffusers") == (layout == "diffusers")
    assert data.model_name == "DiT with 3 blocks"
    found = {result.metric_name: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in found.items()} == {
        "FID (inception)": 12.5, "class accuracy (demo-cnn)": 0.75,
    }  # fmt: skip
    assert found["FID (inception)"].metric_type == "fid"
    assert found["class accuracy (demo-cnn)"].metric_type == "accuracy-demo-cnn"
    assert all(
        "300 images" in result.metric_config and "inception" in result.metric_config for result in found.values()
    )
    assert all(result.dataset_name == "my flowers" and result.verified is False for result in found.values())
    for words in (
        "Kept: 3 of 5 blocks, numbers 0, 2, 4",
        "stage 1: blocks 1, 3. 2 blocks go: cost wanted that.",
        "| 1 | 70 | 32 | 0.0004 | cosine | 6 | 0.25 | 11 | 0.125 |",
        "| FID (inception) | 12.5 [12, 13.25] | 2.5 |",
        "FID at N=300 is biased upwards",
        "Licence: CC-BY-NC-4.0",
        "## Limitations",
    ):
        assert words in card.text, words
    manifest = json.loads((tmp_path / "out" / "entpruner.json").read_text())
    assert manifest["pruning"][1]["reason"] == "2 blocks go: cost wanted that."
    assert same_tensors(model, load_model(tmp_path / "out"))


def test_a_card_says_plainly_what_is_not_known(make_model, tmp_path):
    export_model(make_model(), tmp_path / "out", layout="safetensors")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "see-readme")
    assert card.data.base_model is None and card.data.datasets is None and card.data.eval_results is None
    assert "pruned" not in card.data.tags and "Nothing: the model has all its blocks." in card.text
    assert "It was not measured here." in card.text and "it is not known here" in card.text


def test_words_of_others_stay_words_in_a_card(make_model, tmp_path):
    hostile = "---\nlicense: mit\n<img src=x onerror=alert(1)> [a](http://evil) | `b` \u2028"
    model = replace(keep_blocks(make_model(), [0, 2]), ref=hostile, licence=hostile, trained_on=hostile)
    stages = [{**stage, "model": hostile, "data": hostile} for stage in STAGES]
    stages[1] |= {"decision": {"reason": hostile}}
    results = {"protocol": {}, "fidelity": {f"FID ({hostile})": {"value": 1.0}}, "warnings": [hostile]}
    export_model(model, tmp_path / "out", layout="safetensors", results=results, stages=stages)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "other" and card.data.base_model is None
    assert card.data.eval_results[0].metric_name == f"FID ({hostile})"
    assert "<img" not in card.text and "[a](" not in card.text and card.text.count("license: mit") >= 4
    assert code_of(tmp_path / "out").strip() == 'from engine import load_model\n\nmodel = load_model(".")'


def test_what_a_run_knows_of_a_stage_goes_along(tmp_path):
    workspace = open_workspace(tmp_path)
    run = fixtures.add_prune(workspace)
    branch = fixtures.add_branch(run, parent=1, drop=[run.stage(1).kept_blocks[0]])
    record = record_of(f"{run.id}@{branch}", workspace)
    assert [stage["stage"] for stage in record.stages] == [0, 1, branch]
    assert record.results == run.stage(branch).metrics() and record.depth_of_parent == fixtures.DEPTH
    for ref in ("demo-sit", f"{run.id}@99", "nobody@1", "a@b"):
        assert record_of(ref, workspace) == StageRecord()


def test_an_existing_path_is_refused_and_left_alone(make_model, tmp_path):
    model = make_model()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.pt").write_text("precious")
    (tmp_path / "beside.json").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, layout in [("folder", "diffusers"), ("file.pt", "official"), ("beside.pt", "official"),
                         ("dangling", "safetensors"), ("file.pt", "safetensors")]:  # fmt: skip
        with pytest.raises(InputError, match="exists already; choose another name"):
            export_model(model, tmp_path / name, layout=layout)
    assert (tmp_path / "file.pt").read_text() == (tmp_path / "beside.json").read_text() == "precious"
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "file.pt", "beside.json", "dangling"}
    with pytest.raises(WorkspaceError, match="a file is where a folder should be"):
        export_model(model, tmp_path / "file.pt" / "below", layout="official")


def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(make_model, tmp_path):
    with pytest.raises(InputError, match="mlp_ratio 2, and diffusers' DiT knows 4 only; export as official"):
        export_model(make_model(mlp_ratio=2.0), tmp_path / "out", layout="diffusers")
    pixels = replace(make_model(in_channels=3), autoencoder=PixelSpace(), autoencoder_ref=None)
    with pytest.raises(InputError, match="draws pixels"):
        export_model(pixels, tmp_path / "out", layout="diffusers")
    with pytest.raises(InputError, match="layout 'onnx' is unknown; choose one of official, safetensors, diffusers"):
        export_model(make_model(), tmp_path / "out", layout="onnx")
    with pytest.raises(InputError, match="dtype 'int4' is unknown"):
        export_model(make_model(), tmp_path / "out", layout="official", dtype="int4")
    assert not list(tmp_path.iterdir())
    for layout in ("official", "safetensors"):
        export_model(pixels, tmp_path / layout, layout=layout)
        assert same_tensors(pixels, load_model(tmp_path / layout))


@pytest.mark.parametrize(("layout", "out"), [*((layout, "folder") for layout in LAYOUTS), ("official", "single.pt")])
def test_a_disk_that_takes_no_more_leaves_nothing_behind(make_model, tmp_path, layout, out):
    """The kernel refuses to write a file beyond 60 kB, in the middle of the weights."""
    model = make_model("diffusion")
    model.autoencoder.module  # noqa: B018  read before the limit holds
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(WorkspaceError) as error:
            export_model(model, tmp_path / out, layout=layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value) and str(tmp_path / out) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_said_before_the_writing_begins(make_model, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(WorkspaceError, match=r"no space left for .*: it needs 1 MB and 0 MB are free"):
        export_model(make_model(), tmp_path / "out", layout="official")
    assert not list(tmp_path.iterdir())
