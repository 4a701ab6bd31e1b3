"""A model as a diffusers folder: a DiTPipeline for diffusion; network, autoencoder and scheduler for flow.

Three things differ between diffusers' DiT and the official one: the frequencies of the timestep, the position table,
which is computed and never stored, and the label that stands for no class. What can't be written into the folder is
said in notes, and README.md sets it right in a few lines.
"""

from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from engine.errors import InputError
from engine.models.autoencoder import PixelSpace
from engine.models.dit import position_embedding
from engine.models.layouts import to_diffusers
from engine.models.model import Model
from engine.process.diffusion import NUM_TIMESTEPS

#: DiTPipeline takes this label for "no class", whatever the model.
PIPELINE_NULL_CLASS = 1000


def write_diffusers(model: Model, state: dict[str, Tensor], folder: Path, manifest: dict) -> None:
    if _padded(model):
        state = _with_null_class_last(state)
    transformer, vae = _transformer(model, state), model.autoencoder.module
    if model.process.name == "diffusion":
        pipeline = DiTPipeline(transformer, vae, _ddim())
        # DiTPipeline takes the names when it is opened, but doesn't write them by itself
        pipeline.register_to_config(id2label={str(index): name for index, name in enumerate(model.class_names)})
        pipeline.save_pretrained(folder, safe_serialization=True)
        return
    transformer.save_pretrained(folder / "transformer", safe_serialization=True)
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    FlowMatchEulerDiscreteScheduler(num_train_timesteps=NUM_TIMESTEPS).save_pretrained(folder / "scheduler")


def check_fits_diffusers(model: Model) -> None:
    config = model.config
    instead = "export as official or safetensors instead"
    if isinstance(model.autoencoder, PixelSpace):
        raise InputError(f"{model.ref} draws pixels, and diffusers' DiTPipeline needs an autoencoder; {instead}")
    if int(config.hidden_size * config.mlp_ratio) != 4 * config.hidden_size:
        raise InputError(f"{model.ref} has mlp_ratio {config.mlp_ratio:g}, and diffusers' DiT knows 4 only; {instead}")


def has_own_positions(model: Model) -> bool:
    """Whether the position table isn't the one that diffusers computes."""
    return not torch.allclose(model.network.pos_embed.cpu(), position_embedding(model.config), atol=1e-4)


def _padded(model: Model) -> bool:
    """Whether the null class has to move to where DiTPipeline looks for it. A model that came from diffusers as it is
    goes back as it is."""
    config = model.config
    foreign = config.time_embedding == "official" and config.null_class is not None
    return model.process.name == "diffusion" and foreign and config.num_classes < PIPELINE_NULL_CLASS


def _with_null_class_last(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official ``state`` with a label table of 1001 rows: those after the classes all hold the null row."""
    table = state["y_embedder.embedding_table.weight"]
    filler = table[-1:].expand(PIPELINE_NULL_CLASS + 1 - len(table), -1)
    return {**state, "y_embedder.embedding_table.weight": torch.cat([table, filler])}


def _transformer(model: Model, state: dict[str, Tensor]) -> DiTTransformer2DModel:
    config = model.config
    named = to_diffusers(state, config)
    # a file of safetensors can't hold one tensor under several names
    named = {name: tensor.clone() if ".norm1.emb." in name else tensor for name, tensor in named.items()}
    with torch.device("meta"):
        transformer = DiTTransformer2DModel(
            num_attention_heads=config.num_heads,
            attention_head_dim=config.hidden_size // config.num_heads,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            num_layers=config.depth,
            sample_size=config.input_size,
            patch_size=config.patch_size,
            num_embeds_ada_norm=len(state["y_embedder.embedding_table.weight"]) - 1,
            norm_eps=1e-6,
        )
    transformer.load_state_dict(named, strict=True, assign=True)
    # a table of its own goes into the file, where diffusers leaves it lying; the usual one isn't written
    transformer.pos_embed.register_buffer("pos_embed", state["pos_embed"], persistent=has_own_positions(model))
    return transformer.eval()


def _ddim() -> DDIMScheduler:
    """DDPM's schedule as DiT uses it, with the steps that this product's own "ddim" takes."""
    return DDIMScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        clip_sample=False,
        timestep_spacing="trailing",
    )


def diffusers_notes(model: Model) -> list[str]:
    config = model.config
    notes = []
    if config.time_embedding == "official":
        notes.append(
            "diffusers computes slightly other timestep frequencies than the official code, which changes images; "
            "README.md has the lines that set them right."
        )
    if has_own_positions(model):
        notes.append(
            "The model has a position table of its own, and diffusers computes the usual one; README.md has the lines "
            "that read it from the file."
        )
    if model.process.name == "diffusion" and model.autoencoder.config.get("shift_factor"):
        notes.append("DiTPipeline leaves out the autoencoder's shift_factor; README.md has the lines that add it.")
    if _padded(model):
        notes.append(
            f"The label table was padded to {PIPELINE_NULL_CLASS + 1} rows, because DiTPipeline takes class "
            f"{PIPELINE_NULL_CLASS} for no class; labels from {config.num_classes} on all mean no class."
        )
    elif model.process.name == "diffusion" and config.null_class not in (None, PIPELINE_NULL_CLASS):
        notes.append(
            f"DiTPipeline takes class {PIPELINE_NULL_CLASS} for no class, but here it is {config.null_class}: its "
            "guidance doesn't work with this model."
        )
    return notes
