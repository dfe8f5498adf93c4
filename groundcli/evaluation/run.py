"""Systems over a data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from groundcli.data.images import decode, resize
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.evaluation.collected import Collected
from groundcli.evaluation.protocol import Settings
from groundcli.evaluation.systems import OWN, Answers, System
from groundcli.evaluation.truth import Truth, truth
from groundcli.parallel import ahead, in_order, lanes

BATCH = 4  # images that a thread asks about together
COMPARED = ("compared", "")
T = TypeVar("T")
_Marked = tuple[Truth, dict[int, np.ndarray]]  # pixels by side


class _Decoded(NamedTuple):
    sample: Sample
    size: tuple[int, int] | None  # none: the image can't be decoded
    pixels: dict[int, np.ndarray]  # by side


def evaluate_samples(
    samples: Iterable[Sample], settings: Settings, system: System, compared: System | None = None
) -> Collected:
    """Measures a system, and another one beside it, on samples with boxes.

    Three things go on at a time: images are decoded, the systems answer about earlier ones, and answers before them
    are measured. An image that can't be decoded is counted under the skipped reason `image_failed`.
    """
    collected = Collected(settings)
    systems = [system, *([compared] if compared else [])]

    def answer(batch: Sequence[_Marked]) -> tuple[list[Truth], list[list[Answers]]]:
        truths = [marked for marked, _ in batch]
        return truths, [own([p[own.side] for _, p in batch if own.side], truths) for own in systems]

    threads = max(own.threads for own in systems)
    decoded = ahead(_decoder({own.side for own in systems}), samples, 2 * BATCH)
    with lanes(threads) as pool:
        batches = _batches(_scored(decoded, collected))
        for truths, answers in in_order(lambda batch: pool.submit(answer, batch), batches, threads):
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


def _scored(images: Iterable[_Decoded], collected: Collected) -> Iterator[_Marked]:
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
