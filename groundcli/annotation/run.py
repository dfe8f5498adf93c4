"""The main job: images with captions in, a folder of annotations out, of which nothing is lost."""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from groundcli.annotation.journal import Journal, Line
from groundcli.annotation.outputs import JOURNAL, POSITIONS, RUN, Count, Outputs, write_json, write_outputs
from groundcli.annotation.pool import pool
from groundcli.annotation.work import Pictures, Prepared, finish, prepare, unusable
from groundcli.data.ahead import in_order
from groundcli.data.folder import Found
from groundcli.data.phrases import How
from groundcli.data.sample import Sample
from groundcli.errors import GroundcliError, Interrupted, UsageError
from groundcli.grounding.grounder import EncodedImage, Grounder
from groundcli.interrupts import interruptible

LOCK = ".lock"
Batch = Sequence[Sample]
Progress = Callable[[Sequence[Batch]], Iterable[Batch]]


@dataclass(frozen=True)
class Settings:
    """How a run goes, which what it finds doesn't depend on.

    Attributes:
        batch_size: images encoded together.
        workers: processes that decode, draw and write; 0 is a thread.
        on_existing: `resume` goes on with what the folder holds, if it was run the same way; `overwrite` starts it
            over; `error` refuses it.
    """

    batch_size: int = 8
    workers: int = 0
    on_existing: str = "resume"


def annotate(
    grounder: Grounder,
    found: Found,
    out: Path,
    *,
    phrases: How,
    pictures: Pictures,
    outputs: Outputs,
    settings: Settings,
    run: Mapping[str, Any],
    progress: Progress,
) -> tuple[Count, int]:
    """Annotates images into a folder; an image that can't be used is reported there, and the rest goes on.

    Images are worked on in the batches in which they were found, and a batch is written down as a whole: a run that
    was killed and goes on computes the same as one that wasn't, byte for byte (on the same machine).

    Args:
        grounder: points.
        found: images with captions, and what couldn't be used already, to be reported with the rest.
        out: the folder, which is made where needed.
        phrases: which phrases of a caption.
        pictures: what to draw of each image.
        outputs: the files to make of what was found.
        settings: how to go about it.
        run: what `run.json` says of this run: version, weights, arguments; another one is not gone on with.
        progress: shown each batch as it is taken up.

    Returns:
        What became of the images, and how many lines `failures.jsonl` has.

    Raises:
        UsageError: the folder holds another run, or another process is at work there.
        GroundcliError: the folder can't be written to.
        Interrupted: by Ctrl-C or SIGTERM, after the batch that was being worked on.
    """
    started = time.time()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            _admit(out, settings.on_existing, run)
            journal = Journal(out / JOURNAL, resume=settings.on_existing == "resume")
            write_json(out / RUN, {**run, "finished": False})
            keys = {sample.name: _key(sample) for sample in found.samples}
            current = {name for name, key in journal.keys.items() if keys.get(name) == key}
            resumed = current - journal.failed
            batches = _batches(found, settings.batch_size)
            todo = [batch for batch in batches if any(sample.name not in current for sample in batch)]
            again = {sample.name for batch in todo for sample in batch}
            with interruptible() as stopped:
                for lines in _lines(grounder, todo, phrases, pictures, settings, keys, progress):
                    journal.add(lines)
                    if stopped():
                        journal.close()
                        done = len(journal.keys.keys() & keys.keys())
                        raise Interrupted(
                            f"interrupted: {done} of {len(keys)} images are done and kept in {out}; "
                            "run the same command again to go on"
                        )
            journal.close([sample.name for sample in found.samples])
            write_json(out / POSITIONS, found.positions)
            problems = write_outputs(out, found.failures, outputs)
            usable = len(keys) - len(journal.failed & keys.keys())
            kept = len(resumed - again)
            count = Count(found.images, usable - kept, kept, found.images - usable)
            times = {"seconds": round(time.time() - started, 1), "finished": True}
            write_json(out / RUN, {**run, "counts": vars(count), "problems": problems, **times})
    except OSError as error:
        raise GroundcliError(f"{out}: can't be written ({error.strerror or error}); what was done is kept") from None
    return count, problems


# --- The way of a batch


