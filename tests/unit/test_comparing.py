from dataclasses import asdict

import pytest

from engine.evaluation.comparing import best_of, beyond_noise, differences, higher_is_better, part_compared, speedup
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


def test_another_part_of_the_real_pictures_keeps_numbers_apart_and_is_said():
    every, part = _metrics(), _metrics()
    every["reference"]["num_images"] = part["reference"]["num_images"] = 30_000
    part["reference"]["num_compared"] = 20_000
    assert differences(every, part) == ["real pictures compared"] and differences(part, part) == []
    assert part_compared(every["reference"]) == ""
    assert part_compared(part["reference"]) == "KID, precision, recall and the noise floor by 20,000 of them"


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


def _number(value, half):
    return {"value": value, "low": value - half, "high": value + half}


@pytest.mark.parametrize(
    ("second", "floor", "apart"),
    [
        (_number(13.0, 0.9), None, True),
        (_number(12.0, 1.0), None, False),  # the ends touch
        (_number(13.0, 0.9), _number(2.0, 1.4), True),
        (_number(13.0, 0.9), _number(2.0, 1.6), False),  # a perfect generator moves by more than the gap
        (_number(13.0, 0.9), _number(60.0, 0.1), True),  # the floor's height is the same for both: its range counts
    ],
)
def test_numbers_are_told_apart_where_intervals_and_floor_allow(second, floor, apart):
    assert beyond_noise(_number(10.0, 1.0), second, floor=floor) is apart
    assert beyond_noise(second, _number(10.0, 1.0), floor=floor) is apart


def test_the_best_is_better_than_every_other():
    values = [_number(20.0, 1.0), _number(10.0, 1.0), _number(30.0, 1.0)]
    assert best_of("FID (demo-cnn)", values) == 1
    assert best_of("recall (demo-cnn)", values) == 2
    assert best_of("FID (demo-cnn)", [*values, _number(11.5, 1.0)]) is None
    assert best_of("FID (demo-cnn)", [*values, None]) == 1
    assert best_of("FID (demo-cnn)", [values[0], None]) is None
    assert best_of("FID (demo-cnn)", values, floor=_number(2.0, 6.0)) is None


def test_a_speedup_rests_on_what_was_timed_in_turns():
    def timed(median, low, high):
        return {"latency_ms": {"median": median, "low": low, "high": high}}

    metrics = {"efficiency": timed(5.0, 4.0, 8.0), "efficiency_of_intact": timed(10.0, 8.0, 12.0)}
    assert speedup(metrics) == {"value": 2.0, "low": 1.0, "high": 3.0}
    metrics["efficiency"]["speedup"] = {"value": 1.9, "low": 1.8, "high": 2.1}
    assert speedup(metrics) == {"value": 1.9, "low": 1.8, "high": 2.1}
    assert speedup({"efficiency": timed(5.0, 4.0, 8.0)}) is None
    assert speedup({"efficiency": {}, "efficiency_of_intact": timed(5.0, 4.0, 8.0)}) is None
