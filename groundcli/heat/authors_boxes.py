"""Boxes from heat maps, as the authors of the paper draw them (`heat2bbox` of their utils.py)."""

from collections.abc import Sequence

import numpy as np

from groundcli.data import Box
from groundcli.heat import axis

PEAK = 0.3  # a local peak counts from this share of the maximum on
FLOOR = 0.3  # a box holds what is hotter than this share of its peak
COVERED = 0.6  # a box is a double of another that covers more than this share of it
CANDIDATES = 3  # the best peaks that get a box
WORKING_SIDE = 1024  # longer images are worked on at this side: time and memory stay bounded

_Axis = tuple[np.ndarray, np.ndarray]  # of `axis`: weights, and pixels
_Edges = Sequence[int]  # first column and row, last column and row


def authors_boxes(heatmaps: np.ndarray, size: tuple[int, int]) -> list[tuple[list[Box], list[float]]]:
    """The boxes of each heat map, best first, each with the normalised heat at its peak.

    Heat is scaled to [0, 1]. Each local peak (highest of its 3 x 3 cells and above 0.3) is looked up at the centre of
    its cell in the heat map resized to the image; the three with the most heat there get the box of the connected
    region (4-neighbours) above 0.3 of their own heat. Of two boxes where one is covered more than 0.6 by the other,
    the one that is covered more goes, even if its peak is higher; with equal shares the one with the lower peak.

    Args:
        heatmaps: (P, M, M) of any real type, over the whole image.
        size: (width, height) of the image.

    Returns:
        For each heat map boxes (x, y, width, height) in pixels of the image and as many scores in (0, 1]; none for a
        flat one. As in the authors' code a box runs from its first to its last pixel, width = last - first, so one
        around the whole image is (0, 0, width - 1, height - 1). Images longer than `WORKING_SIDE` are worked on at that
        side and their boxes scaled up.
    """
    from scipy import ndimage  # here, as it takes a third of a second to import

    cells = heatmaps.astype(np.float32)
    cells -= cells.min((1, 2), keepdims=True)
    highest = cells.max((1, 2), keepdims=True)
    cells /= np.where(highest > 0, highest, 1)
    scale = max(1.0, max(size) / WORKING_SIDE)
    width, height = (max(1, round(side / scale)) for side in size)
    side = cells.shape[-1]
    down, across = axis(height, side), axis(width, side)
    # A peak is a cell that no neighbour tops, as scikit-image's peak_local_max has it, borders included.
    peaks = (cells == ndimage.maximum_filter(cells, size=(1, 3, 3), mode="constant")) & (cells > PEAK)
    phrase, *cell = np.nonzero(peaks)
    y, x = (((at + 0.5) * pixels / side).astype(int) for at, pixels in zip(cell, (height, width), strict=True))
    heat = _at_pixels(cells, down, across)
    score = heat[phrase, np.searchsorted(down[1], y), np.searchsorted(across[1], x)]
    order = np.lexsort((-score, phrase))  # the best of each phrase first
    rank = np.arange(len(order)) - np.searchsorted(phrase[order], phrase[order])
    best = order[(rank < CANDIDATES) & (score[order] > 0)]  # tiny images may miss a peak
    phrase, score = phrase[best], score[best]
    edges = _edges(heat[phrase], cells[phrase], score * FLOOR, y[best], x[best], down, across).tolist()
    to_x, to_y = size[0] / width, size[1] / height
    found: list[tuple[list[Box], list[float]]] = []
    for first, last in np.searchsorted(phrase, [np.arange(len(cells)), np.arange(len(cells)) + 1]).T.tolist():
        kept = [first + i for i in _without_doubles(edges[first:last])]
        corners = (edges[i] for i in kept)
        boxes = [(x0 * to_x, y0 * to_y, (x1 - x0) * to_x, (y1 - y0) * to_y) for x0, y0, x1, y1 in corners]
        found.append((boxes, score[kept].tolist()))
    return found


def _at_pixels(cells: np.ndarray, down: _Axis, across: _Axis) -> np.ndarray:
    """Heat maps (R, M, M) at some rows and columns of pixels, (R, Y, X)."""
    return np.asarray(down[0][down[1]] @ cells @ across[0][across[1]].T)


def _edges(
    heat: np.ndarray, cells: np.ndarray, floors: np.ndarray, y: np.ndarray, x: np.ndarray, down: _Axis, across: _Axis
) -> np.ndarray:
    """The first column and row and the last ones of what is connected with a pixel (y, x) above a floor, (R, 4).

    Of R regions: heat (R, Y, X) of `_at_pixels`, cells (R, M, M), floors, y and x (R). Turning pixels tell (see
    `groundcli.heat`), with all rows and columns of the places between them that have two opposite hot corners, which
    may be connected through the middle.
    """
    from scipy import ndimage

    hot = heat > floors[:, None, None]
    apart = np.pad(hot, ((0, 0), (0, 1), (0, 0)))  # a cold row below each, so that one labelling does for all
    regions = ndimage.label(apart.reshape(-1, hot.shape[2]))[0].reshape(apart.shape)[:, :-1]
    peaks = regions[np.arange(len(hot)), np.searchsorted(down[1], y), np.searchsorted(across[1], x)]
    own = regions == peaks[:, None, None]
    columns, rows = _ends(heat, own, floors, across[1]), _ends(heat.swapaxes(1, 2), own.swapaxes(1, 2), floors, down[1])
    edges = np.stack([columns[0], rows[0], columns[1], rows[1]], axis=-1)
    opposite = (hot[:, :-1, :-1] == hot[:, 1:, 1:]) & (hot[:, :-1, 1:] == hot[:, 1:, :-1])
    opposite &= hot[:, 1:, 1:] != hot[:, 1:, :-1]
    for i in np.flatnonzero(opposite.any((1, 2))):
        more = _filled(down, opposite[i].any(1)), _filled(across, opposite[i].any(0))
        if len(more[0][1]) + len(more[1][1]) > sum(heat.shape[1:]):
            one = np.s_[i : i + 1]
            edges[i] = _edges(_at_pixels(cells[one], *more), cells[one], floors[one], y[one], x[one], *more)[0]
    return edges


def _filled(axis: _Axis, places: np.ndarray) -> _Axis:
    """An axis, with all pixels in some of the places between two neighbours."""
    pixels = axis[1]
    between = [np.arange(pixels[i] + 1, pixels[i + 1]) for i in np.flatnonzero(places)]
    return axis[0], np.sort(np.concatenate([pixels, *between]))


def _ends(heat: np.ndarray, own: np.ndarray, floors: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last pixel of regions along the last axis, twice (R): of heat and what is its own, (R, Y, X).

    Beyond its outermost turning pixels a region reaches furthest along a line that it holds, as heat is linear there.
    """
    each = np.arange(len(heat))

    def first(heat: np.ndarray, own: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        at = own.any(1).argmax(1)
        before = np.maximum(at - 1, 0)
        inside, outside = heat[each, :, at], heat[each, :, before]
        held = own[each, :, at] & (at > 0)[:, None]
        share = np.divide(inside - floors[:, None], inside - outside, out=np.zeros_like(inside), where=held).max(1)
        beyond = np.ceil(share * (pixels[at] - pixels[before])).astype(int) - 1
        return np.asarray(pixels[at] - beyond.clip(0))

    return first(heat, own, pixels), -first(heat[..., ::-1], own[..., ::-1], -pixels[::-1])


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
