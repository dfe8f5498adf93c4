"""An image with three phrases, and what a system may say of it."""

from pathlib import Path

import numpy as np
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.measure import Predicted
from groundcli.evaluation.protocol import Settings
from groundcli.evaluation.truth import truth

from groundcli.data.sample import Box, Caption, Phrase, Sample
from groundcli.evaluation.systems import OWN

SIZE = (100, 100)
LEFT, RIGHT = (0, 0, 50, 100), (50, 0, 50, 100)
TEXT = "a man, a dog, a day"
MAN = Phrase("a man", (0, 5), "people", (LEFT,))
DOG = Phrase("a dog", (7, 12), "animals", ((60, 60, 10, 10),))
DAY = Phrase("a day", (14, 19), "notvisual")
SAMPLE = Sample("photos/a.jpg", Path("a.jpg"), (Caption(TEXT, (MAN, DOG, DAY)),))
HEAT = np.array([[1, 0], [1, 0]], dtype=np.float32)  # the left half of the image


def predicted(
    *points: tuple[float, float],
    boxes: list[list[Box]] | None = None,
    scores: list[float] | None = None,
    levels: list[int] | None = None,
) -> Predicted:
    """Of as many phrases as there are points, all with the same heat."""
    count = len(points)
    return Predicted(
        np.array(points, dtype=float),
        boxes or [[]] * count,
        np.stack([HEAT] * count),
        np.array(scores or [0.5] * count),
        np.array(levels or [0] * count),
    )


def collect(settings: Settings, own: Predicted, sample: Sample = SAMPLE, images: int = 1) -> Collected:
    """So many images with the same answers."""
    collected = Collected(settings)
    for _ in range(images):
        collected.add(truth(sample, SIZE, settings.protocol), {OWN: own})
    return collected
