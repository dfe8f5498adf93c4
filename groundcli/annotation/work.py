"""An image all the way on one device: decoded, encoded, grounded, drawn, and written down as a line of the journal.

Batches go through workers. On a CPU these are threads that take an image each, with one thread for the model in each:
no core waits for another inside a layer, none is idle while pictures are drawn, and sums come out the same however many
cores there are. Beside a GPU they are processes: they decode ahead of the model, and find boxes and draw after it. They
never import torch, so nothing here does at the top.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import lru_cache
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from groundcli.annotation import AnnotateOptions
from groundcli.annotation.folder import HEATMAPS, OVERLAYS, THUMBNAILS, TRACEBACKS, file_of
from groundcli.annotation.journal import Line
from groundcli.answer import PhraseHeat, Reading, answer
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
Heats = list[tuple[list[Caption], PhraseHeat]]  # an image's captions, part by part, with the heat of their phrases
Grounded = tuple[tuple[int, int], Heats]  # with the image's (width, height) in pixels
Batches = Sequence[Sequence["Task"]]


class Task(NamedTuple):
    """An image to annotate, and what tells whether the image or its captions have changed since."""

    sample: Sample
    key: str


class Prepared(NamedTuple):
    """An image as a GPU wants it: its (width, height) in pixels, (S, S, 3) uint8 RGB, and captions with phrases."""

    size: tuple[int, int]
    pixels: np.ndarray
    captions: list[Caption]


def load(options: AnnotateOptions, device: str) -> "Grounder":
    """The model of a run. Raises GroundcliError."""
    from groundcli.grounder import Grounder

    how = options.boxes, options.min_score, options.runtime
    return Grounder.load(options.weights, device, options.precision, options.settings, *how)


def annotate_batches(batches: Batches, grounder: "Grounder", options: AnnotateOptions) -> Iterator[list[Line]]:
    """The journal's lines of each batch, in order: of images whose captions, and on a GPU pixels, are encoded together.

    The options' workers are on a CPU threads that take an image each; beside a GPU processes for all but the model,
    where 0 are threads of this one.
    """
    workers = options.workers
    if workers is None:
        workers = default_workers(sum(map(len, batches)), grounder.on_cpu, len(options.devices) or 1)
    workers = max(workers, 1 if grounder.on_cpu else 0)
    with lanes(workers) if grounder.on_cpu else pool(workers) as executor:
        lines = (_on_cpu if grounder.on_cpu else _on_gpu)(batches, grounder, options, executor, workers)
        yield from ([*islice(lines, len(batch))] for batch in batches)


def default_workers(images: int, on_cpus: bool, share: int = 1) -> int:
    """For one of `share` devices its share of the cores; beside a GPU up to 8, and none for the few images that are
    done before a process has started."""
    if on_cpus:
        return max(1, cores() // share)
    return min(8, max(1, (os.cpu_count() or 1) // share)) if images >= 100 else 0


def _on_cpu(
    batches: Batches, grounder: "Grounder", options: AnnotateOptions, executor: Executor, workers: int
) -> Iterator[Line]:
    """Two steps in the same threads: captions are read batch by batch, then images taken all the way one by one."""

    def read(batch: Sequence[Task]) -> Iterator[tuple[Any, ...]]:
        captions = find_phrases(batch, options)
        return zip(batch, captions, repeat(_encoded(captions, grounder)))

    def all_the_way(task: Task, captions: list[Caption], encoded: "EncodedCaptions | None") -> Line:
        stop_if_asked()
        image = decode(task.sample.image)
        (cells,) = grounder.encode_pictures([image])
        grounded = image.size, _heats(grounder, cells, captions, encoded)
        return _write_down(task, grounded, grounder.reading(), options, image)

    images = chain.from_iterable(in_order(lambda batch: executor.submit(read, batch), batches, workers))
    ahead = (workers + 1) * options.batch_size
    yield from in_order(lambda image: executor.submit(_safely, options, all_the_way, *image), images, ahead)


def _on_gpu(
    batches: Batches, grounder: "Grounder", options: AnnotateOptions, executor: Executor, workers: int
) -> Iterator[Line]:
    """Workers prepare a batch ahead each, and one more; the model, here, hands every image over to be finished."""
    side, reading = grounder.config.visual.image_size, grounder.reading()
    prepared = in_order(lambda batch: executor.submit(_prepare, batch, side, options), batches, workers + 1)

    def ground(
        task: Task, image: Prepared, cells: "Iterator[EncodedImage]", encoded: "EncodedCaptions | None"
    ) -> Grounded:
        return image.size, _heats(grounder, next(cells), image.captions, encoded)

    def handed_over() -> "Iterator[Future[Line]]":
        for batch, images in zip(batches, prepared, strict=True):
            good = [image for image in images if isinstance(image, Prepared)]
            cells = iter(_encode(grounder, good))
            encoded = _encoded([image.captions for image in good], grounder)
            for task, image in zip(batch, images, strict=True):
                grounded = _safely(options, ground, task, image, cells, encoded)
                yield executor.submit(_safely, options, _write_down, task, grounded, reading, options)

    yield from in_order(lambda line: line, handed_over(), (AFTER + 1) * options.batch_size)


def _prepare(batch: Sequence[Task], side: int, options: AnnotateOptions) -> list[Prepared | Line]:
    """Decodes images and finds the phrases of all their captions; of an image that can't be used, its line."""

    def prepare(task: Task, captions: list[Caption]) -> Prepared:
        image = decode(task.sample.image)
        return Prepared(image.size, resize(image, side), captions)

    found = find_phrases(batch, options)
    return [_safely(options, prepare, task, captions) for task, captions in zip(batch, found, strict=True)]


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


