"""What is said beside a model's tensors: training arguments, a JSON file, the configs of a diffusers folder.

Tensors don't tell the number of attention heads, the process, or what the classes are called. Free of torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import AssetError
from engine.models.presets import PRESETS

MANIFEST = "entpruner.json"  # travels with a model that was exported
_DIFFUSERS_CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")  # the second: of before the first was there
_MOST = 2**24  # beyond any number that describes a network
_LARGEST_JSON = 64 * 2**20
_DIFFUSERS_FIXED = {"norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate", "attention_bias": True}
_SCHEDULE = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}


@dataclass(frozen=True, kw_only=True)
class Hints:
    """None, or empty, is what nobody said."""

    network: dict[str, Any] = field(default_factory=dict)  # as layouts.config_of takes them
    process: str = ""
    process_reason: str = ""
    autoencoder: str | None = None
    class_names: tuple[str, ...] = ()
    kept_blocks: tuple[int, ...] = ()
    depth_of_parent: int | None = None
    trained_on: str = ""
    licence: str = ""
    padded: bool = False  # the label table may have rows that belong to no class
    notes: tuple[str, ...] = ()

    def over(self, other: "Hints") -> "Hints":
        """These, and where they say nothing, what the others say."""
        said = {name: value for name, value in vars(self).items() if value}
        return replace(
            other, **{**said, "network": {**other.network, **self.network}, "notes": (*other.notes, *self.notes)}
        )


def hints_of(about: Mapping[str, Any], *, source: str) -> Hints:
    """From training arguments of the official repositories, a config of ours, or a manifest; ``source`` names it.

    Raises AssetError for values that make no sense, and for processes that this product doesn't have.
    """
    values = {**about, **_table(about.get("network"), f"{source}: network")}
    arguments = _official_name(values)
    process, reason = _process(values, source)
    autoencoder = values.get("autoencoder")
    if isinstance(autoencoder, Mapping):
        autoencoder = autoencoder.get("ref")
    if autoencoder is None and values.get("vae") in ("ema", "mse"):
        autoencoder = f"stabilityai/sd-vae-ft-{values['vae']}"
    numbers = {name: _number(values, name, source) for name in ("num_heads", "num_classes", "input_size", "image_size")}
    if numbers["input_size"] is None and numbers["image_size"] is not None:
        numbers["input_size"] = numbers["image_size"] // 8  # as the official training does
    dropout = values.get("class_dropout_prob")
    network = {
        **arguments,
        **{name: numbers[name] for name in ("num_heads", "num_classes", "input_size") if numbers[name] is not None},
        **({"class_dropout_prob": float(dropout)} if type(dropout) in (int, float) and 0 <= dropout <= 1 else {}),
        **({"time_embedding": values["time_embedding"]} if isinstance(values.get("time_embedding"), str) else {}),
    }
    return Hints(
        network=network,
        process=process,
        process_reason=reason,
        autoencoder=_text(autoencoder, f"{source}: autoencoder"),
        class_names=_texts(values.get("class_names"), f"{source}: class_names"),
        kept_blocks=_block_numbers(values.get("kept_blocks"), source),
        depth_of_parent=_number(values, "depth_of_parent", source),
        trained_on=_text(values.get("trained_on"), f"{source}: trained_on") or "",
        licence=_text(values.get("licence"), f"{source}: licence") or "",
    )


def _official_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """What "DiT-XL/2" says that the tensors don't."""
    _, _, size = str(values.get("model", "")).partition("-")
    return {"num_heads": PRESETS[size]["num_heads"]} if size in PRESETS else {}


def _process(values: Mapping[str, Any], source: str) -> tuple[str, str]:
    said = values.get("process")
    if said in ("diffusion", "flow"):
        return said, f"{source} says so"
    if said is not None:
        raise AssetError(f"{source} says process {str(said)[:40]!r}; expected 'diffusion' or 'flow'")
    model = str(values.get("model", ""))
    if model.startswith("SiT") or "path_type" in values:
        path, prediction = str(values.get("path_type", "Linear")), str(values.get("prediction", "velocity"))
        if path.lower() != "linear" or prediction != "velocity":
            raise AssetError(
                f"{source} says that this SiT was trained on the {path[:20]} path to predict {prediction[:20]}; "
                "this version works with the linear path and velocity only"
            )
        return "flow", f"{source} has the training arguments of SiT"
    if model.startswith("DiT"):
        return "diffusion", f"{source} has the training arguments of DiT"
    return "", ""


def hints_beside(file: Path) -> Hints:
    """Of the JSON beside a file of weights: its own name with .json, else the manifest, else config.json.

    A diffusers config of another class is another model's, such as the autoencoder's, and is passed over with a note.
    """
    passed_over: list[str] = []
    for beside in (file.with_suffix(".json"), file.with_name(f"{file.name}.json"), file.with_name(MANIFEST),
                   file.with_name("config.json")):  # fmt: skip
        if not beside.is_file():
            continue
        about = read_table(beside)
        if "_class_name" not in about:
            hints = _kept_relative(hints_of(about, source=beside.name), beside.parent)
        elif about["_class_name"] in _DIFFUSERS_CLASSES:
            whole = file.parent.parent if (file.parent.parent / "model_index.json").is_file() else file.parent
            hints = hints_of_diffusers(whole, beside)
        else:
            passed_over.append(
                f"the {beside.name} beside it is of class {str(about['_class_name'])[:60]!r}, not of a DiT, and was "
                "ignored."
            )
            continue
        return replace(hints, notes=(*hints.notes, *passed_over))
    return Hints(notes=tuple(passed_over))


