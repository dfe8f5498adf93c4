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

    In `annotations.json`, ids count from 1 in the order of the records. One annotation per phrase: bbox is its best box
    (where none was found, the hot region around its point); segmentation is the compressed RLE of the pixels whose
    heat is at least half of the maximum, area their number; keypoints are its point; boxes are all its boxes with
    scores. `results.json` has every box. Coordinates are pixels of the upright image, x before y. Nothing but the
    categories is kept in memory. Equal records give equal bytes.

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
        numbers: dict[str, int] = {}

        def write(record: Record) -> None:
            images.add({"id": images.count + 1, **{key: record[key] for key in ("file_name", "width", "height")}})
            for caption in record["captions"]:
                captions.add({"id": captions.count + 1, "image_id": images.count, "caption": caption["caption"]})
                for phrase in caption["phrases"]:
                    category = numbers.setdefault(label(phrase["phrase"]), len(numbers) + 1)
                    ids = {"id": annotations.count + 1, "image_id": images.count, "category_id": category}
                    plain = {key: value for key, value in phrase.items() if key != "heat"}
                    annotations.add({**ids, "caption_id": captions.count, **plain})
                    for box in phrase["boxes"] or [{"bbox": phrase["bbox"], "score": phrase["score"]}]:
                        results.add({"image_id": images.count, "category_id": category, **box})

        yield write
        for ended in (images, annotations, captions, results):
            ended.end()
        for name, part in waiting.items():
            file.write(f',\n"{name}": ')
            part.seek(0)
            shutil.copyfileobj(part, file)
        file.write(',\n"categories": ')
        categories = JsonList(file)
        for name, number in numbers.items():
            categories.add(_category(name, number))
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


def _category(name: str, number: int) -> Record:
    return {"id": number, "name": name, "supercategory": "phrase", "keypoints": ["point"], "skeleton": []}


as_json = json.JSONEncoder(allow_nan=False).encode
