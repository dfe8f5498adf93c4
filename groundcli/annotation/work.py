"""What annotate does to an image apart from the model. It runs in worker processes: nothing here imports torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from groundcli.annotation.folder import HEATMAPS, OVERLAYS, overlay_name
from groundcli.annotation.journal import Line
from groundcli.answer import Answer, GroundedPhrase
from groundcli.data.images import decode, resize
from groundcli.data.phrases import How, PhraseFinder
from groundcli.data.sample import Caption, Sample
from groundcli.errors import BadInput
from groundcli.files import replacing
from groundcli.heat.boxes import DEFAULT, METHODS, Method
from groundcli.output.heatmaps import write_heatmaps
from groundcli.output.overlays import draw
from groundcli.output.record import image_record
from groundcli.output.report import thumbnail_path, write_thumbnail


class Task(NamedTuple):
    """An image to annotate, and what tells whether the image or its captions have changed since."""

    sample: Sample
    key: str


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with each image.

    Attributes:
        out: the run's folder, for the pictures.
        phrases: which phrases of a caption.
        overlays: whether to draw what was found on the image.
        report: whether to draw what the page to look through shows.
        heatmaps: whether to keep the heat maps.
        boxes: the way to find boxes.
    """

    out: Path
    phrases: How = "auto"
    overlays: bool = True
    report: bool = True
    heatmaps: bool = False
    boxes: Method = DEFAULT


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


@lru_cache(maxsize=1)
def finder() -> PhraseFinder:
    """Of this process."""
    return PhraseFinder()


def find_phrases(batch: Sequence[Task], how: How) -> list[list[Caption]]:
    """The captions of each image, with their phrases."""
    captions = iter(finder().find([caption for task in batch for caption in task.sample.captions], how))
    return [list(islice(captions, len(task.sample.captions))) for task in batch]


def prepare(batch: Sequence[Task], side: int, how: How) -> list[Prepared | str]:
    """Decodes images and finds the phrases of all their captions; of an image that can't be used, why."""
    decoded = [_decode(task.sample, side) for task in batch]
    return [
        image if isinstance(image, str) else Prepared(*image, own)
        for image, own in zip(decoded, find_phrases(batch, how), strict=True)
    ]


def _decode(sample: Sample, side: int) -> tuple[tuple[int, int], np.ndarray] | str:
    """(width, height) of the upright image, and its pixels at the model's size; or why it can't be used."""
    try:
        image = decode(sample.image)
    except BadInput as error:
        return str(error)
    return image.size, resize(image, side)


def finish(task: Task, answers: Sequence[Answer], job: Job, image: Image.Image | None = None) -> Line:
    """Finds the boxes, draws the pictures, and gives the image's line of the journal.

    Args:
        task: the image.
        answers: one a caption, without boxes.
        job: what to draw.
        image: what `decode` gave; None decodes it again where it is drawn on, as that takes less
            than passing it on from process to process.
    """
    name = task.sample.name
    answers = [
        replace(answer, phrases=tuple(_boxed(p, answer.size, job.boxes) for p in answer.phrases)) for answer in answers
    ]
    if job.overlays or job.report:
        try:
            image = decode(task.sample.image) if image is None else image
        except BadInput as error:  # gone since the model saw it
            return unusable(task, str(error))
        if job.overlays:
            with replacing(_made(job.out / OVERLAYS / overlay_name(name)), "wb") as file:
                draw(image, answers).save(file, "JPEG", quality=88)
        if job.report:
            write_thumbnail(image, thumbnail_path(job.out, name))
    if job.heatmaps:
        write_heatmaps(_made(job.out / HEATMAPS / f"{name}.npz"), answers)
    record = image_record(name, answers[0].size, answers)
    return Line(name, task.key, False, json.dumps({"key": task.key, **record}, allow_nan=False))


def unusable(task: Task, reason: str) -> Line:
    """The journal's line of an image that can't be used."""
    error = {"file_name": task.sample.name, "key": task.key, "error": reason}
    return Line(task.sample.name, task.key, True, json.dumps(error))


def _boxed(phrase: GroundedPhrase, size: tuple[int, int], method: Method) -> GroundedPhrase:
    boxes, scores = METHODS[method](phrase.heatmap, size)
    return replace(phrase, boxes=tuple(boxes), box_scores=tuple(scores))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
