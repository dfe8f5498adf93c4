"""Annotations as a COCO data set and as COCO results, for any tool that reads COCO."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

from groundcli.files import replacing
from groundcli.output.record import Label, Record, Writer

INFO = {"description": "Phrases of captions, pointed at by groundcli", "version": "1.0"}


@contextmanager
def coco(out: Path, label: Label = str.lower) -> Iterator[Writer]:
    """Writes `annotations.json` (a COCO data set) and `results.json` (COCO detections), each at once.

    In `annotations.json`, ids count from 1 in the order of the records. One annotation per phrase, of what
    `groundcli.output.record` has; boxes are all its boxes with scores. `results.json` has every box. Coordinates are
    pixels of the upright image, x before y. Nothing but the categories is kept in memory. Equal records give equal
    bytes.

    (pycocotools' `loadRes` fails on an empty list of results, whoever wrote it.)

    Args:
        out: the run's folder.
        label: the name of a phrase's category.

    Raises:
        OSError: the folder can't be written to.
    """
    with ExitStack() as stack:
        file = stack.enter_context(replacing(out / "annotations.json"))
        results = JsonList(stack.enter_context(replacing(out / "results.json")))
        # A data set has one list after the other, a record a bit of each: the later lists wait in files of their own.
        waiting = {
            name: stack.enter_context(TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out))
            for name in ("annotations", "captions")
        }
        file.write(f'{{"info": {as_json(INFO)},\n"licenses": [],\n"images": ')
        images, annotations, captions = map(JsonList, (file, *waiting.values()))
        numbering = _Numbering(label)

        def write(record: Record) -> None:
            numbered = numbering.of(record, images.count + 1)
            images.add(numbered.image)
            for items, listed in ((numbered.captions, captions), (numbered.annotations, annotations)):
                for item in items:
                    listed.add(item)
            for result in numbered.results:
                results.add(result)

        yield write
        for ended in (images, annotations, captions, results):
            ended.end()
        for name, part in waiting.items():
            file.write(f',\n"{name}": ')
            part.seek(0)
            shutil.copyfileobj(part, file)
        file.write(',\n"categories": ')
        categories = JsonList(file)
        for category in numbering.categories():
            categories.add(category)
        categories.end()
        file.write("}\n")


class JsonList:
    """A JSON list that is written item by item, one per line.

    Attributes:
        count: items so far.
    """

    def __init__(self, file: IO[str]):
        self._file = file
        self.count = 0

    def add(self, item: Mapping[str, Any]) -> None:
        """Writes an item."""
        self._file.write((",\n" if self.count else "[\n") + as_json(item))
        self.count += 1

    def end(self) -> None:
        """Writes what ends the list."""
        self._file.write("\n]" if self.count else "[]")


class _Numbered(NamedTuple):
    """What COCO says of an image."""

    image: Record
    captions: list[Record]
    annotations: list[Record]
    results: list[Record]


class _Numbering:
    """Gives captions, annotations and categories their ids, from 1 in the order in which they come."""

    def __init__(self, label: Label):
        self._label = label
        self._labels: dict[str, int] = {}
        self._captions = self._annotations = 0

    def of(self, record: Record, image_id: int) -> _Numbered:
        """An image's part of the lists."""
        image = {"id": image_id, **{key: record[key] for key in ("file_name", "width", "height")}}
        numbered = _Numbered(image, [], [], [])
        for caption in record["captions"]:
            self._captions += 1
            numbered.captions.append({"id": self._captions, "image_id": image_id, "caption": caption["caption"]})
            for phrase in caption["phrases"]:
                self._annotations += 1
                category = self._labels.setdefault(self._label(phrase["phrase"]), len(self._labels) + 1)
                place = {"image_id": image_id, "category_id": category}
                plain = {key: value for key, value in phrase.items() if key != "heat"}
                annotation = {"id": self._annotations, **place, "caption_id": self._captions, **plain}
                numbered.annotations.append(annotation)
                for box in phrase["boxes"] or [{"bbox": phrase["bbox"], "score": phrase["score"]}]:
                    numbered.results.append({**place, **box})
        return numbered

    def categories(self) -> list[Record]:
        """All categories so far."""
        common = {"supercategory": "phrase", "keypoints": ["point"], "skeleton": []}
        return [{"id": number, "name": name, **common} for name, number in self._labels.items()]


def data_set(record: Record, image_id: int = 1, label: Label = str.lower) -> Record:
    """A COCO data set of one image, as `coco` writes it."""
    numbering = _Numbering(label)
    numbered = numbering.of(record, image_id)
    return {
        "info": INFO,
        "licenses": [],
        "images": [numbered.image],
        "annotations": numbered.annotations,
        "captions": numbered.captions,
        "categories": numbering.categories(),
    }


as_json = json.JSONEncoder(allow_nan=False).encode
