"""Batches on a GPU: workers decode ahead of the model, and find boxes and draw after it."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future

import torch

from groundcli.annotation.journal import Line
from groundcli.annotation.work import Job, Prepared, Task, finish, prepare, unusable
from groundcli.errors import GroundcliError
from groundcli.grounder import EncodedImage, Grounder
from groundcli.parallel import in_order, pool

AFTER = 2  # batches that are finished while the model works on the next


def annotate_on_gpu(
    batches: Sequence[Sequence[Task]], grounder: Grounder, job: Job, workers: int
) -> Iterator[list[Line]]:
    """The journal's lines of each batch, in order.

    Args:
        batches: images, encoded together.
        grounder: points.
        job: what is done with each image.
        workers: processes for all but the model; 0 are threads of this one.
    """
    side = grounder.model.config.visual.image_size
    with pool(workers) as executor:
        # One batch ahead, and one for each worker
        ahead = in_order(lambda batch: executor.submit(prepare, batch, side, job.phrases), batches, workers + 1)
        finishing: deque[list[Future[Line] | Line]] = deque()
        for batch, ready in zip(batches, ahead, strict=True):
            finishing.append(_ground(grounder, executor, batch, ready, job))
            if len(finishing) > AFTER:
                yield _results(finishing.popleft())
        while finishing:
            yield _results(finishing.popleft())


def _results(batch: "list[Future[Line] | Line]") -> list[Line]:
    return [line if isinstance(line, Line) else line.result() for line in batch]


def _ground(
    grounder: Grounder, executor: Executor, batch: Sequence[Task], ready: Sequence[Prepared | str], job: Job
) -> "list[Future[Line] | Line]":
    """Points, and hands each image over to be finished; an image that can't be used is a line at once."""
    good = [image for image in ready if isinstance(image, Prepared)]
    encoded = _encode(grounder, good)
    captions = grounder.encode_captions(caption for image in good for caption in image.captions)
    answers = (
        grounder.ground_captions(own, image.captions, captions, boxes=False)
        for own, image in zip(encoded, good, strict=True)
    )
    return [
        executor.submit(finish, task, next(answers), job) if isinstance(image, Prepared) else unusable(task, image)
        for task, image in zip(batch, ready, strict=True)
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
