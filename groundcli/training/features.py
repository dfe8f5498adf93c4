"""Feature maps of a frozen backbone: computed anew every time, or once and kept on disk for any number of runs.

    CACHE/KIND/kind.json             what the maps were made with; KIND is a hash of it
    CACHE/KIND/ab/abcdef....npy      an image's maps, by the hash of the image's file: a record of numpy with `crc32`
                                     (of all that follows), `size` (width, height) and each level by its name, float16
                                     (rows, columns, channels)
    CACHE/KIND/ab/abcdef...m.npy     those of the mirrored image

An image is known by its content, so a copy, another name or another data set finds it again. A file becomes visible
when it is whole: any number of runs may write at once, and one that is killed leaves nothing half. A damaged file is as
good as none: its maps are computed again.
"""

import hashlib
import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from groundcli.data import Sample
from groundcli.data.images import decode, resize
from groundcli.devices import as_batch
from groundcli.errors import BadInput, GroundcliError, Interrupted
from groundcli.files import replacing, sha256, write_json
from groundcli.model.visual import Backbone
from groundcli.model.visual import resize as resize_maps
from groundcli.parallel import Stopped, ahead
from groundcli.training.gradient import Ranks

THREADS = min(8, os.cpu_count() or 1)  # that decode
BATCH = 16  # images to the backbone at once, where their maps are kept
RESERVE = 1 << 30  # bytes of the disk that the cache leaves free
T = TypeVar("T")


class Preparation(NamedTuple):
    """All that feature maps depend on, beside the images and the backbone."""

    image_size: int  # images are resized to this square
    grid: int  # cells per side to keep


class MapBatch(NamedTuple):
    """Feature maps of R images."""

    indices: list[int]  # which images of the list
    sizes: list[tuple[int, int]]  # (width, height) of each in pixels
    maps: list[Tensor]  # (R, C_l, H_l, W_l) per level, on the backbone's device; none where R is 0


class LiveFeatures:
    """Feature maps of a list's images, computed anew every time: images are decoded ahead by other threads.

    Attributes:
        indices: the images of the list that weren't known from the start to be unusable.
        failed: those that turned out to be, with the reason.
        waited: seconds that `read` has waited for data so far: for decoded images, or for the disk.
    """

    def __init__(self, samples: Sequence[Sample], backbone: Backbone, how: Preparation):
        self.samples = samples
        self.backbone = backbone
        self.how = how
        self.indices: Sequence[int] = range(len(samples))
        self.failed: dict[int, str] = {}
        self.waited = 0.0

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(image, reason), in the order of the list."""
        return list(dict.fromkeys((self.samples[i].name, reason) for i, reason in sorted(self.failed.items())))

    def read(self, batches: Iterable[Sequence[int]], mirrored: Collection[int] = ()) -> Iterator[MapBatch]:
        """The maps of each batch of indices, without the images that can't be used; `mirrored` are read mirrored.

        Batches are taken two ahead: whoever hands them out may show how far this is.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            prepare = partial(self._prepare, mirrored=mirrored)
            # Two at a time, so that no thread of the pool waits for the last image of a batch.
            for prepared in self._timed(ahead(lambda batch: [*pool.map(prepare, batch)], batches, 2, 2)):
                usable = [image for image in prepared if image]
                if not usable:
                    yield MapBatch([], [], [])
                    continue
                indices, sizes, pixels = map(list, zip(*usable, strict=True))
                yield MapBatch(indices, sizes, self.backbone(as_batch(pixels).to(self.backbone.mean.device)))

    def _prepare(self, index: int, mirrored: Collection[int]) -> tuple[int, tuple[int, int], np.ndarray] | None:
        try:
            image = decode(self.samples[index].image)
        except BadInput as error:
            self.failed[index] = str(error)
            return None
        if index in mirrored:
            image = ImageOps.mirror(image)
        return index, image.size, resize(image, self.how.image_size)

    def _timed(self, items: Iterator[T]) -> Iterator[T]:
        """The same, and `waited` grows by the seconds that each takes."""
        start = time.perf_counter()
        for item in items:
            self.waited += time.perf_counter() - start
            yield item
            start = time.perf_counter()


