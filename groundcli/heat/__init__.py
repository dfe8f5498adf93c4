"""From a heat map to a point, a mask, boxes and a confidence. Plain numpy: worker processes import it, and not torch.

A heat map is (M, M), over the whole image: cell (i, j) covers the i-th of M equal rows and the j-th of M equal columns.
At the size of its image it is bilinear, with half-pixel centres and borders repeated (as OpenCV has it). Between the
centres of two neighbouring cells heat is linear along every row and column. So whatever is sought among pixels is found
at the first and last pixel between each two, the turning pixels, however large the image.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from groundcli.data import Box

WINDOW = 8  # a window reaches side / WINDOW cells from the hottest cell, to every side
HOT = 0.5  # share of the heat map's maximum from which on a pixel belongs to the phrase


def resize(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A heat map (M, M) float in pixels of an image of (width, height): (height, width), in Fortran order."""
    width, height = size
    return _stretched(_stretched(heatmap, height).T, width).T


def weights(pixels: int, cells: int) -> np.ndarray:
    """How much each cell weighs in each pixel of one axis: (pixels, cells) float64; rows sum to 1."""
    positions = _positions(pixels, cells).clip(0, cells - 1)
    return np.asarray((1 - abs(positions[:, None] - np.arange(cells))).clip(0))


def turning(pixels: int, cells: int) -> np.ndarray:
    """Indices of the first and last pixel between each two cells of one axis, before the first and after the last."""
    between = np.floor(_positions(pixels, cells))
    change = between[1:] != between[:-1]
    return np.nonzero(np.append(True, change) | np.append(change, True))[0]


@lru_cache(maxsize=32)
def axis(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Of an axis `weights` in float32, and `turning`."""
    return weights(pixels, cells).astype(np.float32), turning(pixels, cells)


def _stretched(cells: np.ndarray, pixels: int, part: slice = np.s_[:]) -> np.ndarray:
    """Rows of cells (M, K) as rows of pixels (pixels, K), or a part of those.

    Not by a matrix product with `weights`: numpy's would take all cores, which have images of their own to work on.
    """
    positions = _positions(pixels, len(cells))[part].clip(0, len(cells) - 1)
    before = positions.astype(int)
    out = np.diff(cells, axis=0, append=cells[-1:]).take(before, axis=0)
    out *= (positions - before)[:, None].astype(cells.dtype)
    out += cells.take(before, axis=0)
    return out


def _positions(pixels: int, cells: int) -> np.ndarray:
    """Where each pixel's centre lies among the centres of the cells; below 0 before the first one."""
    return (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5


def peak(heatmaps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixel of the most heat once a heat map is resized to its image (paper, section 4).

    Of heat maps (P, M, M), any float type, on an image of (width, height): (P, 2) float32 points (x, y), whole pixels
    from 0 to (width - 1, height - 1); the first in reading order where several have the most heat. Only turning pixels
    are looked at (see above).
    """
    cells = heatmaps.astype(np.float32)
    (across, x), (down, y) = (axis(pixels, cells.shape[-1]) for pixels in size)
    heat = down[y] @ cells @ across[x].T  # (P, Y, X)
    best = heat.reshape(len(cells), len(y) * len(x)).argmax(1)
    return np.stack([x[best % len(x)], y[best // len(x)]], axis=-1).astype(np.float32)


def mask(heatmap: np.ndarray, size: tuple[int, int], box: Box | None) -> np.ndarray:
    """The pixels of a box that are as hot as it takes to reach all four of its sides: they fill it from side to side.

    Without a box, the pixels whose heat is at least half of the maximum and that are connected with the hottest one (4
    neighbours).

    Of a heat map (M, M), not negative, on an image of (width, height), and a box in pixels of it, which is taken as
    whole pixels, one at the least: (height, width) bool, in Fortran order, as RLE needs it; without a box and without
    any heat, none.
    """
    width, height = size
    out = np.zeros((height, width), dtype=bool, order="F")
    if box is None:
        from scipy import ndimage  # here, as it takes a third of a second to import

        heat = resize(heatmap, size)
        regions, _ = ndimage.label((heat > 0) & (heat >= HOT * heat.max()))
        hottest = regions[np.unravel_index(heat.argmax(), heat.shape)]
        out[:] = (regions == hottest) & (hottest > 0)
        return out
    left, top, right, bottom = whole_pixels(box, size).tolist()
    inside = _stretched(_stretched(heatmap, height, np.s_[top:bottom]).T, width, np.s_[left:right]).T
    sides = inside[0], inside[-1], inside[:, 0], inside[:, -1]
    out[top:bottom, left:right] = inside >= min(side.max() for side in sides)
    return out


def whole_pixels(boxes: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """The pixels that boxes (x, y, width, height) lie on, one at the least, of an image of (width, height).

    Of (..., 4) the first column and row, and those after the last: (..., 4) int64.
    """
    start, length = np.split(np.asarray(boxes, dtype=float), 2, axis=-1)
    first = np.rint(start).clip(0, np.subtract(size, 1))
    last = np.rint(start + length).clip(first + 1, size)
    return np.concatenate([first, last], axis=-1).astype(int)


# --- What tells right points from wrong ones, and present things from absent ones

FEATURES = ("log_peak", "near_peak")  # of `features`
# Of each phrase's last word that names something, and in the mean over all such words: what
# `groundcli.model.presence` gives, where the weights have it.
MEASURES = ("fit", "heat", "scene", "likely")
EVIDENCE = tuple(f"{which}_{name}" for which in ("head", "mean") for name in MEASURES)


def features(heatmaps: np.ndarray) -> np.ndarray:
    """What tells right points from wrong ones best, of heat maps (P, M, M), not negative: (P, 2) float64.

    Logarithm of the highest heat, and the share of all heat within M // 8 cells of it; without heat -inf and 0.
    """
    maps = heatmaps.astype(np.float64)
    count, side, _ = maps.shape
    cells = maps.reshape(count, side * side)
    hottest, total = cells.argmax(1), cells.sum(1)
    highest = cells[np.arange(count), hottest]
    rows, columns = (abs(np.arange(side) - at[:, None]) <= side // WINDOW for at in divmod(hottest, side))
    near = ((rows[:, None].astype(float) @ maps)[:, 0] * columns).sum(1)
    with np.errstate(divide="ignore"):
        return np.stack([np.log(highest), near / np.where(total > 0, total, 1)], axis=1)


def probability(features: np.ndarray, calibration: Sequence[float]) -> np.ndarray:
    """Platt's scaling (1999): the logistic function of a constant and one factor per feature.

    Of features (P, F), with evidence beside them where the calibration has factors for it, and that constant and those
    factors: (P) probabilities that the thing is there and the point is in its box; 0 where there is no heat.
    """
    constant, *factors = calibration
    some = np.isfinite(features).all(1)
    out = np.zeros(len(features))
    out[some] = 1 / (1 + np.exp(-(constant + features[some] @ np.array(factors))))
    return out
