"""README.md of an export: a model card, and how to open it elsewhere, in lines that can be copied and run."""

from collections.abc import Mapping
from typing import Any

from engine.evaluation.protocol import Protocol
from engine.models.export_diffusers import has_own_positions
from engine.models.model import Model
from engine.models.model_card import card_sections, front_matter, is_pruned, plain

_CLASSES = {"diffusion": ("DiT", "facebookresearch/DiT"), "flow": ("SiT", "willisma/SiT")}
_MANIFEST = "entpruner.json names the classes, the process and, where it was measured, how good it is."


def readme_of(model: Model, manifest: Mapping[str, Any]) -> str:
    measured = Protocol(**manifest["protocol"]) if manifest["protocol"] else None
    write = {
        "official": lambda: _official(model),
        "safetensors": _safetensors,
        "diffusers": lambda: _diffusers(model, measured),
    }[manifest["layout"]]
    notes = [note.replace("README.md has the lines that", "the lines above") for note in manifest["notes"]]
    name, _ = _CLASSES[model.process.name]
    kept = f"blocks {', '.join(map(str, model.kept_blocks))} of the unpruned model"
    kept = kept if is_pruned(manifest) else "all its blocks"
    lines = [
        *front_matter(manifest).splitlines(),
        "",
        f"# {name} with {model.config.depth} blocks, {model.config.num_classes} classes",
        "",
        f"Written by {manifest['product']} from {plain(manifest['parent'])}: {kept}. {_MANIFEST}",
        f"Licence: {plain(manifest['licence'])}",
        "",
        "## How to open it",
        "",
        *write(),
        *(["", "Worth knowing:", *(f"- {note}" for note in notes)] if notes else []),
        *card_sections(manifest),
    ]
    return "\n".join(lines) + "\n"


def _code(text: str) -> list[str]:
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return ["```python", *text.strip().splitlines(), "```"]


def _official(model: Model) -> list[str]:
    config, (name, repository) = model.config, _CLASSES[model.process.name]
    null = "" if config.null_class is None else f", and {config.null_class} for the null class 1000"
    return [
        f"model.pt is a bare state dict for the class {name} in models.py of {repository}, at this depth:",
        "",
        *_code(f"""
import torch
from models import {name}

model = {name}(
    input_size={config.input_size}, patch_size={config.patch_size}, in_channels={config.in_channels},
    hidden_size={config.hidden_size}, depth={config.depth}, num_heads={config.num_heads}, \
mlp_ratio={config.mlp_ratio!r},
    class_dropout_prob={config.class_dropout_prob!r}, num_classes={config.num_classes}, \
learn_sigma={config.learn_sigma},
)
model.load_state_dict(torch.load("model.pt", weights_only=True), strict=True)
"""),
        "",
        f"sample.py there builds a model by its name; put these arguments in its place{null}.",
    ]


def _safetensors() -> list[str]:
    return [
        "weights.safetensors has the tensor names of the official repositories, config.json the constructor arguments.",
        "",
        *_code("""
from engine import load_model

model = load_model(".")
"""),
    ]


def _diffusers(model: Model, measured: Protocol | None) -> list[str]:
    """Lines that draw as the model was measured, as far as diffusers can, and a sentence on where it can't."""
    usual = Protocol(num_steps=25, cfg_scale=4.0 if model.config.null_class is not None else 1.0)
    lines = (_pipeline if model.process.name == "diffusion" else _flow)(model, measured or usual)
    if measured is None:
        return lines
    sampler, guided = ("ddim", None) if model.process.name == "diffusion" else ("euler", measured.guided_channels)
    other = []
    if measured.sampler != sampler:
        other.append(f"these lines draw by {sampler}")
    if measured.cfg_scale != 1 and measured.guided_channels != guided:
        other.append("the pipeline guides all channels")
    same = f", but {' and '.join(other)}: expect other pictures" if other else ", as these lines draw"
    return [*lines, "", f"It was measured with {measured.label()}{same}."]


_FREQUENCIES = """
for block in transformer.transformer_blocks:  # the official code's timestep frequencies
    block.norm1.emb.time_proj.downscale_freq_shift = 0
"""
_POSITIONS = """
stored = load_file("transformer/diffusion_pytorch_model.safetensors")  # the model's own position table
transformer.pos_embed.pos_embed = stored["pos_embed.pos_embed"]
"""
_SHIFT = """
decode = pipe.vae.decode  # with the shift that DiTPipeline leaves out
pipe.vae.decode = lambda latents, **more: decode(latents + pipe.vae.config.shift_factor, **more)
"""


def _set_right(model: Model) -> str:
    """Lines that make diffusers' network compute as the model was trained."""
    frequencies = _FREQUENCIES if model.config.time_embedding == "official" else ""
    return frequencies + (_POSITIONS if has_own_positions(model) else "")


def _imports(model: Model) -> str:
    return "from safetensors.torch import load_file\n" if has_own_positions(model) else ""


def _pipeline(model: Model, drawn: Protocol) -> list[str]:
    shift = model.autoencoder.config.get("shift_factor")
    return [
        "In this folder:",
        "",
        *_code(f"""
from diffusers import DiTPipeline
{_imports(model)}
pipe = DiTPipeline.from_pretrained(".")
transformer = pipe.transformer
{_set_right(model)}{_SHIFT if shift else ""}
images = pipe(class_labels=[0], guidance_scale={drawn.cfg_scale}, num_inference_steps={drawn.num_steps}).images
images[0].save("sample.png")
"""),
    ]


def _flow(model: Model, drawn: Protocol) -> list[str]:
    """There is no pipeline for SiT in diffusers, so the steps are spelled out: Euler, from noise at time 0 to data."""
    config = model.config
    null = 0 if config.null_class is None else config.null_class
    guided = config.in_channels if drawn.guided_channels is None else drawn.guided_channels
    return [
        "diffusers has the network, the autoencoder and the steps of a SiT, but no pipeline; in this folder:",
        "",
        *_code(f"""
import torch
from diffusers import {type(model.autoencoder.module).__name__}, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
{_imports(model)}
labels, null_class, guidance, num_steps, seed = [0], {null}, {drawn.cfg_scale}, {drawn.num_steps}, 0
guided = {guided}  # channels that guidance acts on
transformer = DiTTransformer2DModel.from_pretrained("transformer")
vae = {type(model.autoencoder.module).__name__}.from_pretrained("vae")
scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained("scheduler")
{_set_right(model)}
C, side = transformer.config.in_channels, transformer.config.sample_size
x = torch.randn(len(labels), C, side, side, generator=torch.Generator().manual_seed(seed))
y = torch.tensor(labels + [null_class] * len(labels))
scheduler.set_timesteps(sigmas=[1 - step / num_steps for step in range(num_steps)])
with torch.inference_mode():
    for timestep in scheduler.timesteps:
        t = (1 - timestep / 1000).expand(len(y))  # 0 is noise, 1 is data
        velocity = transformer(torch.cat([x, x]), timestep=t, class_labels=y).sample[:, :C]
        with_class, without = velocity.chunk(2)
        velocity = with_class.clone()
        velocity[:, :guided] = (without + guidance * (with_class - without))[:, :guided]
        x = scheduler.step(-velocity, timestep, x).prev_sample  # the scheduler counts time the other way
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    pixels = vae.decode(x / vae.config.scaling_factor + shift).sample
for label, image in zip(labels, VaeImageProcessor().postprocess(pixels)):
    image.save(f"sample-{{label}}.png")
"""),
    ]
