"""Annotations as a COCO data set and as COCO results, for any tool that reads COCO."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from groundcli.files import replacing
from groundcli.output.record import Label, Record, Writer, image_of

INFO = {"description": "Phrases of captions, pointed at by groundcli", "version": "1.0"}


@contextmanager
def coco(out: Path, label: Label = str.lower) -> Iterator[Writer]:
    """Writes `annotations.json` (a COCO data set) and `results.json` (COCO detections), each at once.

    In `annotations.json`, ids count from 1 in the order of the records. One annotation per phrase, of what
    `groundcli.output.record` has; boxes are all its boxes with scores. `results.json` has every box. Coordinates are
    pixels of the upright image, x before y. Nothing but the categories is kept in memory. Equal records give equal
    bytes.

    (pycocotools' `loadRes` fails on an empty list of results, whoever wrote it.) Raises OSError.
    """
    with ExitStack() as stack:
        file = stack.enter_context(replacing(out / "annotations.json"))
        # A data set has one list after the other, a record a bit of each: the later lists wait in files of their own.
        waiting = {
            name: stack.enter_context(TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out))
            for name in ("annotations", "captions")
        }
        parts = {"images": file, **waiting, "results": stack.enter_context(replacing(out / "results.json"))}
        file.write(f'{{"info": {as_json(INFO)},\n"licenses": [],\n"images": ')
        numbering = _Numbering(label)
        with ExitStack() as lists:
            add = {name: lists.enter_context(json_list(part)) for name, part in parts.items()}

            def write(record: Record) -> None:
                for name, items in numbering.of(record).items():
                    for item in items:
                        add[name](item)

            yield write
        for name, part in waiting.items():
            file.write(f',\n"{name}": ')
            part.seek(0)
            shutil.copyfileobj(part, file)
        file.write(',\n"categories": ')
        with json_list(file) as add_category:
            for category in numbering.categories():
                add_category(category)
        file.write("}\n")


@contextmanager
def json_list(file: IO[str]) -> Iterator[Writer]:
    """Writes a JSON list into a file, one item per line as they come."""
    before = "[\n"

    def write(item: Record) -> None:
        nonlocal before
        file.write(before + as_json(item))
        before = ",\n"

    yield write
    file.write("[]" if before == "[\n" else "\n]")


class _Numbering:
    """Gives images, captions, annotations and categories their ids, in the order in which they come."""

    def __init__(self, label: Label, first_image: int = 1):
        self._label, self._labels = label, dict[str, int]()
        self._images, self._captions, self._annotations = count(first_image), count(1), count(1)

    def of(self, record: Record) -> dict[str, list[Record]]:
        """An image's items of the lists `images`, `annotations`, `captions`, and of the results."""
        image_id = next(self._images)
        annotations, captions, results = [], [], []
        for caption in record["captions"]:
            caption_id = next(self._captions)
            captions.append({"id": caption_id, "image_id": image_id, "caption": caption["caption"]})
            for phrase in caption["phrases"]:
                category = self._labels.setdefault(self._label(phrase["phrase"]), len(self._labels) + 1)
                place = {"image_id": image_id, "category_id": category}
                plain = {key: value for key, value in phrase.items() if key != "heat"}
                annotations.append({"id": next(self._annotations), **place, "caption_id": caption_id, **plain})
                boxes = phrase["boxes"] or [{"bbox": phrase["bbox"], "score": phrase["score"]}]
                results += [{**place, **box} for box in boxes]
        images = [{"id": image_id, **image_of(record)}]
        return {"images": images, "annotations": annotations, "captions": captions, "results": results}

    def categories(self) -> list[Record]:
        """All categories so far."""
        common = {"supercategory": "phrase", "keypoints": ["point"], "skeleton": []}
        return [{"id": number, "name": name, **common} for name, number in self._labels.items()]


def data_set(record: Record, image_id: int = 1) -> Record:
    """A COCO data set of one image, as `coco` writes it."""
    numbering = _Numbering(str.lower, image_id)
    lists = numbering.of(record)
    del lists["results"]
    return {"info": INFO, "licenses": [], **lists, "categories": numbering.categories()}


as_json = json.JSONEncoder(allow_nan=False).encode
