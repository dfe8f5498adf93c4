import pytest

from groundcli.evaluation.baselines import center_point, random_hit_probability


def test_center_point() -> None:
    assert center_point((500, 375)) == (250, 187.5)


@pytest.mark.parametrize(
    ("boxes", "tolerance", "probability"),
    [
        ([(0, 0, 50, 100)], 0, 0.5),
        ([(0, 0, 50, 100), (25, 0, 50, 100)], 0, 0.75),
        ([(40, 40, 20, 20)], 10, 0.16),  # 40 x 40
        ([(0, 0, 20, 20)], 10, 0.09),  # it grows inside the image only
        ([(0, 0, 100, 100)], 10, 1),
    ],
)
def test_random_hit_probability(boxes: list, tolerance: float, probability: float) -> None:
    assert random_hit_probability(boxes, (100, 100), tolerance) == pytest.approx(probability)
