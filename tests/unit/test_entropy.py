import math

import numpy as np
import pytest
import torch

from engine.importance.config import ESTIMATORS as ESTIMATORS_IN_WORDS
from engine.importance.entropy import (
    ESTIMATORS,
    bootstrap_counts,
    expected_error,
    residual,
    too_few_samples,
    within_classes,
)

NUM = 20_000


def once(num: int = NUM) -> torch.Tensor:
    return torch.ones(1, num, dtype=torch.float64)


def entropy(name: str, values: np.ndarray) -> float:
    """values (B, T, d) of one stream"""
    return ESTIMATORS[name](torch.from_numpy(values)[None], once(len(values)))[0, 0].item()


def gaussian_entropy(covariance: np.ndarray) -> float:
    """Analytic, in nats per dimension"""
    d = len(covariance)
    return 0.5 * (math.log(2 * math.pi * math.e) + np.linalg.slogdet(covariance)[1] / d)


def test_gaussian_with_independent_dimensions_is_analytic():
    rng = np.random.default_rng(0)
    deviations = np.array([0.1, 1.0, 3.0, 7.0])
    values = (5 + rng.normal(size=(NUM, 1, 4)) * deviations).reshape(NUM, 1, 4)
    expected = gaussian_entropy(np.diag(deviations**2))
    # the entropy's standard error is sqrt(1/(2 N d)): five of them
    assert entropy("gaussian", values) == pytest.approx(expected, abs=5 * math.sqrt(1 / (2 * NUM * 4)))
    # shrinkage lifts the smallest of very unequal variances (here 1 : 4900), and with it the entropy
    assert expected < entropy("gaussian-full", values) < expected + 0.05
    pooled = 0.5 * math.log(2 * math.pi * math.e * np.mean(deviations**2))
    assert entropy("gaussian-scalar", values) == pytest.approx(pooled, abs=0.02)


def test_full_covariance_sees_correlation_that_the_diagonal_misses():
    rng = np.random.default_rng(1)
    covariance = np.array([[1.0, 0.95], [0.95, 1.0]])
    values = rng.multivariate_normal([0, 0], covariance, NUM).reshape(NUM, 1, 2)
    assert entropy("gaussian-full", values) == pytest.approx(gaussian_entropy(covariance), abs=0.01)
    assert entropy("gaussian", values) == pytest.approx(gaussian_entropy(np.eye(2)), abs=0.02)
    assert entropy("gaussian", values) - entropy("gaussian-full", values) > 0.5


@pytest.mark.parametrize(
    ("draw", "true", "excess"),
    [
        # a Gaussian of the same variance has the most entropy: the excess over the truth is known
        (lambda rng: rng.uniform(0, 4, (NUM, 1, 1)), math.log(4), 0.5 * math.log(2 * math.pi * math.e / 12)),
        (
            lambda rng: rng.normal(size=(NUM, 1, 1)) + np.where(rng.random((NUM, 1, 1)) < 0.5, -20, 20),
            0.5 * math.log(2 * math.pi * math.e) + math.log(2),
            0.5 * math.log(401) - math.log(2),
        ),
    ],
    ids=["uniform", "two far Gaussians"],
)
def test_gaussian_estimate_of_other_distributions_errs_by_the_known_excess(draw, true, excess):
    assert entropy("gaussian", draw(np.random.default_rng(2))) == pytest.approx(true + excess, abs=0.01)


def test_scaling_by_a_constant_adds_its_logarithm():
    values = np.random.default_rng(3).normal(size=(500, 4, 3))
    for name in ESTIMATORS:
        assert entropy(name, values * 10) - entropy(name, values) == pytest.approx(math.log(10), abs=1e-6)


def test_bootstrap_rows_equal_computing_on_the_resampled_values():
    values = torch.from_numpy(np.random.default_rng(4).normal(size=(2, 50, 4, 3)))
    counts = bootstrap_counts(50, 3, torch.Generator().manual_seed(0))
    assert counts.shape == (4, 50)
    assert counts.sum(1).tolist() == [50] * 4
    for name in ("gaussian", "gaussian-scalar"):
        together = ESTIMATORS[name](values, counts)
        for row in range(4):
            resampled = values.repeat_interleave(counts[row].long(), dim=1)
            alone = ESTIMATORS[name](resampled, once(50))
            assert torch.allclose(together[:, row], alone[:, 0], atol=1e-10)


def test_within_classes_averages_over_what_the_data_holds():
    rng = np.random.default_rng(5)
    labels = torch.tensor([0] * 15_000 + [1] * 5_000)
    deviation = np.where(labels.numpy() == 0, 1.0, 4.0)[:, None, None]
    values = torch.from_numpy(rng.normal(size=(20_000, 1, 2)) * deviation + 100 * labels.numpy()[:, None, None])[None]
    h = within_classes(ESTIMATORS["gaussian"], labels)(values, once())[0, 0].item()
    base = 0.5 * math.log(2 * math.pi * math.e)
    assert h == pytest.approx(0.75 * base + 0.25 * (base + math.log(4)), abs=0.02)


