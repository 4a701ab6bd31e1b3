"""The protocol of a metrics.json, whichever version wrote it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from engine.evaluation.protocol import Protocol


def protocol_of(metrics: Mapping[str, Any]) -> Protocol:
    known = {field.name for field in fields(Protocol)}
    return Protocol(**{key: value for key, value in metrics["protocol"].items() if key in known})
