"""Batches on a Ray cluster, by actors that hold the model."""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from groundcli.annotation.journal import Line
from groundcli.annotation.local import annotate_batches
from groundcli.annotation.work import Job, Task
from groundcli.errors import GroundcliError, first_line
from groundcli.grounder import Grounder

CORES = 4  # of an actor on CPUs, or fewer where nodes, or torch here, have fewer: it works on a batch at a time


class Cluster:
    """An engine of `groundcli.annotation.run`, made of Ray Data: lines come back in the order of their batches.

    Actors read the images and write the pictures themselves, so all nodes see the same files under the same paths, and
    have groundcli and its weights. There is one for each GPU of the cluster, or for each `CORES` cores.
    """

    def __init__(self, device: torch.device, load: Callable[[str], Grounder], job: Job):
        """Joins the cluster of the environment's RAY_ADDRESS, or starts one on this machine.

        Args:
            device: of which kind the actors' devices are.
            load: makes the grounder of a device, in its actor.
            job: what is done with each image.

        Raises:
            GroundcliError: Ray isn't installed, there is no cluster at RAY_ADDRESS, or it has no such device.
        """
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # else a wrong address takes minutes to show
        try:
            import ray
        except ImportError:
            raise GroundcliError("--engine ray needs Ray; install it with: pip install 'groundcli[ray]'") from None
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise GroundcliError(f"Ray can't be reached or started: {first_line(error)}") from None
        resource, wanted = ("GPU", 1) if device.type == "cuda" else ("CPU", min(CORES, torch.get_num_threads()))
        nodes = [int(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]]
        share = min(wanted, max(nodes, default=0))  # of one actor
        if not share:
            raise GroundcliError(f"the Ray cluster has no {resource}; choose another --device")
        self.resources: dict[str, Any] = {f"num_{resource.lower()}s": share}
        self.actors = sum(node // share for node in nodes)
        self.arguments = {
            "device": device.type,
            "workers": share if resource == "CPU" else 0,
            "load": load,
            "job": replace(job, out=job.out.absolute()),
        }

    def __call__(self, batches: Sequence[Sequence[Task]]) -> Iterator[list[Line]]:
        """The journal's lines of each batch, in order."""
        if not batches:
            return
        import ray

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        logging.disable(logging.WARNING)  # Ray's own; what it logs is in its session's folder all the same
        rows = ray.data.from_items(
            [{"batch": pickle.dumps([_placed(task) for task in batch])} for batch in batches],
            override_num_blocks=len(batches),
        )
        actors = ray.data.ActorPoolStrategy(size=min(self.actors, len(batches)))
        actor: Any = _Actor
        done = rows.map(actor, fn_constructor_kwargs=self.arguments, compute=actors, **self.resources)
        try:
            for row in done.iter_rows():
                yield pickle.loads(row["lines"])
        except ray.exceptions.RayError as error:
            raise GroundcliError(
                f"Ray stopped ({first_line(error.__cause__ or error)}); run the same command again to go on"
            ) from None


class _Actor:
    """A process of the cluster with a model of its own."""

    def __init__(self, device: str, workers: int, load: Callable[[str], Grounder], job: Job):
        self.grounder = load(device)
        self.workers = workers
        self.job = job

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        batch = pickle.loads(row["batch"])
        (lines,) = annotate_batches([batch], self.grounder, self.job, self.workers)
        return {"lines": pickle.dumps(lines)}


def _placed(task: Task) -> Task:
    """Its file by a path that holds wherever an actor runs."""
    return task._replace(sample=replace(task.sample, image=task.sample.image.absolute()))
