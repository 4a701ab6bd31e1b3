import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_fidelity
from torch.utils.data import Dataset

from engine.data.bundled import bundled_data
from engine.data.dataset import Data
from engine.errors import AssetError, InputError
from engine.evaluation import fidelity, reference
from engine.evaluation.demo_cnn import FEATURES_FOLDER, read_demo_cnn
from engine.evaluation.evaluate import evaluate
from engine.evaluation.features import extract, load_features
from engine.evaluation.fidelity import class_accuracy, evaluate_fidelity, frechet_distance, kernel_distance
from engine.evaluation.frechet import Gaussian, frechet_distances
from engine.evaluation.kernel import resampled_kernel_distances
from engine.evaluation.protocol import Protocol
from engine.evaluation.resampling import resample
from engine.models.checkpoints import load_model
from engine.runs.stage_files import evaluate_into


@pytest.fixture(scope="module")
def shapes() -> Data:
    """300 of the bundled shapes: enough for statistics, quick to run through the CNN."""
    return _few("shapes", 300)


def _few(name: str, num: int) -> Data:
    data = bundled_data(name)
    chosen = np.random.default_rng(1).permutation(len(data))[:num]
    return replace(data, images=data.images[chosen], labels=data.labels[chosen], content_hash=f"{name}-{num}")


def _noisy(images: np.ndarray, amount: float) -> np.ndarray:
    noise = np.random.default_rng(2).normal(0, amount, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


class _InMemory(Dataset):
    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def test_numbers_equal_those_of_calculate_metrics(shapes):
    digits = _few("digits", 200)
    theirs = torch_fidelity.calculate_metrics(
        input1=_InMemory(digits.images),
        input2=_InMemory(shapes.images),
        feature_extractor="demo-cnn",
        fid=True,
        kid=True,
        kid_subset_size=100,
        rng_seed=3,
        cuda=False,
        save_cpu_ram=True,
        verbose=False,
    )
    extractor = load_features("demo-cnn")
    ours = extract(extractor, digits.images), extract(extractor, shapes.images)
    assert ours[0].shape == (200, 128) and ours[0].dtype == np.float64
    assert frechet_distance(*ours) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    mean, deviation = kernel_distance(*ours, seed=3)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_frechet_distance_of_known_gaussians():
    """‖m₁ − m₂‖² + tr(S₁ + S₂ − 2(S₁S₂)^½), with samples whose mean and covariance are exactly as prescribed."""
    rng = np.random.default_rng(0)
    mean_a, mean_b = rng.normal(size=6), rng.normal(size=6)
    root_a, root_b = rng.normal(size=(6, 6)), rng.normal(size=(6, 6))
    cov_a, cov_b = root_a @ root_a.T, root_b @ root_b.T
    sqrt_a = _symmetric_sqrt(cov_a)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * _symmetric_sqrt(sqrt_a @ cov_b @ sqrt_a))
    found = frechet_distance(_exact_sample(mean_a, cov_a, rng), _exact_sample(mean_b, cov_b, rng))
    assert found == pytest.approx(expected, rel=1e-6)
    same_spread = frechet_distance(_exact_sample(mean_a, cov_a, rng), _exact_sample(mean_a + 2, cov_a, rng))
    assert same_spread == pytest.approx(6 * 2**2, rel=1e-6)


