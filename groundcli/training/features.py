"""Feature maps of a frozen CNN, where they are needed: computed anew every time. `feature_cache` keeps them."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Protocol

import numpy as np
from PIL import ImageOps
from torch import Tensor

from groundcli.data.images import decode, resize
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.grounder import as_batch
from groundcli.model.visual import Backbone
from groundcli.parallel import ahead

THREADS = min(8, os.cpu_count() or 1)  # that decode


@dataclass(frozen=True)
class Preparation:
    """All that feature maps depend on, beside the images and the CNN's weights.

    Attributes:
        image_size: images are resized to this square.
        grid: cells a side to keep.
    """

    image_size: int
    grid: int


@dataclass(frozen=True)
class MapBatch:
    """Feature maps of R images.

    Attributes:
        rows: which images of the list.
        sizes: (width, height) of each in pixels.
        maps: (R, C_l, H_l, W_l) a level, on the CNN's device; none where R is 0.
    """

    rows: list[int]
    sizes: list[tuple[int, int]]
    maps: list[Tensor]


class FeatureSource(Protocol):
    """Where a list's feature maps come from.

    Attributes:
        waited: seconds that `read` has waited for data so far: for decoded images, or for the disk.
    """

    waited: float

    @property
    def rows(self) -> Sequence[int]:
        """The images of the list that weren't known from the start to be unusable."""

    @property
    def failures(self) -> Sequence[tuple[str, str]]:
        """(image, reason) of those that turned out to be."""

    def read(self, batches: Iterable[Sequence[int]], mirrored: Collection[int] = ()) -> Iterator[MapBatch]:
        """The maps of each batch of rows, without the rows that can't be used.

        Args:
            batches: rows.
            mirrored: those whose images are mirrored; none where maps are kept.
        """


class LiveFeatures:
    """Images decoded ahead by other threads, and the CNN run over them every time."""

    def __init__(self, samples: Sequence[Sample], backbone: Backbone, image_size: int):
        self.samples = samples
        self.backbone = backbone
        self.image_size = image_size
        self.rows: Sequence[int] = range(len(samples))
        self.waited = 0.0
        self.failed: dict[int, str] = {}  # rows, with the reason

    @property
    def failures(self) -> list[tuple[str, str]]:
        """In the order of the list."""
        return [(self.samples[row].name, reason) for row, reason in sorted(self.failed.items())]

    def _prepare(self, row: int, mirrored: Collection[int]) -> tuple[int, tuple[int, int], np.ndarray] | None:
        try:
            image = decode(self.samples[row].image)
        except BadInput as error:
            self.failed[row] = str(error)
            return None
        if row in mirrored:
            image = ImageOps.mirror(image)
        return row, image.size, resize(image, self.image_size)

    def read(self, batches: Iterable[Sequence[int]], mirrored: Collection[int] = ()) -> Iterator[MapBatch]:
        """See `FeatureSource`."""
        batches = list(batches)
        early = 2 * max(map(len, batches), default=0)
        images = ahead(partial(self._prepare, mirrored=mirrored), chain.from_iterable(batches), early, THREADS)
        for batch in batches:
            start = time.perf_counter()
            usable = [image for image in islice(images, len(batch)) if image is not None]
            self.waited += time.perf_counter() - start
            if not usable:
                yield MapBatch([], [], [])
                continue
            rows, sizes, pixels = map(list, zip(*usable, strict=True))
            yield MapBatch(rows, sizes, self.backbone(as_batch(pixels).to(self.backbone.mean.device)))
