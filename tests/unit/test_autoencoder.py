"""Pictures to latents and back: the folder's own scale, nothing read before the first picture, each damage named."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from engine.data.bundled import bundled_data
from engine.errors import AssetError, InputError
from engine.models.autoencoder import PUBLISHED, _chunk, default_autoencoder, open_autoencoder, read_autoencoder
from engine.models.checkpoints import load_model, save_model

PICTURES = bundled_data("shapes").images[:6]


@pytest.fixture(scope="module")
def kl(tmp_path_factory):
    """A small AutoencoderKL with its own scale and shift, 4x."""
    torch.manual_seed(0)
    module = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[8, 8, 16], norm_num_groups=4, latent_channels=4, scaling_factor=0.37, shift_factor=0.11,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("kl")
    module.save_pretrained(folder)
    return folder, module.eval()


@pytest.fixture
def copy(kl, tmp_path):
    shutil.copytree(kl[0], tmp_path / "vae")
    return tmp_path / "vae"


def test_a_kl_autoencoder_gives_its_mean_scaled_and_shifted_as_its_config_says(kl):
    folder, module = kl
    opened = open_autoencoder(str(folder))
    with torch.no_grad():
        pixels = torch.from_numpy(PICTURES).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = (module.encode(pixels).latent_dist.mean - 0.11) * 0.37
        back = module.decode(expected / 0.37 + 0.11).sample
    latents = opened.encode(PICTURES)
    assert torch.allclose(latents, expected, atol=1e-5)
    assert opened.downscale == 4 and opened.latent_channels == 4
    drawn = opened.decode(latents)
    assert drawn.dtype == np.uint8 and drawn.shape == PICTURES.shape
    assert np.abs(drawn - ((back + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()).max() <= 1


def test_large_pictures_go_through_in_small_chunks(kl):
    assert [_chunk(side) for side in (32, 64, 128, 256, 512, 1024)] == [64, 64, 16, 4, 1, 1]
    opened = open_autoencoder(str(kl[0]))
    large = np.random.default_rng(0).integers(0, 256, (5, 256, 256, 3), dtype=np.uint8)
    together = opened.encode(large)
    assert torch.allclose(together[3:4], opened.encode(large[3:4]), atol=1e-5)


def test_nothing_is_read_before_the_first_picture(copy):
    (copy / "diffusion_pytorch_model.safetensors").unlink()
    opened = open_autoencoder(str(copy))
    assert opened.downscale == 4
    with pytest.raises(AssetError, match=r"no diffusion_pytorch_model.safetensors; put it there"):
        opened.encode(PICTURES)


def test_weights_as_a_pytorch_file_are_read_without_running_it(copy, kl):
    torch.save(kl[1].state_dict(), copy / "diffusion_pytorch_model.bin")
    (copy / "diffusion_pytorch_model.safetensors").unlink()
    same = open_autoencoder(str(copy)).encode(PICTURES)
    assert torch.allclose(same, open_autoencoder(str(kl[0])).encode(PICTURES), atol=1e-6)
    (copy / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(AssetError, match="could run code"):
        open_autoencoder(str(copy)).encode(PICTURES)


def test_a_scale_that_the_config_leaves_out_is_that_of_the_class(copy):
    config = json.loads((copy / "config.json").read_text())
    assert (open_autoencoder(str(copy)).scaling_factor, open_autoencoder(str(copy)).shift_factor) == (0.37, 0.11)
    for name in ("scaling_factor", "shift_factor"):
        del config[name]
    (copy / "config.json").write_text(json.dumps(config))
    opened = open_autoencoder(str(copy))
    assert "module" not in opened.__dict__ and opened.scaling_factor == 0.18215 and opened.shift_factor is None
    assert opened.module.config.scaling_factor == opened.scaling_factor
    assert opened.module.config.shift_factor == opened.shift_factor
    assert open_autoencoder(PUBLISHED).scaling_factor == 0.18215
    assert open_autoencoder(None).scaling_factor is open_autoencoder(None).shift_factor is None


def test_the_hash_changes_with_weights_and_with_scale(copy, kl):
    first = open_autoencoder(str(kl[0])).content_hash
    assert open_autoencoder(str(copy)).content_hash == first
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}))
    assert open_autoencoder(str(copy)).content_hash != first


def test_the_bundled_one_is_what_it_was():
    bundled = open_autoencoder("autoencoder")
    assert bundled.content_hash == load_model("demo-sit").autoencoder.content_hash
    assert bundled.ref == "autoencoder" and len(bundled.content_hash) == 16
    again = read_autoencoder(bundled.folder)
    assert torch.equal(again.encode(PICTURES), bundled.encode(PICTURES))


def test_pixels_are_their_own_latents():
    pixels = open_autoencoder(None)
    latents = pixels.encode(PICTURES)
    assert latents.shape == (6, 3, *PICTURES.shape[1:3]) and latents.min() >= -1 and latents.max() <= 1
    assert np.array_equal(pixels.decode(latents), PICTURES)
    assert (pixels.downscale, pixels.ref) == (1, None)


def test_a_foreign_model_gets_the_published_one_and_a_clear_line_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (default_autoencoder(4), default_autoencoder(3)) == (PUBLISHED, None)
    opened = open_autoencoder(PUBLISHED, workspace=tmp_path)
    assert (opened.downscale, opened.latent_channels) == (8, 4)  # known before it is here
    with pytest.raises(AssetError, match=r"hub/stabilityai--sd-vae-ft-ema.*--vae"):
        opened.encode(PICTURES)


def test_it_is_found_where_its_files_were_put(kl, tmp_path):
    shutil.copytree(kl[0], tmp_path / "hub" / "stabilityai--sd-vae-ft-ema")
    opened = open_autoencoder(PUBLISHED, workspace=tmp_path)
    assert torch.equal(opened.encode(PICTURES), open_autoencoder(str(kl[0])).encode(PICTURES))


def test_a_models_folder_remembers_where_its_autoencoder_is(kl, make_model, tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.chdir(kl[0].parent)
    save_model(replace(make_model(), autoencoder_ref=kl[0].name), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_model(tmp_path).autoencoder_ref == str(kl[0])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"_class_name": "VQModel"}, "it is of class 'VQModel'"),
        ({"block_out_channels": [10**9]}, "its sizes make no sense"),
        ({"block_out_channels": [8, 8, 32]}, "can't be read"),
        ({"layers_per_block": 10**9}, "its sizes make no sense"),
        ({"latent_channels": None}, "its sizes make no sense"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copy, change, line):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(AssetError, match=line) as caught:
        open_autoencoder(str(copy)).encode(PICTURES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_truncated_weights_are_called_so(copy, kept):
    file = copy / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(AssetError, match=r"is empty|cut short|bytes, but has only"):
        open_autoencoder(str(copy)).encode(PICTURES)


def test_a_reference_that_leads_nowhere_is_explained(tmp_path):
    with pytest.raises(InputError, match="no autoencoder 'nowhere': expected a diffusers folder"):
        open_autoencoder("nowhere")
    with pytest.raises(AssetError, match="can't be read"):
        open_autoencoder(str(tmp_path))
