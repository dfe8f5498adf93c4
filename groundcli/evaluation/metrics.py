"""How well points, heat maps and boxes match true boxes. Pure functions of one phrase.

Boxes are (K, 4) arrays or sequences (x, y, width, height), points (x, y); all in pixels of one image.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Overlap = Literal["union", "sum"]


def pointing_hits(points: ArrayLike, boxes: ArrayLike, tolerance: float = 0) -> np.ndarray:
    """Which points lie in any of a phrase's boxes, edges included (the authors' `isCorrectHit`).

    Args:
        points: (N, 2).
        boxes: (K, 4).
        tolerance: pixels by which each side of each box is moved outwards first.

    Returns:
        (N) bool.
    """
    point = np.asarray(points, dtype=float).reshape(-1, 1, 2)
    low, high = np.split(corners(boxes), 2, axis=1)
    inside = ((point >= low - tolerance) & (point <= high + tolerance)).all(-1)  # (N, K)
    return np.asarray(inside.any(-1))


def attention_correctness(heat: np.ndarray, boxes: ArrayLike, overlap: Overlap = "union") -> float:
    """Share of heat inside a phrase's boxes; 0 where there is no heat (the authors' `attCorrectness`).

    A box holds the pixels from round(x) to round(x + width), the last one excluded, and so for y.

    Args:
        heat: (height, width), not negative, at the size of the image.
        boxes: (K, 4).
        overlap: "union" counts a pixel once; "sum" once for each box over it, as the authors do: it may exceed 1.
    """
    total = heat.sum(dtype=np.float64)
    if total <= 0:
        return 0.0
    covers = np.zeros(heat.shape, dtype=np.int32)
    for x0, y0, x1, y1 in np.rint(corners(boxes)).clip(0).astype(int):
        covers[y0:y1, x0:x1] += 1
    weight = covers if overlap == "sum" else covers > 0
    return float((heat * weight).sum(dtype=np.float64) / total)


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Intersection over union of boxes (A, 4) and (B, 4): (A, B); 0 for two boxes without area."""
    a, b = corners(a)[:, None], corners(b)[None]
    overlap = _area(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1))
    either = _area(a) + _area(b) - overlap
    return np.divide(overlap, either, out=np.zeros_like(overlap), where=either > 0)


def enclosing_iou(predicted: ArrayLike, true: ArrayLike) -> float:
    """IoU of the box around all predicted boxes and the box around all true ones; 0 where either has none.

    The authors call these boxes unions (`union`, `calc_correctness`): what lies between two boxes counts as covered.
    """
    if not (len(corners(predicted)) and len(corners(true))):
        return 0.0
    return float(box_iou([enclosing_box(predicted)], [enclosing_box(true)])[0, 0])


def enclosing_box(boxes: ArrayLike) -> np.ndarray:
    """The smallest box around boxes (K, 4), K >= 1: (4)."""
    all_corners = corners(boxes)
    low, high = all_corners[:, :2].min(0), all_corners[:, 2:].max(0)
    return np.concatenate([low, high - low])


def recall_at(ranked: ArrayLike, true: ArrayLike, k: int, iou: float = 0.5) -> bool:
    """Whether one of the first k of ranked boxes (A, 4) matches any true box (B, 4): box models' R@k, any-box."""
    return bool((box_iou(ranked, true)[:k] >= iou).any())


def covered_area(boxes: ArrayLike, size: tuple[int, int]) -> float:
    """Area of the image, (width, height), that lies under any of boxes (K, 4), in square pixels. Exact."""
    limits = np.array([*size, *size])
    x0, y0, x1, y1 = corners(boxes).clip(0, limits).T
    x, y = np.unique([x0, x1]), np.unique([y0, y1])  # between two neighbouring lines a box covers all or nothing
    across = (x0[:, None] <= x[:-1]) & (x[1:] <= x1[:, None])  # (K, X)
    down = (y0[:, None] <= y[:-1]) & (y[1:] <= y1[:, None])  # (K, Y)
    under = (down[:, :, None] & across[:, None, :]).any(0)  # (Y, X)
    return float(np.diff(y) @ under @ np.diff(x))


def corners(boxes: ArrayLike) -> np.ndarray:
    """Boxes (K, 4) as their corners (x0, y0, x1, y1): (K, 4) float64; K may be 0."""
    array = np.asarray(boxes, dtype=float).reshape(-1, 4)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)


def _area(corner: np.ndarray) -> np.ndarray:
    sides = (corner[..., 2:] - corner[..., :2]).clip(0)
    return sides[..., 0] * sides[..., 1]
