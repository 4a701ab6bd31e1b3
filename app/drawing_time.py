"""How long drawing images takes, from the speeds that were measured on this machine."""

from typing import Any

from app import jobs
from engine.evaluation.protocol import ADAPTIVE, Protocol


def seconds_to_draw(metrics: dict[str, Any], protocol: Protocol) -> float | None:
    """Of the model that these metrics are of, on the same device; None where nobody can say."""
    cost, before = metrics.get("efficiency") or {}, metrics.get("protocol") or {}
    if str(cost.get("device", "")).partition(":")[0] != protocol.device.partition(":")[0]:
        return None
    if protocol.sampler in ADAPTIVE:
        return None
    if cost.get("sampling") and before.get("sampler") not in ADAPTIVE:
        of_forward = 1 / cost["sampling"]["images_per_second"] / _forwards(Protocol(**before))
    elif cost.get("precision") == "fp32" and cost.get("images_per_second"):
        of_forward = 1 / cost["images_per_second"]
    else:
        return None
    return protocol.num_images * _forwards(protocol) * of_forward


def seconds_of_intact(model: str, protocol: Protocol) -> float | None:
    """From the newest pruning run that measured this model."""
    for found in jobs.summaries("prune"):
        if not found.num_stages or jobs.params_of(found).get("model") != model:
            continue
        metrics = jobs.open_run(jobs.workspace(), found.id).stages()[0].metrics()
        seconds = seconds_to_draw(metrics, protocol) if metrics else None
        if seconds is not None:
            return seconds
    return None


def _forwards(protocol: Protocol) -> int:
    """Of one image on its way from noise."""
    twice = protocol.sampler == "heun"
    return protocol.num_steps * (2 if twice else 1) * (1 if protocol.cfg_scale == 1 else 2)
