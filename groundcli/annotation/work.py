"""An image all the way on one device: decoded, encoded, grounded, drawn, and written down as a line of the journal.

Batches go through workers. On a CPU these are threads that take an image each, with one thread for the model in each:
no core waits for another inside a layer, none is idle while pictures are drawn, and sums come out the same however many
cores there are. Beside a GPU they are processes: they decode ahead of the model, and find boxes and draw after it. They
never import torch, so nothing here does at the top.
"""

import os
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from groundcli.annotation import AnnotateOptions
from groundcli.annotation.folder import HEATMAPS, OVERLAYS, PER_IMAGE, THUMBNAILS, TRACEBACKS
from groundcli.annotation.journal import Line
from groundcli.answer import Answer, PhraseHeat, Reading, answer
from groundcli.data import Caption, Sample
from groundcli.data.images import decode, resize
from groundcli.data.phrases import PhraseFinder
from groundcli.errors import BadInput, GroundcliError, Interrupted, first_line
from groundcli.files import replacing
from groundcli.output.overlays import draw
from groundcli.output.record import record_of, write_heatmaps
from groundcli.output.report import thumbnail
from groundcli.parallel import cores, in_order, lanes, pool, stop_if_asked

if TYPE_CHECKING:
    from groundcli.grounder import EncodedCaptions, EncodedImage, Grounder

AFTER = 2  # batches that are drawn while a GPU works on the next
TOGETHER, PART = 200_000, 20_000  # characters of a batch's captions that are encoded together; of an image's, grounded
MOST_PHRASES = 1000  # of one caption
T = TypeVar("T")