def _symmetric_sqrt(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


def _exact_sample(mean: np.ndarray, cov: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=(200, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(cov).T + mean


@pytest.mark.parametrize(("name", "least"), [("shapes", 0.97), ("digits", 0.97), ("glyphs", 0.97), ("textures", 0.97)])
def test_the_judge_knows_the_bundled_classes(name, least):
    about = json.loads((FEATURES_FOLDER / "demo-cnn.json").read_text())
    assert about["held_out_accuracy"][name] >= least
    data = _few(name, 150)
    assert class_accuracy(data.images, data.labels, name).value >= least


def test_class_accuracy_chooses_among_the_classes_of_the_dataset():
    textures = _few("textures", 60)
    wrong = np.roll(textures.labels, 1)
    found = class_accuracy(textures.images, wrong, "textures")
    assert found.value == pytest.approx((wrong == textures.labels).mean(), abs=0.05)
    with pytest.raises(InputError, match="doesn't know the classes of 'cats'; it knows those of shapes"):
        class_accuracy(textures.images, wrong, "cats")


def test_wilson_interval_of_nine_in_ten():
    logits = np.eye(2)[[0] * 9 + [1]]
    found = fidelity._accuracy_from_logits(logits, np.zeros(10, dtype=int), slice(0, 2))
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.6519, 0.9774), abs=1e-3)


def test_worse_images_score_worse_and_intervals_tell_them_apart():
    every = bundled_data("shapes")
    good, labels = every.images[::50], every.labels[::50]
    reference = replace(every, images=every.images[1::10], labels=every.labels[1::10])
    better = evaluate_fidelity(good, labels, reference, seed=0, num_bootstrap=20)
    worse = evaluate_fidelity(_noisy(good, 60), labels, reference, seed=0, num_bootstrap=20)
    assert better.fid.low <= better.fid.value <= better.fid.high < worse.fid.low
    assert better.kid.high < worse.kid.low
    assert worse.class_accuracy.high < better.class_accuracy.low
    # real images are what a perfect generator draws: at the floor, and KID is about zero
    assert better.fid.value == pytest.approx(better.noise_floor.value, rel=0.35)
    assert better.kid.low < 0.005 and better.noise_floor_images == 200
    assert worse.fid.value > 5 * worse.noise_floor.value


def test_intervals_are_as_wide_as_the_spread_of_independent_draws():
    """FID of ten disjoint draws of real images, 20 of each class, against the interval computed from one of them."""
    every = bundled_data("shapes")
    features = extract(load_features("demo-cnn"), every.images[::2])  # 500 of each class, in order of classes
    members = np.arange(5000).reshape(10, 500)
    rest = Gaussian.of(features[members[:, 200:].ravel()])
    draws = [members[:, 20 * k : 20 * k + 20].ravel() for k in range(10)]
    spread = np.std(frechet_distances(features, draws, rest), ddof=1)
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(10), 20)
    resampled = frechet_distances(features[draws[0]], [resample(labels, rng) for _ in range(40)], rest)
    assert 0.5 < np.std(resampled) / spread < 2.5


def test_resampling_keeps_the_number_of_each_class():
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4), 15)
    chosen = resample(labels, rng)
    assert np.bincount(labels[chosen]).tolist() == [15] * 4 and len(set(chosen)) < 60
    few = np.arange(12)  # one of each: resampled together, else every resample would be the same
    assert len(set(few[resample(few, rng)])) < 12


def test_the_same_seed_gives_the_same_numbers(shapes):
    images, labels = _noisy(shapes.images[:80], 20), shapes.labels[:80]
    first = evaluate_fidelity(images, labels, shapes, seed=5, num_bootstrap=5)
    assert evaluate_fidelity(images, labels, shapes, seed=5, num_bootstrap=5) == first
    assert evaluate_fidelity(images, labels, shapes, seed=6, num_bootstrap=5).fid.low != first.fid.low


def test_as_metrics_json(shapes):
    found = evaluate_fidelity(shapes.images[:40], shapes.labels[:40], shapes, seed=0, num_bootstrap=3)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert list(content["fidelity"]) == [
        f"{name} (demo-cnn)" for name in ("FID", "KID", "IS", "precision", "recall", "class accuracy")
    ]
    for measured in (*content["fidelity"].values(), *content["noise_floor"].values()):
        assert measured["low"] <= measured["value"] <= measured["high"]
    assert content["noise_floor"]["FID (demo-cnn)"]["num_images"] == 40
    assert content["fidelity"]["KID (demo-cnn)"]["subset_size"] == 20
    assert content["fidelity"]["IS (demo-cnn)"]["splits"] == 10
    file = FEATURES_FOLDER / "demo-cnn.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert content["features"] == {"name": "demo-cnn", "weights": file.name, "sha256": digest}
    assert content["reference"] == {"name": "shapes", "hash": "shapes-300", "num_images": 300}


def test_warnings_say_when_numbers_are_weak(shapes):
    few = evaluate_fidelity(shapes.images[:200], shapes.labels[:200], shapes, seed=0, num_bootstrap=2)
    assert any("FID at N=200 is biased upwards" in warning for warning in few.warnings)
    assert any("the noise floor rests on 14" in warning for warning in few.warnings)  # half of each class
    fewer = evaluate_fidelity(shapes.images[:128], shapes.labels[:128], shapes, seed=0, num_bootstrap=2).warnings
    assert any(warning.startswith("128 images for 128 features are too few") for warning in fewer)
    assert not any("biased upwards" in warning for warning in fewer)  # said once
    large = shapes.images.repeat(2, axis=1).repeat(2, axis=2)
    scaled = evaluate_fidelity(large[:20], shapes.labels[:20], shapes, seed=0, num_bootstrap=2)
    assert any("scaled from 64×64 to 32×32" in warning for warning in scaled.warnings)
    enough = np.concatenate([shapes.images] * 4)
    whole = replace(shapes, images=enough, labels=np.tile(shapes.labels, 4))
    assert evaluate_fidelity(enough[:300], shapes.labels, whole, seed=0, num_bootstrap=2).warnings == ()


