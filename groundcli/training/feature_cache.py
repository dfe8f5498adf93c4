"""Feature maps of a frozen CNN, computed once and kept on disk for any number of runs.

    CACHE/KIND/kind.json     what the maps were made with; KIND is a hash of it
    CACHE/KIND/ID.npy        a shard: float16 (images, values), an image's levels one after the other, row by row of
                             their cells, channels last
    CACHE/KIND/ID.json       the shard's images: hash of the file, width, height

An image is known by its content, so a copy, another name or another data set finds it again. A shard is written under a
name of its own and becomes visible when it is whole: any number of runs may write at once, and one that is killed
leaves nothing half. Two runs that compute the same image at the same time keep it twice, and both are right.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from groundcli.data.sample import Sample
from groundcli.errors import GroundcliError, Interrupted
from groundcli.model.visual import Backbone
from groundcli.model.visual import resize as resize_maps
from groundcli.parallel import Stopped, ahead
from groundcli.training.features import THREADS, LiveFeatures, MapBatch, Preparation
from groundcli.training.ranks import Ranks
from groundcli.weights.files import sha256

BATCH = 16  # images to the CNN at once
SHARD = 32 << 20  # bytes held in memory before they are written; a killed run computes this much again
RESERVE = 1 << 30  # bytes of the disk that the cache leaves free


class CachedFeatures:
    """The feature maps of a list's images, read from disk."""

    def __init__(
        self, samples: Sequence[Sample], backbone: Backbone, weights: str, how: Preparation, cache: Path
    ) -> None:
        """Looks the images up; see `complete` for those that aren't there.

        Args:
            samples: their images, in this order.
            backbone: computes the maps.
            weights: hash of the backbone's weights.
            how: size of images and maps.
            cache: the folder of all caches.
        """
        self.samples, self.backbone, self.how = samples, backbone, how
        self.shapes = [(how.grid, how.grid, channels) for channels in backbone.channels]
        self.values = sum(h * w * c for h, w, c in self.shapes)  # of an image
        self.waited = 0.0
        self.failures: list[tuple[str, str]] = []
        kind = {
            "weights": weights,
            "levels": backbone.levels,
            "output_stride": backbone.output_stride,
            "mean": backbone.mean.flatten().tolist(),
            "std": backbone.std.flatten().tolist(),
            "image_size": how.image_size,
            "grid": how.grid,
        }
        text = json.dumps(kind, indent=2)
        self.folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "kind.json").exists():
            _write(self.folder / "kind.json", lambda file: file.write(text.encode()))
        with ThreadPoolExecutor(THREADS) as pool:
            self.keys = list(pool.map(lambda sample: _content(sample.image), samples))
        self._shards: dict[str, np.ndarray] = {}
        self._places: dict[str, tuple[np.ndarray, int, tuple[int, int]]] = {}
        self._look()

    def _look(self) -> None:
        """Takes in the shards that weren't there the last time."""
        for index in sorted(self.folder.glob("*.json")):
            if index.name == "kind.json" or index.stem in self._shards:
                continue
            try:
                shard = np.load(index.with_suffix(".npy"), mmap_mode="r")
                images = json.loads(index.read_text("utf-8"))
                if shard.shape != (len(images), self.values):
                    raise ValueError
            except (OSError, ValueError):
                raise GroundcliError(f"{index.with_suffix('.npy')}: damaged; remove it and its .json") from None
            self._shards[index.stem] = shard
            for place, (key, width, height) in enumerate(images):
                self._places.setdefault(key, (shard, place, (width, height)))
        self.rows: Sequence[int] = [row for row, key in enumerate(self.keys) if key in self._places]

    @property
    def missing(self) -> list[int]:
        """A row for each image that isn't there."""
        rows = {key: row for row, key in reversed(list(enumerate(self.keys))) if key not in self._places}
        return sorted(rows.values())

    @property
    def missing_bytes(self) -> int:
        """What the missing images will take."""
        return 2 * self.values * len(self.missing)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if self.missing_bytes > free - RESERVE:
            raise GroundcliError(
                f"{self.folder}: {self.missing_bytes / 1e9:.2f} GB of features don't fit; the disk has "
                f"{free / 1e9:.2f} GB free, of which {RESERVE / 1e9:.0f} GB stay so. Name another folder with "
                "--cache-features, or add --set training.cache_features=false"
            )

    def complete(self, ranks: Ranks, stopped: Stopped, console: Console) -> None:
        """Computes what is missing, each rank its share.

        Raises:
            GroundcliError: the missing images don't fit on the disk.
            Interrupted: what was computed until then is kept.
        """
        (missing, *_) = ranks.gather(self.missing)  # the first one's list: others may have begun to write by now
        rows = ranks.share(missing)
        if missing:
            self._check_room()
            size = f"{self.missing_bytes / 1e9:.3f} GB"
            console.print(f"{self.folder}: {size} for features of {len(missing)} images", markup=False)
        live = LiveFeatures([self.samples[row] for row in rows], self.backbone, self.how.image_size)
        batches = [live.rows[i : i + BATCH] for i in range(0, len(live.rows), BATCH)]
        images: list[tuple[str, int, int]] = []
        values: list[np.ndarray] = []
        keys = [self.keys[row] for row in rows]

        def write() -> None:
            if images:
                name = uuid.uuid4().hex
                rows, index = np.stack(values), json.dumps(images).encode()
                _write(self.folder / f"{name}.npy", lambda file: np.save(file, rows))
                _write(self.folder / f"{name}.json", lambda file: file.write(index))
                images.clear()
                values.clear()

        shown = track(live.read(batches), "features of the frozen CNN", total=len(batches), console=console)
        for batch in shown if batches else ():
            maps = [resize_maps(m, self.how.grid).permute(0, 2, 3, 1).flatten(1) for m in batch.maps]
            if batch.rows:
                values.extend(torch.cat(maps, dim=1).half().cpu().numpy())
                images += [(keys[row], *size) for row, size in zip(batch.rows, batch.sizes, strict=True)]
            if 2 * self.values * len(images) >= SHARD:
                write()
            if stopped():
                write()
                raise Interrupted(f"interrupted; the features computed so far are kept in {self.folder}: run it again")
        write()
        own = [(keys[row], reason) for row, reason in live.failed.items()]
        bad = dict(chain.from_iterable(ranks.gather(own)))
        self._look()
        self.failures = [(s.name, bad[k]) for s, k in zip(self.samples, self.keys, strict=True) if k in bad]

    def _load(self, batch: Sequence[int]) -> tuple[list[int], np.ndarray]:
        rows = [row for row in batch if self.keys[row] in self._places]
        values = np.empty((len(rows), self.values), np.float16)
        for value, row in zip(values, rows, strict=True):
            shard, place, _ = self._places[self.keys[row]]
            value[:] = shard[place]
        return rows, values

    def read(self, batches: Iterable[Sequence[int]], mirrored: Collection[int] = ()) -> Iterator[MapBatch]:
        """See `FeatureSource`. Raises ValueError where images should be mirrored: their maps aren't kept."""
        if mirrored:
            raise ValueError("kept maps can't be mirrored")
        device = self.backbone.mean.device
        loaded = ahead(self._load, batches, 2)
        while True:
            start = time.perf_counter()
            batch = next(loaded, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            rows, values = batch
            levels = torch.from_numpy(values).split([h * w * c for h, w, c in self.shapes], dim=1)
            maps = [
                level.to(device).float().view(-1, *shape).permute(0, 3, 1, 2)
                for level, shape in zip(levels, self.shapes, strict=True)
            ]
            yield MapBatch(rows, [self._places[self.keys[row]][2] for row in rows], maps if rows else [])


def _content(path: Path) -> str:
    """Hash of a file; of one that can't be read, its name: decoding it will say why."""
    try:
        return sha256(path)
    except OSError:
        return str(path)


def _write(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """A file that is there when it is whole; several may write the same."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
