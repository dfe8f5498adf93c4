"""The files of a run, made of its journal: its own at its end, other formats any number of times, without the model."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from groundcli.annotation import FORMAT_OF, ExportOptions
from groundcli.annotation.folder import FAILURES, JOURNAL, RUN, finished
from groundcli.annotation.journal import read
from groundcli.data import Failure, find
from groundcli.errors import GroundcliError, counted
from groundcli.files import locked, replacing, write_json
from groundcli.output import FORMATS, label_by
from groundcli.output.coco import coco
from groundcli.output.phrases import not_found
from groundcli.output.record import Label, Record, Writer
from groundcli.output.report import report
from groundcli.output.yolo import say_where

ONE_PLACE = 0.5  # intersection over union of two boxes from which on they are about one thing


@dataclass(frozen=True)
class Count:
    """What became of the images: found = done + resumed + failed."""

    found: int
    done: int
    resumed: int
    failed: int

    def __str__(self) -> str:
        return f"{counted(self.found, 'image')} found, {self.done} done, {self.resumed} resumed, {self.failed} failed"


class Outcome(NamedTuple):
    """What became of a run."""

    counts: Count
    problems: int  # lines of `failures.jsonl`
    not_found: int  # phrases that were not found
    damaged: int = 0  # lines of an earlier run's journal that were set aside, and their images done again
    notes: Sequence[str] = ()  # about captions, a line each


def finish(
    out: Path, about: Mapping[str, Any], failures: Iterable[Failure], counts: Count, began: float, damaged: int = 0
) -> Outcome:
    """Makes all files of a run of its closed journal; then `run.json` says that it is finished.

    `about` is what that file says else, `failures` are what couldn't be used from the start, beside what the journal
    knows, and `began` is the time when the run did. Formats that were exported before are made anew.
    """
    arguments = about["arguments"]
    problems, missing = write_outputs(out, failures, arguments["categories"], arguments["report"])
    totals = {"counts": vars(counts), "problems": problems, "not_found": missing, "damaged": damaged}
    about = {**about, **totals, "seconds": round(time.time() - began, 1), "finished": True}
    write_json(out / RUN, about)
    told: dict[str, Any] = {**{name: {} for name in arguments["format"]}, **about["exports"]}
    for name, options in told.items():  # they were told for several formats together
        told[name] = {key: value for key, value in options.items() if FORMAT_OF.get(key, name) == name}
    _export(out, about, {name: ExportOptions.make(out=out, format=name, **told[name]) for name in told})
    return Outcome(counts, problems, missing, damaged)


def write_outputs(out: Path, failures: Iterable[Failure], categories: str, pages: bool) -> tuple[int, int]:
    """Makes a run's own files in one pass, and `failures.jsonl` in the order of the paths.

    `categories` say what a phrase's label is (`label_by`), and with `pages` there is one to look through.

    Gives how many failures there are, and how many phrases were not found.
    """
    problems = {(failure.path, failure.reason) for failure in failures}
    label = label_by(categories)
    missing = 0
    with ExitStack() as files:
        writers = [files.enter_context(coco(out, label)), files.enter_context(not_found(out))]
        if pages:
            writers.append(files.enter_context(report(out, problems)))
        for record in read(out / JOURNAL):
            if "error" in record:
                problems.add((record["file_name"], record["error"]))
                continue
            for caption in record["captions"]:
                missing += len(caption["not_found"])
                if not caption["phrases"] and not caption["not_found"]:
                    problems.add((record["file_name"], f"no phrases in the caption {caption['caption']!r}"))
            for write in writers:
                write(record)
    with replacing(out / FAILURES) as file:
        for path, reason in sorted(problems):
            file.write(json.dumps({"path": path, "reason": reason}, ensure_ascii=False) + "\n")
    return len(problems), missing


# --- Other formats


def export(options: ExportOptions) -> list[str]:
    """Makes a run's results in other formats, in its folder, and remembers how: runs that go on make them anew.

    Gives the names of the files and folders.

    Raises:
        UsageError: the folder holds files that groundcli did not write, or another process is at work there.
        GroundcliError: it holds no finished run, an image is gone, or it can't be written to.
    """
    finished(options.out)
    try:
        with locked(options.out):
            return _export(options.out, finished(options.out).run, dict.fromkeys(options.format, options))
    except OSError as error:
        raise GroundcliError(f"{options.out}: can't be written ({error.strerror or error})") from None


def _export(out: Path, run: Mapping[str, Any], exports: Mapping[str, ExportOptions]) -> list[str]:
    """Makes formats, each as its options say. Gives the names of the files and folders."""
    made = [file for name in exports for file in FORMATS[name].files]
    if not exports:
        return made
    opened = [(_writer(name, out, options, run), options) for name, options in exports.items()]
    run = {**run, "files": [*dict.fromkeys([*run["files"], *made])]}
    write_json(out / RUN, run)  # before the files that it lists
    with ExitStack() as stack:
        writers = [
            (stack.enter_context(writer), label if options.merge_captions else None)
            for (writer, label), options in opened
        ]
        for record in read(out / JOURNAL):
            if "error" not in record:
                for write, merging in writers:
                    write(_merged(record, merging) if merging else record)
    how = {name: options.arguments() for name, options in exports.items()}
    for told in how.values():  # as it is from any folder
        del told["out"], told["format"]
        told["images"] = [str(Path(image).absolute()) for image in told["images"]]
    write_json(out / RUN, {**run, "exports": {**run.get("exports", {}), **how}})
    return made


def _writer(
    name: str, out: Path, options: ExportOptions, run: Mapping[str, Any]
) -> tuple[AbstractContextManager[Writer], Label]:
    """A format's writer, and what labels its phrases. Raises GroundcliError where images are gone."""
    arguments = run["arguments"]
    chosen = options.categories or arguments["categories"]
    label = label_by("head" if name == "yolo" and not options.categories and chosen == "phrase" else chosen)
    told: dict[str, Any] = {}
    if name == "labelstudio":
        told = {"prefix": options.image_prefix}
    if name == "yolo":
        where = run.get("folder", "")
        images = options.images or [Path(where, image) for image in arguments["images"]]
        try:
            found = find.load(images, phrases=["any"], recursive=arguments["recursive"])
        except GroundcliError as error:
            raise GroundcliError(f"{error}; or {say_where(out)}") from None
        told = {"images": {sample.name: sample.image for sample in found.samples}, "copy": options.copy_images}
    return FORMATS[name].write(out, label, **told), label


def _merged(record: Record, label: Label) -> Record:
    """A record in which, of phrases of one label whose boxes lie in one place, the one with the best score stays."""
    phrases = [phrase for caption in record["captions"] for phrase in caption["phrases"]]
    kept: dict[str, list[Record]] = {}
    for phrase in sorted(phrases, key=lambda phrase: -phrase["score"]):
        same = kept.setdefault(label(phrase["phrase"]), [])
        if not any(coco_mask.iou([phrase["bbox"]], [other["bbox"]], [0])[0, 0] >= ONE_PLACE for other in same):
            same.append(phrase)
    stays = {id(phrase) for several in kept.values() for phrase in several}
    captions = [
        {**caption, "phrases": [phrase for phrase in caption["phrases"] if id(phrase) in stays]}
        for caption in record["captions"]
    ]
    return {**record, "captions": captions}
