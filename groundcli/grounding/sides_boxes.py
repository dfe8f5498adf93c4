"""Boxes from a heat map by a share of the peak's heat for each side, calibrated on validation data."""

from typing import NamedTuple

import numpy as np

from groundcli.data.sample import Box


class Shares(NamedTuple):
    """How much of the peak's heat a box reaches out to: to the left and right, up, and down."""

    across: float
    up: float
    down: float


# Heat sits in the upper part of most things, people above all: a box reaches down further than up.
SHARES = Shares(0.32, 0.48, 0.12)
# A box for each multiple of the shares, with the share of validation phrases that it matched (IoU >= 0.5). These
# numbers are from Flickr30k Entities' validation split; `benchmarks/boxes.py` finds them again.
MULTIPLES = {1.0: 0.41, 0.6: 0.36, 1.6: 0.30, 0.3: 0.28, 2.0: 0.13}


def sides_boxes(heatmap: np.ndarray, size: tuple[int, int]) -> tuple[list[Box], list[float]]:
    """Five boxes around the peak of a heat map, larger and smaller ones, best first.

    From the peak outwards a side lies where the maximum of a row or column falls below the side's share of the peak's
    heat for the first time: linear between the centres of cells, and at the image's border where it doesn't fall so
    low. Left and right come first, from whole columns; then top and bottom, from the rows between them; then left and
    right again, from the columns between top and bottom.

    Args:
        heatmap: (M, M) of any real type, not negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        Boxes (x, y, width, height) in pixels of the image, each around the centre of the hottest cell, and as many
        scores: how often such a box matched on validation data, whatever the phrase. None for a flat heat map.
    """
    boxes = boxes_at(heatmap, size, np.outer([*MULTIPLES], SHARES))
    return boxes, [*MULTIPLES.values()][: len(boxes)]


def boxes_at(heatmap: np.ndarray, size: tuple[int, int], shares: np.ndarray) -> list[Box]:
    """The box of each row of shares (K, 3), as `Shares` has them, each under 1; none for a flat heat map."""
    heat = np.asarray(heatmap, dtype=np.float64)
    top = heat.max()
    if not top > heat.min():
        return []
    heat = heat / top
    row, column = divmod(int(heat.argmax()), len(heat))
    across, up, down = shares.T
    x = _sides(np.tile(heat.max(0), (len(shares), 1)), column, across, across)
    y = _sides(_hottest(heat, x), row, up, down)
    x = _sides(_hottest(heat.T, y), column, across, across)
    to_x, to_y = size[0] / len(heat), size[1] / len(heat)
    boxes = np.stack([x[0] * to_x, y[0] * to_y, (x[1] - x[0]) * to_x, (y[1] - y[0]) * to_y], axis=1)
    return [(left, top, width, height) for left, top, width, height in boxes.tolist()]


def _hottest(heat: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The maximum of each row of (M, M) over the columns whose centres lie between two sides (2, K): (K, M)."""
    centres = np.arange(len(heat)) + 0.5
    between = (sides[0][:, None] <= centres) & (centres <= sides[1][:, None])
    return np.where(between[:, None], heat, 0).max(2)


def _sides(heat: np.ndarray, peak: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where heat (K, M) falls below shares (K) before and after a peak, in cells: (2, K)."""
    centre = peak + 0.5
    return np.stack([centre - _reach(heat[:, peak::-1], before), centre + _reach(heat[:, peak:], after)])


def _reach(heat: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How far from the first of some cells (K, n) heat stays above shares (K): in cells, half past the last at most."""
    falling = np.minimum.accumulate(heat, axis=1)
    count = (falling >= shares[:, None]).sum(1)
    each, last = np.arange(len(heat)), heat.shape[1] - 1
    inner, outer = falling[each, count - 1], falling[each, np.minimum(count, last)]
    beyond = np.divide(inner - shares, inner - outer, out=np.full(len(heat), 0.5), where=count <= last)
    return count - 1 + beyond
