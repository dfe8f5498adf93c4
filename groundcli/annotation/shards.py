"""Several devices at once, of this machine or of a Ray cluster; and shards that were run one by one, made one run.

Each device takes a shard of the run's batches, in a process with a model of its own. It draws the pictures where they
belong and gives its lines back, which the run writes down.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import repeat
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from groundcli.annotation import AnnotateOptions, MergeOptions
from groundcli.annotation.export import Count, Outcome, finish
from groundcli.annotation.folder import (
    FAILURES,
    JOURNAL,
    POSITIONS,
    RUN,
    differences,
    files_of,
    finished,
    look,
    pictures_of,
)
from groundcli.annotation.journal import Line
from groundcli.annotation.work import Batches, annotate_batches, load
from groundcli.data import Failure
from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.files import locked, replacing, write_json
from groundcli.output.record import records
from groundcli.parallel import Deaf, live_with_parent, stop_if_asked

CORES = 4  # of a shard on a cluster's CPUs, or fewer where nodes have fewer: its threads take an image each
PAUSE = 0.1  # seconds until it is seen that somebody asked to stop


def annotate_shards(batches: Batches, options: AnnotateOptions) -> Iterator[list[Line]]:
    """The journal's lines, as they come; batches are dealt out in turn.

    Raises:
        GroundcliError: what a shard's process raised, or that it was killed; Ray isn't installed or can't be reached.
        OSError: a picture can't be written.
    """
    if batches:
        yield from (_on_ray if options.engine == "ray" else _in_processes)(batches, options)


def _work_on_shard(batches: Batches, device: str, options: AnnotateOptions) -> Iterator[list[Line]]:
    """In a process of its own. Which device there is, is found out here, where it is used."""
    yield from annotate_batches(batches, load(options, device), options)  # itself a generator: Ray asks for one


def _dealt(batches: Batches, count: int) -> list[Batches]:
    """At most so many shards, none of them empty."""
    count = min(count, len(batches))
    return [batches[i::count] for i in range(count)]


def _in_processes(batches: Batches, options: AnnotateOptions) -> Iterator[list[Line]]:
    """A process for each of `--devices`."""
    context = Deaf()
    working: dict[Any, Any] = {}  # processes, each by the end of the pipe that its lines come out of
    try:
        for device, shard in zip(options.devices, _dealt(batches, len(options.devices)), strict=False):
            end, other = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(other, shard, device, options), name=device)
            process.start()
            working[end] = process
            other.close()  # nobody but the process holds it then: when that ends, it shows
        while working:
            ready: list[Any] = wait([*working], PAUSE)
            for end in ready:
                try:
                    said = end.recv()
                except (EOFError, OSError):
                    killed = f"the process of {working[end].name} has been killed"
                    raise GroundcliError(f"{killed}; run the same command again to go on") from None
                if isinstance(said, Exception):
                    raise said
                if said is None:
                    working.pop(end).join()
                else:
                    yield said
            stop_if_asked()
    finally:
        for process in working.values():
            process.kill()
            process.join()


def _serve(end: Connection, batches: Batches, device: str, options: AnnotateOptions) -> None:
    """Sends the lines, and then None; or an error."""
    live_with_parent()
    try:
        for lines in _work_on_shard(batches, device, options):
            end.send(lines)
        end.send(None)
    except (GroundcliError, OSError) as error:
        end.send(error)


def _on_ray(batches: Batches, options: AnnotateOptions) -> Iterator[list[Line]]:
    """A Ray task for each GPU of the cluster of RAY_ADDRESS, or for each few cores of it.

    Its nodes see the same files under the same paths, and have groundcli and its weights.
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
    logging.disable(logging.WARNING)  # Ray's own; what it logs is in its session's folder all the same
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    device = options.device.partition(":")[0]
    if device == "auto":  # of the cluster, whatever this machine has
        device = "cuda" if any(node.get("GPU") for node in nodes) else "cpu"
    kind, wanted = ("GPU", 1) if device == "cuda" else ("CPU", CORES)
    counts = [int(node.get(kind, 0)) for node in nodes]
    need = min(wanted, max(counts, default=0))  # of one shard
    if not need:
        raise GroundcliError(f"the Ray cluster has no {kind}; choose another --device")
    workers = need if kind == "CPU" and options.workers is None else options.workers
    weights = options.weights
    if Path(weights).exists():  # a path has to hold wherever a shard runs; a name stays a name
        weights = str(Path(weights).absolute())
    placed = replace(options, out=options.out.absolute(), weights=weights, workers=workers)
    batches = [
        [task._replace(sample=replace(task.sample, image=task.sample.image.absolute())) for task in batch]
        for batch in batches
    ]
    needs: dict[str, Any] = {f"num_{kind.lower()}s": need, "max_retries": 0, "num_returns": "streaming"}
    work = ray.remote(**needs)(_work_on_shard)
    shards = _dealt(batches, sum(count // need for count in counts))
    working: list[Any] = [work.remote(shard, device, placed) for shard in shards]
    try:
        while working:
            ready: list[Any] = ray.wait(working, timeout=PAUSE)[0]
            for lines in ready:
                try:
                    some = ray.get(next(lines))
                except StopIteration:
                    working.remove(lines)
                    continue
                except ray.exceptions.RayError as error:
                    cause = error.__cause__ or getattr(error, "cause", None)
                    if isinstance(cause, GroundcliError | OSError):
                        raise cause from None
                    reason = first_line(cause or error)
                    raise GroundcliError(f"Ray stopped ({reason}); run the same command again to go on") from None
                yield some
            stop_if_asked()
    finally:
        for lines in working:
            ray.cancel(lines, force=True)


# What the runs of the shards have in common, beside their version and weights.
SAME = sorted({*AnnotateOptions.deciding(), "batch_size"} - {"shard"})


def merge(options: MergeOptions) -> Outcome:
    """Puts the results of all shards of a run into one folder, equal to those of a run without shards.

    Its counts are the sums of the shards'.

    Raises:
        GroundcliError: a folder holds no finished run.
        UsageError: a shard is missing or there twice, or the runs differ in more than their shard.
    """
    shards, out = options.shards, options.out
    folders = [finished(shard) for shard in shards]
    runs = [folder.run for folder in folders]
    _check(shards, runs)
    if look(out).run:
        raise UsageError(f"{out} holds a run already; name another --out")
    placed: list[tuple[int, str, int]] = []  # an image's place among all, its name, and its shard's number
    for i, folder in enumerate(folders):
        listed = folder.positions
        lines = [bool(record) for record in records(folder.out / JOURNAL)]
        if "listing" not in listed or not all(lines) or len(lines) != len(listed["images"]):
            raise GroundcliError(f"{folder.out}: this shard is unfinished or damaged; run its command again")
        if listed["listing"] != folders[0].positions["listing"]:
            raise UsageError(f"{folder.out} was run on other images than {shards[0]}; run it again on the same ones")
        placed += zip(listed["positions"], listed["images"], repeat(i))
    placed.sort()
    arguments = runs[0]["arguments"] | {"shard": None, "out": str(out)}
    about = {**runs[0], "arguments": arguments, "files": files_of(arguments), "exports": {}}
    positions = {"positions": [place for place, *_ in placed], "images": [name for _, name, _ in placed]}
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        write_json(out / RUN, {**about, "finished": False})
        write_json(out / POSITIONS, {**folders[0].positions, **positions})
        with ExitStack() as files:
            journal = files.enter_context(replacing(out / JOURNAL, "wb"))
            journals = [files.enter_context((shard / JOURNAL).open("rb")) for shard in shards]
            journal.writelines(next(journals[i]) for *_, i in placed)
        for shard in shards:
            for pictures in pictures_of(arguments):
                if (shard / pictures).exists():
                    shutil.copytree(shard / pictures, out / pictures, copy_function=_link, dirs_exist_ok=True)
        failures = [json.loads(line) for shard in shards for line in (shard / FAILURES).read_bytes().splitlines()]
        counts = Count(**{key: sum(run["counts"][key] for run in runs) for key in runs[0]["counts"]})
        began = time.time() - sum(run["seconds"] for run in runs)
        return finish(out, about, [Failure(**failure) for failure in failures], counts, began)


def _check(shards: Sequence[Path], runs: Sequence[Mapping[str, Any]]) -> None:
    """Refuses folders that are not of all shards of one run."""
    parts = [run["arguments"]["shard"] for run in runs]
    if None in parts:
        raise UsageError(f"{shards[parts.index(None)]}: a whole run, not a shard of one; it needs no merging")
    wanted = [f"{i}/{count}" for count in {part.split("/")[1] for part in parts} for i in range(1, int(count) + 1)]
    missing = [part for part in wanted if part not in parts]
    if missing or len(parts) != len(wanted):
        lacks = f"missing: {', '.join(missing)}" if missing else "each is needed once"
        raise UsageError(f"these folders are shards {', '.join(parts)}; {lacks}")
    for shard, run in zip(shards, runs, strict=True):
        differs = differences(run, runs[0], SAME)
        if differs:
            raise UsageError(f"{shard} was run with other {', '.join(differs)} than {shards[0]}")


def _link(source: str, target: str) -> None:
    """A link is as good as a copy: a run never writes into a file that is there, it puts a new one in its place."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