def _batches(found: Found, size: int) -> list[list[Sample]]:
    """Images whose places among all that were found are of one batch; the same ones in every shard, or in none."""
    groups = groupby(zip(found.positions, found.samples, strict=True), key=lambda placed: placed[0] // size)
    return [[sample for _, sample in group] for _, group in groups]


def _lines(
    grounder: Grounder,
    batches: Sequence[Batch],
    phrases: How,
    pictures: Pictures,
    settings: Settings,
    keys: Mapping[str, str],
    progress: Progress,
) -> Iterator[list[Line]]:
    """The journal's lines of each batch. Decoding runs ahead of the model, boxes and pictures after it."""
    side = grounder.model.config.visual.image_size
    with pool(settings.workers) as workers:
        everything = chain.from_iterable(batches)
        count = 2 * settings.batch_size + settings.workers
        ahead = in_order(lambda sample: workers.submit(prepare, sample, side, phrases), everything, count)
        finishing: deque[list[Future[Line] | Line]] = deque()
        for batch in progress(batches):
            ready = list(islice(ahead, len(batch)))
            finishing.append(_ground(grounder, workers, batch, ready, pictures, keys))
            while len(finishing) > 2:
                yield _results(finishing.popleft())
        while finishing:
            yield _results(finishing.popleft())


def _results(batch: "list[Future[Line] | Line]") -> list[Line]:
    return [line if isinstance(line, Line) else line.result() for line in batch]


def _ground(
    grounder: Grounder,
    workers: Executor,
    batch: Batch,
    ready: Sequence[Prepared | str],
    pictures: Pictures,
    keys: Mapping[str, str],
) -> "list[Future[Line] | Line]":
    """Points, and hands each image over to be finished; an image that can't be used is a line at once."""
    good = [image for image in ready if isinstance(image, Prepared)]
    encoded = _encode(grounder, good)
    answers = iter(grounder.ground_batch(encoded, [image.captions for image in good], boxes=False))
    return [
        workers.submit(finish, sample, keys[sample.name], next(answers), pictures)
        if isinstance(image, Prepared)
        else unusable(sample, keys[sample.name], image)
        for sample, image in zip(batch, ready, strict=True)
    ]


def _encode(grounder: Grounder, images: Sequence[Prepared]) -> list[EncodedImage]:
    """Encodes images together, in halves where a GPU's memory doesn't suffice."""
    try:
        return grounder.encode_pixels([image.pixels for image in images], [image.size for image in images])
    except torch.OutOfMemoryError:
        if len(images) < 2:
            raise GroundcliError("the GPU's memory doesn't suffice for a single image; try --device cpu") from None
    torch.cuda.empty_cache()
    middle = len(images) // 2
    return [*_encode(grounder, images[:middle]), *_encode(grounder, images[middle:])]


# --- The run's folder


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two runs into one folder would spoil it: the second is refused."""
    try:
        with FileLock(out / LOCK, timeout=0):
            yield
    except Timeout:
        raise UsageError(f"{out}: another groundcli is at work there; wait for it or name another --out") from None


def _admit(out: Path, on_existing: str, run: Mapping[str, Any]) -> None:
    """Refuses a folder that holds what `on_existing` doesn't allow for."""
    if not (out / RUN).exists() or on_existing == "overwrite":
        return
    if on_existing == "error":
        raise UsageError(f"{out} holds a run already: add --on-existing overwrite or resume, or name another --out")
    try:
        before = json.loads((out / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"{out / RUN}: can't be read; add --on-existing overwrite") from None
    changed = list(_changed(before, run))
    if changed:
        raise UsageError(f"{out} holds a run with {'; '.join(changed)}; add --on-existing overwrite, or another --out")


def _changed(before: Any, now: Mapping[str, Any]) -> Iterator[str]:
    """What an earlier run had otherwise: "phrases noun, not words"."""
    for key, value in now.items():
        old = before.get(key) if isinstance(before, dict) else None
        if isinstance(value, dict):
            yield from _changed(old, value)
        elif old != value:
            yield f"{key} {old}, not {value}"


def _key(sample: Sample) -> str:
    """Changes with the image's file and with its captions."""
    try:
        stat = sample.image.stat()
        file = f"{stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        file = "missing"
    captions = [(c.text, [p.span for p in c.phrases]) for c in sample.captions]
    return hashlib.sha256(f"{file} {json.dumps(captions)}".encode()).hexdigest()[:16]
