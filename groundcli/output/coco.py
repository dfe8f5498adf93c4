"""Answers as a COCO data set and as COCO results, for any tool that reads COCO."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from groundcli.data.sample import Box
from groundcli.errors import GroundcliError
from groundcli.grounding.answer import Answer, GroundedPhrase

INFO = {"description": "Phrases of captions, pointed at by groundcli", "version": "1.0"}
HOT = 0.5  # share of the heat map's maximum from which on a pixel belongs to the phrase

Record = dict[str, Any]


class CocoWriter:
    """Writes `annotations.json` (a COCO data set) and `results.json` (COCO detections) into a folder.

    `add` appends a line for its image to `annotations.jsonl` and keeps nothing in memory; `close` makes both files
    of these lines. An interrupted run has lost no line that was written: `resume=True` goes on after them.

    In `annotations.json`, ids count from 1 in the order of `add`. One annotation a phrase: bbox is its best box (where
    none was found, the hot region around its point); segmentation is the compressed RLE of the pixels whose heat is
    at least half of the maximum, area their number; keypoints are its point; boxes are all its boxes with scores.
    The phrase in lower case is its category. `results.json` has every box. Coordinates are pixels of the upright
    image, x before y. Equal answers give equal bytes.

    (pycocotools' `loadRes` fails on an empty list of results, whoever wrote it.)
    """

    def __init__(self, folder: Path, resume: bool = False) -> None:
        """Opens the folder, creating it where needed.

        Args:
            folder: where the files go; older ones are replaced on `close`.
            resume: keep the images of an earlier run; their names are in `done`.

        Raises:
            GroundcliError: the folder can't be written to, or what an earlier run left there can't be read.
        """
        self._folder = folder
        self._journal_path = folder / "annotations.jsonl"
        self.done: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if resume and self._journal_path.exists():
                _drop_torn_line(self._journal_path)
                self.done = {record["file_name"] for record in self._records()}
            self._journal = self._journal_path.open("a" if self.done else "w", encoding="utf-8")
        except OSError as error:
            raise GroundcliError(f"{folder}: can't write there ({error.strerror}); choose another --out") from error
        except (ValueError, KeyError, TypeError) as error:
            raise GroundcliError(f"{self._journal_path}: damaged; start over with --on-existing overwrite") from error

    def __enter__(self) -> "CocoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, name: str, size: tuple[int, int], answers: Sequence[Answer]) -> None:
        """Writes one image down.

        Args:
            name: the image's relative path with forward slashes, its `file_name`.
            size: (width, height) of the upright image.
            answers: one a caption; may be empty.
        """
        record = {
            "file_name": name,
            "width": size[0],
            "height": size[1],
            "captions": [
                {"caption": answer.caption, "phrases": [_phrase(phrase, size) for phrase in answer.phrases]}
                for answer in answers
            ],
        }
        self._journal.write(_json(record) + "\n")
        self._journal.flush()
        self.done.add(name)

    def close(self) -> None:
        """Puts both files in place, each at once; harmless when called again."""
        if self._journal.closed:
            return
        self._journal.close()
        categories: dict[str, int] = {}
        with _replacing(self._folder / "annotations.json") as file:
            file.write(f'{{"info": {_json(INFO)},\n"licenses": []')
            _write_list(file, "images", self._images())
            _write_list(file, "annotations", self._annotations(categories))
            _write_list(file, "captions", self._captions())
            _write_list(file, "categories", (_category(name, number) for name, number in categories.items()))
            file.write("}\n")
        with _replacing(self._folder / "results.json") as file:
            _write_items(file, self._results(categories))

    def _records(self) -> Iterator[Record]:
        with self._journal_path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)

    def _images(self) -> Iterator[Record]:
        for image_id, record in enumerate(self._records(), start=1):
            yield {"id": image_id, **{key: record[key] for key in ("file_name", "width", "height")}}

    def _captions(self) -> Iterator[Record]:
        for caption_id, image_id, caption in self._numbered_captions():
            yield {"id": caption_id, "image_id": image_id, "caption": caption["caption"]}

    def _annotations(self, categories: dict[str, int]) -> Iterator[Record]:
        annotation_id = 0
        for caption_id, image_id, caption in self._numbered_captions():
            for phrase in caption["phrases"]:
                annotation_id += 1
                category_id = categories.setdefault(phrase["phrase"].lower(), len(categories) + 1)
                ids = {"id": annotation_id, "image_id": image_id, "category_id": category_id, "caption_id": caption_id}
                yield ids | phrase

    def _results(self, categories: dict[str, int]) -> Iterator[Record]:
        for annotation in self._annotations(categories):
            best = {"bbox": annotation["bbox"], "score": annotation["score"]}
            for box in annotation["boxes"] or [best]:
                yield {"image_id": annotation["image_id"], "category_id": annotation["category_id"], **box}

    def _numbered_captions(self) -> Iterator[tuple[int, int, Record]]:
        """(caption id, image id, caption) of every caption."""
        caption_id = 0
        for image_id, record in enumerate(self._records(), start=1):
            for caption in record["captions"]:
                caption_id += 1
                yield caption_id, image_id, caption


def _phrase(phrase: GroundedPhrase, size: tuple[int, int]) -> Record:
    """What a phrase's annotation says, but for its ids."""
    hot = hot_region(phrase.heatmap, size)
    rle = coco_mask.encode(np.asfortranarray(hot, dtype=np.uint8))
    best = phrase.boxes[0] if phrase.boxes else _box_around(phrase.point, hot)
    return {
        "bbox": _rounded(best),
        "area": int(coco_mask.area(rle)),
        "segmentation": {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
        "keypoints": [*_rounded(phrase.point), 2],
        "num_keypoints": 1,
        "score": round(float(phrase.score), 6),
        "phrase": phrase.text,
        "span": [int(end) for end in phrase.span],
        "level": int(phrase.level),
        "boxes": [
            {"bbox": _rounded(box), "score": round(float(score), 6)}
            for box, score in zip(phrase.boxes, phrase.box_scores, strict=True)
        ],
    }


def hot_region(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose heat is at least half of the maximum; none where there is no heat at all.

    Args:
        heatmap: (M, M), non-negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        (height, width) bool, in Fortran order.
    """
    width, height = size
    # Resized on its side, so that the result is column by column in memory, as RLE needs it.
    sideways = Image.fromarray(np.ascontiguousarray(heatmap.T, dtype=np.float32))
    heat = np.asarray(sideways.resize((height, width), Image.Resampling.BILINEAR)).T
    return (heat >= HOT * heat.max()) & (heat > 0)


def _box_around(point: tuple[float, float], hot: np.ndarray) -> Box:
    """The box of the hot region that holds the point; one pixel where it is in none."""
    height, width = hot.shape
    x, y = (min(max(int(value), 0), end - 1) for value, end in zip(point, (width, height), strict=True))
    regions, _ = ndimage.label(hot)
    if not regions[y, x]:
        return (x, y, 1, 1)
    rows, columns = ndimage.find_objects(regions)[regions[y, x] - 1]
    return (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)


def _category(name: str, number: int) -> Record:
    return {"id": number, "name": name, "supercategory": "phrase", "keypoints": ["point"], "skeleton": []}


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in values]


# --- Files


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _write_list(file: IO[str], key: str, items: Iterable[Record]) -> None:
    file.write(f',\n"{key}": ')
    _write_items(file, items)


def _write_items(file: IO[str], items: Iterable[Record]) -> None:
    """A JSON list, an item a line."""
    separator = "[\n"
    for item in items:
        file.write(separator + _json(item))
        separator = ",\n"
    file.write("[]" if separator == "[\n" else "\n]")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that takes the place of another once it is whole, so that no reader ever meets half of it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _drop_torn_line(path: Path) -> None:
    """Cuts off what follows the last line's end: half a line, where the run before was killed as it wrote."""
    with path.open("rb+") as file:
        end = 0
        for line in file:
            end += len(line) if line.endswith(b"\n") else 0
        file.truncate(end)
