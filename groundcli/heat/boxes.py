"""Boxes from a heat map: by a share of the peak's heat for each side, calibrated on validation data; and other ways."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

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
AT_ONCE = 100  # heat maps that the authors' boxes are sought in together: about 10 MB


def sides_boxes(heatmaps: np.ndarray, size: tuple[int, int]) -> list[Boxes]:
    """Five boxes around the peak of each heat map, larger and smaller ones, best first.

    From the peak outwards a side lies where the maximum of a row or column falls below the side's share of the peak's
    heat for the first time: linear between the centres of cells, and at the image's border where it doesn't fall so
    low. Left and right come first, from whole columns; then top and bottom, from the rows between them; then left and
    right again, from the columns between top and bottom.

    Args:
        heatmaps: (P, M, M) of any real type, not negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        For each heat map boxes (x, y, width, height) in whole pixels of the image, each around the centre of the
        hottest cell, and as many scores: how often such a box matched on validation data, whatever the phrase. None for
        a flat heat map.
    """
    return _whole(boxes_at(heatmaps, size, np.outer([*MULTIPLES], SHARES)), size, [*MULTIPLES.values()])


# A box for each likelihood of being covered down to which it reaches, with the share of validation phrases that it
# matched, on images that the extent wasn't fitted to.
REACHES = {0.5: 0.47, 0.3: 0.44, 0.7: 0.42, 0.1: 0.33, 0.9: 0.25}


def extent_boxes(extents: np.ndarray, size: tuple[int, int]) -> list[Boxes]:
    """Five boxes around each phrase's point, best first, of how likely its thing's box covers each cell.

    Sides are found as those of `sides_boxes`, at the same likelihood all around.

    Args:
        extents: (P, M, M) of any real type, from 0 to 1, over the whole image; 1 at the phrase's point.
        size: (width, height) of the image.
    """
    return _whole(boxes_at(extents, size, np.outer([*REACHES], np.ones(3))), size, [*REACHES.values()])


def boxes_at(heatmaps: np.ndarray, size: tuple[int, int], shares: np.ndarray) -> np.ndarray:
    """(P, K, 4) boxes, one for each heat map (P, M, M) and row of shares (K, 3), as `SHARES` has them, each under 1.

    NaN for flat heat maps.
    """
    boxes = np.full((len(heatmaps), len(shares), 4), np.nan)
    some = heatmaps.max((1, 2)) > heatmaps.min((1, 2))
    heat = heatmaps[some, None].astype(np.float64)  # (P, 1, M, M), beside which the K shares have a dimension
    heat /= heat.max((2, 3), keepdims=True)
    side = heat.shape[-1]
    row, column = np.divmod(heat.reshape(len(heat), side * side).argmax(1), side)
    across, up, down = shares.T
    left, right = _sides(heat.max(2), column, across, across)
    above, below = _sides(_highest(heat, left, right), row, up, down)
    left, right = _sides(_highest(heat.swapaxes(2, 3), above, below), column, across, across)
    boxes[some] = np.stack([left, above, right - left, below - above], axis=-1) * (np.tile(size, 2) / side)
    return boxes


def _highest(heat: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The maximum of each row of heat (P, 1, M, M) over cells with centres from starts to ends (P, K): (P, K, M)."""
    centres = np.arange(heat.shape[-1]) + 0.5
    between = (centres >= start[..., None]) & (centres <= end[..., None])
    return np.where(between[:, :, None], heat, -np.inf).max(-1)


