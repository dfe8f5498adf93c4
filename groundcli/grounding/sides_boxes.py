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
SHARES = Shares(0.32, 0.46, 0.12)
# A box for each multiple of the shares, with the share of validation phrases that it matched (IoU >= 0.5). These
# numbers are from Flickr30k Entities' validation split; `benchmarks/boxes.py` finds them again.
MULTIPLES = {1.0: 0.41, 0.6: 0.36, 1.6: 0.30, 0.3: 0.28, 2.0: 0.13}


def sides_boxes(heatmap: np.ndarray, size: tuple[int, int]) -> tuple[list[Box], list[float]]:
    """Five boxes around the peak of a heat map, larger and smaller ones, best first.

    Each row and column counts by its maximum. From the peak outwards a side lies where that falls below the side's
    share of the peak's heat for the first time: linear between the centres of cells, and at the image's border where
    it doesn't fall so low.

    Args:
        heatmap: (M, M) of any real type, not negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        Boxes (x, y, width, height) in pixels of the image, each around the centre of the hottest cell, and as many
        scores: how often such a box matched on validation data, whatever the phrase. None for a flat heat map.
    """
    return boxes_at(heatmap, size, np.outer([*MULTIPLES], SHARES)), [*MULTIPLES.values()]


def boxes_at(heatmap: np.ndarray, size: tuple[int, int], shares: np.ndarray) -> list[Box]:
    """The box of each row of shares (K, 3), as `Shares` has them, each under 1; none for a flat heat map."""
    heat = np.asarray(heatmap, dtype=np.float64)
    top = heat.max()
    if not top > heat.min():
        return []
    m = len(heat)
    row, column = divmod(int(heat.argmax()), m)
    columns, rows = heat.max(0) / top, heat.max(1) / top
    across, up, down = shares.T
    x0 = column + 0.5 - _reach(columns[column::-1], across)
    x1 = column + 0.5 + _reach(columns[column:], across)
    y0 = row + 0.5 - _reach(rows[row::-1], up)
    y1 = row + 0.5 + _reach(rows[row:], down)
    to_x, to_y = size[0] / m, size[1] / m
    corners = np.stack([x0 * to_x, y0 * to_y, (x1 - x0) * to_x, (y1 - y0) * to_y], axis=1)
    return [(x, y, width, height) for x, y, width, height in corners.tolist()]


def _reach(heat: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How far from the first of some cells heat stays above shares (K), in cells; at most half a cell past the last."""
    falling = np.minimum.accumulate(heat)[::-1]
    return np.interp(shares, falling, np.arange(len(heat))[::-1], left=len(heat) - 0.5)
