"""What a run writes down of an image: made here, read here. Worker processes import it: nothing here imports torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data.sample import Box
from groundcli.heat.pixels import resize
from groundcli.output.report import quantised_heat

Record = dict[str, Any]  # of one image, as `annotations.jsonl` has it: see groundcli.output.record
Records = Callable[[], Iterator[Record]]  # each call goes over all images, in order; nothing is kept in memory


def phrases(records: Records) -> Iterator[tuple[Record, str, Record]]:
    """(image, caption, phrase) of every phrase, in order."""
    for record in records():
        for caption in record["captions"]:
            for phrase in caption["phrases"]:
                yield record, caption["caption"], phrase


HOT = 0.5  # share of the heat map's maximum from which on a pixel belongs to the phrase


def image_record(name: str, size: tuple[int, int], answers: Sequence[Answer]) -> Record:
    """All that the files of a run say of an image. Equal answers give equal records.

    Of a phrase: bbox is its best box (where none was found, the hot region around its point); segmentation is the
    compressed RLE of the pixels whose heat is at least half of the maximum, area their number; keypoints are its
    point, 2 for visible; boxes are all its boxes, best first; heat is its heat map in steps of 1/255 of the maximum.
    Coordinates are pixels of the upright image, x before y, boxes (x, y, width, height).

    Args:
        name: the image's relative path with forward slashes, its `file_name`.
        size: (width, height) of the upright image.
        answers: one a caption; may be empty.
    """
    return {
        "file_name": name,
        "width": size[0],
        "height": size[1],
        "captions": [
            {"caption": answer.caption, "phrases": [_phrase(phrase, size) for phrase in answer.phrases]}
            for answer in answers
        ],
    }


def hot_region(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose heat is at least half of the maximum; none where there is no heat at all.

    Args:
        heatmap: (M, M), non-negative, over the whole image.
        size: (width, height) of the image.

    Returns:
        (height, width) bool, in Fortran order, as RLE needs it.
    """
    heat = resize(heatmap, size)
    top = heat.max()
    return np.asarray(heat >= HOT * top) if top > 0 else np.zeros_like(heat, dtype=bool)


def _phrase(phrase: GroundedPhrase, size: tuple[int, int]) -> Record:
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
        "heat": quantised_heat(phrase.heatmap),
    }


def _box_around(point: tuple[float, float], hot: np.ndarray) -> Box:
    """The box of the hot region that holds the point; one pixel where it is in none."""
    height, width = hot.shape
    x, y = (min(max(int(value), 0), end - 1) for value, end in zip(point, (width, height), strict=True))
    regions, _ = ndimage.label(hot)
    if not regions[y, x]:
        return (x, y, 1, 1)
    rows, columns = ndimage.find_objects(regions)[regions[y, x] - 1]
    return (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in values]
