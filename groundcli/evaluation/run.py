"""Systems over a data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from groundcli.data.ahead import ahead
from groundcli.data.images import decode, resize
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.protocol import Settings
from groundcli.evaluation.systems import OWN, Encoded, System
from groundcli.evaluation.truth import Truth, truth

BATCH = 8  # images that are encoded together where the device likes that
COMPARED = ("compared", "")
T = TypeVar("T")


class _Decoded(NamedTuple):
    sample: Sample
    size: tuple[int, int] | None  # none: the image can't be decoded
    pixels: dict[int, np.ndarray]  # by side


def evaluate_samples(
    samples: Iterable[Sample], settings: Settings, system: System, compared: System | None = None
) -> Collected:
    """Measures a system, and another one beside it, on samples with boxes.

    Three things go on at a time: images are decoded, earlier ones encoded, and those before them measured. An image
    that can't be decoded is counted under the skipped reason `image_failed`.
    """
    collected = Collected(settings)
    systems = [system, *([compared] if compared else [])]

    def encode(batch: Sequence[tuple[Truth, dict[int, np.ndarray]]]) -> tuple[list[Truth], list[Encoded]]:
        truths = [marked for marked, _ in batch]
        return truths, [own.encode([p[own.side] for _, p in batch if own.side], truths) for own in systems]

    decoded = ahead(_decoder({own.side for own in systems}), samples, 2 * BATCH)
    for truths, encoded in ahead(encode, _batches(_scored(decoded, collected)), 1):
        answers = [own(images, truths) for own, images in zip(systems, encoded, strict=True)]
        for marked, mine, *others in zip(truths, *answers, strict=True):
            collected.add(marked, mine | ({COMPARED: others[0][OWN]} if others else {}))
    return collected


def _decoder(sides: set[int]) -> Callable[[Sample], _Decoded]:
    def work(sample: Sample) -> _Decoded:
        try:
            image = decode(sample.image)
        except BadInput:
            return _Decoded(sample, None, {})
        return _Decoded(sample, image.size, {side: resize(image, side) for side in sides if side})

    return work


def _scored(images: Iterable[_Decoded], collected: Collected) -> Iterator[tuple[Truth, dict[int, np.ndarray]]]:
    """Images with scored phrases, and their pixels; the others are counted."""
    for image in images:
        if image.size is None:
            collected.skip(image.sample, "image_failed")
            continue
        marked = truth(image.sample, image.size, collected.settings.protocol)
        if marked.phrases:
            yield marked, image.pixels
        else:
            collected.skipped += marked.skipped


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(items, BATCH)):
        yield batch
