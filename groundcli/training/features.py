"""Feature maps of a frozen CNN, computed once and read from disk ever after."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from groundcli.data.ahead import ahead
from groundcli.data.images import decode
from groundcli.data.sample import Sample
from groundcli.errors import BadInput
from groundcli.grounding.grounder import resize_image
from groundcli.model.visual import Backbone, resize

BATCH = 16
INDEX = "index.json"


@dataclass(frozen=True)
class Preparation:
    """All that feature maps depend on, beside the images and the CNN's weights.

    Attributes:
        image_size: images are resized to this square.
        grid: cells a side to keep.
    """

    image_size: int
    grid: int


class Features:
    """Feature maps of all usable images of a list, float16, one file a level.

    Attributes:
        usable: indices into the list of the images that could be decoded, in order; row i belongs to usable[i].
        sizes: (width, height) of each usable image in pixels.
        failures: (image, reason) of the others.
    """

    def __init__(self, folder: Path, levels: Sequence[str]):
        index = json.loads((folder / INDEX).read_text("utf-8"))
        self.usable: list[int] = index["usable"]
        self.sizes: list[tuple[int, int]] = [(w, h) for w, h in index["sizes"]]
        self.failures: list[tuple[str, str]] = [(p, r) for p, r in index["failures"]]
        self._levels = [np.load(folder / f"{level}.npy", mmap_mode="r") for level in levels]

    def maps(self, rows: Sequence[int], device: torch.device) -> list[Tensor]:
        """Feature maps (R, C_l, M, M) float32 of some rows."""
        order = np.asarray(rows)
        return [torch.from_numpy(level[order]).to(device).float().permute(0, 3, 1, 2) for level in self._levels]


def features(
    samples: Sequence[Sample], backbone: Backbone, weights: str, how: Preparation, cache: Path, console: Console
) -> Features:
    """Reads the feature maps of the samples' images from the cache, or computes them and writes them there.

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
        _compute(samples, backbone, how, folder, console)
    return Features(folder, backbone.levels)


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _compute(samples: Sequence[Sample], backbone: Backbone, how: Preparation, folder: Path, console: Console) -> None:
    device = backbone.mean.device
    partial = [folder / f"{level}.partial" for level in backbone.levels]
    shapes = [(len(samples), how.grid, how.grid, channels) for channels in backbone.channels]
    files = [
        np.lib.format.open_memmap(path, "w+", np.float16, shape) for path, shape in zip(partial, shapes, strict=True)
    ]
    usable: list[int] = []
    sizes: list[tuple[int, int]] = []
    failures: list[tuple[str, str]] = []

    def prepare(i: int) -> tuple[int, tuple[int, int], Tensor] | tuple[str, str]:
        try:
            image = decode(samples[i].image)
        except BadInput as error:
            return samples[i].name, str(error)
        return i, (image.shape[1], image.shape[0]), resize_image(image, how.image_size)

    total = -(-len(samples) // BATCH)
    batches = _batched(ahead(prepare, range(len(samples)), 2 * BATCH), BATCH)
    for batch in track(batches, "features of the frozen CNN", total=total, console=console):
        good = [item for item in batch if len(item) == 3]
        failures += [item for item in batch if len(item) == 2]
        if good:
            maps = backbone(torch.cat([pixels for _, _, pixels in good]).to(device))
            for file, level in zip(files, maps, strict=True):
                rows = slice(len(usable), len(usable) + len(good))
                file[rows] = resize(level, how.grid).permute(0, 2, 3, 1).half().cpu().numpy()
            usable += [i for i, _, _ in good]
            sizes += [size for _, size, _ in good]
    index = folder / "index.partial"
    index.write_text(json.dumps({"usable": usable, "sizes": sizes, "failures": failures}), "utf-8")
    for file, path in zip(files, partial, strict=True):
        file.flush()
        path.replace(path.with_name(path.name.removesuffix(".partial") + ".npy"))
    index.replace(folder / INDEX)


def _batched(items: Iterator, size: int) -> Iterator[list]:
    while batch := list(islice(items, size)):
        yield batch
