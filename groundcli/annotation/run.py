"""The main job: images with captions in, a folder of annotations out, of which nothing is lost."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from groundcli.annotation.folder import JOURNAL, POSITIONS, RUN, RunFolder, look
from groundcli.annotation.journal import Journal, Line
from groundcli.annotation.outputs import Count, Outputs, write_outputs
from groundcli.annotation.work import Task
from groundcli.data.folder import Found
from groundcli.data.sample import Sample
from groundcli.errors import GroundcliError, Interrupted, UsageError
from groundcli.files import locked, write_json
from groundcli.output.formats.yolo import check_names
from groundcli.parallel import interruptible

Engine = Callable[[Sequence[Sequence[Task]]], Iterable[list[Line]]]
Progress = Callable[[Iterable[list[Line]], int], Iterable[list[Line]]]


@dataclass(frozen=True)
class Settings:
    """How a run goes, which what it finds doesn't depend on.

    Attributes:
        batch_size: images encoded together.
        on_existing: `resume` goes on with what the folder holds, if it was run the same way; `overwrite` starts it
            over; `error` refuses it.
    """

    batch_size: int = 8
    on_existing: str = "resume"


def annotate(
    engine: Engine,
    found: Found,
    out: Path,
    *,
    outputs: Outputs,
    settings: Settings,
    run: Mapping[str, Any],
    progress: Progress,
) -> tuple[Count, int]:
    """Annotates images into a folder; an image that can't be used is reported there, and the rest goes on.

    Images are worked on in the batches in which they were found, and a batch is written down as a whole: a run that
    was killed and goes on computes the same as one that wasn't, byte for byte (on the same machine).

    Args:
        engine: turns batches into their lines of the journal, in order; one at a time, or several ahead.
        found: images with captions, and what couldn't be used already, to be reported with the rest.
        out: the folder, which is made where needed.
        outputs: the files to make of what was found.
        settings: how to go about it.
        run: what `run.json` says of this run: version, weights, arguments; another one is not gone on with.
        progress: passes on the engine's lines, and knows how many images there are.

    Returns:
        What became of the images, and how many lines `failures.jsonl` has.

    Raises:
        UsageError: the folder holds another run, or another process is at work there.
        GroundcliError: the folder can't be written to.
        Interrupted: by Ctrl-C or SIGTERM, after the batch that was being worked on.
    """
    started = time.time()
    try:
        look(out)
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            before = look(out)  # again, now that nobody else changes it
            _admit(before, settings.on_existing, run)
            if "yolo" in outputs.formats:
                check_names(sample.name for sample in found.samples)
            if settings.on_existing == "overwrite":
                before.clear()
                before = RunFolder(out)
            write_json(out / RUN, {**run, "finished": False})
            names = [sample.name for sample in found.samples]
            earlier = sorted({*before.images}.difference(names))
            positions = {"listing": found.listing, "positions": found.positions, "images": names}
            write_json(out / POSITIONS, {**positions, "earlier": earlier})
            journal = Journal(out / JOURNAL, resume=settings.on_existing == "resume")
            batches = _batches(found, settings.batch_size)
            keys = {task.sample.name: task.key for batch in batches for task in batch}
            current = {name for name, key in journal.keys.items() if keys.get(name) == key}
            resumed = current - journal.failed
            todo = [batch for batch in batches if any(task.sample.name not in current for task in batch)]
            again = {task.sample.name for batch in todo for task in batch}
            with interruptible() as stopped:
                for lines in progress(engine(todo), len(again)):
                    journal.add(lines)
                    if stopped():
                        journal.close()
                        done = len(journal.keys.keys() & keys.keys())
                        raise Interrupted(
                            f"interrupted: {done} of {len(keys)} images are done and kept in {out}; "
                            "run the same command again to go on"
                        )
            journal.close(keys)
            before.remove(kept=keys)
            write_json(out / POSITIONS, positions)
            problems = write_outputs(out, found.failures, outputs)
            usable = len(keys) - len(journal.failed & keys.keys())
            kept = len(resumed - again)
            count = Count(found.images, usable - kept, kept, found.images - usable)
            times = {"seconds": round(time.time() - started, 1), "finished": True}
            write_json(out / RUN, {**run, "counts": vars(count), "problems": problems, **times})
    except OSError as error:
        raise GroundcliError(f"{out}: can't be written ({error.strerror or error}); what was done is kept") from None
    return count, problems


def _batches(found: Found, size: int) -> list[list[Task]]:
    """Images whose places among all that were found are of one batch; the same ones in every shard, or in none."""
    groups = groupby(zip(found.positions, found.samples, strict=True), key=lambda placed: placed[0] // size)
    return [[Task(sample, _key(sample)) for _, sample in group] for _, group in groups]


# --- The run's folder


def _admit(before: RunFolder, on_existing: str, run: Mapping[str, Any]) -> None:
    """Refuses a folder that holds what `on_existing` doesn't allow for."""
    if not before.run or on_existing == "overwrite":
        return
    out = before.out
    if on_existing == "error":
        raise UsageError(f"{out} holds a run already: add --on-existing overwrite or resume, or name another --out")
    changed = list(_changed(before.run, {key: value for key, value in run.items() if key != "files"}))
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