def test_a_model_of_other_classes_is_not_held_against_those_of_the_data(digits):
    found = evaluate(load_model("demo-sit"), digits, Protocol(num_images=16, num_steps=1), num_bootstrap=2)
    assert found.class_accuracy is None and found.per_class == {}
    assert any("classes aren't those of digits" in line for line in found.warnings)
    known = evaluate(load_model("demo-sit-digits"), digits, Protocol(num_images=16, num_steps=1), num_bootstrap=2)
    assert known.class_accuracy is not None and known.per_class
    assert not any("classes aren't" in line for line in known.warnings)


def test_classes_of_the_reference_without_an_image_are_told(shapes):
    labels = np.arange(300) % 150
    many = replace(shapes, name="mine", labels=labels, class_names=tuple(map(str, range(150))), content_hash="many")
    few = evaluate_fidelity(shapes.images[:100], labels[:100], many, seed=0, num_bootstrap=2).warnings
    (line,) = [warning for warning in few if "have no image" in warning]
    assert line.startswith("100 images of 150 classes: each class at most once; 50 of mine have no image")
    all_of_them = evaluate_fidelity(shapes.images[:150], labels[:150], many, seed=0, num_bootstrap=2).warnings
    assert not any("have no image" in warning for warning in all_of_them)


def test_one_class_of_pictures_without_labels_is_a_reference_for_a_model_of_many(shapes):
    """As ADM's reference files are: arr_0 alone."""
    unlabelled = replace(shapes, labels=np.zeros(300, np.int64), class_names=("images",), content_hash="one")
    model, protocol = load_model("demo-sit"), Protocol(num_images=40, num_steps=1)
    found = evaluate(model, unlabelled, protocol, num_bootstrap=2)
    assert found.class_accuracy is None and found.per_class == {}
    assert found.noise_floor_images == 40  # not as many as there are of class 0
    fewer = evaluate(model, bundled_data("textures"), protocol, num_bootstrap=2)  # 8 classes, not 10
    assert fewer.noise_floor_images == 40


@pytest.mark.parametrize(
    ("change", "protocol", "message"),
    [
        (
            dict(images=np.zeros((3, 32, 32, 3), np.uint8), labels=np.zeros(3, int)),
            {},
            "500 images against 3 of shapes",
        ),
        ({}, dict(num_images=7), "7 images against 300 of shapes are too few"),
        ({}, dict(features="vgg"), "features 'vgg' are unknown"),
    ],
)
def test_what_needs_no_images_is_refused_before_any_is_drawn(shapes, monkeypatch, tmp_path, change, protocol, message):
    for place in ("engine.evaluation.evaluate.sample", "engine.runs.stage_files.sample_batches"):
        monkeypatch.setattr(place, lambda *arguments: pytest.fail("images were drawn"))
    asked = load_model("demo-sit"), replace(shapes, **change), Protocol(**protocol)
    with pytest.raises(InputError, match=message):
        evaluate(*asked)
    with pytest.raises(InputError, match=message):
        list(evaluate_into(tmp_path, *asked, cache=tmp_path / "cache"))


def test_data_of_unknown_classes_has_no_class_accuracy(shapes):
    found = evaluate_fidelity(
        shapes.images[:30], shapes.labels[:30], replace(shapes, name="mine"), seed=0, num_bootstrap=2
    )
    assert found.class_accuracy is None
    assert not any("accuracy" in name for name in found.as_dict()["fidelity"])


