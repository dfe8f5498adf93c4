"""Boxes from a heat map, as the authors of the paper draw them (`heat2bbox` of their utils.py)."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from groundcli.data.sample import Box

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
    """A heat map resized to (width, height): bilinear, half-pixel centres, borders repeated; no more than is asked for.

    Attributes:
        cells: (M, M) float32 from 0 to 1.
        shape: (height, width).
    """

    def __init__(self, cells: np.ndarray, width: int, height: int):
        self.cells = cells
        self.shape = (height, width)
        self.rows, self.columns = (_bilinear(pixels, len(cells)) for pixels in self.shape)

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        """The heat of some rows and columns."""
        return self.rows[rows] @ self.cells @ self.columns[columns].T

    def region(self, y: int, x: int, floor: float) -> tuple[slice, slice]:
        """Rows and columns that hold all pixels above `floor` that are connected with a pixel.

        Where there is heat, so there is at one of the four cells around; a path from pixel to pixel meets the edges
        between cells with at least the floor, less what heat may change on the way to the next pixel.
        """
        step = len(self.cells) / min(self.shape)
        hot, _ = ndimage.label(self.cells > floor - step, structure=np.ones((3, 3)))
        around = np.nonzero(self.rows[y])[0], np.nonzero(self.columns[x])[0]
        regions = np.unique(hot[np.ix_(*around)])
        cells = np.isin(hot, regions[regions > 0])
        ends = []
        for weights, has in ((self.rows, cells.any(1)), (self.columns, cells.any(0))):
            touched = np.nonzero(weights @ has)[0]
            ends.append(slice(touched[0], touched[-1] + 1))
        return ends[0], ends[1]


def _bilinear(pixels: int, cells: int) -> np.ndarray:
    """How much each cell weighs in each pixel of one axis: (pixels, cells) float32, rows sum to 1."""
    position = np.clip((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5, 0, cells - 1)
    return np.clip(1 - abs(position[:, None] - np.arange(cells)), 0, None).astype(np.float32)


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
    rows, columns = pixels.region(y, x, floor)
    labels, _ = ndimage.label(pixels.part(rows, columns) > floor)
    own = labels == labels[y - rows.start, x - columns.start]
    (top, bottom), (left, right) = (np.nonzero(own.any(axis))[0][[0, -1]] for axis in (1, 0))
    x0, y0 = int(columns.start), int(rows.start)
    return _Candidate(x0 + int(left), y0 + int(top), x0 + int(right), y0 + int(bottom), float(value))


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
