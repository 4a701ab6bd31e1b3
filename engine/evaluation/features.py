"""Feature extractors for torch-fidelity, by name, and running images through them.

Images are uint8 (N, H, W, 3); features float64 (N, F), logits float64 (N, K).
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from engine.errors import InputError
from engine.evaluation.demo_cnn import FEATURES_FOLDER, read_demo_cnn

_CHUNK = 128  # images at a time


class DemoCnnFeatures(FeatureExtractorBase):
    """The demo CNN as torch-fidelity wants it: uint8 (B, 3, H, W) in, a tuple of the asked-for layers out."""

    def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
        super().__init__(name, features_list)
        self.cnn = read_demo_cnn()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        layers = dict(zip(self.get_provided_features_list(), self.cnn(input), strict=True))
        return tuple(layers[name] for name in self.features_list)


#: name -> torch-fidelity's extractor class
FEATURES: dict[str, type[FeatureExtractorBase]] = {"demo-cnn": DemoCnnFeatures}
for _name in FEATURES.keys() - FEATURE_EXTRACTORS_REGISTRY.keys():
    register_feature_extractor(_name, FEATURES[_name])


@lru_cache(maxsize=4)
def load_features(name: str, *, device: str = "cpu") -> FeatureExtractorBase:
    """Gives all layers in order. Raises InputError for an unknown name, AssetError for damaged weights."""
    if name not in FEATURES:
        raise InputError(f"features {name!r} are unknown; choose one of {', '.join(FEATURES)}")
    extractor = FEATURES[name](name, list(FEATURES[name].get_provided_features_list()))
    return extractor.eval().requires_grad_(False).to(device)


def extract(features: FeatureExtractorBase, images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float64 (N, F)."""
    return extract_all(features, images)[0]


@torch.inference_mode()
def extract_all(extractor: FeatureExtractorBase, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, H, W, 3) -> features (N, F) and logits (N, K), float64."""
    device = next(extractor.parameters()).device
    batches = [
        extractor(chunk.to(device).permute(0, 3, 1, 2))
        for chunk in torch.from_numpy(np.ascontiguousarray(images)).split(_CHUNK)
    ]
    features, logits = (torch.cat(layer).double().cpu().numpy() for layer in zip(*batches, strict=True))
    return features, logits


@lru_cache(maxsize=1)
def weights_hash() -> str:
    return hashlib.sha256((FEATURES_FOLDER / "demo-cnn.safetensors").read_bytes()).hexdigest()[:8]
