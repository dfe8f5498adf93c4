"""The main job: images with captions in, a folder of annotations out. Here is what it can be told."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundcli.errors import UsageError
from groundcli.options import MIN_SCORE, CaptionOptions, ModelOptions, Options, option

Format = Literal["jsonl", "csv", "yolo", "labelstudio"]
Categories = Literal["phrase", "head", "single"]
FORMAT_OF = {"image_prefix": "labelstudio", "images": "yolo", "copy_images": "yolo"}  # options of one format alone


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions(ModelOptions, CaptionOptions):
    """What `annotate` can be told."""

    called = "annotate"

    images: tuple[Path, ...] = option(
        "Folders, image files, lists of files (.txt, .lst) and quoted patterns.", argument=True, decides=True
    )
    out: Path = option("Folder for all results; a new one, or one that an earlier run made.")
    phrase: tuple[str, ...] = option("A phrase to look for in every image; repeatable.", (), decides=True)
    phrases: Literal["auto", "marked", "noun", "words", "caption"] = option(
        "auto: those marked in brackets, else noun phrases.", "auto", decides=True
    )
    recursive: bool = option("Search folders to the bottom.", True, decides=True)
    limit: int | None = option("The first so many images only.", None, min=1, decides=True)
    shard: str | None = option(
        "Every N-th batch of images from the I-th on; see merge.", None, metavar="I/N", decides=True
    )
    boxes: Literal["extents", "sides", "authors"] = option(
        "How boxes are got: extents, how likely the thing covers a place (where the weights know that); sides, a "
        "share of the heat for each side; or authors, as the paper does.",
        "extents",
        decides=True,
    )
    min_score: float = option(
        "Phrases with a lower score are not found: they stand in not_found.jsonl alone. The default keeps 99 % of the "
        "right points of validation images.",
        MIN_SCORE,
        min=0,
        max=1,
        decides=True,
    )
    categories: Categories = option("What an annotation's category is: head is its noun.", "phrase", decides=True)
    format: tuple[Format, ...] = option("A format beside COCO, as export makes it; repeatable.", ())
    overlays: bool = option("Draw one picture per image.", True, decides=True)
    overlay_style: Literal["compact", "detailed"] = option(
        "compact: the photograph once; detailed: for each caption, and with heat maps.", "compact", decides=True
    )
    overlay_size: int = option(
        "Longer side of a compact overlay's photograph, in pixels.", 960, min=64, max=16384, decides=True
    )
    report: bool = option("Make report.html, to look through.", True, decides=True)
    save_heatmaps: bool = option("Keep the heat maps, one .npz file per image.", False, decides=True)
    on_existing: Literal["resume", "overwrite", "error"] = option("What to do where OUT holds a run already.", "resume")
    dry_run: bool = option("Say what would be done, and what it would take.", False)
    batch_size: int = option("Images whose captions, and on a GPU pixels, are encoded together.", 8, min=1, max=65536)
    workers: int | None = option(
        "On a CPU images at a time, beside a GPU processes that draw. Default: by cores.", None, min=0, max=1024
    )
    devices: tuple[str, ...] = option("Several devices at once, such as cuda:0,cuda:1.", (), metavar="D,D")
    engine: Literal["local", "ray"] = option("ray: on the cluster of RAY_ADDRESS, or a Ray of this machine.", "local")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "devices", tuple(d.strip() for text in self.devices for d in text.split(",")))
        if shard := parse_shard(self.shard):  # "01/2" is 1/2
            object.__setattr__(self, "shard", "{}/{}".format(*shard))
        if any(not text.strip() for text in self.phrase):
            raise UsageError("--phrase: the phrase is blank")
        if not all(self.devices):
            raise UsageError("--devices: the name of a device is blank")
        if self.devices and self.engine == "ray":
            raise UsageError(
                "--devices: of this machine; with --engine ray the cluster's are taken, of the kind --device"
            )


@dataclass(frozen=True, kw_only=True)
class MergeOptions(Options):
    """What `merge` can be told."""

    shards: tuple[Path, ...] = option("The folders of all shards, in any order.", argument=True)
    out: Path = option("Folder for the whole.")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """What `export` can be told."""

    out: Path = option("Folder of a finished run of annotate.", argument=True)
    format: tuple[Literal["coco", "jsonl", "csv", "yolo", "labelstudio"], ...] = option("What to make; repeatable.")
    categories: Categories | None = option(
        "What a label or class is. Default: as in the run, but heads of phrases for YOLO.", None
    )
    merge_captions: bool = option(
        "Of phrases of one label in one place, as several captions name it, keep the best.", False
    )
    image_prefix: str = option("For Label Studio, before each image's name: http://host/photos/, s3://bucket/ ...", "")
    images: tuple[Path, ...] = option("Where the images for YOLO are now, if not where the run found them.", ())
    copy_images: bool = option("Copy YOLO's images, rather than link to them.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, format in FORMAT_OF.items():
            if getattr(self, name) and format not in self.format:
                raise UsageError(f"--{name.replace('_', '-')}: goes with --format {format}")


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """(2, 8) of "2/8". Raises UsageError for anything but I/N, I from 1 to N."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*", text)
    part, parts = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard {text}: expected I/N with I from 1 to N; 2/8 is the second of eight parts")
    return part, parts
