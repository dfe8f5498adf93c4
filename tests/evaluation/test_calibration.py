import numpy as np
import pytest
from groundcli.evaluation.calibration import calibration_summary, cross_validated, fit, reliability

from groundcli.heat import features, probability

TRUE = [0.5, 1.0, -2.0]


def drawn(count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Features, and hits as likely as the calibration `TRUE` says."""
    draw = np.random.default_rng(0)
    found = draw.normal(size=(count, 2))
    return found, (draw.random(count) < probability(found, TRUE)).astype(float)


def test_the_calibration_is_found_again() -> None:
    assert fit(*drawn()) == pytest.approx(TRUE, abs=0.1)


def test_what_is_right_always_stays_finite() -> None:
    found = np.array([[1.0, 1.0], [2.0, 0.0], [-np.inf, 0.0]])
    calibration = fit(found, np.array([1.0, 1.0, 0.0]))
    assert np.isfinite(calibration).all()
    assert probability(found, calibration)[2] == 0  # no heat, nothing found


def test_reliability() -> None:
    scores = np.array([0.05, 0.05, 0.95, 1.0])
    found = reliability(scores, np.array([0, 0, 1, 0]))
    assert [row["phrases"] for row in found["bins"]] == [2, 2]
    assert found["bins"][1]["score"] == pytest.approx(0.975)
    assert found["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.475)


def test_calibration_lowers_the_error_of_images_that_it_has_not_seen() -> None:
    found, hits = drawn(4000)
    images = np.repeat(np.arange(400), 10)
    raw = np.full(4000, 0.99)
    summary = calibration_summary(raw, hits, images, found, TRUE)
    assert summary["cross_validated"]["ece"] < 0.05 < summary["score"]["ece"]
    assert summary["weights"]["ece"] < 0.05
    assert cross_validated(found[:20], hits[:20], images[:20]) is None  # too few images


def test_heat_in_one_place_is_told_from_heat_everywhere() -> None:
    sharp, flat, none = np.zeros((16, 16)), np.full((16, 16), 0.5), np.zeros((16, 16))
    sharp[0, 15] = 0.5
    found = features(np.stack([sharp, flat, none]))
    assert found[0] == pytest.approx([np.log(0.5), 1])
    assert found[1] == pytest.approx([np.log(0.5), 9 / 256])  # 3 x 3 cells at a corner
    assert found[2].tolist() == [-np.inf, 0]
    assert probability(found, [0, 1, 1])[2] == 0