class CachedFeatures(LiveFeatures):
    """The same, of which each image is computed once; see `complete`.

    Within, the mirrored image of each is one more: the list is twice as long.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        backbone: Backbone,
        how: Preparation,
        weights: str,
        cache: Path,
        mirrored: bool = False,
    ) -> None:
        """Looks the images up in the folder of all caches.

        `weights` is the hash of the backbone's weights; `mirrored` says whether images can be had mirrored, too.
        """
        super().__init__([*samples, *samples] if mirrored else samples, backbone, how)
        self.count = len(samples)
        kind = {
            "weights": weights,
            "levels": backbone.levels,
            "output_stride": backbone.output_stride,
            "mean": backbone.mean.flatten().tolist(),
            "std": backbone.std.flatten().tolist(),
            "image_size": how.image_size,
            "grid": how.grid,
        }
        self.folder = cache / hashlib.sha256(json.dumps(kind, indent=2).encode()).hexdigest()[:16]
        levels = zip(backbone.levels, backbone.channels, strict=True)
        maps = [(level, "<f2", (how.grid, how.grid, channels)) for level, channels in levels]
        self.record = np.dtype([("crc32", "<u4"), ("size", "<i4", 2), *maps])
        # Every file begins with the same bytes: to compare them is quicker than to parse them, and safe.
        with io.BytesIO() as file:
            np.save(file, np.zeros((), self.record))
            self.header = file.getvalue()[: -self.record.itemsize]
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "kind.json").exists():
            write_json(self.folder / "kind.json", kind)
        with ThreadPoolExecutor(THREADS) as pool:
            keys = list(pool.map(lambda sample: _content(sample.image), samples))
        keys += [f"{key}m" for key in keys if mirrored]
        self.files = [self.folder / key[:2] / f"{key}.npy" for key in keys]
        self._look()

    def _look(self) -> None:
        """Takes in what is there by now: the images of which all is, and what is missing, one of each content."""
        there = [file.exists() for file in self.files]
        self.indices = [index for index in range(self.count) if all(there[index :: self.count])]  # mirrored, too
        first = {file: index for index, file in reversed([*enumerate(self.files)]) if not there[index]}
        self.missing = sorted(first.values())

    @property
    def missing_bytes(self) -> int:
        """What the missing images will take."""
        return (len(self.header) + self.record.itemsize) * len(self.missing)

    def complete(self, ranks: Ranks, stopped: Stopped, console: Console) -> None:
        """Computes what is missing, each rank its share.

        Raises:
            GroundcliError: the missing images don't fit on the disk.
            Interrupted: what was computed until then is kept.
        """
        (missing, *_) = ranks.gather(self.missing)  # the first one's list: others may have begun to write by now
        if missing:
            free = shutil.disk_usage(self.folder).free
            if self.missing_bytes > free - RESERVE:
                raise GroundcliError(
                    f"{self.folder}: {self.missing_bytes / 1e9:.2f} GB of features don't fit; the disk has "
                    f"{free / 1e9:.2f} GB free, of which {RESERVE / 1e9:.0f} GB stay so. Name another folder with "
                    "--cache-features, or add --set training.cache_features=false"
                )
            size = f"{self.missing_bytes / 1e9:.3f} GB"
            console.print(f"{self.folder}: {size} for features of {len(missing)} images", markup=False)
        share = ranks.share(missing)
        batches = [share[i : i + BATCH] for i in range(0, len(share), BATCH)]
        made = track(self._make(batches), "features of the frozen backbone", total=len(batches), console=console)
        for _ in made if batches else ():
            if stopped():
                raise Interrupted(f"interrupted; the features computed so far are kept in {self.folder}: run it again")
        failed = dict(chain.from_iterable(ranks.gather([(self.files[i], why) for i, why in self.failed.items()])))
        self.failed = {index: failed[file] for index, file in enumerate(self.files) if file in failed}
        self._look()

    def _make(self, batches: Iterable[Sequence[int]]) -> Iterator[dict[int, np.void]]:
        """Computes the maps of each batch, and keeps them; what can't be decoded is left out."""
        for batch in super().read(batches, range(self.count, len(self.files))):
            records = np.zeros(len(batch.indices), self.record)
            for level, maps in zip(self.backbone.levels, batch.maps, strict=False):  # there are none of no image
                records[level] = resize_maps(maps, self.how.grid).permute(0, 2, 3, 1).half().cpu().numpy()
            for index, size, record in zip(batch.indices, batch.sizes, records, strict=True):
                record["size"] = size
                record["crc32"] = _crc32(record.tobytes())
                self.files[index].parent.mkdir(exist_ok=True)
                with replacing(self.files[index], "wb", shared=True) as file:
                    file.write(self.header + record.tobytes())
            yield dict(zip(batch.indices, records, strict=True))

    def read(self, batches: Iterable[Sequence[int]], mirrored: Collection[int] = ()) -> Iterator[MapBatch]:
        """See `LiveFeatures`. Raises ValueError where images should be mirrored that aren't kept so."""
        if mirrored and len(self.files) == self.count:
            raise ValueError("these maps aren't kept mirrored")
        known = set(self.indices)

        def load(batch: Sequence[int]) -> dict[int, np.void | None]:
            """What is kept of each image that is known; None where that is damaged."""
            chosen = [index + self.count * (index in mirrored) for index in batch if index in known]
            return {index: self._kept(self.files[index]) for index in chosen}

        for loaded in self._timed(ahead(load, batches, 2)):
            damaged = [index for index, record in loaded.items() if record is None]
            if damaged:
                (again,) = self._make([damaged])
                loaded |= again
            whole = {index: record for index, record in loaded.items() if record is not None}
            maps = []
            for level in self.backbone.levels if whole else ():
                kept = torch.from_numpy(np.stack([record[level] for record in whole.values()]))  # (R, H, W, C)
                maps.append(kept.to(self.backbone.mean.device).float().permute(0, 3, 1, 2))
            sizes = [(int(width), int(height)) for width, height in (record["size"] for record in whole.values())]
            yield MapBatch([index % self.count for index in whole], sizes, maps)

    def _kept(self, file: Path) -> np.void | None:
        with suppress(OSError):
            content = file.read_bytes()
            record = content[len(self.header) :]
            if content.startswith(self.header) and len(record) == self.record.itemsize:
                kept: np.void = np.frombuffer(record, self.record)[0]
                return kept if kept["crc32"] == _crc32(record) else None
        return None


def _content(path: Path) -> str:
    """Hash of a file; of one that can't be read, of its name: decoding it will say why."""
    try:
        return sha256(path)
    except OSError:
        return hashlib.sha256(os.fsencode(path)).hexdigest()


def _crc32(record: bytes) -> int:
    """Of all but its first field, which holds it."""
    return zlib.crc32(memoryview(record)[4:])
