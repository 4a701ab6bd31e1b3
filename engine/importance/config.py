"""What a computation of importance is made of: each reading of CED, each estimator and each other criterion in words.

Free of torch, so that the app can use it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from engine.errors import InputError
from engine.seeds import check_seed


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
    "knn": "any shape of distribution, from distances to the 3rd nearest neighbour (Kozachenko–Leonenko)",
}
CONDITIONS = ("none", "class")
#: granularity -> what a row of the result leaves out
GRANULARITIES = {
    "block": "whole blocks",
    "branch": "attention and MLP of each block apart",
}
#: order -> how the order of removal comes about
ORDERS = {
    "independent": "each block scored alone",
    "greedy": "scored again after each removal, so that joint effects count",
}
#: weighting -> how much each noise level counts in a block's score (our reading: the paper's summary doesn't say)
WEIGHTINGS = {
    "even": "every noise level counts the same",
    "noisy": "the noisier, the more: weights rise in equal steps, where a picture's layout is decided",
    "clean": "the cleaner, the more: weights fall in equal steps, where its details are",
}
#: method -> how many samples are spent
METHODS = {
    "exact": "all samples for every block",
    "racing": "samples only where it is still open which blocks matter least",
}


@dataclass(frozen=True, kw_only=True)
class Criterion:
    title: str
    meaning: str  # plain words
    origin: str
    rests_on: str  # "samples", "gradients", "weights" or "position"


CRITERIA: dict[str, Criterion] = {
    "bi": Criterion(
        title="Block influence (BI)",
        meaning="How much a block turns what passes through it: 1 − cosine between its input and its output. A block "
        "that hardly turns anything matters little.",
        origin="ShortGPT (arXiv 2403.03853)",
        rests_on="samples",
    ),
    "output-mse": Criterion(
        title="Change of the output",
        meaning="Mean squared difference between the network's output with and without the block.",
        origin="common practice",
        rests_on="samples",
    ),
    "loss": Criterion(
        title="Rise of the training loss",
        meaning="How much the loss that the model was trained with rises when the block is left out.",
        origin="loss sensitivity, a baseline of TinyFusion (arXiv 2412.01199)",
        rests_on="samples",
    ),
    "magnitude": Criterion(
        title="Size of the weights",
        meaning="Root mean square of the block's weights. Looks at no data at all.",
        origin="common practice",
        rests_on="weights",
    ),
    "taylor": Criterion(
        title="First-order Taylor",
        meaning="How much the loss would change, by its slope, if the block's weights shrank to nothing: |Σ gradient × "
        "weight|. The slope is taken where the weights are, far from nothing.",
        origin="Molchanov et al. (arXiv 1611.06440), summed over the block",
        rests_on="gradients",
    ),
    "random": Criterion(
        title="Random",
        meaning="An order drawn by lot. A criterion that doesn't beat it is worth nothing.",
        origin="baseline",
        rests_on="position",
    ),
    "first": Criterion(
        title="First blocks first",
        meaning="Removes from the input side, whatever the blocks do.",
        origin="baseline",
        rests_on="position",
    ),
    "last": Criterion(
        title="Last blocks first",
        meaning="Removes from the output side, whatever the blocks do.",
        origin="baseline",
        rests_on="position",
    ),
    "every-other": Criterion(
        title="Every other block",
        meaning="Removes every second block, spread evenly over the depth; the first block stays longest.",
        origin="BK-SDM's pattern (arXiv 2305.15798), carried over to DiT; our reading where fewer or more than half go",
        rests_on="position",
    ),
}


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
    granularity: str = "block"
    order: str = "independent"
    method: str = "exact"
    num_candidates: int | None = None  # how many rows racing looks for, greedy removes; None: half of them, all of them
    weighting: str = "even"  # of the noise levels

    def __post_init__(self) -> None:
        _refuse_unknown(
            variable=(self.variable, VARIABLES),
            order=(self.order, ORDERS),
            method=(self.method, METHODS),
            weighting=(self.weighting, WEIGHTINGS),
        )
        _validate(self)
        if self.variable == "samples" and self.weighting != "even":
            raise InputError("for the variable samples the last step decides alone; weighting is for noise levels")
        if self.order == "greedy" and self.method == "racing":
            raise InputError("order greedy scores every block that is left again, so it has no race; use method exact")
        if self.num_candidates is not None and self.num_candidates < 1:
            raise InputError(f"{self.num_candidates} candidates: choose at least 1, or none for the usual number")


#: variables that the same noised passes serve
NOISED_VARIABLES = ("target", "prediction")


@dataclass(frozen=True, kw_only=True)
class CriteriaConfig:
    criteria: tuple[str, ...] = tuple(CRITERIA)
    variables: tuple[str, ...] = NOISED_VARIABLES  # CED beside them; "samples" needs passes of its own
    estimator: str = "gaussian"
    condition: str = "none"
    samples: int = 256
    timesteps: int = 10
    seed: int = 0
    num_bootstrap: int = 200
    confidence: float = 0.9
    granularity: str = "block"

    def __post_init__(self) -> None:
        for value in self.criteria:
            _refuse_unknown(criterion=(value, CRITERIA))
        for value in self.variables:
            _refuse_unknown(variable=(value, VARIABLES))
        if not self.criteria and not self.variables:
            raise InputError(f"no criterion was named; choose of {', '.join([*CRITERIA, *VARIABLES])}")
        _validate(self)

    def ced(self, variable: str) -> CedConfig:
        """The same samples, columns and intervals, for one reading of CED."""
        shared = (
            "estimator",
            "condition",
            "samples",
            "timesteps",
            "seed",
            "num_bootstrap",
            "confidence",
            "granularity",
        )
        return CedConfig(variable=variable, **{name: getattr(self, name) for name in shared})


def _validate(config: CedConfig | CriteriaConfig) -> None:
    _refuse_unknown(
        estimator=(config.estimator, ESTIMATORS),
        condition=(config.condition, CONDITIONS),
        granularity=(config.granularity, GRANULARITIES),
    )
    check_seed(config.seed)
    if config.samples < 8:
        raise InputError(f"{config.samples} samples are too few for an entropy; take at least 8 (256 is usual)")
    if not 1 <= config.timesteps <= 1000:
        raise InputError(f"{config.timesteps} timesteps: choose 1 … 1000 (10 is usual)")
    if config.num_bootstrap < 20 or not 0.5 <= config.confidence < 1:
        raise InputError("the bootstrap needs at least 20 resamples and a confidence between 0.5 and 1")


def _refuse_unknown(**choices: tuple[str, Collection[str]]) -> None:
    for what, (value, known) in choices.items():
        if value not in known:
            raise InputError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
