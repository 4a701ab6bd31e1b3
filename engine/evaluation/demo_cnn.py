"""The small CNN behind "FID (demo-cnn)" and the class accuracy: an offline stand-in for Inception.

It was trained on the classes of all bundled datasets together. Shapes: B batch, F num_features, K all classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from engine.assets import ASSETS
from engine.errors import AssetError

SIDE = 32  # pixels; other sizes are resized to it
FEATURES_FOLDER = ASSETS / "features"


@dataclass(frozen=True, kw_only=True)
class DemoCnnConfig:
    channels: tuple[int, int, int]
    class_names: dict[str, tuple[str, ...]]  # dataset -> its classes; the logits are in this order

    @property
    def num_features(self) -> int:
        return self.channels[-1]

    @property
    def num_classes(self) -> int:
        return sum(map(len, self.class_names.values()))

    def logits_of(self, dataset: str) -> slice:
        """Where the classes of ``dataset`` lie among the logits."""
        names = list(self.class_names)
        start = sum(len(self.class_names[name]) for name in names[: names.index(dataset)])
        return slice(start, start + len(self.class_names[dataset]))


class DemoCnn(nn.Module):
    def __init__(self, config: DemoCnnConfig) -> None:
        super().__init__()
        self.config = config
        low, middle, high = config.channels
        self.stages = nn.Sequential(
            _conv(3, low),  # (B, low, 32, 32)
            nn.Sequential(_conv(low, middle, stride=2), _conv(middle, middle)),  # (B, middle, 16, 16)
            nn.Sequential(_conv(middle, high, stride=2), _conv(high, high)),  # (B, high, 8, 8)
        )
        self.classifier = nn.Linear(config.num_features, config.num_classes)

    def features(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> float (B, F): the last stage averaged over its pixels."""
        x = images.to(self.classifier.weight.dtype) / 127.5 - 1
        if x.shape[-2:] != (SIDE, SIDE):
            x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return self.stages(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 3, H, W) -> features (B, F) and logits over the classes of all datasets (B, K)."""
        features = self.features(images)
        return features, self.classifier(features)


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def read_demo_cnn(folder: Path = FEATURES_FOLDER, *, device: torch.device | str = "cpu") -> DemoCnn:
    """Opens ``demo-cnn.json`` and ``demo-cnn.safetensors``; raises AssetError where they don't fit together."""
    try:
        about = json.loads((folder / "demo-cnn.json").read_text())
        config = DemoCnnConfig(
            channels=tuple(about["channels"]),
            class_names={name: tuple(classes) for name, classes in about["class_names"].items()},
        )
        cnn = DemoCnn(config)
        weights = load_file(folder / "demo-cnn.safetensors")
        cnn.load_state_dict({key: value.float() for key, value in weights.items()}, strict=True)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:160]
        raise AssetError(f"the demo-cnn features can't be read ({reason}); get {folder}/demo-cnn.* again") from error
    return cnn.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
