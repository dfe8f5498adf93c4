"""Points and boxes that need no word of the phrase: what a model has to beat."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from groundcli.data.sample import Box
from groundcli.evaluation.metrics import covered_area

CENTER, RANDOM, WHOLE_IMAGE, SENTENCE_REGION = "center", "random", "whole_image", "sentence_region"
HOT = 0.5  # share of the highest heat from which on a cell belongs to a region


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


def largest_region(heat: np.ndarray, size: tuple[int, int]) -> tuple[tuple[float, float], Box]:
    """The largest region of connected cells (4 neighbours) with at least half of the highest heat.

    Args:
        heat: (M, M), not negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        The centre of its hottest cell, and the box around its cells; in pixels of the image. Without heat, the centre
        and the whole image.
    """
    if not heat.max() > 0:
        return center_point(size), (0, 0, *size)
    regions, _ = ndimage.label(heat >= HOT * heat.max())
    own = regions == np.bincount(regions.ravel())[1:].argmax() + 1
    wide, high = size[0] / heat.shape[1], size[1] / heat.shape[0]
    row, column = divmod(int(np.where(own, heat, -1).argmax()), heat.shape[1])
    rows, columns = np.nonzero(own.any(1))[0], np.nonzero(own.any(0))[0]
    box = (columns[0] * wide, rows[0] * high, len(columns) * wide, len(rows) * high)
    return ((column + 0.5) * wide, (row + 0.5) * high), box
