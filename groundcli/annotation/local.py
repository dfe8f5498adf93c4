"""Batches on this machine."""

import os
from collections.abc import Iterator, Sequence

import torch

from groundcli.annotation.cpu import annotate_on_cpu
from groundcli.annotation.gpu import annotate_on_gpu
from groundcli.annotation.journal import Line
from groundcli.annotation.work import Job, Task
from groundcli.grounder import Grounder


def annotate_batches(
    batches: Sequence[Sequence[Task]], grounder: Grounder, job: Job, workers: int
) -> Iterator[list[Line]]:
    """The journal's lines of each batch, in order.

    Args:
        batches: images whose captions, and on a GPU pixels, are encoded together.
        grounder: points.
        job: what is done with each image.
        workers: on a CPU threads that take an image each; beside a GPU processes for all but the model, where 0 are
            threads of this one.
    """
    if grounder.device.type == "cpu":
        return annotate_on_cpu(batches, grounder, job, max(1, workers))
    return annotate_on_gpu(batches, grounder, job, workers)


def default_workers(images: int, devices: Sequence[torch.device]) -> int:
    """For each of several devices: their share of the cores; beside a GPU up to 8, and none for the few images that
    are done before a process has started."""
    if all(device.type == "cpu" for device in devices):
        return max(1, torch.get_num_threads() // len(devices))
    return min(8, max(1, (os.cpu_count() or 1) // len(devices))) if images >= 100 else 0
