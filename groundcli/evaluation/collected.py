"""What is kept while an evaluation runs: a few numbers a phrase, no heat maps and no pictures."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from groundcli.data.sample import Box, Sample
from groundcli.evaluation.baselines import CENTER, RANDOM, WHOLE_IMAGE, center_point, random_hit_probability
from groundcli.evaluation.measure import Measures, Predicted, measure
from groundcli.evaluation.protocol import Settings
from groundcli.evaluation.systems import BASELINES, OWN, Answers
from groundcli.evaluation.truth import Truth
from groundcli.heat.confidence import features


class Case(NamedTuple):
    """A scored phrase to look at.

    Attributes:
        name, path: the image.
        caption: the whole text.
        span: the phrase's place in it.
        true: its boxes.
        point, box: where the system points, its best box; None where it has none.
    """

    name: str
    path: Path
    caption: str
    span: tuple[int, int]
    true: tuple[Box, ...]
    point: tuple[float, float] | None
    box: Box | None


class Collected:
    """Measures of all scored phrases so far, of everything that answers.

    Attributes:
        settings: what the numbers depend on.
        skipped: how many phrases weren't scored, by reason.
        categories: of each phrase.
        cases: of each phrase.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.skipped: Counter[str] = Counter()
        self.categories: list[str] = []
        self.cases: list[Case] = []
        self._images: list[int] = []
        self._measures: dict[tuple[str, str], list[Measures]] = {}
        self._features: list[np.ndarray] = []

    def add(self, truth: Truth, answers: Answers) -> None:
        """Measures answers about an image with scored phrases, each time by the same names, and the baselines."""
        count = len(truth.phrases)
        whole = [(0.0, 0.0, float(truth.size[0]), float(truth.size[1]))]
        baselines = {
            (BASELINES, CENTER): Predicted(np.tile(center_point(truth.size), (count, 1))),
            (BASELINES, WHOLE_IMAGE): Predicted(boxes=[whole] * count),
        }
        for name, predicted in (baselines | answers).items():
            self._measures.setdefault(name, []).append(measure(truth, predicted, self.settings))
        chances = [random_hit_probability(p.boxes, truth.size, self.settings.tolerance) for p in truth.phrases]
        self._measures.setdefault((BASELINES, RANDOM), []).append(
            measure(truth, Predicted(), self.settings)._replace(hit=np.array(chances))
        )
        own = answers[OWN]
        if own.heat is not None:
            self._features.append(features(own.heat))
        self._images += [self.image_count] * count
        self.categories += [phrase.category for phrase in truth.phrases]
        self.cases += _cases(truth, own)
        self.skipped += truth.skipped

    def skip(self, sample: Sample, reason: str) -> None:
        """Counts an image that couldn't be used: all its phrases are skipped for this reason."""
        self.skipped[reason] += sum(len(caption.phrases) for caption in sample.captions)

    @property
    def image_count(self) -> int:
        """Images with scored phrases."""
        return self._images[-1] + 1 if self._images else 0

    @property
    def images(self) -> np.ndarray:
        """(P) the number of each phrase's image, counted from 0."""
        return np.array(self._images, dtype=int)

    @property
    def features(self) -> np.ndarray | None:
        """(P, 2), of `confidence.features`, where the system has heat maps."""
        return np.concatenate(self._features) if self._features else None

    def measures(self) -> dict[tuple[str, str], Measures]:
        """Of all phrases, by group and name."""
        return {
            name: Measures(*(np.concatenate(column) for column in zip(*images, strict=True)))
            for name, images in self._measures.items()
        }


def _cases(truth: Truth, own: Predicted) -> list[Case]:
    texts = [(caption.text, phrase) for caption in truth.captions for phrase in caption.phrases]
    return [
        Case(
            truth.sample.name,
            truth.sample.image,
            text,
            phrase.span,
            phrase.boxes,
            None if own.points is None or np.isnan(own.points[i]).any() else tuple(own.points[i].tolist()),
            own.boxes[i][0] if own.boxes and own.boxes[i] else None,
        )
        for i, (text, phrase) in enumerate(texts)
    ]
