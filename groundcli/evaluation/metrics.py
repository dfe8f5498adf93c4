"""How well points, heat maps and boxes match true boxes, and which of them a protocol counts. Pure functions.

Boxes are (..., K, 4) arrays or sequences (x, y, width, height), points (x, y); all in pixels of one image.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from groundcli.data import Box, Caption, Phrase, Sample
from groundcli.data.phrases import content_keys
from groundcli.evaluation import Protocol
from groundcli.heat import EVIDENCE, FEATURES, weights

Overlap = Literal["union", "sum"]

IOU = 0.5  # from which on boxes match
LARGE = 0.9  # share of the image from which on the authors leave a predicted box out
SMALL = 0.05  # and below which they leave a phrase out: a filter that their paper doesn't mention
MISSES = {"hit": 0.0, "attention": 0.0, "iou": 0.0, "any_rank": np.inf, "merged_rank": np.inf}


# --- Which phrases and boxes count. A number means nothing without the protocol that gave it.


@dataclass(frozen=True)
class Truth:
    """The scored phrases of an image, P of them, caption by caption."""

    sample: Sample  # with all its phrases
    size: tuple[int, int]  # (width, height) of the upright image in pixels
    captions: Sequence[Caption]  # all, in order, with their scored phrases only
    phrases: Sequence[Phrase]  # (P)
    boxes: np.ndarray  # (P, B, 4), of `stacked`
    skipped: Counter[str]  # how many phrases aren't scored, by reason
    absent: Sequence[Caption] = ()  # captions of other images, each with one phrase that isn't in this one

    @classmethod
    def of(cls, sample: Sample, size: tuple[int, int], protocol: Protocol, absent: Sequence[Caption] = ()) -> "Truth":
        """What a protocol counts of an image of (width, height); as many absent phrases at most as are scored."""
        captions = [replace(c, phrases=scored_phrases(c, size, protocol)) for c in sample.captions]
        phrases = [phrase for caption in captions for phrase in caption.phrases]
        reasons = (skip_reason(phrase, size, protocol) for caption in sample.captions for phrase in caption.phrases)
        boxes = stacked([phrase.boxes for phrase in phrases])
        return cls(sample, size, captions, phrases, boxes, Counter(filter(None, reasons)), absent[: len(phrases)])


def scored_phrases(caption: Caption, size: tuple[int, int], protocol: Protocol) -> tuple[Phrase, ...]:
    """The phrases of a caption that a protocol scores, in order, on an image of (width, height)."""
    return tuple(phrase for phrase in caption.phrases if not skip_reason(phrase, size, protocol))


def skip_reason(phrase: Phrase, size: tuple[int, int], protocol: Protocol) -> str:
    """Why a protocol doesn't score a phrase; "" where it does.

    "default" scores every phrase with a box. "authors" also leaves out what the annotators called `notvisual`, and
    phrases whose enclosing box covers less than 5 % of the image (`check_percent` in the authors' code).
    """
    if protocol == "authors" and phrase.category == "notvisual":
        return "notvisual"
    if not phrase.boxes:
        return "no_box"
    if protocol == "authors":
        _, _, width, height = enclosing_box(phrase.boxes)
        if width / size[0] * (height / size[1]) < SMALL:
            return "small_box"
    return ""


def draw_absent(samples: Sequence[Sample], seed: int = 0) -> Iterator[list[Caption]]:
    """For each image phrases of the others that aren't in it, as many as it has phrases with boxes, drawn evenly.

    A phrase counts as absent where none of its content words is in any caption of the image, in whatever form; it has
    one at least. Texts come once per image. Each phrase stays in its own caption, as context may matter. Of COCO's
    categories, which are captions themselves, these are categories without an instance.
    """
    draw = np.random.default_rng(seed)
    known: dict[str, tuple[set[str], Caption]] = {}
    for caption in (caption for sample in samples for caption in sample.captions):
        for phrase in (phrase for phrase in caption.phrases if phrase.boxes):
            if phrase.text.lower() not in known:
                known[phrase.text.lower()] = content_keys(phrase.text), replace(caption, phrases=(phrase,))
    pool = list(known.values())
    for sample in samples:
        said = set().union(*(content_keys(caption.text) for caption in sample.captions))
        wanted = sum(bool(phrase.boxes) for caption in sample.captions for phrase in caption.phrases)
        order = (pool[i] for i in draw.permutation(len(pool)))
        yield list(islice((caption for keys, caption in order if keys and not keys & said), wanted))


def counted_boxes(boxes: Sequence[Box], size: tuple[int, int], protocol: Protocol) -> list[Box]:
    """The predicted boxes that a protocol measures, in order: "authors" leaves out those of 90 % of the image or more
    (`filter_bbox` in the authors' code)."""
    if protocol == "default":
        return list(boxes)
    return [box for box in boxes if box[2] / size[0] * (box[3] / size[1]) < LARGE]


# --- What a system says, measured


@dataclass(frozen=True)
class Predicted:
    """What one system says of the P scored phrases of an image; None is what it says nothing of."""

    points: np.ndarray | None = None  # (P, 2), (x, y) in pixels of the image, NaN where a phrase has none
    chances: np.ndarray | None = None  # (P), in place of points: how likely each is right, from 0 to 1
    boxes: Sequence[Sequence[Box]] | None = None  # P lists, best first
    heat: np.ndarray | None = None  # (P, M, M), not negative
    box_scores: Sequence[Sequence[float]] | None = None  # as many, from 0 to 1
    scores: np.ndarray | None = None  # (P); 0 where nothing was found
    features: np.ndarray | None = None  # (P, F), of `heat.FEATURES` and, where there is any, `heat.EVIDENCE`
    levels: np.ndarray | None = None  # (P), indices of visual levels


def measure(truth: Truth, predicted: Predicted, protocol: Protocol, tolerance: float) -> dict[str, np.ndarray]:
    """What is kept of a system: columns of the table (see `rows`), (P) each, for as much as there is to measure.

    Under "authors" a phrase with score 0 is a miss in everything.
    """
    columns = {}
    if predicted.chances is not None:
        columns["hit"] = predicted.chances
    if predicted.points is not None:
        columns |= dict(zip(("x", "y"), predicted.points.T, strict=True))
        columns["hit"] = pointing_hits(predicted.points, truth.boxes, tolerance).astype(float)
    if predicted.heat is not None:
        overlap: Overlap = "sum" if protocol == "authors" else "union"
        columns["attention"] = attention_correctness(predicted.heat, truth.boxes, truth.size, overlap)
    if predicted.boxes is not None:
        counted = [counted_boxes(boxes, truth.size, protocol) for boxes in predicted.boxes]
        boxes = stacked(counted)
        columns["boxes"] = np.array([len(boxes) for boxes in counted], dtype=float)
        columns |= dict(zip(("box_x", "box_y", "box_width", "box_height"), boxes[:, 0].T, strict=True))
        columns["iou"] = enclosing_iou(boxes, truth.boxes)
        columns["any_rank"] = first_match(boxes, truth.boxes)
        columns["merged_rank"] = first_match(boxes, enclosing_box(truth.boxes)[:, None])
    if predicted.levels is not None:
        columns["level"] = predicted.levels
    if predicted.features is not None:
        columns |= dict(zip((*FEATURES, *EVIDENCE), predicted.features.T, strict=False))
    if predicted.scores is not None:
        columns["score"] = predicted.scores
        if protocol == "authors":
            lost = predicted.scores == 0
            columns |= {name: np.where(lost, miss, columns[name]) for name, miss in MISSES.items() if name in columns}
    return columns


def pointing_hits(points: ArrayLike, boxes: ArrayLike, tolerance: float = 0) -> np.ndarray:
    """Which points lie in any of a phrase's boxes, edges included (the authors' `isCorrectHit`): (N) bool.

    Of points (N, 2), where NaN is none, and no hit; boxes (K, 4), or (N, K, 4) with other ones for each point; and by
    how many pixels each side of each box is moved outwards first.
    """
    point = np.asarray(points, dtype=float).reshape(-1, 1, 2)
    edges = corners(boxes)
    low, high = edges[..., :2], edges[..., 2:]
    inside = ((point >= low - tolerance) & (point <= high + tolerance)).all(-1)  # (N, K)
    return np.asarray(inside.any(-1))


def attention_correctness(
    heat: np.ndarray, boxes: ArrayLike, size: tuple[int, int], overlap: Overlap = "union"
) -> np.ndarray:
    """Share of heat inside each phrase's boxes; 0 where there is no heat (the authors' `attCorrectness`).

    The heat is that of all pixels of the heat map resized to the image, bilinear; none is made: the heat of a
    rectangle is r' H c, where r and c say how much the cells weigh in its rows and columns together.

    Of cells (..., rows, columns), not negative, over an image of (width, height), and boxes (..., K, 4), of which those
    at NaN hold nothing: (...). A box holds the pixels from round(x) to round(x + width), the last one excluded, and so
    for y. The overlap "union" counts a pixel once, "sum" once for each box over it, as the authors do: it may exceed 1.
    """
    across, down = _summed_weights(size[0], heat.shape[-1]), _summed_weights(size[1], heat.shape[-2])
    total = np.asarray(down[-1] @ heat @ across[-1])
    counts, x, y = _coverage(np.rint(corners(boxes)).clip(0, [*size, *size]))
    columns, rows = (np.diff(each[at.astype(int)], axis=-2) for each, at in ((across, x), (down, y)))
    inside = (rows @ heat @ columns.swapaxes(-1, -2) * (counts if overlap == "sum" else counts > 0)).sum((-1, -2))
    return np.divide(inside, total, out=np.zeros(total.shape), where=total > 0)


@lru_cache(maxsize=16)
def _summed_weights(pixels: int, cells: int) -> np.ndarray:
    """How much each cell weighs in the first 0, 1, ... `pixels` pixels of an axis together: (pixels + 1, cells)."""
    return np.concatenate([np.zeros((1, cells)), weights(pixels, cells).cumsum(0)])


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Intersection over union of boxes (..., A, 4) and (..., B, 4): (..., A, B); 0 for two boxes without area."""
    a, b = corners(a)[..., :, None, :], corners(b)[..., None, :, :]
    overlap = _area(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1))
    either = _area(a) + _area(b) - overlap
    return np.divide(overlap, either, out=np.zeros_like(overlap), where=either > 0)


def enclosing_iou(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU of the box around all predicted boxes, (P, A, 4), and that around all true ones, (P, B, 4): (P); 0 for none.

    The authors call these boxes unions (`union`, `calc_correctness`): what lies between two boxes counts as covered.
    """
    return box_iou(enclosing_box(predicted)[:, None], enclosing_box(true)[:, None])[:, 0, 0]


def first_match(ranked: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The rank, from 1, of the first of P phrases' boxes that matches any true one: R@k holds where it is at most k.

    Of boxes (P, A, 4), best first, and true ones (P, B, 4), of `stacked`: (P) float64, infinite where none matches.
    """
    matches = (box_iou(ranked, true) >= IOU).any(-1)  # (P, A)
    return np.where(matches.any(-1), matches.argmax(-1) + 1, np.inf)


def enclosing_box(boxes: ArrayLike) -> np.ndarray:
    """The smallest box around boxes (..., K, 4), K >= 1: (..., 4). Boxes at NaN don't count."""
    edges = corners(boxes)
    low, high = np.fmin.reduce(edges[..., :2], -2), np.fmax.reduce(edges[..., 2:], -2)
    return np.concatenate([low, high - low], axis=-1)


def covered_area(boxes: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """Area of the image, (width, height), that lies under any of boxes (..., K, 4), in square pixels, (...). Exact."""
    counts, x, y = _coverage(corners(boxes).clip(0, [*size, *size]))
    return np.asarray((np.diff(y)[..., None] * np.diff(x)[..., None, :] * (counts > 0)).sum((-1, -2)))


def _coverage(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many of boxes, of corners (..., K, 4), lie over each rectangle between two lines; lines x and y, (..., 2 K).

    Between two neighbouring lines a box covers all or nothing: (..., 2 K - 1, 2 K - 1). Boxes at NaN cover nothing.
    """
    x0, y0, x1, y1 = np.moveaxis(np.nan_to_num(edges), -1, 0)  # (..., K)
    x, y = (np.sort(np.concatenate(ends, axis=-1), axis=-1)[..., None, :] for ends in ((x0, x1), (y0, y1)))
    across = (x0[..., None] <= x[..., :-1]) & (x[..., 1:] <= x1[..., None])  # (..., K, 2 K - 1)
    down = (y0[..., None] <= y[..., :-1]) & (y[..., 1:] <= y1[..., None])
    return down.swapaxes(-1, -2).astype(int) @ across.astype(int), x[..., 0, :], y[..., 0, :]


def corners(boxes: ArrayLike) -> np.ndarray:
    """Boxes (..., K, 4) as their corners (x0, y0, x1, y1), float64; K may be 0."""
    array = np.asarray(boxes, dtype=float)
    array = array.reshape(-1, 4) if array.ndim < 3 else array
    return np.concatenate([array[..., :2], array[..., :2] + array[..., 2:]], axis=-1)


def stacked(boxes: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """P lists of boxes, of any lengths, as (P, K, 4) float64, K >= 1; what a list lacks are boxes at NaN.

    No point lies in such a box, and its IoU with any box is 0.
    """
    out = np.full((len(boxes), max([1, *map(len, boxes)]), 4), np.nan)
    for into, several in zip(out, boxes, strict=True):
        into[: len(several)] = np.asarray(several, dtype=float).reshape(-1, 4)
    return out


def _area(corner: np.ndarray) -> np.ndarray:
    sides = (corner[..., 2:] - corner[..., :2]).clip(0)
    return sides[..., 0] * sides[..., 1]
