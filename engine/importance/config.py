"""What a CED computation is made of, and each reading of CED in words; free of torch, so that the app can use it."""

from dataclasses import dataclass

from engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Variable:
    title: str
    meaning: str  # plain words, for a person who hasn't read the paper
    column: str  # what one column of the heatmap is
    origin: str


VARIABLES: dict[str, Variable] = {
    "target": Variable(
        title="Target: how well the model still predicts",
        meaning="How much more uncertain the model is about what it was trained to predict once the block is gone. "
        "Rises with the prediction error, so it notices every kind of damage.",
        column="noise level (timestep)",
        origin="ours: entropy of the training target given the prediction",
    ),
    "samples": Variable(
        title="Samples: what the model draws",
        meaning="How much the spread of finished pictures changes when the sampler runs without the block, from the "
        "same starting noise. Up is drift towards noise, down is collapse towards sameness.",
        column="after sampling step",
        origin="our reading of the paper: the generated distribution",
    ),
    "prediction": Variable(
        title="Prediction: the network's raw output",
        meaning="How much the spread of the network's output changes when the block is gone. Blind to any damage that "
        "keeps the spread.",
        column="noise level (timestep)",
        origin="our reading of the paper: the network's output",
    ),
}
#: estimator -> what it does, in words
ESTIMATORS = {
    "gaussian": "Gaussian in each dimension, averaged over dimensions",
    "gaussian-scalar": "one Gaussian for all dimensions together",
    "gaussian-full": "one Gaussian with full covariance (Ledoit–Wolf shrinkage)",
}
CONDITIONS = ("none", "class")


@dataclass(frozen=True, kw_only=True)
class CedConfig:
    variable: str = "target"
    estimator: str = "gaussian"
    condition: str = "none"  # "class": average of the entropies within each class
    samples: int = 256
    timesteps: int = 10  # columns: noise levels, or sampling steps for "samples"
    seed: int = 0
    num_bootstrap: int = 200
    confidence: float = 0.9

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.variable, VARIABLES, "variable"),
            (self.estimator, ESTIMATORS, "estimator"),
            (self.condition, CONDITIONS, "condition"),
        ):
            if value not in known:
                raise InputError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.samples < 8:
            raise InputError(f"{self.samples} samples are too few for an entropy; take at least 8 (256 is usual)")
        if not 1 <= self.timesteps <= 1000:
            raise InputError(f"{self.timesteps} timesteps: choose 1 … 1000 (10 is usual)")
        if self.num_bootstrap < 20 or not 0.5 <= self.confidence < 1:
            raise InputError("the bootstrap needs at least 20 resamples and a confidence between 0.5 and 1")