def _sides(heat: np.ndarray, peak: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where heat (P, K or 1, M) falls below shares (K) before and after its peak (P): twice (P, K), in cells."""
    side = heat.shape[-1]
    lines = np.stack([heat[..., ::-1], heat])  # both ways, (2, P, K or 1, M)
    start, share = np.stack([side - 1 - peak, peak]), np.stack([before, after])[:, None, :, None]
    lowest = np.minimum.accumulate(np.where(np.arange(side) < start[..., None, None], np.inf, lines), axis=-1)  # so far
    below = lowest < share  # from some cell to the last
    cell = side - below.sum(-1, keepdims=True)
    lowest = np.broadcast_to(lowest, below.shape)
    over, under = (np.take_along_axis(lowest, index, -1) for index in (cell - 1, cell.clip(max=side - 1)))
    along = np.divide(over - share, over - under, out=np.full(cell.shape, 0.5), where=cell < side)
    ends = (cell - 0.5 + along)[..., 0]
    return side - ends[0], ends[1]


def _whole(boxes: np.ndarray, size: tuple[int, int], scores: list[float]) -> list[Boxes]:
    """Boxes (P, K, 4) in whole pixels, each phrase's with their scores (K); none where they are NaN."""
    some = ~np.isnan(boxes[:, 0, 0])
    edges = whole_pixels(boxes[some], size).astype(float)
    whole = iter(np.concatenate([edges[..., :2], edges[..., 2:] - edges[..., :2]], axis=-1).tolist())
    return [([*map(tuple, next(whole))], scores) if any_box else ([], []) for any_box in some]


def _authors(heatmaps: np.ndarray, size: tuple[int, int]) -> list[Boxes]:
    """Equal heat maps, as of "a man" in two captions, are boxed once: it takes milliseconds."""
    once = {heat.tobytes(): heat for heat in heatmaps}
    maps = [*once.values()]
    parts = (np.stack(maps[start : start + AT_ONCE]) for start in range(0, len(maps), AT_ONCE))
    found = chain(*(authors_boxes(part, size) for part in parts))
    boxed = dict(zip(once, (_wide(*several) for several in found), strict=True))
    return [boxed[heat.tobytes()] for heat in heatmaps]


def _wide(boxes: list[Box], scores: list[float]) -> Boxes:
    """Those with any area: the authors' may have none."""
    kept = [i for i, (_, _, width, height) in enumerate(boxes) if min(width, height) > 0]
    return [boxes[i] for i in kept], [scores[i] for i in kept]


# From heat maps (P, M, M), or for `extents` from extents, and the image's size (width, height): for each, boxes (x, y,
# width, height) in pixels of the image, best first, and as many scores in (0, 1].
METHODS: Mapping[Method, Callable[[np.ndarray, tuple[int, int]], list[Boxes]]] = {
    "extents": extent_boxes,
    "sides": sides_boxes,
    "authors": _authors,
}


# --- How likely a box matches


def find_boxes(
    method: Method,
    heatmaps: np.ndarray,
    extents: np.ndarray,
    size: tuple[int, int],
    scores: Sequence[float] = (),
    calibration: Sequence[float] = (),
) -> list[Boxes]:
    """The boxes of a method, with how likely each matches a true one, where weights are calibrated for it.

    Arguments and result are as of `METHODS`; without extents, (P, 0, M), `sides` stands in for `extents`. `scores` (P)
    are the phrases', `calibration` is of `probability`, and was fitted to the boxes of `extents`, or of what stands in.
    """
    fitted: Method = "extents" if extents.size else "sides"
    method = fitted if method == "extents" else method
    found = METHODS[method](extents if method == "extents" else heatmaps, size)
    found = [
        several if some else ([], []) for several, some in zip(found, np.asarray(heatmaps.any((1, 2))), strict=True)
    ]
    boxed = [i for i, (boxes, _) in enumerate(found) if boxes]
    if method == fitted and calibration and scores and boxed:
        inputs = features([found[i][0] for i in boxed], size, [scores[i] for i in boxed])
        likely = iter(probability(inputs, calibration).tolist())
        found = [(boxes, [*islice(likely, len(boxes))]) for boxes, _ in found]
    return found


def features(boxes: Sequence[Sequence[Box]], sizes: ArrayLike, scores: Sequence[float]) -> np.ndarray:
    """What tells boxes that match from those that don't, (K, 3 + 5) float64 of the K boxes of P phrases together.

    Log odds of the phrase's score, and logarithm of its first box's share of the image and its square; then 1 for the
    box's own rank, 0 for the others. All but the rank is the phrase's, so that boxes keep their order: what makes a
    phrase's boxes likely, as a large thing does, says nothing about which of them is best. `boxes` are each phrase's,
    one at least, on images of `sizes`, one (width, height) or (P, 2); `scores` (P).
    """
    counts, firsts = [*map(len, boxes)], np.array([several[0] for several in boxes])
    large = np.log((firsts[:, 2:] / sizes).prod(1).clip(1e-6))
    share = np.clip(scores, 1e-4, 1 - 1e-4)
    common = np.stack([np.log(share / (1 - share)), large, large * large], axis=1)
    ranks = [rank for count in counts for rank in range(count)]
    return np.concatenate([np.repeat(common, counts, axis=0), np.eye(len(MULTIPLES))[ranks]], axis=1)
