"""Batches on a CPU: each thread takes an image all the way, from its file to its line of the journal.

Torch has one thread in each of them. No core waits for another inside a layer, none is idle while pictures are drawn,
and sums come out the same however many cores there are.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from groundcli.annotation.journal import Line
from groundcli.annotation.work import Job, Task, find_phrases, finish, unusable
from groundcli.data.images import decode
from groundcli.data.phrases import How
from groundcli.data.sample import Caption
from groundcli.errors import BadInput
from groundcli.grounder import EncodedCaptions, Grounder
from groundcli.parallel import in_order, lanes


def annotate_on_cpu(
    batches: Sequence[Sequence[Task]], grounder: Grounder, job: Job, threads: int
) -> Iterator[list[Line]]:
    """The journal's lines of each batch, in order.

    Args:
        batches: images whose captions are encoded together.
        grounder: points.
        job: what is done with each image.
        threads: images that are worked on at a time.
    """
    with lanes(threads) as executor:
        read = in_order(lambda batch: executor.submit(_read, batch, grounder, job.phrases), batches, threads)
        working: deque[list[Future[Line]]] = deque()
        for batch, (captions, encoded) in zip(batches, read, strict=True):
            working.append(
                [
                    executor.submit(_annotate, task, own, encoded, grounder, job)
                    for task, own in zip(batch, captions, strict=True)
                ]
            )
            if len(working) > threads:
                yield [line.result() for line in working.popleft()]
        while working:
            yield [line.result() for line in working.popleft()]


def _read(batch: Sequence[Task], grounder: Grounder, how: How) -> tuple[list[list[Caption]], EncodedCaptions]:
    """Each image's captions with their phrases, and all of them encoded."""
    captions = find_phrases(batch, how)
    return captions, grounder.encode_captions(caption for own in captions for caption in own)


def _annotate(task: Task, captions: Sequence[Caption], encoded: EncodedCaptions, grounder: Grounder, job: Job) -> Line:
    try:
        image = decode(task.sample.image)
    except BadInput as error:
        return unusable(task, str(error))
    return finish(task, grounder.ground_captions(grounder.encode(image), captions, encoded, boxes=False), job, image)
