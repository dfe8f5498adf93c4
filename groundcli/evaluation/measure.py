"""From what a system says of an image's phrases to what is kept of it: a few numbers a phrase."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from groundcli.data.sample import Box
from groundcli.evaluation.metrics import (
    Overlap,
    attention_correctness,
    enclosing_box,
    enclosing_iou,
    first_match,
    pointing_hits,
    stacked,
)
from groundcli.evaluation.protocol import Settings, counted_boxes
from groundcli.evaluation.truth import Truth

IOU = 0.5


@dataclass(frozen=True)
class Predicted:
    """What one system says of the P scored phrases of an image; None is what it says nothing of.

    Attributes:
        points: (P, 2), (x, y) in pixels of the image, NaN where a phrase has none.
        boxes: P lists, best first.
        heat: (P, M, M), not negative.
        scores: (P); 0 where nothing was found.
        levels: (P) indices of visual levels.
    """

    points: np.ndarray | None = None
    boxes: Sequence[Sequence[Box]] | None = None
    heat: np.ndarray | None = None
    scores: np.ndarray | None = None
    levels: np.ndarray | None = None


class Measures(NamedTuple):
    """What is kept of a system: (P) each, NaN where the system has nothing to measure.

    Attributes:
        hit: 1 where the point lies in a box of the phrase (for a random point, the probability), else 0.
        attention: attention correctness.
        iou: 1 where the box around all boxes and the one around all true ones match.
        any_rank: place of the first box that matches any true box, infinite where none does.
        merged_rank: the same for the box around all true ones.
        score: as the system says.
        level: index of the visual level.
    """

    hit: np.ndarray
    attention: np.ndarray
    iou: np.ndarray
    any_rank: np.ndarray
    merged_rank: np.ndarray
    score: np.ndarray
    level: np.ndarray


def measure(truth: Truth, predicted: Predicted, settings: Settings) -> Measures:
    """Measures an image's phrases. Under "authors" a phrase with score 0 is a miss in everything."""
    nothing = np.full(len(truth.phrases), np.nan)
    hit = attention = iou = any_rank = merged_rank = nothing
    if predicted.points is not None:
        hit = pointing_hits(predicted.points, truth.boxes, settings.tolerance).astype(float)
    if predicted.heat is not None:
        overlap: Overlap = "sum" if settings.protocol == "authors" else "union"
        pairs = zip(predicted.heat, truth.phrases, strict=True)
        attention = np.array([attention_correctness(h, p.boxes, truth.size, overlap) for h, p in pairs])
    if predicted.boxes is not None:
        boxes = stacked([counted_boxes(own, truth.size, settings.protocol) for own in predicted.boxes])
        iou = (enclosing_iou(boxes, truth.boxes) >= IOU).astype(float)
        any_rank = first_match(boxes, truth.boxes, IOU)
        merged_rank = first_match(boxes, enclosing_box(truth.boxes)[:, None], IOU)
    score = nothing if predicted.scores is None else predicted.scores
    level = nothing if predicted.levels is None else predicted.levels
    if settings.protocol == "authors":
        lost = score == 0
        hit, attention, iou = (np.where(lost & ~np.isnan(x), 0, x) for x in (hit, attention, iou))
        any_rank, merged_rank = (np.where(lost & ~np.isnan(x), np.inf, x) for x in (any_rank, merged_rank))
    return Measures(hit, attention, iou, any_rank, merged_rank, score, level)
