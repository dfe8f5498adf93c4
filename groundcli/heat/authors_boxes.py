"""Boxes from a heat map, as the authors of the paper draw them (`heat2bbox` of their utils.py)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from groundcli.data import Box
from groundcli.heat import turning, weights

PEAK = 0.3  # a local peak counts from this share of the maximum on
FLOOR = 0.3  # a box holds what is hotter than this share of its peak
COVERED = 0.6  # a box is a double of another that covers more than this share of it
CANDIDATES = 3  # the best peaks that get a box
WORKING_SIDE = 1024  # longer images are worked on at this side: time and memory stay bounded


def authors_boxes(heatmap: np.ndarray, size: tuple[int, int]) -> tuple[list[Box], list[float]]:
    """The boxes of a heat map, best first, each with the normalised heat at its peak.

    Heat is scaled to [0, 1]. Each local peak (highest of its 3 x 3 cells and above 0.3) is looked up at the centre of
    its cell in the heat map resized to the image; the three with the most heat there get the box of the connected
    region (4-neighbours) above 0.3 of their own heat. Of two boxes where one is covered more than 0.6 by the other,
    the one that is covered more goes, even if its peak is higher; with equal shares the one with the lower peak.

    Args:
        heatmap: (M, M) of any real type, over the whole image.
        size: (width, height) of the image.

    Returns:
        Boxes (x, y, width, height) in pixels of the image and as many scores in (0, 1]; none for a flat heat map.
        As in the authors' code a box runs from its first to its last pixel, width = last - first, so one around
        the whole image is (0, 0, width - 1, height - 1). Images longer than `WORKING_SIDE` are worked on at that
        side and their boxes scaled up.
    """
    scale = max(1.0, max(size) / WORKING_SIDE)
    width, height = (max(1, round(side / scale)) for side in size)
    heat = np.asarray(heatmap, dtype=np.float32)
    heat = heat - heat.min()
    if not heat.max() > 0:
        return [], []
    pixels = _Pixels(heat / heat.max(), width, height)
    candidates = [_candidate(pixels, y, x, value) for y, x, value in _hottest(pixels)]
    kept = _without_doubles(candidates)
    to_x, to_y = size[0] / width, size[1] / height
    boxes = [(c.x0 * to_x, c.y0 * to_y, (c.x1 - c.x0) * to_x, (c.y1 - c.y0) * to_y) for c in kept]
    return boxes, [c.score for c in kept]


class _Candidate(NamedTuple):
    """A box by its first and last pixels."""

    x0: int
    y0: int
    x1: int
    y1: int
    score: float

    @property
    def area(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def covered_by(self, other: "_Candidate") -> float:
        across = max(min(self.x1, other.x1) - max(self.x0, other.x0), 0)
        down = max(min(self.y1, other.y1) - max(self.y0, other.y0), 0)
        return across * down / self.area if self.area else 0.0


class _Pixels:
    """A heat map resized to (width, height), no more of it than is asked for.

    All about its regions is decided by the turning pixels (see `groundcli.heat`).

    Attributes:
        cells: (M, M) float32 from 0 to 1.
        shape: (height, width).
        down, across: rows and columns of the turning pixels.
        turning: their heat, (Y, X).
    """

    def __init__(self, cells: np.ndarray, width: int, height: int):
        self.cells = cells
        self.shape = (height, width)
        self.rows, self.down = _axis(height, len(cells))
        self.columns, self.across = _axis(width, len(cells))
        self.turning = self.part(self.down, self.across)

    def part(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The heat of some rows and columns."""
        return self.rows[rows] @ self.cells @ self.columns[columns].T

    def region(self, y: int, x: int, floor: float) -> np.ndarray:
        """The turning pixels that are connected with one of them, above `floor`: (Y, X) bool."""
        hot = self.turning > floor
        labels, _ = ndimage.label(hot)
        own = {labels[np.searchsorted(self.down, y), np.searchsorted(self.across, x)]}
        pairs = [{labels[one], labels[other]} for one, other in self._bridges(hot, floor)]
        for _ in pairs:  # one may lead to another
            own = own.union(*(pair for pair in pairs if own & pair))
        return np.isin(labels, list(own))

    def _bridges(self, hot: np.ndarray, floor: float) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Turning pixels at opposite corners of a place between cells that are connected through its middle."""
        upper, lower = hot[:-1], hot[1:]
        falling = upper[:, :-1] & lower[:, 1:] & ~upper[:, 1:] & ~lower[:, :-1]
        rising = ~upper[:, :-1] & ~lower[:, 1:] & upper[:, 1:] & lower[:, :-1]
        bridges = []
        for i, j in np.argwhere(falling | rising):
            rows = np.arange(self.down[i], self.down[i + 1] + 1)
            columns = np.arange(self.across[j], self.across[j + 1] + 1)
            labels, _ = ndimage.label(self.part(rows, columns) > floor)
            left, right = (0, -1) if falling[i, j] else (-1, 0)
            if labels[left, 0] == labels[right, -1]:
                bridges.append(((i - left, j), (i - right, j + 1)))
        return bridges


@lru_cache(maxsize=16)
def _axis(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """How much each cell weighs in each pixel of an axis, (pixels, cells) float32, and the turning pixels."""
    return weights(pixels, cells).astype(np.float32), turning(pixels, cells)


def _hottest(pixels: _Pixels) -> list[tuple[int, int, float]]:
    """(y, x, heat) of pixels at the centres of peak cells, the hottest `CANDIDATES` of them, hottest first.

    A peak is a cell that no neighbour tops, as scikit-image's peak_local_max has it, borders included.
    """
    cells = pixels.cells
    top = ndimage.maximum_filter(cells, size=3, mode="constant")
    peaks = np.argwhere((cells == top) & (cells > PEAK * cells.max()))
    y, x = ((peaks + 0.5) * pixels.shape / cells.shape).astype(int).T
    value = ((pixels.rows[y] @ cells) * pixels.columns[x]).sum(1)
    order = np.argsort(-value, kind="stable")[:CANDIDATES]
    return [(y[i], x[i], value[i]) for i in order if value[i] > 0]  # a tiny image may have no pixel on a peak


def _candidate(pixels: _Pixels, y: int, x: int, value: float) -> _Candidate:
    """The box of the connected region around a peak."""
    floor = value * FLOOR
    own = pixels.region(y, x, floor)
    x0, x1 = _ends(own, pixels.across, pixels.rows[pixels.down] @ pixels.cells, pixels.columns, floor)
    y0, y1 = _ends(own.T, pixels.down, pixels.columns[pixels.across] @ pixels.cells.T, pixels.rows, floor)
    return _Candidate(x0, y0, x1, y1, float(value))


def _ends(own: np.ndarray, turning: np.ndarray, lines: np.ndarray, weights: np.ndarray, floor: float) -> list[int]:
    """First and last pixel of a region along an axis: it reaches furthest out on a line of turning pixels.

    Args:
        own: (lines, turning pixels of the axis) bool, which of them belong to the region.
        turning: indices of the turning pixels along the axis.
        lines: (lines, M), the heat of each line at the cells of the axis.
        weights: (pixels, M) of the axis, of `heat.weights`.
        floor: the region is hotter than this.
    """
    held = np.nonzero(own.any(0))[0]
    ends = []
    for at, step in ((held[0], -1), (held[-1], 1)):
        beyond = 0
        if 0 <= at + step < len(turning):
            outwards = np.arange(turning[at] + step, turning[at + step] + step, step)  # the last isn't hot
            hot = lines[own[:, at]] @ weights[outwards].T > floor
            beyond = int(hot.argmin(1).max())
        ends.append(int(turning[at]) + step * beyond)
    return ends


def _without_doubles(candidates: list[_Candidate]) -> list[_Candidate]:
    dropped: set[int] = set()
    for i, worse in enumerate(candidates):
        for j, better in enumerate(candidates[:i]):
            if j in dropped:
                continue
            of_worse, of_better = worse.covered_by(better), better.covered_by(worse)
            if max(of_worse, of_better) > COVERED:
                dropped.add(i if of_worse >= of_better else j)
    return [candidate for i, candidate in enumerate(candidates) if i not in dropped]
