"""What a picture of a training is drawn from."""

from itertools import pairwise

import numpy as np
import pytest

from engine.training.curves import label_rows, running_mean


@pytest.mark.parametrize("num", [1, 4, 5, 60, 400])
def test_the_running_mean_is_that_of_the_last_tenth(num):
    values = np.random.default_rng(num).normal(size=num)
    width = max(5, num // 10)
    wanted = [values[max(0, end - width) : end].mean() for end in range(1, num + 1)]
    np.testing.assert_allclose(running_mean(list(values)), wanted, rtol=1e-12)


def test_names_of_long_stages_stand_in_one_row():
    assert label_rows([0, 100, 200], 300, adapts=False) == [0, 0, 0]


def test_the_name_after_a_short_stage_stands_above_and_the_next_below_again():
    assert label_rows([0, 10, 200], 300, adapts=False) == [0, 1, 0]
    assert label_rows([0, 10, 20, 200], 300, adapts=False) == [0, 1, 2, 0]


def test_that_of_the_adaptation_takes_more_room():
    assert label_rows([0, 60, 200], 300, adapts=True) == [0, 1, 0]
    assert label_rows([0, 60, 200], 300, adapts=False) == [0, 0, 0]


def test_no_two_names_of_a_row_overlap():
    generator = np.random.default_rng(0)
    for _ in range(200):
        starts = np.concatenate([[0.0], np.sort(generator.uniform(0, 100, size=7))])
        rows = label_rows(list(starts), 100.0, adapts=False)
        for row in set(rows):
            mine = [start for start, its in zip(starts, rows, strict=True) if its == row]
            assert all(later - earlier >= 13.0 for earlier, later in pairwise(mine))
