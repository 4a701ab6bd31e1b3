"""What a run rests on and how to have it again: settings, command, versions, hashes, licences, how to read it."""

import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from engine.evaluation.comparing import part_compared
from engine.models.bundled import read_model_info
from engine.report.commands import command_of
from engine.report.lineage import class_names
from engine.report.page import facts, listed, section, table
from engine.report.protocols import protocol_of
from engine.report.words import blocks, count
from engine.runs.provenance import package_versions
from engine.runs.stage import Stage
from engine.runs.store import Run

_LINE = 60  # characters of a command after which it goes on in the next line
_CITED = (
    ("EntPruner", "Which Layer Causes Distribution Deviation? Entropy-Guided Adaptive Pruning for Diffusion and Flow "
     "Models", "arXiv 2511.21122"),
    ("DiT", "Peebles and Xie, Scalable Diffusion Models with Transformers; the published code and weights are CC "
     "BY-NC 4.0", "arXiv 2212.09748"),
    ("SiT", "Ma et al., SiT: Exploring Flow and Diffusion-based Generative Models with Scalable Interpolant "
     "Transformers; the published code is MIT-licensed", "arXiv 2401.08740"),
)  # fmt: skip


def setting_section(run: Run, stages: Sequence[Stage]) -> str:
    """Model, data and protocol in a few lines, and everything that was asked for below."""
    first = stages[0]
    metrics = first.metrics() or {}
    reference = metrics.get("reference") or {}
    names = list(class_names(first).values())
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    process = {"flow": "flow matching (SiT)", "diffusion": "diffusion (DiT)"}.get(first.info.get("process", ""), "")
    rows = [
        (
            "model",
            f"{escape(str(run.params['model']))}, {count(first.depth, 'block')}{', ' if process else ''}{process}",
        ),
        ("data", f"{escape(str(run.params['data']))}{_images(reference)}"),
        ("classes", escape(shown)),
        ("protocol", escape(protocol_of(metrics).label()) if metrics else "nothing was measured"),
        ("features", _features(metrics.get("features") or {})),
    ]
    return section("Model, data, protocol", facts(rows), _asked(run))


def reproduce_section(run: Run, stages: Sequence[Stage]) -> str:
    known = [(stage, stage.provenance()) for stage in stages]
    noted = next((about for _, about in known if about), None)
    command = wrapped(["python", "-m", "engine", *command_of(run.kind, run.params)])
    report = shlex.join(["python", "-m", "engine", "report", run.id])
    return section(
        "To reproduce it",
        f"<pre>{escape(command)}\n{escape(report)}</pre>",
        listed(by_hand(stages)),
        facts(_versions(noted)),
        _hashes(known),
    )


def wrapped(words: Sequence[str]) -> str:
    """A command for a shell, in lines that end before an option."""
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) > _LINE:
            lines.append("   ")
        lines[-1] += f" {quoted}" if lines[-1] else quoted
    return " \\\n".join(lines)


def by_hand(stages: Sequence[Stage]) -> list[str]:
    """What a person did, which the command alone doesn't repeat."""
    said = []
    for stage in stages:
        decision = stage.info.get("decision") or {}
        if decision.get("mode") == "overridden":
            said.append(
                f"Stage {stage.number} was decided by a person: blocks {blocks(stage.info['dropped_blocks'])} went. To "
                "repeat it, add --step and decide the same there."
            )
    if any(stage.info.get("parent") not in (None, stage.number - 1) for stage in stages):
        said.append(
            "The run has branches: stages that grew from one that wasn't the last. The command makes one branch."
        )
    rates = {(stage.info.get("finetune") or {}).get("learning_rate") for stage in stages} - {None}
    if len(rates) > 1:
        said.append(f"The learning rate was changed on the way: {', '.join(f'{rate:g}' for rate in sorted(rates))}.")
    return said


def reading_section(stages: Sequence[Stage]) -> str:
    metrics = [found for stage in stages if (found := stage.metrics())]
    features = sorted({found["protocol"].get("features", "demo-cnn") for found in metrics})
    notes = []
    if "demo-cnn" in features:
        notes.append(
            "FID and KID (demo-cnn) rest on a small CNN that ships with the product, not on Inception: they compare "
            "the stages of this report with each other and nothing else."
        )
    notes += [
        "What real images score is the noise floor: real images against other real images, as many as were drawn. A "
        "model scores better only by chance.",
        "Beyond noise means that the 90 % intervals of two numbers lie apart, and that the gap is wider than the noise "
        "floor's range. The intervals are over the images that were drawn; one run is one seed of training, whose "
        "noise comes on top.",
        "Timings are of one forward of the network; a picture takes one per sampling step, two with guidance.",
        "Our reading, where the paper leaves a choice: which variable's entropy CED takes, its Gaussian estimator, how "
        "many blocks a stage may drop, the weights of the vote, and how the steps of recovery are shared out.",
        *sorted({text for found in metrics for text in found.get("warnings", [])}),
    ]
    cited = "".join(f"<li><b>{name}</b>: {escape(what)}. {escape(where)}</li>" for name, what, where in _CITED)
    licence = next((line for stage in stages if (line := _licence(stage))), "")
    terms = escape(licence) if licence else "not known here; the terms of the model that was loaded apply to its stages"
    return section("How to read this", listed(notes)) + section(
        "Sources and licences", f"<ul>{cited}</ul><p>Licence of these weights: {terms}.</p>"
    )


def _licence(stage: Stage) -> str:
    return read_model_info(stage.path).licence if (stage.path / "config.json").exists() else ""


def _images(reference: dict[str, Any]) -> str:
    if not reference:
        return ""
    part = part_compared(reference)
    part = f" ({part})" if part else ""
    return f", {count(reference['num_images'], 'picture')}{part}, hash <code>{escape(str(reference['hash']))}</code>"


def _features(features: dict[str, Any]) -> str:
    if not features:
        return ""
    return (
        f"{escape(str(features['name']))}, {escape(str(features['weights']))}, "
        f"SHA-256 <code>{escape(str(features['sha256']))}</code>"
    )


def _asked(run: Run) -> str:
    rows = []
    for key, value in run.params.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        text = ", ".join(f"{name} {part}".strip() for name, part in parts if part not in (None, "", []))
        rows.append((escape(str(key)), escape(text)))
    return f"<details><summary>Every setting that was asked for</summary>{facts(rows)}</details>"


def _versions(about: dict[str, Any] | None) -> list[tuple[str, str]]:
    versions = about["versions"] if about else package_versions()
    words = escape(", ".join(f"{name} {version}" for name, version in versions.items()))
    if about is None:
        return [("versions of this report", f"{words}. The run is of before its own were noted.")]
    place = about.get("machine") or {}
    return [("versions that made the run", words), ("machine", escape(", ".join(f"{k} {v}" for k, v in place.items())))]


def _hashes(known: Sequence[tuple[Stage, dict[str, Any] | None]]) -> str:
    rows = []
    for stage, about in known:
        source = (about or {}).get("source")
        if source:
            rows.append([f"loaded: {escape(str(source['file']))}", f"<code>{escape(str(source['sha256']))}</code>"])
        if weights := (about or {}).get("weights_sha256"):
            rows.append([f"stage {stage.number}, weights.safetensors", f"<code>{escape(str(weights))}</code>"])
    return table(("file", "SHA-256"), rows) if rows else "<p>Hashes of the weights were not noted in this run.</p>"
