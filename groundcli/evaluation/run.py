"""Systems over a data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from groundcli.data.ahead import ahead
from groundcli.data.images import decode, resize
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.protocol import Settings
from groundcli.evaluation.systems import OWN, System
from groundcli.evaluation.truth import Truth, truth

BATCH = 8  # images that are encoded together where the device likes that
COMPARED = ("compared", "")


class _Decoded(NamedTuple):
    sample: Sample
    size: tuple[int, int] | None  # none: the image can't be decoded
    pixels: dict[int, np.ndarray]  # by side


def evaluate_samples(
    samples: Iterable[Sample], settings: Settings, system: System, compared: System | None = None
) -> Collected:
    """Measures a system, and another one beside it, on samples with boxes.

    Images are decoded a little ahead. One that can't be is counted under the skipped reason `image_failed`.
    """
    collected = Collected(settings)
    systems = [system, *([compared] if compared else [])]
    for batch in _batches(ahead(_decoder({own.side for own in systems}), samples, 2 * BATCH)):
        pairs: list[tuple[_Decoded, Truth]] = []
        for image in batch:
            if image.size is None:
                collected.skip(image.sample, "image_failed")
                continue
            marked = truth(image.sample, image.size, settings.protocol)
            if marked.phrases:
                pairs.append((image, marked))
            else:
                collected.skipped += marked.skipped
        if pairs:
            truths = [marked for _, marked in pairs]
            answers = [
                own([image.pixels[own.side] for image, _ in pairs] if own.side else [], truths) for own in systems
            ]
            for marked, own, *others in zip(truths, *answers, strict=True):
                collected.add(marked, own | ({COMPARED: others[0][OWN]} if others else {}))
    return collected


def _decoder(sides: set[int]) -> Callable[[Sample], _Decoded]:
    def work(sample: Sample) -> _Decoded:
        try:
            image = decode(sample.image)
        except BadInput:
            return _Decoded(sample, None, {})
        size = (image.shape[1], image.shape[0])
        return _Decoded(sample, size, {side: resize(image, side) for side in sides if side})

    return work


def _batches(images: Iterator[_Decoded]) -> Iterator[Sequence[_Decoded]]:
    while batch := list(islice(images, BATCH)):
        yield batch
