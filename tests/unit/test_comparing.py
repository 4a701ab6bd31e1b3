from dataclasses import asdict

import pytest

from engine.evaluation.comparing import differences, higher_is_better
from engine.evaluation.protocol import Protocol


def _metrics(sha256: str = "a", data: str = "b", **changes) -> dict:
    return {
        "protocol": asdict(Protocol(**changes)),
        "features": {"name": "demo-cnn", "weights": "demo-cnn.safetensors", "sha256": sha256},
        "reference": {"name": "digits", "hash": data, "num_images": 100},
    }


def test_other_conditions_weights_or_data_keep_numbers_apart():
    assert differences(_metrics(), _metrics()) == []
    assert differences(_metrics(), _metrics(cfg_scale=4.0)) == ["cfg_scale"]
    assert differences(_metrics(), _metrics(sha256="c")) == ["weights of the features"]
    assert differences(_metrics(), _metrics(data="c")) == ["data"]
    assert differences(_metrics(), _metrics(sha256="c", features="inception")) == ["features"]


def test_older_files_are_compared_by_their_protocol():
    old = {"protocol": asdict(Protocol())}
    assert differences(old, _metrics()) == [] == differences(_metrics(), old)


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("FID (demo-cnn)", False),
        ("KID (inception)", False),
        ("IS (demo-cnn)", True),
        ("precision (dinov2)", True),
        ("recall (clip)", True),
        ("class accuracy (demo-cnn)", True),
    ],
)
def test_which_way_is_better(name, higher):
    assert higher_is_better(name) is higher
