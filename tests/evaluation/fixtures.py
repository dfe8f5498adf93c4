"""An image with three phrases, and what a system may say of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from groundcli.data import Box, Caption, Phrase, Sample
from groundcli.evaluation import EvaluateOptions
from groundcli.evaluation.metrics import Predicted, Truth
from groundcli.evaluation.rows import Rows
from groundcli.evaluation.summary import summarize
from groundcli.evaluation.systems import COMPARED, EVALUATED

SIZE = (100, 100)
LEFT, RIGHT = (0, 0, 50, 100), (50, 0, 50, 100)
TEXT = "a man, a dog, a day"
MAN = Phrase("a man", (0, 5), "people", (LEFT,))
DOG = Phrase("a dog", (7, 12), "animals", ((60, 60, 10, 10),))
DAY = Phrase("a day", (14, 19), "notvisual")
SAMPLE = Sample("photos/a.jpg", Path("a.jpg"), (Caption(TEXT, (MAN, DOG, DAY)),))
HEAT = np.array([[1, 0], [1, 0]], dtype=np.float32)  # the left half of the image


def options(**told: Any) -> EvaluateOptions:
    return EvaluateOptions(dataset="folder", data=Path(), **told)


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
        boxes=boxes or [[]] * count,
        heat=np.stack([HEAT] * count),
        scores=np.array(scores or [0.5] * count),
        levels=np.array(levels or [0] * count),
    )


def collect(
    said: Sequence[Predicted], sample: Sample = SAMPLE, compared: Sequence[Predicted] = (), **told: Any
) -> Rows:
    """As many images as there are predictions."""
    rows = Rows(options(**told))
    for number, ours in enumerate(said):
        image = replace(sample, name=f"{sample.name}{number or ''}")
        predictions = {(EVALUATED, "lite"): ours}
        if compared:
            predictions[COMPARED, "theirs"] = replace(compared[number], levels=None)
        rows.add(Truth.of(image, SIZE, rows.options.protocol), predictions)
    return rows


def summary_of(
    *said: Predicted,
    sample: Sample = SAMPLE,
    compared: Sequence[Predicted] = (),
    levels: Sequence[str] = (),
    **told: Any,
) -> dict[str, Any]:
    """All numbers of as many images as there are predictions."""
    rows = collect(said, sample, compared, **told)
    return summarize(rows.table(levels), rows.skipped, rows.options)