class Task(NamedTuple):
    """An image to annotate, and what tells whether the image or its captions have changed since."""

    sample: Sample
    key: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a GPU wants it.

    Attributes:
        size: (width, height) of the upright image in pixels.
        pixels: (S, S, 3) uint8 RGB.
        captions: with their phrases.
    """

    size: tuple[int, int]
    pixels: np.ndarray
    captions: list[Caption]


def annotate_batches(
    batches: Sequence[Sequence[Task]],
    grounder: "Grounder",
    options: AnnotateOptions,
    workers: int,
    beside_gpu: bool | None = None,
) -> Iterator[list[Line]]:
    """The journal's lines of each batch, in order.

    Args:
        batches: images whose captions, and on a GPU pixels, are encoded together.
        grounder: points.
        options: of the run.
        workers: on a CPU threads that take an image each; beside a GPU processes for all but the model, where 0 are
            threads of this one.
        beside_gpu: which of the two ways; by default that of the grounder's device.
    """
    if not grounder.on_cpu if beside_gpu is None else beside_gpu:
        with pool(workers) as executor:
            yield from _on_gpu(batches, grounder, options, executor, workers)
    else:
        with lanes(max(1, workers)) as executor:
            yield from _on_cpu(batches, grounder, options, executor, max(1, workers))


def default_workers(images: int, on_cpus: bool, share: int = 1) -> int:
    """For one of `share` devices its share of the cores; beside a GPU up to 8, and none for the few images that are
    done before a process has started."""
    if on_cpus:
        return max(1, cores() // share)
    return min(8, max(1, (os.cpu_count() or 1) // share)) if images >= 100 else 0


class _All(list["Future[Line] | Line"]):
    """What becomes of a batch, to be waited for as one."""

    def result(self) -> list[Line]:
        """The lines of its images."""
        return [line if isinstance(line, Line) else line.result() for line in self]


# --- On a CPU


def _on_cpu(
    batches: Sequence[Sequence[Task]], grounder: "Grounder", options: AnnotateOptions, executor: Executor, threads: int
) -> Iterator[list[Line]]:
    """Two steps in the same threads: captions are read batch by batch, then images taken all the way one by one."""
    read = in_order(lambda batch: executor.submit(_read, batch, grounder, options), batches, threads)

    def begin(work: "tuple[Sequence[Task], tuple[list[list[Caption] | str], EncodedCaptions | None]]") -> _All:
        batch, (captions, encoded) = work
        pairs = zip(batch, captions, strict=True)
        return _All(executor.submit(_all_the_way, *pair, encoded, grounder, options) for pair in pairs)

    yield from in_order(begin, zip(batches, read, strict=True), threads + 1)


def _read(
    batch: Sequence[Task], grounder: "Grounder", options: AnnotateOptions
) -> "tuple[list[list[Caption] | str], EncodedCaptions | None]":
    """Each image's captions with their phrases, or why they can't be used; and all of them encoded."""
    captions = find_phrases(batch, options)
    good = (several for several in captions if not isinstance(several, str))
    return captions, _encoded([caption for several in good for caption in several], grounder)


def _all_the_way(
    task: Task,
    captions: list[Caption] | str,
    encoded: "EncodedCaptions | None",
    grounder: "Grounder",
    options: AnnotateOptions,
) -> Line:
    stop_if_asked()
    if isinstance(captions, str):
        return unusable(task, captions)
    with failing(task, options) as failure:
        image = decode(task.sample.image)
        (cells,) = grounder.encode_pictures([image])
        answers = [a for part in _parts(captions) for a in grounder.ground_captions(cells, part, encoded)]
        return write_down(task, answers, options, image)
    return failure[0]


# --- On a GPU


def _on_gpu(
    batches: Sequence[Sequence[Task]], grounder: "Grounder", options: AnnotateOptions, executor: Executor, workers: int
) -> Iterator[list[Line]]:
    """Workers prepare a batch ahead each, and one more; the model, here, hands every image over to be finished."""
    side = grounder.config.visual.image_size
    reading = grounder.reading()
    ahead = in_order(lambda batch: executor.submit(prepare, batch, side, options), batches, workers + 1)

    def begin(work: tuple[Sequence[Task], list[Prepared | str]]) -> _All:
        batch, images = work
        good = [image for image in images if isinstance(image, Prepared)]
        encoded = _encode(grounder, good)
        captions = _encoded([caption for image in good for caption in image.captions], grounder)
        cells = iter(encoded)
        lines = _All()
        for task, image in zip(batch, images, strict=True):
            if isinstance(image, str):
                lines.append(unusable(task, image))
                continue
            with failing(task, options) as failure:
                seen = next(cells)
                parts = [grounder.phrase_heat(seen, part, captions) for part in _parts(image.captions)]
                heat = PhraseHeat(*map(np.concatenate, zip(*parts, strict=True)))
                lines.append(executor.submit(finish, task, image.captions, image.size, heat, reading, options))
            lines += failure
        return lines

    yield from in_order(begin, zip(batches, ahead, strict=True), AFTER + 1)


def prepare(batch: Sequence[Task], side: int, options: AnnotateOptions) -> list[Prepared | str]:
    """Decodes images and finds the phrases of all their captions; of an image that can't be used, why."""

    def prepared(task: Task, captions: list[Caption] | str) -> Prepared | str:
        if isinstance(captions, str):
            return captions
        try:
            image = decode(task.sample.image)
        except BadInput as error:
            return str(error)
        return Prepared(image.size, resize(image, side), captions)

    return [prepared(task, captions) for task, captions in zip(batch, find_phrases(batch, options), strict=True)]


def _encode(grounder: "Grounder", images: Sequence[Prepared]) -> "list[EncodedImage]":
    """Encodes images together, in halves where a GPU's memory doesn't suffice."""
    import torch

    try:
        return grounder.encode_pixels([image.pixels for image in images], [image.size for image in images])
    except torch.OutOfMemoryError:
        if len(images) < 2:
            raise GroundcliError("the GPU's memory doesn't suffice for a single image; try --device cpu") from None
    torch.cuda.empty_cache()
    middle = len(images) // 2
    return [*_encode(grounder, images[:middle]), *_encode(grounder, images[middle:])]


def finish(
    task: Task,
    captions: Sequence[Caption],
    size: tuple[int, int],
    heat: PhraseHeat,
    reading: Reading,
    options: AnnotateOptions,
) -> Line:
    """From heat maps to the line of the journal, and the pictures."""
    with failing(task, options) as failure:
        answers = answer(captions, size, heat, reading)
        return write_down(task, answers, options, None)
    return failure[0]


# --- On both


@lru_cache(maxsize=1)
def finder() -> PhraseFinder:
    """Of this process."""
    return PhraseFinder()


