"""Boxes from a heat map: by a share of the peak's heat for each side, calibrated on validation data; and other ways."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from groundcli.data import Box
from groundcli.heat import probability, whole_pixels
from groundcli.heat.authors_boxes import authors_boxes

# How much of the peak's heat a box reaches out to: to the left and right, up, and down. Heat sits in the upper part of
# most things, people above all: a box reaches down further than up.
SHARES = (0.50, 0.50, 0.20)
# A box for each multiple of the shares, with the share of validation phrases that it matched (IoU >= 0.5). These
# numbers are from Flickr30k Entities' validation split; `benchmarks/boxes.py` finds them again.
MULTIPLES = {1.0: 0.42, 1.4: 0.38, 0.6: 0.35, 0.3: 0.28, 1.8: 0.20}

Method = Literal["extents", "sides", "authors"]
Boxes = tuple[list[Box], list[float]]
DEFAULT: Method = "extents"


def sides_boxes(heatmap: np.ndarray, size: tuple[int, int]) -> Boxes:
    """Five boxes around the peak of a heat map, larger and smaller ones, best first.

    From the peak outwards a side lies where the maximum of a row or column falls below the side's share of the peak's
    heat for the first time: linear between the centres of cells, and at the image's border where it doesn't fall so
    low. Left and right come first, from whole columns; then top and bottom, from the rows between them; then left and
    right again, from the columns between top and bottom.

    Args:
        heatmap: (M, M) of any real type, not negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        Boxes (x, y, width, height) in whole pixels of the image, each around the centre of the hottest cell, and as
        many scores: how often such a box matched on validation data, whatever the phrase. None for a flat heat map.
    """
    boxes = _whole(boxes_at(heatmap, size, np.outer([*MULTIPLES], SHARES)), size)
    return boxes, [*MULTIPLES.values()][: len(boxes)]


def _whole(boxes: Sequence[Box], size: tuple[int, int]) -> list[Box]:
    """Boxes in whole pixels."""
    sides = (whole_pixels(box, size) for box in boxes)
    return [(float(left), float(top), float(right - left), float(bottom - top)) for left, top, right, bottom in sides]


# A box for each likelihood of being covered down to which it reaches, with the share of validation phrases that it
# matched, on images that the extent wasn't fitted to.
REACHES = {0.5: 0.47, 0.3: 0.44, 0.7: 0.42, 0.1: 0.33, 0.9: 0.25}


def extent_boxes(extent: np.ndarray, size: tuple[int, int]) -> Boxes:
    """Five boxes around a phrase's point, best first, of how likely its thing's box covers each cell.

    Sides are found as those of `sides_boxes`, at the same likelihood all around.

    Args:
        extent: (M, M) of any real type, from 0 to 1, over the whole image; 1 at the phrase's point.
        size: (width, height) of the image.
    """
    return _whole(boxes_at(extent, size, np.outer([*REACHES], np.ones(3))), size), [*REACHES.values()]


def boxes_at(heatmap: np.ndarray, size: tuple[int, int], shares: np.ndarray) -> list[Box]:
    """The box of each row of shares (K, 3), as `SHARES` has them, each under 1; none for a flat heat map."""
    heat = np.asarray(heatmap, dtype=np.float64)
    top = heat.max()
    if not top > heat.min():
        return []
    heat = heat / top
    row, column = divmod(int(heat.argmax()), len(heat))
    to_x, to_y = size[0] / len(heat), size[1] / len(heat)
    columns, boxes = heat.max(0), []
    for across, up, down in shares.tolist():
        left, right = _sides(columns, column, across, across)
        above, below = _sides(heat[:, _between(left, right)].max(1), row, up, down)
        left, right = _sides(heat[_between(above, below)].max(0), column, across, across)
        boxes.append((left * to_x, above * to_y, (right - left) * to_x, (below - above) * to_y))
    return boxes


def _between(start: float, end: float) -> slice:
    """The cells whose centres lie between two sides."""
    return slice(math.ceil(start - 0.5), math.floor(end + 0.5))


def _sides(heat: np.ndarray, peak: int, before: float, after: float) -> tuple[float, float]:
    """Where heat (M) falls below a share before and after its peak, in cells."""
    cells, centre = heat.tolist(), peak + 0.5
    return centre - _reach(cells[peak::-1], before), centre + _reach(cells[peak:], after)


def _reach(heat: Sequence[float], share: float) -> float:
    """How far from the first of some cells heat stays above a share: in cells, half past the last at most."""
    lowest = heat[0]
    for i, value in enumerate(heat):
        if value < share:
            return i - 1 + (lowest - share) / (lowest - value)
        lowest = min(lowest, value)
    return len(heat) - 0.5


# From a heat map (M, M), or for `extents` from an extent, and the image's size (width, height): boxes (x, y, width,
# height) in pixels of the image, best first, and as many scores in (0, 1].
METHODS: Mapping[Method, Callable[[np.ndarray, tuple[int, int]], Boxes]] = {
    "extents": extent_boxes,
    "sides": sides_boxes,
    "authors": authors_boxes,
}


# --- How likely a box matches


def find_boxes(
    method: Method,
    heatmap: np.ndarray,
    extent: np.ndarray,
    size: tuple[int, int],
    score: float = 0.0,
    calibration: Sequence[float] = (),
) -> Boxes:
    """The boxes of a method, with how likely each matches a true one, where weights are calibrated for it.

    Arguments and result are as of `METHODS`; without an extent, (0, M), `sides` stands in for `extents`. `score` is the
    phrase's, `calibration` is of `probability`, and was fitted to the boxes of `extents`, or of what stands in.
    """
    fitted: Method = "extents" if extent.size else "sides"
    method = fitted if method == "extents" else method
    boxes, scores = METHODS[method](extent if method == "extents" else heatmap, size) if heatmap.any() else ([], [])
    kept = [i for i, (_, _, width, height) in enumerate(boxes) if min(width, height) > 0]  # authors' may have no width
    boxes, scores = [boxes[i] for i in kept], [scores[i] for i in kept]
    if method == fitted and calibration and boxes:
        scores = probability(features(boxes, size, score), calibration).tolist()
    return boxes, scores


def features(boxes: Sequence[Box], size: tuple[int, int], score: float) -> np.ndarray:
    """What tells boxes that match from those that don't, the boxes of a phrase of a score: (K, 3 + 5) float64.

    Log odds of the score, and logarithm of the first box's share of the image and its square; then 1 for the box's own
    rank, 0 for the others. All but the rank is the phrase's, so that boxes keep their order: what makes a phrase's
    boxes likely, as a large thing does, says nothing about which of them is best.
    """
    _, _, width, height = boxes[0]
    large = math.log(max(width * height / (size[0] * size[1]), 1e-6))
    share = min(max(score, 1e-4), 1 - 1e-4)
    common = [math.log(share / (1 - share)), large, large * large]
    return np.concatenate([np.tile(common, (len(boxes), 1)), np.eye(len(MULTIPLES))[: len(boxes)]], axis=1)
