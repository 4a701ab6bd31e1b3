"""Files as others save them, of small networks with open gates; and what damages them."""

import json
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.models.dit import DiT
from engine.models.layouts import to_diffusers


def save_official(network: DiT, path: Path, **beside) -> Path:
    """A bare state dict as the official repositories publish it, with a JSON that says what tensors don't."""
    torch.save(dict(network.state_dict()), path)
    about = {"num_heads": network.config.num_heads, **beside}
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def save_training(network: DiT, path: Path, *, ema: DiT | None = None, prefix: str = "", **args) -> Path:
    """A checkpoint of the official training: model, ema, opt and args in one."""

    def named(of: DiT) -> dict:
        return {prefix + key: value for key, value in of.state_dict().items()}

    optimizer = torch.optim.AdamW(network.requires_grad_(True).parameters())
    network(
        torch.randn(1, *network.config.latent_shape), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    ).sum().backward()
    optimizer.step()
    content = {"model": named(network), "opt": optimizer.state_dict(), "args": Namespace(**args)}
    if ema is not None:
        content["ema"] = named(ema)
    torch.save(content, path)
    path.with_suffix(".json").write_text(json.dumps({"num_heads": network.config.num_heads}))
    return path


def save_diffusers(
    network: DiT, folder: Path, *, scheduler: str = "DDIMScheduler", names: list[str] | None = None
) -> Path:
    """A pipeline's folder without an autoencoder."""
    config = network.config
    (folder / "transformer").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    about = {
        "_class_name": "DiTTransformer2DModel",
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.hidden_size // config.num_heads,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_layers": config.depth,
        "sample_size": config.input_size,
        "patch_size": config.patch_size,
        "num_embeds_ada_norm": config.num_classes,
        "norm_type": "ada_norm_zero",
        "activation_fn": "gelu-approximate",
        "norm_eps": 1e-6,
    }  # fmt: skip
    tensors = {name: value.clone() for name, value in to_diffusers(network.state_dict(), config).items()}
    save_file(tensors, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    (folder / "transformer" / "config.json").write_text(json.dumps(about))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": scheduler}))
    index = {"_class_name": "DiTPipeline", "transformer": ["diffusers", "DiTTransformer2DModel"]}
    if names:
        index["id2label"] = {str(index): name for index, name in enumerate(names)}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def with_pickle(source: Path, target: Path, pickled: bytes) -> Path:
    """The checkpoint ``source`` with another pickle in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return target


class Canary:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def pickle_of_canary(path: Path) -> bytes:
    return pickle.dumps({"weights": Canary(path)}, protocol=2)


def claiming(source: Path, target: Path, *, num_bytes: int) -> Path:
    """A safetensors file whose header speaks of a tensor of ``num_bytes`` that isn't there."""
    content = source.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")
    header[first]["shape"] = [num_bytes // 4]
    header[first]["data_offsets"] = [0, num_bytes]
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return target
