"""Boxes from a heat map, as the authors of the paper draw them (`heat2bbox` of their utils.py)."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from groundcli.data.sample import Box
from groundcli.grounding.points import resize

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
    heat = heat / heat.max()
    pixels = resize(torch.from_numpy(heat)[None], (width, height))[0].numpy()
    candidates = [_candidate(pixels, y, x) for y, x in _hottest(_peaks(heat), heat, pixels)]
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


def _peaks(heat: np.ndarray) -> np.ndarray:
    """Cells (K, 2), row before column, that no neighbour tops: scikit-image's peak_local_max, borders included."""
    top = ndimage.maximum_filter(heat, size=3, mode="constant")
    return np.argwhere((heat == top) & (heat > PEAK * heat.max()))


def _hottest(peaks: np.ndarray, heat: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Pixels (K, 2), row before column, at the centres of peak cells: the hottest `CANDIDATES`, hottest first."""
    centres = ((peaks + 0.5) * pixels.shape / heat.shape).astype(int)
    value = pixels[tuple(centres.T)]
    order = np.argsort(-value, kind="stable")[:CANDIDATES]
    return centres[order[value[order] > 0]]  # an image smaller than the grid may have no pixel on a peak


def _candidate(pixels: np.ndarray, y: int, x: int) -> _Candidate:
    """The box of the connected region around a peak."""
    labels, _ = ndimage.label(pixels > pixels[y, x] * FLOOR)
    rows, columns = ndimage.find_objects(labels)[labels[y, x] - 1]
    return _Candidate(columns.start, rows.start, columns.stop - 1, rows.stop - 1, float(pixels[y, x]))


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
