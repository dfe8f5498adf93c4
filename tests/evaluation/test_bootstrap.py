import numpy as np
import pytest

from groundcli.evaluation.bootstrap import interval


def test_interval_of_a_coin() -> None:
    hits = np.repeat([0, 1], 200)
    low, high = interval(hits, np.ones(400))
    assert low == pytest.approx(0.5 - 1.96 * np.sqrt(0.25 / 400), abs=0.01)  # the normal approximation
    assert high == pytest.approx(0.5 + 1.96 * np.sqrt(0.25 / 400), abs=0.01)


def test_phrases_of_an_image_stand_together() -> None:
    one_each = interval(np.repeat([0, 1], 200), np.ones(400))
    ten_each = interval(np.repeat([0, 10], 20), np.full(40, 10))
    assert ten_each[1] - ten_each[0] > 2 * (one_each[1] - one_each[0])  # sqrt(10) times as wide


def test_equal_seeds_give_equal_intervals() -> None:
    hits, phrases = np.arange(50), np.full(50, 50)
    assert interval(hits, phrases) == interval(hits, phrases)
    assert interval(hits, phrases) != interval(hits, phrases, seed=1)


def test_all_hit() -> None:
    assert interval([2, 3], [2, 3]) == (1, 1)