def hints_of_diffusers(folder: Path, config_file: Path) -> Hints:
    """Of a DiTPipeline's folder, or of a transformer's alone; ``config_file`` is the transformer's.

    Its timestep embedding isn't among them: the names of the tensors say whose arithmetic the weights go with.
    """
    config = read_table(config_file)
    for key, expected in _DIFFUSERS_FIXED.items():
        if config.get(key, expected) != expected:
            raise AssetError(
                f"{config_file} says {key} {str(config[key])[:40]!r}; a DiT has {expected!r}, so this isn't one"
            )
    process, reason = _scheduler_process(folder / "scheduler" / "scheduler_config.json")
    index = read_table(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    source = f"{config_file.parent.name}/{config_file.name}"
    network = {
        "num_heads": _number(config, "num_attention_heads", source),
        "input_size": _number(config, "sample_size", source),
        "num_classes": _number(config, "num_embeds_ada_norm", source),
        "class_dropout_prob": 0.1,  # fixed in diffusers' class
    }
    plain = Hints(
        network={key: value for key, value in network.items() if value is not None},
        process=process,
        process_reason=reason,
        autoencoder=str(folder / "vae") if (folder / "vae" / "config.json").is_file() else None,
        class_names=_labels(index.get("id2label"), network["num_classes"]),
        notes=_eps_note(config),
    )
    if not (folder / MANIFEST).is_file():
        return plain
    manifest = _kept_relative(hints_of(read_table(folder / MANIFEST), source=MANIFEST), folder)
    return replace(manifest, autoencoder=plain.autoencoder or manifest.autoencoder, padded=True).over(plain)


def _eps_note(config: Mapping[str, Any]) -> tuple[str, ...]:
    eps = config.get("norm_eps", 1e-5)
    if not isinstance(eps, int | float) or abs(eps - 1e-6) < 1e-9:
        return ()
    return (
        f"its config has norm_eps {eps:g} before the MLPs, where the official models have 1e-06, which is used here; "
        "outputs differ in the sixth digit or so.",
    )


def _scheduler_process(file: Path) -> tuple[str, str]:
    if not file.is_file():
        return "", ""
    config = read_table(file)
    name = str(config.get("_class_name", ""))
    if "FlowMatch" in name:
        return "flow", f"its scheduler is {name[:60]}"
    prediction = config.get("prediction_type", "epsilon")
    if prediction != "epsilon":
        raise AssetError(
            f"{file} says prediction_type {str(prediction)[:40]!r}; this version works with 'epsilon' only"
        )
    unlike = [key for key, value in _SCHEDULE.items() if config.get(key, value) != value]
    if unlike:
        raise AssetError(
            f"{file} says {unlike[0]} {str(config[unlike[0]])[:40]}; this version works with DiT's own schedule, "
            f"{_SCHEDULE[unlike[0]]}"
        )
    return "diffusion", f"its scheduler is {name[:60]}"


def _labels(id2label: Any, num_classes: int | None) -> tuple[str, ...]:
    if not isinstance(id2label, dict) or not num_classes or len(id2label) < num_classes:
        return ()
    names = [id2label.get(str(index)) for index in range(num_classes)]
    return distinct([str(name) for name in names]) if all(names) else ()


def distinct(names: list[str]) -> tuple[str, ...]:
    """ImageNet has two cranes: a name that stands there twice gets its number."""
    return tuple(name if names.count(name) == 1 else f"{name} ({index})" for index, name in enumerate(names))


def read_table(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ValueError("it is too large for a description")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"{file} can't be read as JSON ({str(error)[:120]}); correct it or remove it") from error
    return _table(content, str(file))


def _table(value: Any, source: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AssetError(f"{source} is a {type(value).__name__}; expected a table of names and values")
    return value


def _kept_relative(hints: Hints, folder: Path) -> Hints:
    """An autoencoder named "./…" lies in the folder of the file that names it, and nowhere above."""
    ref = hints.autoencoder
    if not ref or not ref.startswith("./"):
        return hints
    path = (folder / ref).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise AssetError(f"autoencoder {ref[:60]!r} leads out of {folder}; name a folder inside, or a whole path")
    return replace(hints, autoencoder=str(path))


def _number(values: Mapping[str, Any], name: str, source: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= _MOST:
        raise AssetError(f"{source} says {name} {str(value)[:40]!r}; expected a positive whole number")
    return value


def _text(value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise AssetError(f"{what} is {str(value)[:40]!r}; expected a text")
    return value


def _texts(values: Any, what: str) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise AssetError(f"{what} is {str(values)[:40]!r}; expected a list of texts")
    return tuple(values)


def _block_numbers(values: Any, source: str) -> tuple[int, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value <= _MOST for value in values):
        raise AssetError(f"{source}: kept_blocks is {str(values)[:40]!r}; expected a list of block numbers")
    return tuple(values)
