"""In which numbers a run works, and on which device it was asked for, from its params. Free of torch."""

from typing import Any

from engine.compute import Compute
from engine.errors import InputError
from engine.evaluation.protocol import Protocol
from engine.runs.progress import config_from, settings


def compute_of(params: dict[str, Any]) -> Compute:
    """In which numbers a run's model works: fp32, not compiled, where its params don't say. Raises InputError."""
    return config_from(Compute, params.get("compute", {}))


def protocol_in(compute: Compute, values: dict[str, Any]) -> Protocol:
    """The protocol of a run's params, whose precision is the one that its pictures are drawn in. Raises InputError
    where it says another."""
    protocol = config_from(Protocol, {"precision": compute.precision, **settings("protocol", values)})
    if protocol.precision != compute.precision:
        raise InputError(
            f"the protocol says precision {protocol.precision!r}, but pictures are drawn in {compute.precision}; say "
            'the same in both: "compute": {"precision": …} beside the protocol'
        )
    return protocol


def asked_device(params: dict[str, Any]) -> str:
    """Of a run's protocol, or an arena's; cpu for kinds of runs that have none."""
    for place in (params, params.get("config")):
        protocol = place.get("protocol") if isinstance(place, dict) else None
        if isinstance(protocol, dict):
            return str(protocol.get("device", Protocol.device))
    return Protocol.device
