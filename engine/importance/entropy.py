"""Differential entropy from samples, in nats per dimension, with paired bootstrap.

Values are (S, B, T, d): S streams (the intact model and its variants), B samples, T tokens of d values each.
Every estimator returns (S, R): one column for each row of ``counts`` (R, B), which says how often a sample is drawn.
The first row is usually all ones, the estimate itself; the others are bootstrap resamples, the same for every stream.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from engine.importance.config import CedConfig

#: (values (S, B, T, d), counts (R, B)) -> entropies (S, R)
Estimator = Callable[[Tensor, Tensor], Tensor]
_NEIGHBOURS = 3
_TRIGAMMA_3 = math.pi**2 / 6 - 1.25  # variance of log of the volume within the 3rd neighbour, shape apart
_LARGEST_ERROR = 0.05  # nats per dimension
_LOG_2PI_E = math.log(2 * math.pi * math.e)
_TINY = 1e-30  # a variance below this is a constant output; its entropy would be minus infinity


def gaussian_entropy_of_variance(variance: Tensor) -> Tensor:
    """H = ½·log(2πe·σ²) = log σ + ½·log 2π + ½ (EntPruner's closed form)."""
    return 0.5 * (_LOG_2PI_E + variance.clamp(min=_TINY).log())


def bootstrap_counts(num_samples: int, num_bootstrap: int, generator: torch.Generator) -> Tensor:
    """(1 + num_bootstrap, num_samples) float64: a row of ones, then resamples with replacement."""
    drawn = torch.randint(num_samples, (num_bootstrap, num_samples), generator=generator)
    resampled = torch.zeros(num_bootstrap, num_samples, dtype=torch.float64)
    resampled.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
    return torch.cat([torch.ones(1, num_samples, dtype=torch.float64), resampled])


def gaussian(values: Tensor, counts: Tensor) -> Tensor:
    """One Gaussian in each of the T·d dimensions, unbiased variance, averaged over dimensions."""
    return gaussian_entropy_of_variance(_variances(values, counts)).mean(-1)


def gaussian_scalar(values: Tensor, counts: Tensor) -> Tensor:
    """One variance pooled over all dimensions (each about its own mean)."""
    return gaussian_entropy_of_variance(_variances(values, counts).mean(-1))


def gaussian_full(values: Tensor, counts: Tensor) -> Tensor:
    """½·log det(2πe·Σ)/d of the d values of a token, all tokens pooled, Σ with Ledoit–Wolf shrinkage.

    Tokens are pooled so that d stays far below the number of vectors. The shrinkage found for the first row of
    ``counts`` serves for its resamples.
    """
    from sklearn.covariance import ledoit_wolf  # over a second to import, and the default estimator doesn't need it

    S, B, T, d = values.shape
    results = []
    for stream in values.double().cpu():
        centred = stream - stream.mean((0, 1))
        _, shrinkage = ledoit_wolf(centred.reshape(B * T, d).numpy(), assume_centered=True)
        first = centred.mean(1)  # (B, d)
        second = torch.einsum("bti,btj->bij", centred, centred) / T
        weights = counts / counts.sum(1, keepdim=True)
        mean = weights @ first
        covariance = (weights @ second.flatten(1)).view(-1, d, d) - mean[:, :, None] * mean[:, None, :]
        covariance = covariance * (B * T / (B * T - 1))
        scale = covariance.diagonal(dim1=1, dim2=2).mean(1)
        shrunk = (1 - shrinkage) * covariance + shrinkage * scale[:, None, None] * torch.eye(d, dtype=torch.float64)
        results.append(0.5 * (_LOG_2PI_E + torch.linalg.slogdet(shrunk + _TINY * torch.eye(d)).logabsdet / d))
    return torch.stack(results)


def knn(values: Tensor, counts: Tensor) -> Tensor:
    """Kozachenko–Leonenko: H = ψ(n) − ψ(k) + log V_d + d·mean log r, r the distance to the k-th nearest neighbour,
    divided by d; all tokens pooled, k = 3. Any shape without hard edges: uniform values are overestimated, in 8
    dimensions by 0.12 nats each from 4096 vectors.

    The resamples weight each vector's log r as the distances stand: drawing vectors twice would make neighbours at
    distance 0. So their spread leaves out that the distances depend on the sample as well.
    """
    from sklearn.neighbors import NearestNeighbors

    S, B, T, d = values.shape
    n, k = B * T, min(_NEIGHBOURS, B * T - 1)
    log_ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)
    constant = _digamma(n) - _digamma(k) + log_ball
    weights = counts / counts.sum(1, keepdim=True)
    results = []
    for stream in values.double().cpu().reshape(S, n, d).numpy():
        distances = NearestNeighbors(n_neighbors=k).fit(stream).kneighbors()[0][:, -1]  # a vector isn't its own
        log_r = torch.from_numpy(distances).clamp(min=math.sqrt(_TINY)).log().view(B, T).mean(1)
        results.append(constant / d + weights @ log_r)
    return torch.stack(results)


