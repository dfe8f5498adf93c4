"""A JSON object a phrase."""

import json
from collections.abc import Callable
from pathlib import Path

from groundcli.files import replacing
from groundcli.output.record import Record, Records, phrases


def write_jsonl(out: Path, records: Records, category: Callable[[str], str]) -> None:
    """Writes `phrases.jsonl`, a line a phrase, image by image and caption by caption, in ASCII.

    Coordinates are pixels of the upright image, x before y, from the upper left corner of the upper left pixel on.
    file_name is the image's relative path with forward slashes, width and height its size in pixels; caption the
    whole text, phrase a part of it, span where it is there: offsets (start, end) in characters, end excluded. point
    is [x, y], the likeliest place. boxes are {"bbox": [x, y, width, height], "score": in [0, 1]}, best first; none
    where no box was found. score says how well the phrase fits its place, in [0, 1]; level is the index of the visual
    level that fits it best.

    Args:
        out: the run's folder.
        records: an iterator over the images in order, as `annotations.jsonl` has them.
        category: not written: a phrase stands for itself.

    Raises:
        OSError: the folder can't be written to.
    """
    with replacing(out / "phrases.jsonl") as file:
        for phrase in phrases(records):
            file.write(json.dumps(_row(*phrase), allow_nan=False) + "\n")


def _row(record: Record, caption: str, phrase: Record) -> Record:
    return {
        "file_name": record["file_name"],
        "width": record["width"],
        "height": record["height"],
        "caption": caption,
        "phrase": phrase["phrase"],
        "span": phrase["span"],
        "point": phrase["keypoints"][:2],
        "boxes": phrase["boxes"],
        "score": phrase["score"],
        "level": phrase["level"],
    }
