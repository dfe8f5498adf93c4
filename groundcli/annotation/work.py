"""What annotate does to an image apart from the model. It runs in worker processes: nothing here imports torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from groundcli.annotation.journal import Line
from groundcli.annotation.record import image_record
from groundcli.data.images import decode, resize
from groundcli.data.phrases import How, PhraseFinder
from groundcli.data.sample import Caption, Sample
from groundcli.errors import BadInput
from groundcli.grounding.answer import Answer, GroundedPhrase
from groundcli.grounding.boxes import METHODS, Method
from groundcli.output.heatmaps import write_heatmaps
from groundcli.output.overlays import draw
from groundcli.output.report import THUMBNAILS, thumbnail_path, write_thumbnail

OVERLAYS, HEATMAPS = "overlays", "heatmaps"
FOLDERS = (OVERLAYS, HEATMAPS, THUMBNAILS)  # of what is drawn of each image


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as the model wants it.

    Attributes:
        size: (width, height) of the upright image in pixels.
        pixels: (S, S, 3) uint8 RGB.
        captions: with their phrases.
    """

    size: tuple[int, int]
    pixels: np.ndarray
    captions: list[Caption]


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is drawn of each image, into the run's folder."""

    out: Path
    overlays: bool = True
    report: bool = True
    heatmaps: bool = False


@lru_cache(maxsize=1)
def _finder() -> PhraseFinder:
    return PhraseFinder()


def prepare(sample: Sample, side: int, how: How) -> Prepared | str:
    """Decodes an image and finds its captions' phrases; or why the image can't be used."""
    try:
        image = decode(sample.image)
    except BadInput as error:
        return str(error)
    captions = _finder().find(sample.captions, how)
    return Prepared((image.shape[1], image.shape[0]), resize(image, side), captions)


def finish(sample: Sample, key: str, answers: Sequence[Answer], pictures: Pictures, boxes: Method) -> Line:
    """Finds the boxes, draws the pictures, and gives the image's line of the journal.

    Args:
        sample: the image.
        key: tells whether the image or its captions have changed since.
        answers: one a caption, without boxes.
        pictures: what to draw.
        boxes: the way to find boxes.
    """
    answers = [
        replace(answer, phrases=tuple(_boxed(p, answer.size, boxes) for p in answer.phrases)) for answer in answers
    ]
    if pictures.overlays or pictures.report:
        image = decode(sample.image)
        if pictures.overlays:
            draw(image, answers).save(_made(pictures.out / OVERLAYS / as_jpeg(sample.name)), quality=88)
        if pictures.report:
            write_thumbnail(image, thumbnail_path(pictures.out, sample.name))
    if pictures.heatmaps:
        write_heatmaps(_made(pictures.out / HEATMAPS / f"{sample.name}.npz"), answers)
    record = image_record(sample.name, answers[0].size, answers)
    return Line(sample.name, key, False, json.dumps({"key": key, **record}, allow_nan=False))


def unusable(sample: Sample, key: str, reason: str) -> Line:
    """The journal's line of an image that can't be used."""
    return Line(sample.name, key, True, json.dumps({"file_name": sample.name, "key": key, "error": reason}))


def _boxed(phrase: GroundedPhrase, size: tuple[int, int], method: Method) -> GroundedPhrase:
    boxes, scores = METHODS[method](phrase.heatmap, size)
    return replace(phrase, boxes=tuple(boxes), box_scores=tuple(scores))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def as_jpeg(name: str) -> str:
    """An overlay's path: the image's own, with .jpg after it where it has another suffix."""
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"
