"""Models of others open by the same call as the bundled ones, compute the same, and say what was assumed."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from engine.data.bundled import bundled_data
from engine.errors import AssetError, InputError
from engine.models.bundled import read_model_info
from engine.models.checkpoints import find_model, load_model, save_model
from engine.models.class_names import imagenet_names
from engine.models.hints import MANIFEST
from engine.models.layouts import to_diffusers
from engine.models.process_probe import process_losses, propose_process
from engine.runs.library import add_entry
from tests.conftest import make_network
from tests.unit.model_files import save_diffusers, save_official, save_training


def outputs(network, num: int = 3) -> torch.Tensor:
    config = network.config
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(num, *config.latent_shape, generator=generator)
    t = torch.tensor([0, 3, 999])[:num]
    with torch.no_grad():
        return network(x, t, torch.arange(num) % config.num_classes)


def assert_same(model, network) -> None:
    mine, theirs = outputs(model.network), outputs(network)
    assert torch.equal(mine, theirs[:, : mine.shape[1]])


@pytest.mark.parametrize("changes", [{}, {"learn_sigma": False}, {"depth": 7}, {"patch_size": 4}, {"num_classes": 3}])
def test_an_official_file_opens_as_it_is(tmp_path, changes):
    network = make_network(**changes)
    model = load_model(save_official(network, tmp_path / "a.pt"), process="diffusion")
    assert model.config == network.config
    assert_same(model, network)
    assert model.layout == "official" and model.taken == "bare" and model.class_names[0] == "class 0"
    assert model.process.learn_sigma == network.config.learn_sigma
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_average_of_a_training_checkpoint_is_opened_with_its_arguments(tmp_path):
    network, average = make_network(seed=1), make_network(seed=2)
    file = save_training(
        network, tmp_path / "a.pt", ema=average, prefix="module.", model="SiT-S/2", num_classes=10, image_size=64,
        path_type="Linear", prediction="velocity", vae="mse",
    )  # fmt: skip
    model = load_model(file)
    assert_same(model, average)
    assert model.process.name == "flow" and "training arguments of SiT" in model.process_reason
    assert model.config.drop_sigma and outputs(model.network).shape[1] == 4  # as the official SiT returns it
    assert model.taken == "ema" and model.autoencoder_ref == "stabilityai/sd-vae-ft-mse"
    assert any("averaged weights" in note for note in model.notes) and any("'module.'" in note for note in model.notes)


@pytest.mark.parametrize("args", [{"path_type": "GVP"}, {"path_type": "Linear", "prediction": "score"}])
def test_a_sit_of_another_path_or_prediction_is_refused(tmp_path, args):
    file = save_training(make_network(), tmp_path / "a.pt", model="SiT-S/2", **args)
    with pytest.raises(AssetError, match="works with the linear path and velocity only"):
        load_model(file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    network = make_network()
    save_file({name: value.to(dtype) for name, value in network.state_dict().items()}, tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 4, "process": "flow"}))
    model = load_model(tmp_path / "a.safetensors")
    assert {value.dtype for value in model.network.state_dict().values()} == {torch.float32}
    assert torch.allclose(outputs(model.network), outputs(network)[:, :4], atol=0.05)


def test_a_loaded_model_does_not_change_with_its_file(tmp_path):
    file = save_official(make_network(), tmp_path / "a.pt")
    model = load_model(file, process="flow")
    before = outputs(model.network)
    with open(file, "r+b") as content:  # in place, as torch.save writes
        content.seek(2000)
        content.write(bytes(file.stat().st_size - 4000))
    assert torch.equal(outputs(model.network), before)


@pytest.mark.parametrize("side", [8, 16])
def test_a_diffusers_folder_computes_as_diffusers_does(tmp_path, side):
    from diffusers import DiTTransformer2DModel

    network = make_network(input_size=side, time_embedding="diffusers")
    folder = save_diffusers(network, tmp_path / "pipeline", names=[f"thing {index}" for index in range(10)])
    theirs = DiTTransformer2DModel.from_pretrained(folder / "transformer").eval()
    model = load_model(folder)
    assert model.config.time_embedding == "diffusers" and model.layout == "diffusers"
    assert model.process.name == "diffusion" and model.class_names[9] == "thing 9"
    x, t, y = torch.randn(2, 4, side, side), torch.tensor([7, 800]), torch.tensor([1, 10])
    with torch.no_grad():
        expected = theirs(x, timestep=t, class_labels=y).sample
        assert (model.network(x, t, y) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert load_model(folder / "transformer", process="flow").config == replace(model.config, drop_sigma=True)


def test_a_config_of_another_model_in_the_folder_changes_nothing(tmp_path):
    file = save_official(make_network(hidden_size=64), tmp_path / "a.pt")
    file.with_suffix(".json").unlink()
    alone = load_model(file, process="diffusion")
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL", "sample_size": 256}')
    model = load_model(file, process="diffusion")
    assert model.config == alone.config and model.config.time_embedding == "official"
    assert torch.equal(outputs(model.network), outputs(alone.network))
    assert "The config.json beside it is of class 'AutoencoderKL', not of a DiT, and was ignored." in model.notes


def test_official_names_are_computed_as_the_official_code_does_beside_a_transformers_config(tmp_path):
    folder = save_diffusers(make_network(), tmp_path / "pipeline") / "transformer"
    network = make_network()
    file = save_official(network, tmp_path / "a.pt").rename(folder / "converted.pt")
    model = load_model(file, process="diffusion")
    assert model.config.time_embedding == "official" and model.config.num_heads == network.config.num_heads
    assert torch.equal(outputs(model.network), outputs(network))
    names = load_model(folder / "diffusion_pytorch_model.safetensors", process="diffusion")
    assert names.config.time_embedding == "diffusers"


def test_the_scheduler_says_which_process(tmp_path):
    assert load_model(save_diffusers(make_network(), tmp_path / "a")).process.name == "diffusion"
    flow = save_diffusers(make_network(), tmp_path / "b", scheduler="FlowMatchEulerDiscreteScheduler")
    assert load_model(flow).process.name == "flow"
    assert load_model(flow, process="diffusion").process.name == "diffusion"
    (flow / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    with pytest.raises(AssetError, match="works with 'epsilon' only"):
        load_model(flow)


def test_blocks_with_embedders_of_their_own_are_refused(tmp_path):
    folder = save_diffusers(make_network(), tmp_path / "a")
    tensors = {
        key: value.clone() for key, value in to_diffusers(make_network().state_dict(), make_network().config).items()
    }
    tensors["transformer_blocks.2.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    save_file(tensors, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(AssetError, match="differs from that of block 0"):
        load_model(folder)


def test_a_manifest_restores_what_an_export_had_to_change(tmp_path):
    network = make_network(num_classes=3)
    padded = make_network(num_classes=6)
    table = network.y_embedder.embedding_table.weight
    rows = {"y_embedder.embedding_table.weight": torch.cat([table, table[-1:], table[-1:], table[-1:]])}
    padded.load_state_dict({**network.state_dict(), **rows})
    folder = save_diffusers(padded, tmp_path / "a")
    manifest = {
        "schema": 1, "process": "flow", "network": asdict(network.config), "class_names": ["a", "b", "c"],
        "kept_blocks": [0, 2, 5, 6], "licence": "CC BY-NC 4.0", "autoencoder": {"ref": "autoencoder"},
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
    model = load_model(folder)
    assert model.config == replace(network.config, drop_sigma=True) and model.config.time_embedding == "official"
    assert_same(model, network)
    assert torch.equal(model.network.y_embedder.embedding_table.weight, network.y_embedder.embedding_table.weight)
    assert (model.class_names, model.kept_blocks) == (("a", "b", "c"), (0, 2, 5, 6))
    assert (model.licence, model.process.name, model.autoencoder_ref) == ("CC BY-NC 4.0", "flow", "autoencoder")


def test_our_own_folder_comes_back_whole(tmp_path, make_model):
    model = replace(make_model(), licence="MIT", notes=("Something was assumed.",), kept_blocks=(0, 3, 4, 9))
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert_same(again, model.network)
    for name in ("class_names", "kept_blocks", "licence", "notes", "trained_on", "autoencoder_ref"):
        assert getattr(again, name) == getattr(model, name), name
    assert again.config == model.config and again.autoencoder.content_hash != ""
    assert find_model(str(tmp_path)).kept_blocks == (0, 3, 4, 9)
    assert not list(tmp_path.glob(".*"))


def test_an_autoencoder_beside_the_weights_is_found_there(tmp_path, make_model):
    save_model(make_model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    source = load_model("demo-sit").autoencoder.folder
    shutil.copytree(source, tmp_path / "autoencoder")
    (tmp_path / "config.json").write_text(json.dumps({**config, "autoencoder": "./autoencoder"}))
    model = load_model(tmp_path)
    assert model.autoencoder_ref == str((tmp_path / "autoencoder").resolve()) and model.image_side == 32
    (tmp_path / "config.json").write_text(json.dumps({**config, "autoencoder": "./../../etc"}))
    with pytest.raises(AssetError, match="leads out of the folder"):
        load_model(tmp_path)


def test_pixel_models_need_no_autoencoder(tmp_path):
    model = load_model(save_official(make_network(in_channels=3), tmp_path / "a.pt"), process="flow")
    assert model.autoencoder_ref is None and model.image_side == 8
    with pytest.raises(InputError, match="works on 3 channels, but the autoencoder autoencoder gives 4"):
        load_model(tmp_path / "a.pt", process="flow", autoencoder="autoencoder")


def test_a_library_name_brings_its_choices(tmp_path):
    file = save_official(make_network(), tmp_path / "a.pt")
    names = [f"thing {index}" for index in range(10)]
    entry = {"name": "mine", "ref": str(file), "process": "flow", "autoencoder": "autoencoder", "class_names": names}
    add_entry(tmp_path / "ws", "models", entry)
    model = load_model("mine", workspace=tmp_path / "ws")
    assert (model.process.name, model.class_names, model.autoencoder_ref) == ("flow", tuple(names), "autoencoder")
    assert load_model("mine", process="diffusion", workspace=tmp_path / "ws").process.name == "diffusion"
    assert find_model("mine", workspace=tmp_path / "ws").name == "mine"
    add_entry(tmp_path / "ws", "models", {**entry, "class_names": names[:4]}, replace=True)
    with pytest.raises(AssetError, match="has 10 classes, but 4 class names are given"):
        load_model("mine", workspace=tmp_path / "ws")


def test_the_hash_is_of_all_that_changes_the_results(tmp_path):
    file = save_official(make_network(), tmp_path / "a.pt")
    first = load_model(file, process="flow").content_hash
    assert load_model(file, process="flow").content_hash == first
    others = [load_model(file, process="diffusion"), load_model(file, process="flow", autoencoder="autoencoder")]
    save_official(make_network(), file, class_names=[*"abcdefghij"])
    others.append(load_model(file, process="flow"))
    file.with_suffix(".json").write_text('{"num_heads": 8}')
    others.append(load_model(file, process="flow"))
    assert len({first, *(model.content_hash for model in others)}) == 5


def test_thousand_classes_without_names_get_those_of_imagenet(tmp_path):
    model = load_model(save_official(make_network(num_classes=1000), tmp_path / "a.pt"), process="flow")
    assert model.class_names == imagenet_names() and model.class_names[0] == "tench"
    assert len(set(model.class_names)) == 1000
    assert any("ImageNet" in note for note in model.notes)


def test_classes_without_names_are_taken_for_the_datas(tmp_path):
    digits = bundled_data("digits")
    unnamed = load_model(save_official(make_network(), tmp_path / "a.pt"), process="flow")
    assert unnamed.knows_classes_of(digits) and not replace(unnamed, labels_trained=False).knows_classes_of(digits)
    named = load_model(save_official(make_network(), tmp_path / "b.pt", class_names=[*"abcdefghij"]), process="flow")
    assert not named.knows_classes_of(digits)
    fewer = load_model(save_official(make_network(num_classes=9), tmp_path / "c.pt"), process="flow")
    assert not fewer.knows_classes_of(digits)


@pytest.mark.parametrize(("name", "process"), [("demo-dit", "diffusion"), ("demo-sit", "flow")])
def test_the_process_shows_in_what_a_network_does_with_noise(tmp_path, name, process):
    bundled = load_model(name)
    file = save_official(bundled.network, tmp_path / "a.pt")
    model = load_model(file, autoencoder="autoencoder")
    assert model.process.name == process
    assert "correlates" in model.process_reason and "--process" in model.notes[-1]
    wrong = {"diffusion": "flow", "flow": "diffusion"}[process]
    losses = process_losses(model, bundled_data(bundled.trained_on), num=8, num_levels=4)
    assert max(losses.relative[process]) < 0.6 and min(losses.relative[wrong]) > 1
    assert losses.verdict.startswith(f"It is {process}")
    other = process_losses(
        replace(model, process=load_model(file, process=wrong).process), bundled_data("digits"), num=4
    )
    assert f"not {wrong}: change the process" in other.verdict


def test_an_untrained_network_tells_nothing_and_that_is_said(tmp_path):
    assert propose_process(make_network()).process is None
    model = load_model(save_official(make_network(), tmp_path / "a.pt"), autoencoder="autoencoder")
    assert model.process.name == "diffusion" and "Not clear" in model.notes[-1]
    assert "no better than guessing" in process_losses(model, bundled_data("shapes"), num=4, num_levels=3).verdict


def spoil(state: dict, kind: str) -> None:
    if kind == "nan":
        state["blocks.1.mlp.fc1.weight"][3, 4] = torch.nan
    elif kind == "missing":
        del state["blocks.1.mlp.fc1.weight"]
    elif kind == "unexpected":
        state["lora.up"] = torch.zeros(3)
    elif kind == "shape":
        state["blocks.2.attn.qkv.weight"] = torch.zeros(7, 32)
    elif kind == "gap":
        for key in [key for key in state if key.startswith("blocks.1.")]:
            del state[key]
    elif kind == "other":
        state.clear()
        state["conv.weight"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("nan", r"aren't finite \(first in blocks.1.mlp.fc1.weight\)"),
        ("missing", "1 .'blocks.1.mlp.fc1.weight'. missing"),
        ("unexpected", "1 .'lora.up'. unexpected"),
        ("shape", r"shapes don't fit together.*blocks.2.attn.qkv.weight \(7, 32\)"),
        ("gap", "without blocks.1"),
        ("other", "these aren't the weights of a DiT or SiT"),
    ],
)
def test_wrong_weights_are_named(tmp_path, make_model, kind, line):
    for save, file in ((save_official, tmp_path / "a.pt"), (None, tmp_path / "ours")):
        network = make_network()
        state = network.state_dict()
        spoil(state, kind)
        if save:
            save(network, file)
            torch.save(state, file)
        else:
            file.mkdir()
            save_model(make_model(), file, state=state)
        with pytest.raises(AssetError, match=line) as caught:
            load_model(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"class_names": ["a"]}, "10 classes, but the description names 1|10 classes, but 1 class names"),
        ({"network": {"depth": 10**9}}, "depth"),
        ({"network": 3}, "network"),
        ({"process": "magic"}, "'magic'"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, make_model, changes, line):
    save_model(make_model(), tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**about, **changes}))
    with pytest.raises((AssetError, InputError), match=line):
        load_model(tmp_path)
    if "network" not in changes:
        save_official(make_network(), tmp_path / "a.pt", **changes)
        with pytest.raises(AssetError, match=line):
            load_model(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("ref", "line"),
    [
        ("nowhere", "no model 'nowhere'"),
        ("no/such/path/at/all", "no model"),
        ("run@latest", "after the @ comes the number of a stage"),
        ("x" * 5000, "no model"),
        ("a\0b", "no model"),
        ("", "no model"),
    ],
)
def test_a_reference_that_leads_nowhere(tmp_path, ref, line):
    with pytest.raises(InputError, match=line):
        load_model(ref, workspace=tmp_path)


def test_a_folder_without_a_model_says_what_is_in_it(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"it holds holiday.png; expected config.json with weights.safetensors"):
        load_model(tmp_path)


def test_a_stages_model_opens_after_its_source_is_gone(tmp_path, make_model):
    """A run's stage is whole by itself: the description needs nothing but the autoencoder."""
    source = tmp_path / "a.pt"
    model = load_model(save_official(make_network(), source), process="flow", autoencoder="autoencoder")
    (tmp_path / "stage").mkdir()
    save_model(model, tmp_path / "stage")
    source.unlink()
    assert_same(load_model(tmp_path / "stage"), model.network)
    assert read_model_info(tmp_path / "stage").process == "flow"
