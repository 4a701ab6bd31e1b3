"""Each number of fidelity against its definition, and all of them against torch-fidelity on a folder of PNG files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

from engine.data.bundled import bundled_data
from engine.evaluation import frechet, neighbours, reference
from engine.evaluation.features import extract, extract_all, load_features
from engine.evaluation.fidelity import evaluate_fidelity
from engine.evaluation.frechet import Gaussian, frechet_distances
from engine.evaluation.inception_score import inception_score, resampled_scores
from engine.evaluation.interval import Interval, halves_interval, median_interval, share_interval
from engine.evaluation.kernel import mean_of_pairs, resampled_kernel_distances, split_kernel_distance
from engine.evaluation.neighbours import inside, nearest, precision_and_recall
from engine.evaluation.noise_floor import noise_floor
from engine.evaluation.reference import Reference
from engine.evaluation.resampling import halves


def test_all_numbers_equal_those_of_a_folder_of_png_files(tmp_path):
    digits, shapes = bundled_data("digits"), bundled_data("shapes")
    images, data = digits.images[:120], _first(shapes, 200)
    for name, pictures in (("generated", images), ("real", data.images)):
        (tmp_path / name).mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / name / f"{index:04d}.png")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "generated"),
        input2=str(tmp_path / "real"),
        feature_extractor="demo-cnn",
        fid=True,
        kid=True,
        kid_subset_size=60,
        isc=True,
        prc=True,
        rng_seed=3,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = evaluate_fidelity(images, digits.labels[:120], data, seed=3, num_bootstrap=2)
    assert ours.fid.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours.kid.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours.kid_deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)
    assert ours.inception_score.value == pytest.approx(theirs["inception_score_mean"], rel=1e-3)
    assert ours.inception_deviation == pytest.approx(theirs["inception_score_std"], rel=1e-3)
    assert ours.precision.value == pytest.approx(theirs["precision"], abs=1e-3)
    assert ours.recall.value == pytest.approx(theirs["recall"], abs=1e-3)


def _first(data, num):
    chosen = np.random.default_rng(0).permutation(len(data))[:num]
    return replace(data, images=data.images[chosen], labels=data.labels[chosen], content_hash=f"{data.name}-{num}")


@pytest.mark.parametrize("num", [30, 300])  # fewer images than features, and more
def test_frechet_distances_are_torch_fidelitys(num):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(64, 64))
    features, real = rng.normal(size=(num, 64)) @ mixing, rng.normal(0.2, 1.1, size=(500, 64)) @ mixing
    resamples = [np.arange(num), rng.integers(num, size=num)]
    theirs = [
        fid_statistics_to_metric(
            fid_features_to_statistics(torch.from_numpy(features[chosen])),
            fid_features_to_statistics(torch.from_numpy(real)),
            False,
        )["frechet_inception_distance"]
        for chosen in resamples
    ]
    assert frechet_distances(features, resamples, Gaussian.of(real)) == pytest.approx(theirs, rel=1e-6)


def test_a_split_of_the_kernel_is_the_distance_of_its_parts():
    features = np.random.default_rng(0).normal(size=(90, 5))
    chosen = np.zeros(90, dtype=bool)
    chosen[np.random.default_rng(1).permutation(90)[:25]] = True
    whole = resampled_kernel_distances(features[chosen], features[~chosen], np.ones((25, 1)))[0]
    assert split_kernel_distance(features, chosen, mean_of_pairs(features)) == pytest.approx(whole, rel=1e-9)


def test_kid_of_equally_many_of_each_class_reads_low_and_the_noise_floor_by_the_same():
    """It is torch-fidelity's estimator, which has no bias for pictures drawn independently."""
    rng, num_classes, num = np.random.default_rng(0), 10, 100
    centres = 4 * np.eye(num_classes, 16)

    def drawn(labels: np.ndarray) -> np.ndarray:
        return centres[labels] + 0.1 * rng.normal(size=(len(labels), 16))

    def mean_kid(labels_of_a_draw) -> float:
        ones = np.ones((num, 1))
        return float(np.mean([
            resampled_kernel_distances(drawn(labels_of_a_draw()), real, ones, reference_pairs=pairs)[0]
            for _ in range(100)
        ]))  # fmt: skip

    labels = np.arange(2000) % num_classes
    real = drawn(labels)
    pairs = mean_of_pairs(real)
    even = mean_kid(lambda: np.arange(num) % num_classes)
    at_random = mean_kid(lambda: rng.integers(num_classes, size=num))
    known = Reference(
        key="made up", features=real, labels=labels, gaussian=Gaussian.of(real), pairs=pairs, neighbours=nearest(real)
    )
    floor = noise_floor(known, np.arange(num) % num_classes, seed=0, cache=None).kid.value
    same_class = (centres[0] @ centres[0] / 16 + 1) ** 3 - 1  # over the kernel of two classes
    shift = same_class * ((num / num_classes - 1) / (num - 1) - 1 / num_classes)
    assert even == pytest.approx(shift, rel=0.1) and even < 0
    assert floor == pytest.approx(even, rel=0.1)
    assert abs(at_random) < 0.2 * abs(even)


@pytest.fixture
def few_compared(monkeypatch):
    monkeypatch.setattr(reference, "MOST_COMPARED", 100)


def test_what_is_compared_holds_each_class_in_its_share_and_is_always_the_same(few_compared):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [600, 390, 17]))
    chosen = reference.compared(labels)
    assert len(chosen) == 100 and len(set(chosen.tolist())) == 100 and np.array_equal(np.sort(chosen), chosen)
    assert np.bincount(labels[chosen]).tolist() == [59, 39, 0, 2]
    assert np.array_equal(reference.compared(labels), chosen)
    assert reference.compared(labels[:100]).tolist() == list(range(100))  # all where there are few


