"""Batches on several devices of this machine: a process with a model of its own for each."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection

from groundcli.annotation.journal import Line
from groundcli.annotation.local import annotate_batches
from groundcli.annotation.work import Job, Task
from groundcli.errors import GroundcliError
from groundcli.grounder import Grounder
from groundcli.parallel import live_with_parent


def annotate_on_devices(
    batches: Sequence[Sequence[Task]],
    devices: Sequence[str],
    load: Callable[[str], Grounder],
    job: Job,
    workers: int,
) -> Iterator[list[Line]]:
    """The journal's lines of each batch, in order; batches are dealt out in turn.

    Args:
        batches: images, encoded together.
        devices: their names; one that is there twice has two processes.
        load: makes the grounder of a device, in its process.
        job: what is done with each image.
        workers: processes of each device for all but the model.

    Raises:
        GroundcliError: what a device's process raised, or that it was killed.
        OSError: a picture can't be written.
    """
    context = multiprocessing.get_context("spawn")
    devices = devices[: len(batches)]  # none loads a model for nothing
    ends: list[Connection] = []
    processes = []
    for i, device in enumerate(devices):
        end, other = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(other, batches[i :: len(devices)], device, load, job, workers))
        process.start()
        other.close()  # so that the end of the process is seen
        ends.append(end)
        processes.append(process)
    try:
        for i in range(len(batches)):
            yield _received(ends[i % len(ends)], devices[i % len(ends)])
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(end: Connection, device: str) -> list[Line]:
    try:
        lines = end.recv()
    except EOFError:
        raise GroundcliError(f"the process of {device} has been killed; run the same command again to go on") from None
    if isinstance(lines, Exception):
        raise lines
    return lines


def _serve(
    end: Connection,
    batches: Sequence[Sequence[Task]],
    device: str,
    load: Callable[[str], Grounder],
    job: Job,
    workers: int,
) -> None:
    """Sends lines; waits where they aren't taken, so that memory doesn't grow."""
    live_with_parent()
    try:
        for lines in annotate_batches(batches, load(device), job, workers):
            end.send(lines)
    except (GroundcliError, OSError) as error:
        end.send(error)
