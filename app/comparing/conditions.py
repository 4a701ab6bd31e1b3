"""Whether pictures of one seed may differ for other reasons than their models: conditions of drawing that differ."""

from collections.abc import Sequence

from app.comparing.picked import Picked
from engine.errors import AssetError
from engine.models.bundled import read_model_info

#: fields of the protocol that an image's bits depend on, beside its seed, its class and the model
_DRAWING = {
    "sampler": "sampler", "num_steps": "sampling steps", "cfg_scale": "cfg scale",
    "guided_channels": "guided channels", "device": "device", "precision": "precision",
}  # fmt: skip


def drawn_differently(shown: Sequence[Picked]) -> str:
    """One sentence, or nothing."""
    parts = []
    protocols = [(one.label, _protocol(one)) for one in shown]
    for field, name in _DRAWING.items():
        found = {label: protocol[field] for label, protocol in protocols if field in protocol}
        if len({str(value) for value in found.values()}) > 1:
            parts.append(f"{name} ({', '.join(f'{label}: {value}' for label, value in found.items())})")
    noise = {one.label: _noise(one) for one in shown}
    if len(set(filter(None, noise.values()))) > 1:
        sizes = ", ".join(f"{label}: {shape}" for label, shape in noise.items() if shape)
        parts.append(f"shape of the noise ({sizes}), so that a seed doesn't start from the same noise")
    return (
        f"Beside the models, this differs between them and shows in the pictures: {'; '.join(parts)}." if parts else ""
    )


def _protocol(one: Picked) -> dict:
    """Nothing where the stage doesn't say; that its metrics are damaged is said beside the numbers."""
    try:
        return (one.stage.metrics() or {}).get("protocol", {})
    except AssetError:
        return {}


def _noise(one: Picked) -> str:
    """Channels × height × width, where the stage says."""
    try:
        network = read_model_info(one.stage.path).network
        return f"{network['in_channels']} × {network['input_size']} × {network['input_size']}"
    except (AssetError, KeyError):
        return ""
