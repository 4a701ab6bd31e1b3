"""Feature extractors by name, and running images through them. Images are uint8 (N, H, W, 3); features float64 (N, F),
logits float64 (N, K).

``demo-cnn`` ships with the product. The others are torch-fidelity's networks on published weights, which
engine/evaluation/weights.py finds and checks; they are then read as tensors only.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from engine.compute import USUAL
from engine.errors import AssetError
from engine.evaluation.demo_cnn import FEATURES_FOLDER, SIDE, DemoCnnConfig, read_demo_cnn
from engine.evaluation.dinov2 import DinoV2
from engine.evaluation.weights import PUBLISHED, needs_weights, weights_file
from engine.models.arithmetic import products_in

# what torch's readers are seen to raise for files that aren't what they should be
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, pickle.UnpicklingError)


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


class DinoV2Features(FeatureExtractorDinoV2):
    """torch-fidelity's extractor around a network made of tensors only, where its own would run downloaded code."""

    def __init__(self, name: str, features_list: list[str], *, weights: Path) -> None:
        FeatureExtractorBase.__init__(self, name, features_list)
        self.feature_extractor_internal_dtype = torch.float32
        self.model = DinoV2.from_state(_tensors(weights))


@dataclass(frozen=True, kw_only=True)
class Features:
    """An extractor that is ready to be used; ``sha256`` is that of the file ``weights``."""

    name: str
    extractor: FeatureExtractorBase
    weights: str
    sha256: str
    side: int  # pixels; other sizes are resized to it
    chunk: int  # images at a time
    classes: DemoCnnConfig | None = None  # where it was trained on classes of datasets here


def _demo_cnn(workspace: Path | None) -> Features:
    file = FEATURES_FOLDER / "demo-cnn.safetensors"
    extractor = DemoCnnFeatures("demo-cnn", ["features", "logits"])
    return Features(
        name="demo-cnn",
        extractor=extractor,
        weights=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        side=SIDE,
        chunk=128,
        classes=extractor.cnn.config,
    )


def _inception(workspace: Path | None) -> Features:
    def make(file: Path) -> FeatureExtractorBase:
        # torch-fidelity unpickles what it is given; so it is given bytes that are written here
        written = io.BytesIO()
        torch.save(_tensors(file), written)
        written.seek(0)
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=written
        )

    return _published("inception", make, FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE, workspace)


def _dinov2(workspace: Path | None) -> Features:
    def make(file: Path) -> FeatureExtractorBase:
        return DinoV2Features("dinov2-vit-l-14", ["dinov2"], weights=file)

    return _published("dinov2", make, FeatureExtractorDinoV2.INPUT_IMAGE_SIZE, workspace)


def _clip(workspace: Path | None) -> Features:
    def make(file: Path) -> FeatureExtractorBase:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is out of fashion
            return FeatureExtractorCLIP("clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(file))

    return _published("clip", make, 224, workspace)


def _published(name: str, make: Callable[[Path], FeatureExtractorBase], side: int, workspace: Path | None) -> Features:
    file = weights_file(name, workspace=workspace)
    try:
        extractor = make(file)
    except _DAMAGE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise AssetError(f"{file} is the published file, but {name} can't be made of it ({reason})") from error
    published = PUBLISHED[name]
    return Features(
        name=name, extractor=extractor, weights=published.file, sha256=published.sha256, side=side, chunk=32
    )


def _tensors(file: Path) -> dict[str, Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)


#: name -> how it is made
FEATURES: dict[str, Callable[[Path | None], Features]] = {
    "demo-cnn": _demo_cnn,
    "inception": _inception,
    "dinov2": _dinov2,
    "clip": _clip,
}
if "demo-cnn" not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor("demo-cnn", DemoCnnFeatures)


@lru_cache(maxsize=2)
def load_features(name: str, *, device: str = "cpu", workspace: Path | None = None) -> Features:
    """Raises InputError for an unknown name, AssetError for weights that are damaged, or missing and out of reach."""
    needs_weights(name)  # refuses an unknown name
    features = FEATURES[name](workspace)
    features.extractor.eval().requires_grad_(False).to(device)
    return features


def extract(features: Features, images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float64 (N, F)."""
    return extract_all(features, images)[0]


@torch.inference_mode()
def extract_all(features: Features, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 (N, H, W, 3) -> features (N, F) and, where the extractor has them, logits (N, K). One pass gives both.

    Raises AssetError where they aren't all finite.
    """
    device = next(features.extractor.parameters()).device
    with products_in(USUAL, device):  # whatever else in this process asked for TF32
        batches = [
            features.extractor(chunk.to(device).permute(0, 3, 1, 2))
            for chunk in torch.from_numpy(np.ascontiguousarray(images)).split(features.chunk)
        ]
    layers = [torch.cat(layer).double().cpu().numpy() for layer in zip(*batches, strict=True)]
    if not all(np.isfinite(layer).all() for layer in layers):
        raise AssetError(f"{features.name} gave numbers that aren't finite for these images; check its weights")
    return layers[0], layers[1] if len(layers) > 1 else None
