"""Versions of a run folder: older ones are read as if they were of today, newer ones are refused. Free of torch.

The number stands as ``schema`` in config.json. The file itself never changes: what is older is brought up to date in
memory, whenever it is read.
"""

from typing import Any

from engine.errors import AssetError

SCHEMA = 1


class NewerRun(AssetError):
    """A run that a newer version made: nothing is wrong with it, this version just can't read it."""

    def __init__(self, run_id: str, schema: int) -> None:
        super().__init__(
            f"run {run_id} was made by a newer version (schema {schema}); this one reads {SCHEMA}. Update this one to "
            "open it; the run is left as it is"
        )


def upgraded(config: dict[str, Any], *, run_id: str) -> dict[str, Any]:
    """``config`` as this version would have written it. Raises NewerRun, or AssetError for a number that never was."""
    schema = config["schema"]
    if type(schema) is not int or schema < 1:
        raise AssetError(f"run {run_id} says schema {schema!r}; expected a whole number from 1 to {SCHEMA}")
    if schema > SCHEMA:
        raise NewerRun(run_id, schema)
    return {**config, "params": _upgraded_params(config["kind"], config["params"])}


def _upgraded_params(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 was never left; within it, ``max_per_stage`` 0 said what None says since: no limit of one's own."""
    if kind == "prune" and params.get("max_per_stage") == 0:
        return {**params, "max_per_stage": None}
    return params
