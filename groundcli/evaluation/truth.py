"""What people marked in an image, as far as a protocol counts it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from groundcli.data.sample import Caption, Phrase, Sample
from groundcli.evaluation.metrics import stacked
from groundcli.evaluation.protocol import Protocol, scored_phrases, skip_reason


@dataclass(frozen=True)
class Truth:
    """The scored phrases of an image, P of them, caption by caption.

    Attributes:
        sample: the image, with all its phrases.
        size: (width, height) of the upright image in pixels.
        captions: all captions, in order, with their scored phrases only.
        phrases: the P phrases.
        boxes: (P, B, 4), of `metrics.stacked`.
        skipped: how many phrases aren't scored, by reason.
    """

    sample: Sample
    size: tuple[int, int]
    captions: Sequence[Caption]
    phrases: Sequence[Phrase]
    boxes: np.ndarray
    skipped: Counter[str]


def truth(sample: Sample, size: tuple[int, int], protocol: Protocol) -> Truth:
    """What a protocol counts of an image of (width, height)."""
    captions = [replace(c, phrases=scored_phrases(c, size, protocol)) for c in sample.captions]
    phrases = [phrase for caption in captions for phrase in caption.phrases]
    reasons = (skip_reason(phrase, size, protocol) for caption in sample.captions for phrase in caption.phrases)
    boxes = stacked([phrase.boxes for phrase in phrases])
    return Truth(sample, size, captions, phrases, boxes, Counter(filter(None, reasons)))
