"""Feature maps of a frozen CNN: computed whenever they are needed, or once, and read from disk ever after."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from groundcli.data.ahead import ahead
from groundcli.data.images import decode, resize
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.grounding.grounder import as_batch
from groundcli.model.visual import Backbone
from groundcli.model.visual import resize as resize_maps

BATCH = 16
INDEX = "index.json"
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
        maps: (R, C_l, H_l, W_l) a level, on the CNN's device.
    """

    rows: list[int]
    sizes: list[tuple[int, int]]
    maps: list[Tensor]


class FeatureSource(Protocol):
    """Where a list's feature maps come from."""

    @property
    def rows(self) -> Sequence[int]:
        """The images of the list that weren't known from the start to be unusable."""

    @property
    def failures(self) -> Sequence[tuple[str, str]]:
        """(image, reason) of those that turned out to be."""

    def read(self, batches: Iterable[Sequence[int]]) -> Iterator[MapBatch]:
        """The maps of each batch of rows, without the rows that can't be used; batches with none left are skipped."""


class LiveFeatures:
    """Images decoded ahead by other threads, and the CNN run over them every time."""

    def __init__(self, samples: Sequence[Sample], backbone: Backbone, image_size: int):
        self.samples = samples
        self.backbone = backbone
        self.image_size = image_size
        self.rows: Sequence[int] = range(len(samples))
        self._failures: dict[int, str] = {}

    @property
    def failures(self) -> list[tuple[str, str]]:
        """In the order of the list."""
        return [(self.samples[row].name, reason) for row, reason in sorted(self._failures.items())]

    def _prepare(self, row: int) -> tuple[int, tuple[int, int], np.ndarray] | None:
        try:
            image = decode(self.samples[row].image)
        except BadInput as error:
            self._failures[row] = str(error)
            return None
        return row, (image.shape[1], image.shape[0]), resize(image, self.image_size)

    def read(self, batches: Iterable[Sequence[int]]) -> Iterator[MapBatch]:
        """See `FeatureSource`."""
        batches = list(batches)
        early = 2 * max(map(len, batches), default=0)
        images = ahead(self._prepare, chain.from_iterable(batches), early, THREADS)
        for batch in batches:
            usable = [image for image in islice(images, len(batch)) if image is not None]
            if usable:
                rows, sizes, pixels = map(list, zip(*usable, strict=True))
                yield MapBatch(rows, sizes, self.backbone(as_batch(pixels).to(self.backbone.mean.device)))


class CachedFeatures:
    """Feature maps on disk, float16, one file a level."""

    def __init__(self, folder: Path, backbone: Backbone):
        index = json.loads((folder / INDEX).read_text("utf-8"))
        self.rows: list[int] = index["usable"]  # in the files' order
        self.failures: list[tuple[str, str]] = [(p, r) for p, r in index["failures"]]
        self._sizes = dict(zip(self.rows, ((w, h) for w, h in index["sizes"]), strict=True))
        self._place = {row: place for place, row in enumerate(self.rows)}
        self._levels = [np.load(folder / f"{level}.npy", mmap_mode="r") for level in backbone.levels]
        self._device = backbone.mean.device

    def read(self, batches: Iterable[Sequence[int]]) -> Iterator[MapBatch]:
        """See `FeatureSource`."""
        for batch in batches:
            rows = [row for row in batch if row in self._place]
            places = np.asarray([self._place[row] for row in rows])
            if rows:
                maps = [torch.from_numpy(level[places]).to(self._device).float() for level in self._levels]
                yield MapBatch(rows, [self._sizes[row] for row in rows], [m.permute(0, 3, 1, 2) for m in maps])


def cached_features(
    samples: Sequence[Sample], backbone: Backbone, weights: str, how: Preparation, cache: Path, console: Console
) -> CachedFeatures:
    """Opens the feature maps of the samples' images in the cache, which are computed first where they aren't there.

    Args:
        samples: their images, in this order.
        backbone: computes them.
        weights: hash of the backbone's weights.
        how: size of images and maps.
        cache: folder of all caches; the one for these images is named after a hash of all that it depends on.
        console: where progress is shown.
    """
    stats = [(str(s.image), *_stat(s.image)) for s in samples]
    key = json.dumps([weights, backbone.output_stride, how.image_size, how.grid, stats])
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not all((folder / f"{level}.npy").exists() for level in backbone.levels) or not (folder / INDEX).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compute(LiveFeatures(samples, backbone, how.image_size), how.grid, folder, console)
    return CachedFeatures(folder, backbone)


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _compute(live: LiveFeatures, grid: int, folder: Path, console: Console) -> None:
    partial = [folder / f"{level}.partial" for level in live.backbone.levels]
    shapes = [(len(live.samples), grid, grid, channels) for channels in live.backbone.channels]
    files = [
        np.lib.format.open_memmap(path, "w+", np.float16, shape) for path, shape in zip(partial, shapes, strict=True)
    ]
    usable: list[int] = []
    sizes: list[tuple[int, int]] = []
    batches = [live.rows[i : i + BATCH] for i in range(0, len(live.rows), BATCH)]
    for batch in track(live.read(batches), "features of the frozen CNN", total=len(batches), console=console):
        for file, maps in zip(files, batch.maps, strict=True):
            places = slice(len(usable), len(usable) + len(batch.rows))
            file[places] = resize_maps(maps, grid).permute(0, 2, 3, 1).half().cpu().numpy()
        usable += batch.rows
        sizes += batch.sizes
    index = folder / "index.partial"
    index.write_text(json.dumps({"usable": usable, "sizes": sizes, "failures": live.failures}), "utf-8")
    for file, path in zip(files, partial, strict=True):
        file.flush()
        path.replace(path.with_name(path.name.removesuffix(".partial") + ".npy"))
    index.replace(folder / INDEX)
