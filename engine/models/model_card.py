"""What an export's README says in the Hugging Face layout: front matter for machines, and in words what was done.

Everything comes from the manifest. The front matter names a licence, a base model or a dataset only where the hub knows
it by that name; what was measured is called after its features, so that no FID of the small bundled CNN can be taken
for one of Inception.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

from engine.evaluation.comparing import labels_untrained
from engine.evaluation.protocol import Protocol
from engine.models.hub import is_hub_id

#: of the hub's list, those that models of this kind carry
_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "openrail")
_LIBRARIES = {"diffusers": "diffusers", "safetensors": "entpruner-studio", "official": "pytorch"}
_TASK = "unconditional-image-generation"  # the hub's name for pictures that no text describes; classes it has none for
_METRICS = {"FID": "fid", "KID": "kid", "IS": "inception-score", "class accuracy": "accuracy"}
_MOST_REASONS = 20


def front_matter(manifest: Mapping[str, Any]) -> str:
    """YAML between two lines of dashes, as ``huggingface_hub`` writes and reads it."""
    from huggingface_hub import ModelCardData

    base, data = _first(manifest, "model"), _first(manifest, "data") or manifest["trained_on"]
    licence = manifest["licence"].strip().lower()
    known = licence in _LICENCES
    card = ModelCardData(
        license=licence if known else "other",
        license_name=None if known else "see-readme",
        library_name=_LIBRARIES[manifest["layout"]],
        pipeline_tag=_TASK,
        tags=["image-generation", "class-conditional", _kind(manifest).lower(), "diffusion-transformer", "entpruner"]
        + (["pruned", "depth-pruning"] if is_pruned(manifest) else []),
        base_model=base if base and is_hub_id(base) else None,
        base_model_relation="finetune" if base and is_hub_id(base) else None,
        datasets=[data] if data and is_hub_id(data) else None,
        metrics=sorted({result.metric_type for result in _results(manifest)}) or None,
        model_name=_name(manifest),
        eval_results=_results(manifest) or None,
    )
    return f"---\n{card.to_yaml()}\n---\n"


def card_sections(manifest: Mapping[str, Any]) -> list[str]:
    """Lines in Markdown: what was removed and why, how it was trained, how good it is, what to beware of."""
    return [*_removed(manifest), *_training(manifest), *_measured(manifest), *_limits(manifest), *_cited()]


def _removed(manifest: Mapping[str, Any]) -> list[str]:
    kept = ", ".join(map(str, manifest["kept_blocks"]))
    lines = ["", "## What was removed, and why", ""]
    if not is_pruned(manifest):
        return [*lines, "Nothing: the model has all its blocks."]
    before = manifest["depth_of_parent"]
    of = f" of {before}" if before else ""
    lines.append(f"Kept: {len(manifest['kept_blocks'])}{of} blocks, numbers {kept} of the unpruned model.")
    stages = [stage for stage in manifest["pruning"] if stage["dropped_blocks"]]
    if not stages:
        return [*lines, "The stages of its pruning are not known here."]
    lines += ["Blocks went in stages, each followed by training:", ""]
    for stage in stages[:_MOST_REASONS]:
        dropped = ", ".join(map(str, stage["dropped_blocks"]))
        noun = "blocks" if len(stage["dropped_blocks"]) > 1 else "block"
        lines.append(f"- stage {stage['stage']}: {noun} {dropped}. {plain(stage['reason'])}".rstrip())
    return lines


def _training(manifest: Mapping[str, Any]) -> list[str]:
    stages = [stage for stage in manifest["pruning"] if stage["finetune"]]
    lines = ["", "## Training", "", f"Trained on: {plain(manifest['trained_on']) or 'not known here'}."]
    if not stages:
        return [*lines, "What it was trained with is not known here."]
    data = plain(_first(manifest, "data") or "the data")
    lines += [f"After each removal the rest was fine-tuned on {data}, AdamW, weights averaged (EMA):", ""]
    lines += ["| stage | steps | batch | learning rate | schedule | warm-up | distillation | seed | last loss |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for stage in stages:
        of, loss = stage["finetune"], (stage["train"] or {}).get("final_loss")
        cells = (stage["stage"], of["num_steps"], of["batch_size"], f"{of['learning_rate']:g}", of["schedule"],
                 of.get("warmup_steps", 0), of.get("distill_weight", 0), of["seed"],
                 "–" if loss is None else f"{loss:.4g}")  # fmt: skip
        lines.append(f"| {' | '.join(plain(str(cell)) for cell in cells)} |")
    return lines


def _measured(manifest: Mapping[str, Any]) -> list[str]:
    lines, metrics = ["", "## How good it is", ""], manifest["metrics"]
    if not metrics:
        return [*lines, "It was not measured here."]
    floors = metrics.get("noise_floor") or {}
    lines += [f"{plain(_protocol(manifest))}. In brackets: 90 % intervals over the generated images.", ""]
    lines += ["| | value | real images score |", "|---|---|---|"]
    for name, value in metrics["fidelity"].items():
        ends = f" [{value['low']:.4g}, {value['high']:.4g}]" if "low" in value and "high" in value else ""
        floor = floors.get(name)
        floor = floor["value"] if isinstance(floor, Mapping) else floor
        lines.append(f"| {plain(name)} | {value['value']:.4g}{ends} | {'–' if floor is None else f'{floor:.4g}'} |")
    return [*lines, "", *(f"- {plain(warning)}" for warning in metrics.get("warnings", []))]


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    names = (manifest["metrics"] or {}).get("fidelity", {})
    said = [
        "- It draws the classes that it was trained on and nothing else, with what is wrong or one-sided in that data."
    ]
    if any(name.endswith("(demo-cnn)") for name in names):
        said.append(
            "- Numbers named (demo-cnn) rest on a small CNN, not on Inception: they compare models of this product "
            "that were measured alike, and must not stand beside published FIDs."
        )
    if is_pruned(manifest):
        said.append("- One training with one seed: another one would come out a little better or worse.")
    return ["", "## Limitations", "", *said]


def _cited() -> list[str]:
    return [
        "",
        "## Sources",
        "",
        "- Pruning after EntPruner, https://arxiv.org/abs/2511.21122; where the paper leaves a choice, the reading is "
        "EntPruner Studio's own.",
        "- DiT, https://arxiv.org/abs/2212.09748; SiT, https://arxiv.org/abs/2401.08740.",
    ]


def _results(manifest: Mapping[str, Any]) -> list[Any]:
    from huggingface_hub import EvalResult

    if not manifest["metrics"] or labels_untrained(manifest["metrics"]):
        return []
    data = ((manifest["metrics"].get("reference") or {}).get("name")) or manifest["trained_on"] or "unknown"
    return [
        EvalResult(
            task_type=_TASK,
            task_name="class-conditional image generation",
            dataset_type=_slug(data),
            dataset_name=data,
            metric_type=_metric_type(name),
            metric_name=name,
            metric_value=value["value"],
            metric_config=_protocol(manifest),
            verified=False,
        )
        for name, value in manifest["metrics"]["fidelity"].items()
    ]


def _metric_type(name: str) -> str:
    """The hub's own name for a number of the published Inception alone; "fid-demo-cnn" for one of other features."""
    what, _, features = name.partition(" (")
    short, features = _METRICS.get(what, what), features.rstrip(")")
    return _slug(short if features in ("", "inception") else f"{short}-{features}")


def _protocol(manifest: Mapping[str, Any]) -> str:
    known = {field.name for field in fields(Protocol)}
    return Protocol(**{key: value for key, value in manifest["protocol"].items() if key in known}).label()


def _first(manifest: Mapping[str, Any], key: str) -> str | None:
    """Of the run that the model comes from: the model that was loaded, or the data."""
    stages: Sequence[Mapping[str, Any]] = manifest["pruning"]
    return stages[0][key] if stages else manifest["parent"] if key == "model" else None


def is_pruned(manifest: Mapping[str, Any]) -> bool:
    """An intact model is its own parent; where that is None, blocks went and their number isn't known."""
    return manifest["depth_of_parent"] != manifest["network"]["depth"]


def _kind(manifest: Mapping[str, Any]) -> str:
    return {"diffusion": "DiT", "flow": "SiT"}[manifest["process"]]


def _name(manifest: Mapping[str, Any]) -> str:
    return f"{_kind(manifest)} with {manifest['network']['depth']} blocks"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9./_-]+", "-", text.lower()).strip("-") or "unknown"


def plain(text: str) -> str:
    """Words of others as Markdown shows them: one line, nothing in it is markup."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", escape(" ".join(text.split()), quote=False))