def test_fid_rests_on_all_real_pictures_and_what_compares_pairs_on_a_part(digits, few_compared, tmp_path):
    some = replace(digits, images=digits.images[:400], labels=digits.labels[:400], content_hash="some")
    extractor, cache = load_features("demo-cnn"), tmp_path / "cache"
    steps = list(reference.reading_reference(extractor, some, 32, cache))
    assert [(step.done, step.total) for step in steps] == [(256, 400), (400, 400)]
    assert list(reference.reading_reference(extractor, some, 32, cache)) == []
    found = reference.reference_of(extractor, some, 32, cache)
    every = extract(extractor, some.images)
    assert len(found) == 100 and found.neighbours.distances.shape[0] == 100
    assert np.allclose(found.gaussian.mean, every.mean(axis=0)) and np.allclose(found.gaussian.cov, np.cov(every.T))
    assert found.pairs == mean_of_pairs(found.features)
    assert len(found.of_class(3)) == (some.labels == 3).sum()
    measured = evaluate_fidelity(digits.images[400:460], digits.labels[400:460], some, seed=0, num_bootstrap=2)
    assert measured.as_dict()["reference"] == {"name": "digits", "hash": "some", "num_images": 400, "num_compared": 100}
    assert measured.noise_floor_images <= 50


def test_other_labels_are_another_part(digits, few_compared, tmp_path):
    some = replace(digits, images=digits.images[:400], labels=digits.labels[:400], content_hash="some")
    extractor = load_features("demo-cnn")
    first = reference.reference_of(extractor, some, 32, tmp_path)
    other = reference.reference_of(extractor, replace(some, labels=np.roll(some.labels, 7)), 32, tmp_path)
    assert first.key != other.key and first.pairs != other.pairs


def test_the_covariance_of_many_is_that_of_all_at_once(monkeypatch):
    features = np.random.default_rng(0).normal(3, 2, size=(1000, 8)).astype(np.float32)
    whole = np.cov(features.astype(np.float64).T)
    monkeypatch.setattr(frechet, "_ROWS", 300)
    found = Gaussian.of(features)
    assert found.cov == pytest.approx(whole, rel=1e-9) and found.mean.dtype == np.float64


def test_precision_and_recall_are_torch_fidelitys(monkeypatch):
    rng = np.random.default_rng(0)
    generated, real = rng.normal(0.3, 0.8, size=(150, 6)), rng.normal(size=(400, 6))
    theirs = calculate_precision_recall_full(torch.from_numpy(generated).float(), torch.from_numpy(real).float())
    monkeypatch.setattr(neighbours, "_ROWS", 64)
    precision, recall = precision_and_recall(
        generated, real, nearest(real).radii(), halves(np.zeros(150, dtype=int), 8, rng)
    )
    assert (precision.value, recall.value) == pytest.approx(theirs, abs=1e-3)
    assert precision.low < precision.value < precision.high and recall.low < recall.value < recall.high


def test_radii_within_a_half_are_those_of_the_half_alone():
    features = np.random.default_rng(0).normal(size=(120, 4))
    half = np.zeros(120, dtype=bool)
    half[np.random.default_rng(1).permutation(120)[:60]] = True
    found = nearest(features).radii(half)
    assert found[half] == pytest.approx(nearest(features[half]).radii(), rel=1e-5)
    assert (found[~half] == -1).all()
    assert not inside(features[:1], features, np.full((1, 120), -1, np.float32)).any()  # even of itself


def test_the_interval_of_recall_is_as_wide_as_the_spread_of_independent_draws():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(600, 8))
    reach, labels = nearest(real).radii(), np.zeros(100, dtype=int)
    draws = [rng.normal(0.1, 0.7, size=(100, 8)) for _ in range(12)]
    recalls = [precision_and_recall(draw, real, reach, halves(labels, 20, rng))[1] for draw in draws]
    spread = np.std([recall.value for recall in recalls], ddof=1)
    width = np.mean([recall.high - recall.low for recall in recalls]) / 2 / 1.645
    assert 0.5 < width / spread < 2


@pytest.mark.parametrize(("num", "least"), [(5, 0.93), (20, 0.94), (21, 0.90)])
def test_the_interval_of_a_median_holds_it_as_often_as_it_says(num, least):
    rng = np.random.default_rng(0)
    found = [median_interval(rng.lognormal(0.0, 1.0, num)) for _ in range(4000)]  # whose median is 1
    share = np.mean([interval.low <= 1.0 <= interval.high for interval in found])
    assert least <= share <= least + 0.05
    assert median_interval(np.array([3.0, 1.0])) == Interval(value=2.0, low=1.0, high=3.0)


def test_shares_of_nothing_and_of_all_have_an_interval():
    assert share_interval(1.0, 20).low < 1 and share_interval(0.0, 20).high > 0
    found = halves_interval(0.0, 20, np.zeros(4))
    assert (found.low, found.value) == (0, 0) and found.high > 0


def test_inception_score_of_sure_and_even_classes_is_their_number():
    logits = np.tile(np.eye(5) * 100, (400, 1))
    score, deviation, splits = inception_score(logits, seed=0)
    assert splits == 10 and score == pytest.approx(5, abs=0.1) and deviation < 0.1
    assert resampled_scores(logits, np.ones((2000, 1))) == pytest.approx([5], rel=1e-9)
    assert inception_score(np.zeros((9, 5)), seed=0) == (1.0, 0.0, 4)  # too few images for ten splits


def test_one_pass_gives_features_and_logits():
    features = load_features("demo-cnn")
    found, logits = extract_all(features, bundled_data("digits").images[:150])
    assert found.shape == (150, 128) and logits.shape == (150, features.classes.num_classes)