def find_phrases(batch: Sequence[Task], options: AnnotateOptions) -> list[list[Caption] | str]:
    """The captions of each image, with their phrases; or why they can't be used."""
    try:
        captions = [caption for task in batch for caption in task.sample.captions]
        found = (caption for part in _parts(captions) for caption in finder().find(part, options.phrases))
        return [_checked(list(islice(found, len(task.sample.captions)))) for task in batch]
    except Interrupted:
        raise
    except Exception as error:  # one caption spoils no other: each image by itself
        if len(batch) > 1:
            return [captions for task in batch for captions in find_phrases([task], options)]
        return [_unforeseen(batch[0], error, options)]


def _checked(captions: list[Caption]) -> list[Caption] | str:
    """Captions with their phrases, or why an image with them can't be used."""
    for caption in captions:
        if len(caption.phrases) > MOST_PHRASES:
            said = f"a caption has {len(caption.phrases):,} phrases, {caption.text[:20]!r}..."
            return f"{said}; at most {MOST_PHRASES:,} are looked for: split it"
    return captions


def _parts(captions: Sequence[Caption]) -> Iterator[list[Caption]]:
    """Captions by the handful: neither memory nor the time until a run can stop grows with how many an image has."""
    part: list[Caption] = []
    longest = 0
    for caption in captions:
        longest = max(longest, len(caption.text))
        if part and (len(part) + 1) * longest > PART:  # shorter ones are filled up
            yield part
            stop_if_asked()
            part, longest = [], len(caption.text)
        part.append(caption)
    yield part


def _encoded(captions: Sequence[Caption], grounder: "Grounder") -> "EncodedCaptions | None":
    """A batch's captions together; None where they are too many, or one can't be: each image has its own then."""
    if len(captions) * max((len(caption.text) for caption in captions), default=0) > TOGETHER:
        return None
    try:
        return grounder.encode_captions(captions)
    except Exception:  # met again, and told, with the image that it belongs to
        return None


@contextmanager
def failing(task: Task, options: AnnotateOptions) -> Iterator[list[Line]]:
    """What goes wrong with one image is that image's failure, and ends no run; a full disk does.

    Gives a list that holds the line of the failure after the block, if there was one.
    """
    failure: list[Line] = []
    try:
        yield failure
    except BadInput as error:
        failure.append(unusable(task, str(error)))
    except GroundcliError:
        raise
    except MemoryError:  # its key fits no file, so that the next run tries it again
        failure.append(unusable(task._replace(key=""), "memory did not suffice; try fewer --workers"))
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the system's, of a file that is written; not an encoder's
            raise
        failure.append(unusable(task, _unforeseen(task, error, options)))


def _unforeseen(task: Task, error: Exception, options: AnnotateOptions) -> str:
    """A reason for the user; the traceback goes into a file, for whoever mends it."""
    with (options.out / TRACEBACKS).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{task.sample.name}\n{''.join(traceback.format_exception(error))}\n")
    return f"an error that was not foreseen ({type(error).__name__}: {first_line(error)}); see {TRACEBACKS}"


def write_down(task: Task, answers: Sequence[Answer], options: AnnotateOptions, image: Image.Image | None) -> Line:
    """Draws the pictures, and gives the image's line of the journal. Raises BadInput and OSError.

    Args:
        task: the image.
        answers: one per caption.
        options: what to draw, and where.
        image: what `decode` gave; None decodes it again where it is drawn on, as that takes less than passing it on
            from process to process.
    """
    name = task.sample.name
    if options.overlays or options.report:
        image = decode(task.sample.image) if image is None else image  # it may be gone since the model saw it
        if options.overlays:
            picture = draw(image, answers, options.overlay_style, options.overlay_size)
            _save(picture, _picture(options.out, OVERLAYS, name), quality=88)
        if options.report:
            _save(thumbnail(image), _picture(options.out, THUMBNAILS, name), quality=80)
    if options.save_heatmaps:
        write_heatmaps(_picture(options.out, HEATMAPS, name), answers)
    return Line.of({"key": task.key, **record_of(name, answers, answers[0].size)})


def unusable(task: Task, reason: str) -> Line:
    """The journal's line of an image that can't be used."""
    return Line.of({"file_name": task.sample.name, "key": task.key, "error": reason})


def _picture(out: Path, folder: str, name: str) -> Path:
    """The path of a file of an image, whose folder is made."""
    path = out / f"{folder}{PER_IMAGE[folder](name)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _save(picture: Image.Image, path: Path, quality: int) -> None:
    with replacing(path, "wb") as file:
        picture.save(file, "JPEG", quality=quality)
