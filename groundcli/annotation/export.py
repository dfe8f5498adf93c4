"""A finished run in other formats, made of its journal: without the model, and any number of times."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from groundcli.annotation import ExportOptions
from groundcli.annotation.folder import JOURNAL, RUN, finished
from groundcli.annotation.journal import read
from groundcli.data import find
from groundcli.errors import GroundcliError
from groundcli.files import locked, write_json
from groundcli.output import FORMATS, label_by
from groundcli.output.record import Label, Record

ONE_PLACE = 0.5  # intersection over union of two boxes from which on they are about one thing


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
            _write(options.out, finished(options.out), dict.fromkeys(options.format, options))
    except OSError as error:
        raise GroundcliError(f"{options.out}: can't be written ({error.strerror or error})") from None
    return [name for chosen in options.format for name in FORMATS[chosen].files]


def export_again(out: Path, run: Mapping[str, Any], formats: Iterable[str]) -> None:
    """Makes the formats that `annotate` was asked for and those that were exported before, of a changed journal."""
    told: dict[str, dict[str, Any]] = {**{name: {} for name in formats}, **run.get("exports", {})}
    _write(out, run, {name: ExportOptions.make(out=out, format=name, **told[name]) for name in told})


def _write(out: Path, run: Mapping[str, Any], exports: Mapping[str, ExportOptions]) -> None:
    run = dict(run)
    for name, options in exports.items():
        told = {key: value for key, value in options.arguments().items() if key not in ("out", "format")}
        run["exports"] = {**run.get("exports", {}), name: told}
        run["files"] = [*dict.fromkeys([*run["files"], *FORMATS[name].files])]
    if not exports:
        return
    more = {name: _told(name, options, run["arguments"]) for name, options in exports.items()}
    write_json(out / RUN, run)  # before the files that it lists
    with ExitStack() as files:
        writers = []
        for name, options in exports.items():
            label = label_by(_categories(name, options, run["arguments"]))
            write = files.enter_context(FORMATS[name].write(out, label, **more[name]))
            writers.append((write, label if options.merge_captions else None))
        for record in read(out / JOURNAL):
            if "error" not in record:
                for write, merging in writers:
                    write(_merged(record, merging) if merging else record)


def _told(name: str, options: ExportOptions, run: Mapping[str, Any]) -> dict[str, Any]:
    """What a format's writer is told beside the labels."""
    if name == "labelstudio":
        return {"prefix": options.image_prefix}
    return {"images": _images(options, run), "copy": options.copy_images} if name == "yolo" else {}


def _categories(name: str, options: ExportOptions, run: Mapping[str, Any]) -> str:
    chosen: str = options.categories or run["categories"]
    return "head" if name == "yolo" and not options.categories and chosen == "phrase" else chosen


def _images(options: ExportOptions, run: Mapping[str, Any]) -> dict[str, Path]:
    """Where the images are, by their names. Raises GroundcliError."""
    inputs = options.images or [Path(path) for path in run["images"]]
    try:
        found = find.load(inputs, phrases=["any"], recursive=run["recursive"])
    except GroundcliError as error:
        raise GroundcliError(f"{error}; or say with --images where the run's images are now") from None
    return {sample.name: sample.image for sample in found.samples}


def _merged(record: Record, label: Label) -> Record:
    """A record in which, of phrases of one label whose boxes lie in one place, the one with the best score stays."""
    phrases = [phrase for caption in record["captions"] for phrase in caption["phrases"]]
    kept: dict[str, list[Record]] = {}
    for phrase in sorted(phrases, key=lambda phrase: -phrase["score"]):
        same = kept.setdefault(label(phrase["phrase"]), [])
        if not any(_overlap(phrase["bbox"], other["bbox"]) >= ONE_PLACE for other in same):
            same.append(phrase)
    stays = {id(phrase) for several in kept.values() for phrase in several}
    captions = [
        {**caption, "phrases": [phrase for phrase in caption["phrases"] if id(phrase) in stays]}
        for caption in record["captions"]
    ]
    return {**record, "captions": captions}


def _overlap(first: list[float], second: list[float]) -> float:
    return float(coco_mask.iou([first], [second], [0])[0, 0])
