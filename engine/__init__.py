"""EntPruner Studio's engine: which blocks of a diffusion transformer a dataset needs, and how it does without the rest.

The names below are the public interface. They load on first use: the app imports torch-free parts of this package, and
must not pay for torch.
"""

import os
from importlib import import_module
from typing import Any

# Threads of one operation wait for each other; asleep, not spinning. A run and a preview share the cores, and spinning
# made a training step beside another busy process 20 times slower (9.2 s against 0.48 s on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {
    "load_model": "engine.models.checkpoints",
    "load_data": "engine.data",
    "compute_ced": "engine.importance.ced",
    "CedConfig": "engine.importance.config",
    "keep_blocks": "engine.pruning.surgery",
    "drop_blocks": "engine.pruning.surgery",
    "prune_progressively": "engine.pruning.progressive",
    "PruneConfig": "engine.pruning.config",
    "FinetuneConfig": "engine.training.config",
    "Trainer": "engine.training.finetune",
    "finetune": "engine.training.finetune",
    "sample": "engine.evaluation.sampling",
    "Protocol": "engine.evaluation.protocol",
    "evaluate": "engine.evaluation.evaluate",
    "measure_efficiency": "engine.evaluation.efficiency",
    "EngineError": "engine.errors",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
