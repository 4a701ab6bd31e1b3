"""Differential entropy from samples, in nats per dimension, with paired bootstrap.

Values are (S, B, T, d): S streams (the intact model and its variants), B samples, T tokens of d values each.
Every estimator returns (S, R): one column for each row of ``counts`` (R, B), which says how often a sample is drawn.
The first row is usually all ones, the estimate itself; the others are bootstrap resamples, the same for every stream.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

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


#: name -> (values (S, B, T, d), counts (R, B)) -> entropies (S, R)
ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian,
    "gaussian-scalar": gaussian_scalar,
    "gaussian-full": gaussian_full,
}


def within_classes(estimator: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
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


def _variances(values: Tensor, counts: Tensor) -> Tensor:
    """(S, R, T·d) unbiased variance of every dimension under each row of counts, in float64."""
    flat = values.flatten(2).double().cpu()
    flat = flat - flat.mean(1, keepdim=True)  # keeps the difference of squares below exact
    total = counts.sum(1)[:, None]
    mean = torch.matmul(counts, flat) / total
    second = torch.matmul(counts, flat.square()) / total
    return (second - mean.square()).clamp(min=0) * (total / (total - 1))
