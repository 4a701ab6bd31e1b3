"""Numbers of single pictures: against their definitions and the class accuracy; kept in and read from samples.npz."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.bundled import bundled_data
from engine.errors import AssetError
from engine.evaluation.demo_cnn import read_demo_cnn
from engine.evaluation.fidelity import class_accuracy
from engine.evaluation.picture_scores import score_pictures
from engine.evaluation.protocol import Protocol
from engine.runs.stage import Stage
from engine.runs.stage_files import evaluate_into


@pytest.fixture(scope="module")
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """60 digits, every third under a wrong label."""
    data = bundled_data("digits")
    labels = data.labels[:60].copy()
    labels[::3] = (labels[::3] + 1) % 10
    return np.array(data.images[:60]), labels


def test_confidence_is_the_softmax_over_the_datasets_own_classes(labelled) -> None:
    images, labels = labelled
    scores = score_pictures(images, labels, "digits")
    cnn = read_demo_cnn()
    with torch.inference_mode():
        features, logits = cnn(torch.from_numpy(images).permute(0, 3, 1, 2))
    names = list(cnn.config.class_names)
    start = sum(len(cnn.config.class_names[name]) for name in names[: names.index("digits")])
    expected = torch.softmax(logits.double()[:, start : start + 10], dim=1)
    np.testing.assert_allclose(scores["class_confidence"], expected[torch.arange(60), torch.from_numpy(labels)],
                               atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(scores["demo_features"], features, rtol=1e-3, atol=1e-4)
    assert scores["seen_class"].tolist() == expected.argmax(1).tolist()
    assert scores["class_confidence"][::3].max() < 0.5 < np.median(scores["class_confidence"][1::3])


def test_the_seen_class_agrees_with_the_class_accuracy(labelled) -> None:
    images, labels = labelled
    seen = score_pictures(images, labels, "digits")["seen_class"]
    assert (seen == labels).mean() == pytest.approx(class_accuracy(images, labels, "digits").value)


def test_of_unknown_classes_only_the_features_are_kept(labelled) -> None:
    assert sorted(score_pictures(*labelled, "flowers")) == ["demo_cnn", "demo_features"]


def test_labels_beyond_the_datas_classes_are_left_to_the_metrics(labelled) -> None:
    images, labels = labelled
    assert "class_confidence" not in score_pictures(images, labels + 8, "textures")


def stage(folder: Path, **arrays: object) -> Stage:
    np.savez(folder / "samples.npz", **arrays)
    return Stage(0, folder, {})


def test_a_stage_reads_what_was_kept(tmp_path: Path, labelled) -> None:
    images, labels = labelled
    scores = score_pictures(images, labels, "digits")
    written = stage(tmp_path, arr_0=images, labels=labels, seeds=np.arange(60), **scores)
    kept = written.picture_scores()
    assert kept is not None and kept.weights == str(scores["demo_cnn"]) and len(kept.weights) == 64
    np.testing.assert_array_equal(kept.confidence, scores["class_confidence"])
    np.testing.assert_array_equal(kept.features, scores["demo_features"])
    read, *_ = written.samples()
    np.testing.assert_array_equal(read, images)
    assert isinstance(read, np.memmap)  # not loaded whole


def test_an_evaluation_keeps_them(tmp_path: Path, make_model) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    protocol = Protocol(num_images=20, num_steps=2, seed=5)
    list(evaluate_into(folder, make_model(), bundled_data("digits"), protocol, cache=tmp_path / "cache"))
    written = Stage(0, folder, {})
    (images, labels, seeds), kept = written.samples(), written.picture_scores()
    assert seeds.tolist() == list(range(5, 25)) and kept.features.shape[0] == 20
    np.testing.assert_array_equal(kept.confidence, score_pictures(images, labels, "digits")["class_confidence"])
    accuracy = written.metrics()["fidelity"]["class accuracy (demo-cnn)"]["value"]
    assert (kept.seen_class == labels).mean() == pytest.approx(accuracy)


def test_a_stage_of_before_has_pictures_and_no_scores(tmp_path: Path, labelled) -> None:
    images, labels = labelled
    np.savez_compressed(tmp_path / "samples.npz", arr_0=images, labels=labels, seeds=np.arange(60))
    old = Stage(0, tmp_path, {})
    assert old.picture_scores() is None
    np.testing.assert_array_equal(old.samples()[0], images)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": np.arange(7)}, r"labels are int64 \(7,\), not 60"),
        ({"seeds": np.zeros(60)}, "seeds are float64"),
        ({"arr_0": np.zeros((60, 3, 8, 8), np.uint8)}, "not uint8"),
        ({"arr_0": np.zeros((60, 8, 8, 3), np.float32)}, "arr_0 is float32"),
    ],
)
def test_arrays_that_make_no_sense_are_one_line(tmp_path: Path, labelled, changes: dict, says: str) -> None:
    whole = {"arr_0": labelled[0], "labels": labelled[1], "seeds": np.arange(60)}
    with pytest.raises(AssetError, match=says):
        stage(tmp_path, **whole | changes).samples()


def test_scores_of_other_pictures_are_one_line(tmp_path: Path, labelled) -> None:
    images, labels = labelled
    scores = score_pictures(images[:50], labels[:50], "digits")
    with pytest.raises(AssetError, match="aren't those of 60 pictures"):
        stage(tmp_path, arr_0=images, labels=labels, seeds=np.arange(60), **scores).picture_scores()
