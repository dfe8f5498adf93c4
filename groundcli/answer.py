"""What grounding gives back: plain numbers in pixels of the image, as it was decoded upright."""

from dataclasses import dataclass

import numpy as np

from groundcli.data.sample import Box


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """Where one phrase of a caption is.

    Attributes:
        text: the phrase, exactly as the caption has it.
        span: character offsets (start, end) into the caption, end excluded.
        point: (x, y) of the likeliest pixel.
        boxes: (x, y, width, height), best first; may be empty.
        box_scores: one number in [0, 1] a box.
        score: how likely the point is on the phrase, a probability, where the weights are calibrated; else how well
            the phrase fits its place, a cosine in [0, 1]. 0 where nothing was found.
        level: index of the visual level that fits the phrase best.
        heatmap: (M, M) float32, non-negative, over the whole image: cell (i, j) covers the i-th of M equal
            rows and the j-th of M equal columns.
    """

    text: str
    span: tuple[int, int]
    point: tuple[float, float]
    boxes: tuple[Box, ...]
    box_scores: tuple[float, ...]
    score: float
    level: int
    heatmap: np.ndarray


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