def mixture(rng: np.random.Generator, num: int, d: int) -> np.ndarray:
    """Two Gaussians of unit variance, so far apart that their entropy is that of one plus log 2."""
    return rng.normal(size=(num, d)) + np.where(rng.random((num, 1)) < 0.5, -20, 20)


def correlated(rng: np.random.Generator, num: int, d: int) -> np.ndarray:
    return rng.normal(size=(num, d)) @ np.linalg.cholesky(covariance(d)).T


def covariance(d: int) -> np.ndarray:
    return 0.6 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


_UNIT = 0.5 * math.log(2 * math.pi * math.e)
TRUTHS = {
    "a Gaussian of given covariance": (correlated, lambda d: gaussian_entropy(covariance(d))),
    "uniform": (lambda rng, num, d: rng.uniform(0, 4, (num, d)), lambda d: math.log(4)),
    "a mixture of two far Gaussians": (mixture, lambda d: _UNIT + math.log(2) / d),
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize(("num", "d"), [(256, 1), (4096, 1), (256, 3), (4096, 3)])
def test_nearest_neighbours_find_any_shape_within_the_stated_error(truth, num, d):
    draw, analytic = TRUTHS[truth]
    found = [entropy("knn", draw(np.random.default_rng(seed), num, d)[:, None]) for seed in range(5)]
    error = expected_error("knn", num_samples=num, num_tokens=1, num_values=d)
    assert np.mean(found) == pytest.approx(analytic(d), abs=1.5 * error)
    assert np.std(found) < 2 * error


def test_nearest_neighbours_overestimate_hard_edges_in_many_dimensions():
    """A known limit: neighbours near an edge lie on one side only, and in 8 dimensions nearly all are near an edge."""
    excess = entropy("knn", np.random.default_rng(0).uniform(0, 4, (4096, 1, 8))) - math.log(4)
    assert 0.08 < excess < 0.16


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("gaussian", (200, 16, 4)),
        ("gaussian-scalar", (200, 16, 4)),
        ("gaussian-full", (200, 4, 16)),
        ("knn", (200, 16, 16)),
    ],
)
def test_estimates_of_a_standard_gaussian_err_as_stated(name, shape):
    found = np.array([entropy(name, np.random.default_rng(seed).normal(size=shape)) for seed in range(12)])
    B, T, d = shape
    stated = expected_error(name, num_samples=B, num_tokens=T, num_values=d)
    assert np.abs(found - _UNIT).max() < 3 * stated
    assert np.abs(found - _UNIT).max() > 0.05 * stated  # a statement so wide that nothing could break it is none


def test_a_gaussian_of_given_covariance_errs_as_stated():
    d = 6
    values = [correlated(np.random.default_rng(seed), 2000, d)[:, None] for seed in range(8)]
    found = np.array([entropy("gaussian-full", value) for value in values])
    stated = expected_error("gaussian-full", num_samples=2000, num_tokens=1, num_values=d)
    assert np.abs(found - gaussian_entropy(covariance(d))).max() < 4 * stated


def test_a_residual_has_the_entropy_of_its_mean_square():
    rng = np.random.default_rng(6)
    squares = torch.from_numpy((3 * rng.normal(size=(500, 64))) ** 2).mean(1)
    found = residual(squares[None, :, None, None], once(500))[0, 0].item()
    stated = expected_error("gaussian-residual", num_samples=500, num_tokens=1, num_values=64)
    assert found == pytest.approx(_UNIT + math.log(3), abs=4 * stated)


def test_too_few_samples_are_said_and_enough_are_not():
    for name, few, enough in (("gaussian", 8, 256), ("gaussian-full", 6, 256), ("knn", 32, 256)):
        tokens, values = (64, 4) if name == "gaussian" else (16, 16)
        given = dict(num_tokens=tokens, num_values=values)
        (said,) = too_few_samples(name, num_samples=few, **given)
        assert said.startswith(f"{few} samples are few for the estimator {name}")
        assert too_few_samples(name, num_samples=enough, **given) == []
        assert expected_error(name, num_samples=few, **given) > expected_error(name, num_samples=enough, **given)


def test_nearest_neighbours_weigh_their_terms_in_a_resample():
    values = torch.from_numpy(np.random.default_rng(7).normal(size=(1, 400, 1, 2)))
    counts = bootstrap_counts(400, 200, torch.Generator().manual_seed(0))
    found = ESTIMATORS["knn"](values, counts)[0]
    assert found[1:].mean().item() == pytest.approx(found[0].item(), abs=0.02)
    again = [entropy("knn", np.random.default_rng(seed).normal(size=(400, 1, 2))) for seed in range(40)]
    assert found[1:].std().item() == pytest.approx(np.std(again), rel=0.5)


def test_every_estimator_is_explained():
    assert ESTIMATORS.keys() == ESTIMATORS_IN_WORDS.keys()


def test_a_constant_output_has_a_finite_entropy():
    for name in ESTIMATORS:
        assert math.isfinite(entropy(name, np.ones((100, 2, 2))))
