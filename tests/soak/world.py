"""A workspace with a tiny model and a little data, one run of every kind to ask for, and what must come of each."""

import hashlib
import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.importance.config import CedConfig, CriteriaConfig
from engine.runs.store import Run, create_run
from engine.runs.workspace import Workspace, open_workspace
from engine.training.config import FinetuneConfig

_CED = asdict(CedConfig(samples=16, timesteps=6, num_bootstrap=20))
_PROTOCOL = {"num_images": 24, "num_steps": 4, "cfg_scale": 1.5}
_RECOVERY = asdict(FinetuneConfig(num_steps=30, batch_size=8, learning_rate=1e-3))
_CRITERIA = CriteriaConfig(samples=16, timesteps=4, variables=("target",), criteria=("loss", "bi", "magnitude"))
#: of any JSON, what tells of time or place and not of the result
_OF_THE_MOMENT = frozenset(
    {"seconds", "seconds_per_step", "created", "efficiency", "efficiency_of_intact", "model", "ref", "parent"}
)


@dataclass(frozen=True, kw_only=True)
class World:
    root: Path
    workspace: Workspace
    reference: dict[str, dict[str, str]] = field(default_factory=dict)  # kind -> fingerprint of an unbroken run

    @property
    def environment(self) -> dict[str, str]:
        """One thread: sums come out in the same order, however busy the machine is."""
        return os.environ | {"ENTPRUNER_WORKSPACE": str(self.workspace.root), "OMP_NUM_THREADS": "1"}

    def params(self, kind: str) -> dict[str, Any]:
        both = {"model": str(self.root / "tiny"), "data": str(self.root / "few.npz")}
        return {
            "ced": {**both, "config": _CED},
            "criteria": {**both, "config": json.loads(json.dumps(asdict(_CRITERIA)))},
            "prune": {**both, "target_depth": 2, "num_stages": 2, "adapt_steps": 20, "recovery_shares": "even",
                      "num_proxy_samples": 4, "finetune": _RECOVERY, "protocol": _PROTOCOL, "ced": _CED},
            "evaluate": {**both, "protocol": {**_PROTOCOL, "num_images": 60}},
            "export": {"model": both["model"], "layout": "safetensors"},
        }[kind]  # fmt: skip

    def ask(self, kind: str) -> Run:
        return create_run(self.workspace, kind=kind, title=f"soak {kind}", params=self.params(kind))


KINDS = ("ced", "criteria", "prune", "evaluate", "export")


def make_world(root: Path) -> World:
    from engine.data.bundled import bundled_data
    from engine.models.autoencoder import read_autoencoder
    from engine.models.checkpoints import save_model
    from engine.models.model import Model
    from engine.process import make_process
    from tests.conftest import ASSETS, make_network

    digits = bundled_data("digits")
    few = np.concatenate([np.flatnonzero(digits.labels == label)[:6] for label in range(10)])
    (root / "tiny").mkdir(parents=True)
    np.savez(root / "few.npz", images=digits.images[few], labels=digits.labels[few])
    network = make_network(drop_sigma=True)
    model = Model(
        ref="tiny",
        network=network,
        process=make_process("flow", learn_sigma=network.config.learn_sigma),
        autoencoder=read_autoencoder(ASSETS / "autoencoder", content_hash="test"),
        class_names=digits.class_names,
        content_hash="tiny",
        trained_on="digits",
        kept_blocks=tuple(range(network.config.depth)),
    )
    save_model(model, root / "tiny")
    return World(root=root, workspace=open_workspace(root / "workspace"))


def fingerprint(run: Run) -> dict[str, str]:
    """Name of a result -> its digest: weights, training state, pictures and all numbers but those of time. Raises an
    EngineError, or fails, where a result is missing or can't be read."""
    found = {}
    for stage in run.stages():
        place = f"stage {stage.number} "
        found[place + "about"] = _digest_json({**stage.info, "train": _without_time(stage.info["train"])})
        if (stage.path / "weights.safetensors").exists():
            for name in ("weights.safetensors", "config.json"):
                found[place + name] = _digest((stage.path / name).read_bytes())
        if (stage.path / "train_state.safetensors").exists():
            found[place + "training state"] = _digest((stage.path / "train_state.safetensors").read_bytes())
        images, labels, seeds = stage.samples()
        found[place + "samples"] = _digest(b"".join(np.ascontiguousarray(a).tobytes() for a in (images, labels, seeds)))
        found[place + "metrics"] = _digest_json(stage.metrics())
    for name in ("ced", "criteria"):
        if (run.path / f"{name}.json").exists():
            found[name] = _digest_json(json.loads((run.path / f"{name}.json").read_text()))
    if run.kind == "export":
        with zipfile.ZipFile(run.path / "export.zip") as packed:
            assert packed.testzip() is None
            found |= {name: _digest(packed.read(name)) for name in packed.namelist() if name.endswith(".safetensors")}
    assert found, f"nothing came of run {run.id}"
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _digest_json(content: Any) -> str:
    return _digest(json.dumps(_timeless(content), sort_keys=True).encode())


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in _OF_THE_MOMENT}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def _without_time(train: dict[str, Any] | None) -> dict[str, Any] | None:
    return train and {key: value for key, value in train.items() if key != "seconds"}
