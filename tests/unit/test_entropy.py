import math

import numpy as np
import pytest
import torch

from engine.importance.entropy import ESTIMATORS, bootstrap_counts, within_classes

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


def test_a_constant_output_has_a_finite_entropy():
    for name in ESTIMATORS:
        assert math.isfinite(entropy(name, np.ones((100, 2, 2))))
