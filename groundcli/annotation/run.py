"""The main job: images with captions in, a folder of annotations out, of which nothing is lost."""

import hashlib
import json
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import groundcli
from groundcli.annotation import AnnotateOptions, parse_shard
from groundcli.annotation.export import Count, Outcome, finish
from groundcli.annotation.folder import (
    JOURNAL,
    POSITIONS,
    RUN,
    RunFolder,
    check_inputs,
    differences,
    files_of,
    look,
    pictures_of,
)
from groundcli.annotation.journal import Journal, Line
from groundcli.annotation.shards import annotate_shards
from groundcli.annotation.work import Batches, Task, annotate_batches, finder, load
from groundcli.data import Sample, find
from groundcli.data.find import Found
from groundcli.errors import GroundcliError, Interrupted, UsageError, counted
from groundcli.files import locked, now, sha256, write_json
from groundcli.output.yolo import check_names
from groundcli.parallel import interruptible, stop_if_asked
from groundcli.weights.store import open_model

if TYPE_CHECKING:
    from groundcli.grounder import Grounder

Engine = Callable[[Batches], Iterable[list[Line]]]  # lines of the journal, in any order
Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # passes items on, and knows how many there will be
TRIED = 8  # images that time and disk are estimated by
SHOWN = 3  # captions whose phrases are shown
LONG = 200  # characters from which on a caption, or its phrases, are cut short


def annotate(
    options: AnnotateOptions,
    progress: Progress = lambda items, total: items,
    warn_untrained: Callable[[str], None] = lambda name: None,
    grounder: "Grounder | None" = None,
) -> Outcome:
    """Annotates images into a folder; an image that can't be used is reported there, and the rest goes on.

    Images are worked on in the batches in which they were found, and a batch is written down as a whole: a run that
    was killed and goes on computes the same as one that wasn't, byte for byte (on the same machine).

    `progress` shows how far it is, `warn_untrained` is given the name of weights that mean nothing, and `grounder` is
    that of the weights and the device that the options name, where it is loaded already.

    Raises:
        UsageError: the folder holds another run or other files, another process is at work there, or `dry_run`.
        GroundcliError: weights, data or the device are missing, or the folder can't be written to.
        Interrupted: by Ctrl-C or SIGTERM, after the batch that was being worked on.
    """
    if options.dry_run:
        raise UsageError("dry_run: of the command alone; in Python `groundcli.annotation.run.plan` says what it prints")
    found, about = _prepare(options)
    if about["weights"]["untrained"]:
        warn_untrained(about["weights"]["name"])
    if options.devices or options.engine == "ray":
        about["device"] = ", ".join(options.devices) or f"ray, {options.device}"
        return _run(partial(annotate_shards, options=options), found, options, about, progress)
    grounder = grounder or load(options, options.device)
    about |= {"device": grounder.device, "runtime": grounder.runtime.name}
    return _run(partial(annotate_batches, grounder=grounder, options=options), found, options, about, progress)


