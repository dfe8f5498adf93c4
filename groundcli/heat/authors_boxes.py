"""Boxes from a heat map, as the authors of the paper draw them (`heat2bbox` of their utils.py)."""

from collections.abc import Sequence

import numpy as np

from groundcli.data import Box
from groundcli.heat import axis

PEAK = 0.3  # a local peak counts from this share of the maximum on
FLOOR = 0.3  # a box holds what is hotter than this share of its peak
COVERED = 0.6  # a box is a double of another that covers more than this share of it
CANDIDATES = 3  # the best peaks that get a box
WORKING_SIDE = 1024  # longer images are worked on at this side: time and memory stay bounded
NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])  # SciPy's own, which it would make anew each time

_Axis = tuple[np.ndarray, np.ndarray]
_Edges = tuple[int, int, int, int]  # first column and row, last column and row


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
    from scipy import ndimage  # here, as it takes a third of a second to import

    cells = np.asarray(heatmap, dtype=np.float32)
    cells = cells - cells.min()
    if not cells.max() > 0:
        return [], []
    cells = cells / cells.max()
    scale = max(1.0, max(size) / WORKING_SIDE)
    width, height = (max(1, round(side / scale)) for side in size)
    down, across = (axis(pixels, len(cells)) for pixels in (height, width))
    # A peak is a cell that no neighbour tops, as scikit-image's peak_local_max has it, borders included.
    peaks = np.argwhere((cells == ndimage.maximum_filter(cells, size=3, mode="constant")) & (cells > PEAK))
    ys, xs = ((peaks + 0.5) * (height, width) / cells.shape).astype(int).T
    heat = ((down[0][ys] @ cells) * across[0][xs]).sum(1)
    best = [i for i in np.argsort(-heat, kind="stable")[:CANDIDATES] if heat[i] > 0]  # tiny images may miss a peak
    edges = [_region(cells, down, across, ys[i], xs[i], heat[i] * FLOOR) for i in best]
    kept = _without_doubles(edges)
    to_x, to_y = size[0] / width, size[1] / height
    boxes = [(x0 * to_x, y0 * to_y, (x1 - x0) * to_x, (y1 - y0) * to_y) for x0, y0, x1, y1 in (edges[i] for i in kept)]
    return boxes, [float(heat[best[i]]) for i in kept]


def _region(cells: np.ndarray, down: _Axis, across: _Axis, y: int, x: int, floor: float) -> _Edges:
    """The first and last pixels of what is connected with a turning pixel (y, x) above `floor`.

    Turning pixels tell (see `groundcli.heat`), with all rows and columns of the places between them that have two
    opposite hot corners, which may be connected through the middle. Beyond its outermost turning rows and columns the
    region reaches furthest along one that it holds, as heat is linear in between.
    """
    from scipy import ndimage

    def hot(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return down[0][rows] @ cells @ across[0][columns].T > floor

    rows, columns = down[1], across[1]
    corner = hot(rows, columns)
    opposite = (corner[:-1, :-1] == corner[1:, 1:]) & (corner[:-1, 1:] == corner[1:, :-1])
    opposite &= corner[1:, 1:] != corner[1:, :-1]
    if opposite.any():
        rows, columns = _filled(rows, opposite.any(1)), _filled(columns, opposite.any(0))
        corner = hot(rows, columns)
    regions, _ = ndimage.label(corner, NEIGHBOURS)
    own = regions == regions[np.searchsorted(rows, y), np.searchsorted(columns, x)]
    high, wide = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))

    def beyond(pixels: np.ndarray, last: int, step: int, held: np.ndarray, along: bool) -> int:
        """The outermost pixel of an axis from its turning pixel number `last` on, on the held lines of the other."""
        if not 0 <= last + step < len(pixels):
            return int(pixels[last])
        between = np.arange(pixels[last], pixels[last + step], step)
        some = hot(between, held).any(1) if along else hot(held, between).any(0)
        return int(pixels[last] + step * (np.count_nonzero(some) - 1))

    x0, x1 = (beyond(columns, at, step, rows[own[:, at]], False) for at, step in ((wide[0], -1), (wide[-1], 1)))
    y0, y1 = (beyond(rows, at, step, columns[own[at]], True) for at, step in ((high[0], -1), (high[-1], 1)))
    return x0, y0, x1, y1


def _filled(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some pixels of an axis, with all pixels in some of the places between two neighbours."""
    between = [np.arange(pixels[i] + 1, pixels[i + 1]) for i in np.flatnonzero(places)]
    return np.sort(np.concatenate([pixels, *between]))


def _without_doubles(edges: Sequence[_Edges]) -> list[int]:
    """The numbers of the boxes that stay."""
    dropped: set[int] = set()
    for second in range(len(edges)):
        for first in sorted({*range(second)} - dropped):
            of_second, of_first = _covered(edges[second], edges[first]), _covered(edges[first], edges[second])
            if max(of_second, of_first) > COVERED:
                dropped.add(second if of_second >= of_first else first)
    return [i for i in range(len(edges)) if i not in dropped]


def _covered(box: _Edges, other: _Edges) -> float:
    """The share of a box that another one covers."""
    (x0, y0, x1, y1), (other_x0, other_y0, other_x1, other_y1) = box, other
    across, down = min(x1, other_x1) - max(x0, other_x0), min(y1, other_y1) - max(y0, other_y0)
    area = (x1 - x0) * (y1 - y0)
    return max(across, 0) * max(down, 0) / area if area else 0.0
