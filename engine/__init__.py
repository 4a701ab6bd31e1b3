"""EntPruner Studio's engine: which blocks of a diffusion transformer a dataset needs, and how it does without the rest.

The names below are the public interface. They load on first use: the app imports torch-free parts of this package, and
must not pay for torch.
"""

import os
from importlib import import_module
from typing import Any

# How long the threads of one operation spin for each other before they sleep. A run and a preview share the cores, and
# with OpenMP's default a training step beside another busy process took 9.2 s instead of 0.5 s on two cores; never to
# spin costs a third of the speed on a quiet machine. This many turns, some ten microseconds, keep both.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOME = {
    "load_model": "engine.models.checkpoints",
    "Compute": "engine.compute",
    "load_data": "engine.data",
    "compute_ced": "engine.importance.ced",
    "CedConfig": "engine.importance.config",
    "compute_criteria": "engine.importance.criteria",
    "CriteriaConfig": "engine.importance.config",
    "score_candidates": "engine.pruning.proxies",
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
    "export": "engine.models.export:export_model",
    "run_arena": "engine.arena.arena",
    "ArenaConfig": "engine.arena.config",
    "EngineError": "engine.errors",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    module, _, own_name = _HOME[name].partition(":")
    return getattr(import_module(module), own_name or name)