def plan(options: AnnotateOptions) -> Iterator[str]:
    """Lines about what a run would do: counts, phrases of the first captions, and the time and disk that it would take.

    Some images, from the whole list, are annotated into a temporary folder; nothing else is written.
    """
    found, about = _prepare(options)
    captions = sum(len(sample.captions) for sample in found.samples)
    images, said = counted(found.images, "image"), counted(captions, "caption")
    yield f"{images} found, {len(found.samples)} with captions; {said}"
    for failure in found.failures[:1]:
        yield f"{len(found.failures)} images or captions can't be used, the first: {failure.path}: {failure.reason}"
    yield from found.notes
    if not found.samples:
        return
    short = partial(textwrap.shorten, width=LONG, placeholder=" ...")
    for caption in finder().find([sample.captions[0] for sample in found.samples[:SHOWN]], options.phrases):
        phrases = " | ".join(phrase.text for phrase in caption.phrases) or "no phrases"
        yield f"{short(caption.text)}  ->  {short(phrases)}"
    tried = found.samples[:: max(1, len(found.samples) // TRIED)][:TRIED]
    some = found._replace(samples=tried, failures=[], positions=[*range(len(tried))])
    grounder = load(options, options.device)
    with tempfile.TemporaryDirectory() as place:
        here = replace(options, out=Path(place), devices=())
        started = time.perf_counter()
        _run(partial(annotate_batches, grounder=grounder, options=here), some, here, about, lambda lines, _: lines)
        seconds = (time.perf_counter() - started) / len(tried) * len(found.samples)
        size = sum(path.stat().st_size for path in here.out.rglob("*") if path.is_file()) / len(tried)
    yield f"about {_duration(seconds)} and {size * len(found.samples) / 1e6:.0f} MB, by {len(tried)} images tried"


def _prepare(options: AnnotateOptions) -> tuple[Found, dict[str, Any]]:
    """What there is to annotate, and what `run.json` says of it. Refuses what can't be done before anything happens."""
    before = look(options.out)
    found = find.load(
        options.images,
        options.captions,
        options.phrase,
        columns=options.columns,
        recursive=options.recursive,
        limit=options.limit,
        shard=parse_shard(options.shard),
        chunk=options.batch_size,
    )
    check_inputs(options.out, [*options.images, *found.read])
    if "yolo" in options.format:
        check_names(sample.name for sample in found.samples)
    model = open_model(options.weights)
    arguments = options.arguments()
    about = {
        "version": groundcli.__version__,
        "command": options.command,
        "date": now(),
        "torch": version("torch"),
        "weights": {"name": model.name, "sha256": sha256(model.path), "untrained": model.untrained},
        "folder": str(Path.cwd()),
        "arguments": arguments,
        "files": files_of(arguments),
    }
    _admit(before, options.on_existing, about)
    return found, about


def _run(
    engine: Engine, found: Found, options: AnnotateOptions, about: Mapping[str, Any], progress: Progress
) -> Outcome:
    began, out = time.time(), options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            before = look(out)  # again, now that nobody else changes it
            _admit(before, options.on_existing, about)
            if options.on_existing == "overwrite":
                before = before.clear()
            files = dict.fromkeys([*about["files"], *before.run.get("files", ())])  # an earlier run's are ours too
            about = {**about, "files": [*files], "exports": before.run.get("exports", {})}
            write_json(out / RUN, {**about, "finished": False})
            names = [sample.name for sample in found.samples]
            before.remove({*before.positions["images"]}.difference(names))
            write_json(out / POSITIONS, {"listing": found.listing, "positions": found.positions, "images": names})
            journal = Journal(out / JOURNAL)
            batches = _batches(found, options.batch_size)
            keys = {task.sample.name: task.key for batch in batches for task in batch}
            folders = pictures_of(about["arguments"])

            def is_done(task: Task) -> bool:
                name = task.sample.name
                same = journal.keys.get(name) == task.key
                return same and (name in journal.failed or before.has_pictures(name, folders))

            todo = [batch for batch in batches if not all(map(is_done, batch))]
            again = {task.sample.name for batch in todo for task in batch}
            _work(engine(todo), journal, keys, len(again), out, progress)
            journal.close(keys)
            before.remove(journal.failed)
            usable = keys.keys() - journal.failed
            resumed = len(usable - again)
            count = Count(found.images, len(usable) - resumed, resumed, found.images - len(usable))
            outcome = finish(out, about, found.failures, count, began, journal.damaged)
    except OSError as error:
        raise GroundcliError(f"{out}: can't be written ({error.strerror or error}); what was done is kept") from None
    return outcome._replace(notes=found.notes)


def _work(
    lines: Iterable[list[Line]], journal: Journal, keys: Mapping[str, str], total: int, out: Path, progress: Progress
) -> None:
    """Writes down what comes, until there is no more or somebody asks to stop."""

    def written() -> Iterator[Line]:
        for several in lines:
            journal.add(several)
            yield from several

    with interruptible() as stopped:
        try:
            for _ in progress(written(), total):
                stop_if_asked()
        except Exception:  # once asked to stop, work ends as it can
            if not stopped():
                raise
            done = len(journal.keys.keys() & keys.keys())
            kept = f"{done} of {len(keys)} images are done and kept in {out}"
            raise Interrupted(f"interrupted: {kept}; run the same command again to go on") from None


def _batches(found: Found, size: int) -> list[list[Task]]:
    """Images whose places among all that were found are of one batch; the same ones in every shard, or in none."""
    groups = groupby(zip(found.positions, found.samples, strict=True), key=lambda placed: placed[0] // size)
    return [[Task(sample, _key(sample)) for _, sample in group] for _, group in groups]


def _admit(before: RunFolder, on_existing: str, about: Mapping[str, Any]) -> None:
    """Refuses a folder that holds what `on_existing` doesn't allow for."""
    if not before.run or on_existing == "overwrite":
        return
    out = before.out
    if on_existing == "error":
        raise UsageError(f"{out} holds a run already: add --on-existing overwrite or resume, or name another --out")
    deciding = [*AnnotateOptions.deciding(), *(["batch_size"] if about["arguments"]["shard"] else [])]
    differs = differences(before.run, about, deciding)  # shards are dealt out in batches
    changed = [f"{name} {then}, not {now}" for name, (then, now) in differs.items()]
    if changed:
        raise UsageError(f"{out} holds a run with {'; '.join(changed)}; add --on-existing overwrite, or another --out")


def _key(sample: Sample) -> str:
    """Changes with the image's file and with its captions."""
    try:
        stat = sample.image.stat()
        file = f"{stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        file = "missing"
    captions = [(c.text, [p.span for p in c.phrases]) for c in sample.captions]
    return hashlib.sha256(f"{file} {json.dumps(captions)}".encode()).hexdigest()[:16]


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