@lru_cache(maxsize=1)
def finder() -> PhraseFinder:
    """Of this process."""
    return PhraseFinder()


def find_phrases(batch: Sequence[Task], options: AnnotateOptions) -> Sequence[list[Caption] | Line]:
    """The captions of each image, with their phrases; or the line of an image with captions that can't be used."""

    def find(*tasks: Task) -> list[list[Caption]]:
        captions = [caption for task in tasks for caption in task.sample.captions]
        found = (_checked(caption) for part in _parts(captions) for caption in finder().find(part, options.phrases))
        return [[*islice(found, len(task.sample.captions))] for task in tasks]

    try:
        return find(*batch)
    except Interrupted:
        raise
    except Exception:  # one caption spoils no other: each image by itself
        return [_safely(options, lambda task, _: find(task)[0], task, None) for task in batch]


def _checked(caption: Caption) -> Caption:
    if len(caption.phrases) > MOST_PHRASES:
        said = f"a caption has {len(caption.phrases):,} phrases, {caption.text[:20]!r}..."
        raise BadInput(f"{said}; at most {MOST_PHRASES:,} are looked for: split it")
    return caption


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


def _encoded(found: Sequence[list[Caption] | Line], grounder: "Grounder") -> "EncodedCaptions | None":
    """A batch's captions together; None where they are too many, or one can't be: each image has its own then."""
    captions = [caption for captions in found if not isinstance(captions, Line) for caption in captions]
    if len(captions) * max((len(caption.text) for caption in captions), default=0) > TOGETHER:
        return None
    try:
        return grounder.encode_captions(captions)
    except Exception:  # met again, and told, with the image that it belongs to
        return None


def _heats(
    grounder: "Grounder", cells: "EncodedImage", captions: Sequence[Caption], encoded: "EncodedCaptions | None"
) -> Heats:
    return [(part, grounder.phrase_heat(cells, part, encoded)) for part in _parts(captions)]


def _safely(options: AnnotateOptions, work: Callable[..., T], task: Task, before: Any, *how: object) -> T | Line:
    """What `work` gives for an image, of what there is of it before; where that is a failure's line, it stays.

    What goes wrong is that image's failure, and ends no run; a full disk does.
    """
    if isinstance(before, Line):
        return before
    try:
        return work(task, before, *how)
    except BadInput as error:
        reason = str(error)
    except GroundcliError:
        raise
    except MemoryError:  # its key fits no file, so that the next run tries it again
        task, reason = task._replace(key=""), "memory did not suffice; try fewer --workers"
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the system's, of a file that is written; not an encoder's
            raise
        with (options.out / TRACEBACKS).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{task.sample.name}\n{''.join(traceback.format_exception(error))}\n")
        said = f"{type(error).__name__}: {first_line(error)}"
        reason = f"an error that was not foreseen ({said}); see {TRACEBACKS}"
    return Line.of({"file_name": task.sample.name, "key": task.key, "error": reason})


def _write_down(
    task: Task, grounded: Grounded, reading: Reading, options: AnnotateOptions, image: Image.Image | None = None
) -> Line:
    """From heat maps to the pictures, and the image's line of the journal. Raises BadInput and OSError.

    Without the image it is decoded again where it is drawn on: that takes less than passing it on from process to
    process, and it may be gone since the model saw it.
    """
    size, heats = grounded
    answers = [one for captions, heat in heats for one in answer(captions, size, heat, reading)]

    def place(folder: str) -> Path:
        path = options.out / file_of(folder, task.sample.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def save(picture: Image.Image, folder: str, quality: int) -> None:
        with replacing(place(folder), "wb") as file:
            picture.save(file, "JPEG", quality=quality)

    if options.overlays or options.report:
        image = image or decode(task.sample.image)
        if options.overlays:
            save(draw(image, answers, options.overlay_style, options.overlay_size), OVERLAYS, quality=88)
        if options.report:
            save(thumbnail(image), THUMBNAILS, quality=80)
    if options.save_heatmaps:
        write_heatmaps(place(HEATMAPS), answers)
    return Line.of({"key": task.key, **record_of(task.sample.name, answers, size)})
