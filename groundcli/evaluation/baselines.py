"""Points that need no model: what an accuracy has to beat."""

import numpy as np
from numpy.typing import ArrayLike

from groundcli.evaluation.metrics import covered_area


def center_point(size: tuple[int, int]) -> tuple[float, float]:
    """The middle (x, y) of an image of (width, height)."""
    return size[0] / 2, size[1] / 2


def random_hit_probability(boxes: ArrayLike, size: tuple[int, int], tolerance: float = 0) -> float:
    """Probability that a point drawn evenly from the image lies in any box: the share of the image under boxes.

    Args:
        boxes: (K, 4), (x, y, width, height) in pixels of the image; what lies outside it doesn't count.
        size: (width, height) of the image.
        tolerance: pixels by which each side of each box is moved outwards first.
    """
    grown = np.asarray(boxes, dtype=float).reshape(-1, 4) + tolerance * np.array([-1, -1, 2, 2])
    return covered_area(grown, size) / (size[0] * size[1])
