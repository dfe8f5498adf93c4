"""Annotations as a COCO data set and as COCO results, for any tool that reads COCO."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

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

    (pycocotools' `loadRes` fails on an empty list of results, whoever wrote it.) Raises OSError.
    """
    with ExitStack() as stack:
        file = stack.enter_context(replacing(out / "annotations.json"))
        # A data set has one list after the other, a record a bit of each: the later lists wait in files of their own.
        waiting = {
            name: stack.enter_context(TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out))
            for name in ("annotations", "captions")
        }
        results = stack.enter_context(replacing(out / "results.json"))
        file.write(f'{{"info": {as_json(INFO)},\n"licenses": [],\n"images": ')
        lists = {name: JsonList(part) for name, part in {"images": file, **waiting, "results": results}.items()}
        numbering = _Numbering(label)

        def write(record: Record) -> None:
            for name, items in numbering.of(record, lists["images"].count + 1).items():
                for item in items:
                    lists[name].add(item)

        yield write
        for ended in lists.values():
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
    """A JSON list that is written item by item, one per line, and counts them."""

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


class _Numbering:
    """Gives captions, annotations and categories their ids, from 1 in the order in which they come."""

    def __init__(self, label: Label):
        self._label = label
        self._labels: dict[str, int] = {}
        self._captions = self._annotations = 0

    def of(self, record: Record, image_id: int) -> dict[str, list[Record]]:
        """An image's items of the lists `images`, `annotations`, `captions`, and of the results."""
        image = {"id": image_id, **{key: record[key] for key in ("file_name", "width", "height")}}
        annotations, captions, results = [], [], []
        for caption in record["captions"]:
            self._captions += 1
            captions.append({"id": self._captions, "image_id": image_id, "caption": caption["caption"]})
            for phrase in caption["phrases"]:
                self._annotations += 1
                category = self._labels.setdefault(self._label(phrase["phrase"]), len(self._labels) + 1)
                place = {"image_id": image_id, "category_id": category}
                plain = {key: value for key, value in phrase.items() if key != "heat"}
                annotations.append({"id": self._annotations, **place, "caption_id": self._captions, **plain})
                boxes = phrase["boxes"] or [{"bbox": phrase["bbox"], "score": phrase["score"]}]
                results += [{**place, **box} for box in boxes]
        return {"images": [image], "annotations": annotations, "captions": captions, "results": results}

    def categories(self) -> list[Record]:
        """All categories so far."""
        common = {"supercategory": "phrase", "keypoints": ["point"], "skeleton": []}
        return [{"id": number, "name": name, **common} for name, number in self._labels.items()]


def data_set(record: Record, image_id: int = 1, label: Label = str.lower) -> Record:
    """A COCO data set of one image, as `coco` writes it."""
    numbering = _Numbering(label)
    lists = numbering.of(record, image_id)
    del lists["results"]
    return {"info": INFO, "licenses": [], **lists, "categories": numbering.categories()}


as_json = json.JSONEncoder(allow_nan=False).encode