def residual(values: Tensor, counts: Tensor) -> Tensor:
    """Gaussian entropy of residuals whose mean squares are ``values`` (S, B, 1, 1): spread about zero, one variance."""
    weights = counts / counts.sum(1, keepdim=True)
    # stream by stream: in one product equal streams could come out a last bit apart, and without a change there is none
    return gaussian_entropy_of_variance(torch.stack([weights @ stream for stream in values[:, :, 0, 0]]))


ESTIMATORS: dict[str, Estimator] = {
    "gaussian": gaussian,
    "gaussian-scalar": gaussian_scalar,
    "gaussian-full": gaussian_full,
    "knn": knn,
}


def estimator_for(config: CedConfig, labels: Tensor) -> Estimator:
    """What turns ``columns.values_of`` into entropies; ``labels`` (B,) of the same samples.

    h(target | x_t, t, c) is bounded by the Gaussian of the residual, so "target" has an estimator of its own.
    """
    estimator = residual if config.variable == "target" else ESTIMATORS[config.estimator]
    return within_classes(estimator, labels) if config.condition == "class" else estimator


def within_classes(estimator: Estimator, labels: Tensor) -> Estimator:
    """H(X | class) = Σ_c p(c)·H(X | c), p from ``labels`` (B,); classes with fewer than two samples are left out."""
    classes, sizes = labels.unique(return_counts=True)
    usable = [(c, n) for c, n in zip(classes.tolist(), sizes.tolist(), strict=True) if n >= 2]
    total = sum(n for _, n in usable)

    def conditional(values: Tensor, counts: Tensor) -> Tensor:
        result = torch.zeros(values.shape[0], counts.shape[0], dtype=torch.float64)
        for c, n in usable:
            members = labels == c
            # a resample may draw too few of a class to have a variance: such a row keeps one of each
            drawn = counts[:, members]
            drawn = torch.where((drawn > 0).sum(1, keepdim=True) >= 2, drawn, torch.ones_like(drawn))
            result += n / total * estimator(values[:, members.to(values.device)], drawn)
        return result

    return conditional


def expected_error(name: str, *, num_samples: int, num_tokens: int, num_values: int) -> float:
    """Nats per dimension by which an estimate may be off: one standard deviation plus the bias, both for Gaussian
    values of which none depends on another.

    Where values depend on each other the deviation is larger, which the bootstrap shows; of a shape that a Gaussian
    doesn't have, its three estimators give the entropy of the Gaussian of the same spread. The bias of "knn" is a bound
    on what was measured for 1 … 64 values a token; in a difference of two entropies most of it cancels.
    """
    n, T, d = num_samples, num_tokens, num_values
    vectors = n * T
    if name == "knn":
        deviation = math.sqrt((d / 2 + _TRIGAMMA_3) / vectors) / d
        return deviation + max(0.35 * vectors ** (-4.5 / d), 0.2 * vectors ** (-1 / 3))
    # the mean of a residual isn't estimated: it is zero
    bias = {"gaussian-full": (d + 1) / (4 * vectors), "gaussian-residual": 0.0}.get(name, 1 / (2 * n))
    return math.sqrt(1 / (2 * vectors * d)) + bias


def too_few_samples(name: str, *, num_samples: int, num_tokens: int, num_values: int) -> list[str]:
    """A sentence where the expected error is too large for the differences that matter here (some 0.05 nats)."""
    error = expected_error(name, num_samples=num_samples, num_tokens=num_tokens, num_values=num_values)
    if error <= _LARGEST_ERROR:
        return []
    return [
        f"{num_samples} samples are few for the estimator {name}: an entropy may be off by {error:.2f} nats per "
        "dimension, most of it the same with and without a block; take more, or another estimator"
    ]


def _digamma(n: int) -> float:
    return torch.digamma(torch.tensor(float(n), dtype=torch.float64)).item()


def _variances(values: Tensor, counts: Tensor) -> Tensor:
    """(S, R, T·d) unbiased variance of every dimension under each row of counts, in float64."""
    flat = values.flatten(2).double().cpu()
    flat = flat - flat.mean(1, keepdim=True)  # keeps the difference of squares below exact
    total = counts.sum(1)[:, None]
    mean = torch.matmul(counts, flat) / total
    second = torch.matmul(counts, flat.square()) / total
    return (second - mean.square()).clamp(min=0) * (total / (total - 1))
