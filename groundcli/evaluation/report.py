"""From answers, one image at a time, to all numbers of an evaluation."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from groundcli.data.sample import Phrase, Sample
from groundcli.errors import GroundcliError
from groundcli.evaluation.baselines import center_point, random_hit_probability
from groundcli.evaluation.bootstrap import interval
from groundcli.evaluation.metrics import attention_correctness, enclosing_iou, pointing_hits, recall_at
from groundcli.evaluation.protocol import Protocol, counted_boxes, scored_phrases, skip_reason
from groundcli.grounding.answer import Answer, GroundedPhrase
from groundcli.grounding.points import resize

RANKS = (1, 5, 10)
IOU = 0.5


class Evaluation:
    """Collects answers; keeps a few numbers a phrase, no heat maps.

        evaluation = Evaluation("default", levels=("conv5_1", "conv5_3"))
        for sample in samples:
            captions = [replace(c, phrases=scored_phrases(c, size, "default")) for c in sample.captions]
            evaluation.add(sample, [ground(sample.image, caption) for caption in captions])
        evaluation.summary()["pointing"]["accuracy"]

    Under "authors" a phrase with score 0 is a miss in everything, and attention correctness counts a pixel under two
    boxes twice.
    """

    def __init__(self, protocol: Protocol = "default", levels: Sequence[str] = (), tolerance: float = 0) -> None:
        """An evaluation without answers.

        Args:
            protocol: which phrases count; see `groundcli.evaluation.protocol`.
            levels: names of the visual levels that `GroundedPhrase.level` counts; without them, their numbers.
            tolerance: pixels that a point may lie outside its box.
        """
        self._protocol = protocol
        self._levels = levels
        self._tolerance = tolerance
        self._rows: list[_Row] = []
        self._images = 0
        self._skipped: Counter[str] = Counter()

    def add(self, sample: Sample, answers: Sequence[Answer]) -> None:
        """Scores one image.

        Args:
            sample: with all its phrases and true boxes in pixels of the upright image.
            answers: one a caption, in order; each has exactly the caption's `scored_phrases`.

        Raises:
            ValueError: an answer is missing or is about other phrases.
        """
        rows: list[_Row] = []
        for caption, answer in zip(sample.captions, answers, strict=True):
            scored = scored_phrases(caption, answer.size, self._protocol)
            if [phrase.span for phrase in scored] != [phrase.span for phrase in answer.phrases]:
                raise ValueError(f"{sample.name}: the answer to {caption.text!r} isn't about its scored phrases")
            rows += [self._row(*pair, answer.size) for pair in zip(scored, answer.phrases, strict=True)]
            self._skipped.update(filter(None, (skip_reason(p, answer.size, self._protocol) for p in caption.phrases)))
        self._rows += rows
        self._images += bool(rows)

    def skip(self, sample: Sample, reason: str) -> None:
        """Counts an image that couldn't be used: all its phrases are skipped for this reason."""
        self._skipped[reason] += sum(len(caption.phrases) for caption in sample.captions)

    def summary(self) -> dict[str, Any]:
        """All numbers, ready for JSON; accuracies are fractions from 0 to 1.

        Returns:
            {"protocol", "images" (with scored phrases), "phrases" (scored), "skipped": {reason: phrases},
            "pointing": {"accuracy", "ci95": [low, high], "center", "random", "by_category": {name: {"accuracy",
            "center", "phrases"}}}, "attention_correctness", "iou_accuracy", "box_recall": {"R@1", "R@5", "R@10"},
            "levels": {name: share}}. Phrases without a category have no row. "pointing" names a tolerance other
            than 0.

        Raises:
            GroundcliError: no phrase was scored.
        """
        if not self._rows:
            why = ", ".join(f"{count} {reason}" for reason, count in self._skipped.items()) or "no phrases at all"
            raise GroundcliError(f"nothing to score under protocol {self._protocol}: {why}; choose another split")
        rows = self._rows
        return {
            "protocol": self._protocol,
            "images": self._images,
            "phrases": len(rows),
            "skipped": dict(sorted(self._skipped.items())),
            "pointing": _pointing(rows) | ({"tolerance": self._tolerance} if self._tolerance else {}),
            "attention_correctness": _mean([row.attention for row in rows]),
            "iou_accuracy": _mean([row.iou >= IOU for row in rows]),
            "box_recall": {f"R@{k}": _mean([row.recall[i] for row in rows]) for i, k in enumerate(RANKS)},
            "levels": _level_shares(rows, self._levels),
        }

    def _row(self, phrase: Phrase, answer: GroundedPhrase, size: tuple[int, int]) -> "_Row":
        boxes = counted_boxes(answer.boxes, size, self._protocol)
        hit, center = pointing_hits([answer.point, center_point(size)], phrase.boxes, self._tolerance)
        row = _Row(
            image=self._images,
            category=phrase.category,
            level=answer.level,
            hit=bool(hit),
            center=bool(center),
            random=random_hit_probability(phrase.boxes, size, self._tolerance),
            attention=attention_correctness(
                resize(torch.from_numpy(answer.heatmap)[None], size)[0].numpy(),
                phrase.boxes,
                "sum" if self._protocol == "authors" else "union",
            ),
            iou=enclosing_iou(boxes, phrase.boxes),
            recall=tuple(recall_at(boxes, phrase.boxes, k, IOU) for k in RANKS),
        )
        if self._protocol == "authors" and answer.score == 0:
            return row._replace(hit=False, attention=0.0, iou=0.0, recall=(False,) * len(RANKS))
        return row


class _Row(NamedTuple):
    """What is kept of a scored phrase."""

    image: int
    category: str
    level: int
    hit: bool
    center: bool
    random: float
    attention: float
    iou: float
    recall: tuple[bool, ...]


def _pointing(rows: Sequence[_Row]) -> dict[str, Any]:
    images = [row.image for row in rows]
    categories = Counter(row.category for row in rows if row.category)
    return {
        "accuracy": _mean([row.hit for row in rows]),
        "ci95": list(interval(np.bincount(images, [row.hit for row in rows]), np.bincount(images))),
        "center": _mean([row.center for row in rows]),
        "random": _mean([row.random for row in rows]),
        "by_category": {
            name: {
                "accuracy": _mean([row.hit for row in rows if row.category == name]),
                "center": _mean([row.center for row in rows if row.category == name]),
                "phrases": count,
            }
            for name, count in categories.most_common()
        },
    }


def _level_shares(rows: Sequence[_Row], names: Sequence[str]) -> dict[str, float]:
    counts = np.bincount([row.level for row in rows], minlength=len(names))
    return {names[i] if i < len(names) else str(i): float(n) / len(rows) for i, n in enumerate(counts)}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
