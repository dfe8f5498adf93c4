"""What a run writes down of an image: made here, read here. Worker processes import it: nothing here imports torch."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from groundcli.files import replacing

if TYPE_CHECKING:
    from groundcli.answer import Answer, GroundedPhrase

Record = dict[str, Any]  # of one image, see `record_of`
Writer = Callable[[Record], None]  # takes the records of a run, one after the other
Label = Callable[[str], str]  # the name that an output gives a phrase


def record_of(name: str, answers: Sequence[Answer], size: tuple[int, int]) -> Record:
    """All that the files of a run say of an image. Equal answers give equal records.

    A phrase that was not found has its text, span, score and reason under "not_found", and nothing else.

    Of a phrase: segmentation is the compressed RLE of its mask, the pixels of its best box that belong to it (where no
    box was found, the hot region around its hottest pixel), bbox the box around them, in whole pixels, and area their
    number; keypoints are its point, 2 for visible; boxes are all its boxes, best first; heat is its heat map in steps
    of 1/255 of the maximum.
    Coordinates are pixels of the upright image, x before y, boxes (x, y, width, height).

    `name` is the image's relative path with forward slashes, its `file_name`; `size` its upright (width, height).
    There is an answer per caption, or none at all.
    """
    return {
        "file_name": name,
        "width": size[0],
        "height": size[1],
        "captions": [
            {
                "caption": answer.caption,
                "phrases": [_phrase(phrase) for phrase in answer.phrases if phrase.found],
                "not_found": [_missing(phrase) for phrase in answer.phrases if not phrase.found],
            }
            for answer in answers
        ],
    }


def image_of(record: Record) -> Record:
    """Which image a record is of: its name and size, without what is said of it."""
    return {key: record[key] for key in ("file_name", "width", "height")}


def phrases_of(record: Record) -> Iterator[tuple[str, Record]]:
    """(caption, phrase) of every phrase that was found in an image, in order."""
    for caption in record["captions"]:
        for phrase in caption["phrases"]:
            yield caption["caption"], phrase


def _missing(phrase: GroundedPhrase) -> Record:
    said = phrase.to_dict()
    return {"phrase": phrase.text, "span": said["span"], "score": said["score"], "reason": phrase.reason}


def _phrase(phrase: GroundedPhrase) -> Record:
    hot, point, said = phrase.mask, phrase.point, phrase.to_dict()
    assert hot is not None
    assert point is not None
    if not hot.any():  # a tiny picture may have no pixel on the heat
        hot[int(point[1]), int(point[0])] = True
    rle = coco_mask.encode(hot.view(np.uint8))  # in Fortran order already
    return {
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "segmentation": {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
        "keypoints": [*said["point"], 2],
        "num_keypoints": 1,
        "score": said["score"],
        "phrase": phrase.text,
        "span": said["span"],
        "level": said["level"],
        "boxes": said["boxes"],
        "heat": quantised(phrase.heatmap),
    }


def quantised(heatmap: np.ndarray) -> Record:
    """A heat map (M, M), non-negative, in few bytes, the value of a phrase's `heat`.

    side is M; data is base64 of M * M bytes row by row, 255 at the maximum, all 0 where there is no heat.
    """
    levels = np.rint(heatmap * (255 / max(float(heatmap.max()), 1e-12))).astype(np.uint8)
    return {"side": len(levels), "data": base64.b64encode(levels.tobytes()).decode("ascii")}


# --- A record as a line of a file


SEAL = re.compile(rb', "crc32": "([0-9a-f]{8})"\}$')


def sealed(record: Record) -> str:
    """A record as a line of the journal. It ends with its own checksum: a damaged line is told from a whole one."""
    text = json.dumps(record, allow_nan=False)
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}'


def opened(line: bytes) -> Record | None:
    """The record of a journal's line, without its checksum; None for a line that is damaged or of something else."""
    seal = SEAL.search(line)
    if not seal or f"{zlib.crc32(line[: seal.start()] + b'}'):08x}".encode() != seal[1]:
        return None
    try:
        record = json.loads(line[: seal.start()] + b"}")
    except (ValueError, RecursionError):
        return None
    shapes = {"file_name", "key", "error"}, {"file_name", "key", "width", "height", "captions"}
    if not isinstance(record, dict) or not any(keys <= record.keys() for keys in shapes):
        return None
    name = PurePosixPath(str(record["file_name"]))  # files are written by this name: it must not lead elsewhere
    return None if name.is_absolute() or ".." in name.parts else record


def records(path: Path) -> Iterator[Record | None]:
    """What `opened` gives of every line of a journal. Raises OSError."""
    with path.open("rb") as lines:
        for line in lines:
            yield opened(line.rstrip(b"\n"))


# --- Heat maps in files, for programs that go on with them


def write_heatmaps(path: Path, answers: Sequence[Answer]) -> None:
    """Writes the heat maps of an image's P phrases, caption by caption, for `numpy.load`. Raises OSError.

    heat: (P, M, M) float16, non-negative, over the whole image: cell (i, j) covers the i-th of M equal rows and the
        j-th of M equal columns. The higher, the better the phrase fits; 0 where it does not at all. (Without any
        phrase, M is 0.)
    phrase: (P,) text of each phrase.
    span: (P, 2) int64, its character offsets (start, end) into the caption, end excluded.
    caption: (P,) int64, which of the image's captions it is from, counted from 0.

    Args:
        path: ends in `.npz`; its folder has to be there.
        answers: one per caption; all heat maps have the same side.
    """
    numbered = [(number, phrase) for number, answer in enumerate(answers) for phrase in answer.phrases]
    maps = [phrase.heatmap for _, phrase in numbered]
    with replacing(path, "wb") as file:
        np.savez_compressed(
            file,
            heat=np.stack(maps).astype(np.float16) if maps else np.zeros((0, 0, 0), np.float16),
            phrase=np.array([phrase.text for _, phrase in numbered], dtype=np.str_),
            span=np.array([phrase.span for _, phrase in numbered], dtype=np.int64).reshape(-1, 2),
            caption=np.array([number for number, _ in numbered], dtype=np.int64),
        )
