"""Annotations as a COCO data set and as COCO results, for any tool that reads COCO."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from groundcli.files import replacing
from groundcli.output.record import Record, Records

INFO = {"description": "Phrases of captions, pointed at by groundcli", "version": "1.0"}


def write_coco(out: Path, records: Records, category: Callable[[str], str] = str.lower) -> None:
    """Writes `annotations.json` (a COCO data set) and `results.json` (COCO detections), each at once.

    In `annotations.json`, ids count from 1 in the order of the records. One annotation a phrase: bbox is its best box
    (where none was found, the hot region around its point); segmentation is the compressed RLE of the pixels whose
    heat is at least half of the maximum, area their number; keypoints are its point; boxes are all its boxes with
    scores. `results.json` has every box. Coordinates are pixels of the upright image, x before y. Nothing but the
    categories is kept in memory. Equal records give equal bytes.

    (pycocotools' `loadRes` fails on an empty list of results, whoever wrote it.)

    Args:
        out: the run's folder.
        records: an iterator over the images in order, as `annotations.jsonl` has them.
        category: the name of a phrase's category.

    Raises:
        OSError: the folder can't be written to.
    """
    numbers: dict[str, int] = {}
    with replacing(out / "annotations.json") as file:
        file.write(f'{{"info": {_json(INFO)},\n"licenses": []')
        _write_list(file, "images", _images(records()))
        _write_list(file, "annotations", _annotations(records(), category, numbers))
        _write_list(file, "captions", _captions(records()))
        _write_list(file, "categories", (_category(name, number) for name, number in numbers.items()))
        file.write("}\n")
    with replacing(out / "results.json") as file:
        write_items(file, _results(_annotations(records(), category, numbers)))


def write_items(file: IO[str], items: Iterable[Record]) -> None:
    """A JSON list, an item a line."""
    separator = "[\n"
    for item in items:
        file.write(separator + _json(item))
        separator = ",\n"
    file.write("[]" if separator == "[\n" else "\n]")


def _write_list(file: IO[str], key: str, items: Iterable[Record]) -> None:
    file.write(f',\n"{key}": ')
    write_items(file, items)


def _images(records: Iterable[Record]) -> Iterator[Record]:
    for image_id, record in enumerate(records, start=1):
        yield {"id": image_id, **{key: record[key] for key in ("file_name", "width", "height")}}


def _captions(records: Iterable[Record]) -> Iterator[Record]:
    for caption_id, image_id, caption in _numbered_captions(records):
        yield {"id": caption_id, "image_id": image_id, "caption": caption["caption"]}


def _annotations(
    records: Iterable[Record], category: Callable[[str], str], numbers: dict[str, int]
) -> Iterator[Record]:
    annotation_id = 0
    for caption_id, image_id, caption in _numbered_captions(records):
        for phrase in caption["phrases"]:
            annotation_id += 1
            category_id = numbers.setdefault(category(phrase["phrase"]), len(numbers) + 1)
            ids = {"id": annotation_id, "image_id": image_id, "category_id": category_id, "caption_id": caption_id}
            yield ids | {key: value for key, value in phrase.items() if key != "heat"}


def _results(annotations: Iterable[Record]) -> Iterator[Record]:
    for annotation in annotations:
        best = {"bbox": annotation["bbox"], "score": annotation["score"]}
        for box in annotation["boxes"] or [best]:
            yield {"image_id": annotation["image_id"], "category_id": annotation["category_id"], **box}


def _numbered_captions(records: Iterable[Record]) -> Iterator[tuple[int, int, Record]]:
    """(caption id, image id, caption) of every caption."""
    caption_id = 0
    for image_id, record in enumerate(records, start=1):
        for caption in record["captions"]:
            caption_id += 1
            yield caption_id, image_id, caption


def _category(name: str, number: int) -> Record:
    return {"id": number, "name": name, "supercategory": "phrase", "keypoints": ["point"], "skeleton": []}


_json = json.JSONEncoder(allow_nan=False).encode
