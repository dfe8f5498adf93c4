"""What grounding gives back: plain numbers in pixels of the upright image. Nothing here is torch's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from groundcli import heat
from groundcli.data.sample import Box, Caption
from groundcli.heat.boxes import METHODS, Method
from groundcli.heat.confidence import features, probability


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """Where one phrase of a caption is.

    Attributes:
        text: the phrase, exactly as the caption has it.
        span: character offsets (start, end) into the caption, end excluded.
        size: (width, height) of the image in pixels.
        point: (x, y) of the likeliest pixel.
        boxes: (x, y, width, height), best first; may be empty.
        box_scores: one number in [0, 1] per box.
        score: how likely the point is on the phrase, a probability, where the weights are calibrated; else how well
            the phrase fits its place, a cosine in [0, 1]. 0 where nothing was found.
        level: index of the visual level that fits the phrase best.
        heatmap: (M, M) float32, non-negative, over the whole image: cell (i, j) covers the i-th of M equal
            rows and the j-th of M equal columns.
    """

    text: str
    span: tuple[int, int]
    size: tuple[int, int]
    point: tuple[float, float]
    boxes: tuple[Box, ...]
    box_scores: tuple[float, ...]
    score: float
    level: int
    heatmap: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(height, width) bool, the pixels of the image that belong to the phrase; see `groundcli.heat.mask`."""
        return heat.mask(self.heatmap, self.size)


@dataclass(frozen=True, slots=True)
class Answer:
    """One caption on one image.

    Attributes:
        caption: the text that was encoded, without any markup.
        size: (width, height) of the image in pixels; points and boxes refer to it.
        phrases: in the order of the caption.
    """

    caption: str
    size: tuple[int, int]
    phrases: tuple[GroundedPhrase, ...]


class PhraseHeat(NamedTuple):
    """What the model says of the P phrases of an image's captions, in order; `answer` reads all else off it.

    Attributes:
        maps: (P, M, M) float32, non-negative.
        scores: (P) float32, the cosine of the phrase's best word; 0 for a phrase without words.
        levels: (P) int64, index of that word's visual level.
    """

    maps: np.ndarray
    scores: np.ndarray
    levels: np.ndarray


def answer(
    captions: Sequence[Caption],
    size: tuple[int, int],
    found: PhraseHeat,
    calibration: Sequence[float] = (),
    boxes: Method | None = "sides",
) -> list[Answer]:
    """Reads points, scores and boxes off heat maps: the only place that does.

    Args:
        captions: of one image, with their phrases.
        size: (width, height) of the image in pixels.
        found: the heat of all their phrases, caption by caption.
        calibration: of the weights, see `groundcli.heat.confidence`; without one, scores are cosines.
        boxes: how to find boxes; None finds none.
    """
    scores = probability(features(found.maps), calibration) if calibration else found.scores
    points = heat.peak(found.maps, size).tolist()
    answers, i = [], 0
    for caption in captions:
        phrases = []
        for phrase in caption.phrases:
            boxed, box_scores = METHODS[boxes](found.maps[i], size) if boxes else ([], [])
            place = size, tuple(points[i]), tuple(boxed), tuple(box_scores)
            score = float(scores[i]) if found.scores[i] > 0 else 0.0
            phrases.append(GroundedPhrase(phrase.text, phrase.span, *place, score, int(found.levels[i]), found.maps[i]))
            i += 1
        answers.append(Answer(caption.text, size, tuple(phrases)))
    return answers