def test_features_of_the_data_are_cached_and_a_damaged_cache_is_made_anew(shapes, tmp_path, monkeypatch):
    few = replace(shapes, images=shapes.images[:60], labels=shapes.labels[:60], content_hash="sixty")
    arguments = dict(seed=0, num_bootstrap=2, cache=tmp_path / "cache")
    first = evaluate_fidelity(few.images[:20], few.labels[:20], few, **arguments)
    files = {file.name.split("-")[0]: file for file in (tmp_path / "cache").iterdir()}
    assert sorted(files) == ["features", "floor", "statistics"]
    assert all("demo-cnn-" in file.name and "sixty" in file.name for file in files.values())

    def refuse(*arguments):
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        for name in ("extract", "nearest", "mean_of_pairs"):
            patched.setattr(reference, name, refuse)
        patched.setattr("engine.evaluation.noise_floor._measured", refuse)
        assert evaluate_fidelity(few.images[:20], few.labels[:20], few, **arguments) == first
    for file in files.values():
        file.write_bytes(file.read_bytes()[:100])
        assert evaluate_fidelity(few.images[:20], few.labels[:20], few, **arguments) == first
    with np.load(files["features"], allow_pickle=False) as arrays:
        assert arrays["features"].shape == (60, 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(images=np.zeros((20, 32, 32, 3))), "expected uint8 images"),
        (dict(labels=np.zeros(19, dtype=int)), "and 19"),
        (dict(labels=np.full(20, 10)), "labels go from 10 to 10, but shapes has 10 classes"),
        (dict(images=np.zeros((3, 32, 32, 3), np.uint8), labels=np.zeros(3, int)), "at least 8 of each"),
        (dict(images=np.zeros((20, 32, 32), np.uint8)), "grey images have to be repeated in three channels"),
        (dict(images=np.zeros((20, 32, 32, 1), np.uint8)), "grey images have to be repeated in three channels"),
        (dict(images=np.zeros((20, 32, 32, 4), np.uint8)), "with transparency have to be laid on a background"),
        (dict(images=np.zeros((20, 3, 32, 32), np.uint8)), "the channels have to come last"),
        (dict(features="vgg"), "features 'vgg' are unknown; choose one of demo-cnn, inception, dinov2, clip"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(shapes, change, message):
    arguments = dict(images=shapes.images[:20], labels=shapes.labels[:20], features="demo-cnn") | change
    with pytest.raises(InputError, match=message) as caught:
        evaluate_fidelity(arguments.pop("images"), arguments.pop("labels"), shapes, seed=0, **arguments)
    assert "\n" not in str(caught.value)


def test_damaged_features_are_one_line(tmp_path):
    (tmp_path / "demo-cnn.json").write_bytes((FEATURES_FOLDER / "demo-cnn.json").read_bytes())
    (tmp_path / "demo-cnn.safetensors").write_bytes((FEATURES_FOLDER / "demo-cnn.safetensors").read_bytes()[:5000])
    with pytest.raises(AssetError, match="the demo-cnn features can't be read"):
        read_demo_cnn(tmp_path)


def test_kernel_distances_of_resamples_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    generated, reference = rng.normal(size=(40, 6)), rng.normal(0.3, 1.2, size=(1500, 6))
    chosen = rng.integers(40, size=40)
    counts = np.stack([np.ones(40), np.bincount(chosen, minlength=40)], axis=1)

    def mmd(x, y):  # Gretton et al., lemma 6, sums over pairs of different draws
        def kernel(a, b):
            return (a @ b.T / a.shape[1] + 1) ** 3

        xx, yy = kernel(x, x), kernel(y, y)
        n, m = len(x), len(y)
        off = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        return off - 2 * kernel(x, y).mean()

    found = resampled_kernel_distances(generated, reference, counts)
    assert found == pytest.approx([mmd(generated, reference), mmd(generated[chosen], reference)], rel=1e-10)


def test_the_whole_kernel_and_random_subsets_estimate_the_same(digits):
    extractor = load_features("demo-cnn")
    features = extract(extractor, digits.images[::3])
    first, second = features[::2] * 1.1, features[1::2]
    mean, deviation = kernel_distance(first, second, seed=1)
    whole = resampled_kernel_distances(first, second, np.ones((len(first), 1)))[0]
    assert whole == pytest.approx(mean, abs=4 * deviation / 100**0.5)


def test_one_image_a_class_has_a_noise_floor_too(shapes):
    every = replace(
        shapes,
        images=shapes.images[:40],
        labels=np.arange(40),
        class_names=tuple(f"class {label}" for label in range(40)),
        content_hash="one-each",
    )
    found = evaluate_fidelity(every.images[:16], np.arange(16), every, seed=0, num_bootstrap=2)
    assert found.noise_floor_images == 16
    assert 0 < found.noise_floor.low <= found.noise_floor.value <= found.noise_floor.high


def test_each_class_by_itself(shapes):
    """Equal to measuring the class alone; what its images are too few for is said."""
    every = bundled_data("shapes")
    chosen = np.concatenate([np.flatnonzero(every.labels == 0)[:150], np.flatnonzero(every.labels == 1)[:30]])
    chosen = np.concatenate([chosen, np.flatnonzero(every.labels == 2)[:1]])
    data = replace(every, images=every.images[::3], labels=every.labels[::3])
    found = evaluate_fidelity(every.images[chosen], every.labels[chosen], data, seed=0, num_bootstrap=4)
    first, second, third = (found.per_class[name] for name in every.class_names[:3])
    assert list(found.per_class) == list(every.class_names[:3])
    assert (first.num_images, second.num_images, third.num_images) == (150, 30, 1)
    extractor = load_features("demo-cnn")
    own = extract(extractor, every.images[chosen[:150]]), extract(extractor, data.images[data.labels == 0])
    assert first.scores["FID"].value == pytest.approx(frechet_distance(*own), rel=1e-6)
    assert first.scores["KID"].value == pytest.approx(kernel_distance(*own)[0], rel=1e-6)
    assert set(first.scores) == {"FID", "KID", "precision", "recall", "class accuracy"} and first.left_out == ""
    assert set(second.scores) == {"KID", "precision", "recall", "class accuracy"}
    assert second.left_out == "FID: 128 features need more than 128 of each, not 30 generated and 333 real images"
    assert third.scores == {} and "all: 1 generated and 333 real images are too few" in third.left_out
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))["per_class"]
    assert content[every.class_names[0]]["FID (demo-cnn)"]["value"] == first.scores["FID"].value
    assert content[every.class_names[2]] == {"num_images": 1, "num_reference": 333, "left_out": third.left_out}


def test_classes_of_the_same_name_stay_apart(shapes):
    named = replace(shapes, class_names=("crane", "crane", *shapes.class_names[2:]))
    found = evaluate_fidelity(shapes.images[:60], shapes.labels[:60], named, seed=0, num_bootstrap=2)
    assert {"crane (0)", "crane (1)"} < set(found.per_class) and len(found.per_class) == 10


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((20, 32, 32, 3), 128, np.uint8), "all 20 generated images are the same"),
        (
            np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3),
            "20 of the 20 generated images are of one colour",
        ),
    ],
)
def test_images_without_content_are_measured_and_named(shapes, images, message):
    found = evaluate_fidelity(images, np.arange(20) % 10, shapes, seed=0, num_bootstrap=3)
    assert message in found.warnings
    json.dumps(found.as_dict(), allow_nan=False)
    assert found.recall.value < 0.05 and found.fid.value > 5 * found.noise_floor.value


def test_data_of_a_single_picture_gives_finite_numbers(shapes):
    same = replace(shapes, images=shapes.images[:1].repeat(40, axis=0), labels=shapes.labels[:40], content_hash="same")
    found = evaluate_fidelity(same.images[:20], same.labels[:20], same, seed=0, num_bootstrap=3)
    json.dumps(found.as_dict(), allow_nan=False)
    assert found.fid.value == pytest.approx(0, abs=1e-5)
    assert any("too few to know how these vary together" in warning for warning in found.warnings)


def test_images_and_data_of_different_sizes_are_named(shapes):
    large = shapes.images[:20].repeat(2, axis=1).repeat(2, axis=2)
    found = evaluate_fidelity(large, shapes.labels[:20], shapes, seed=0, num_bootstrap=2)
    assert "generated images of 64×64 pixels are compared with shapes's 32×32" in found.warnings


def test_features_that_are_not_finite_are_refused(shapes):
    features = load_features("demo-cnn")
    broken = replace(features, extractor=_Broken(features.extractor))
    with pytest.raises(AssetError, match="demo-cnn gave numbers that aren't finite"):
        extract(broken, shapes.images[:4])


class _Broken(torch.nn.Module):
    def __init__(self, extractor):
        super().__init__()
        self.extractor = extractor

    def forward(self, images):
        features, logits = self.extractor(images)
        return features * float("nan"), logits


def test_the_fewest_images_that_are_taken_give_finite_numbers(shapes):
    few = replace(shapes, images=shapes.images[:8], labels=np.arange(8), content_hash="eight")
    found = evaluate_fidelity(shapes.images[8:16], np.arange(8), few, seed=0, num_bootstrap=3)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["noise_floor"]["recall (demo-cnn)"]["num_images"] == 4
    assert all(own["left_out"].startswith("all: 1 generated") for own in content["per_class"].values())
