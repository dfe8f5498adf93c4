"""A table of phrases, for spreadsheets and data frames."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundcli.files import replacing
from groundcli.output.record import Record, Records, phrases

COLUMNS = (
    *("file_name", "width", "height", "caption", "phrase", "start", "end", "x", "y"),
    *("box_x", "box_y", "box_width", "box_height", "box_score", "score", "level"),
)


def write_csv(out: Path, records: Records, category: Callable[[str], str]) -> None:
    """Writes `phrases.csv`, a row a phrase under a row of names, as RFC 4180 has it: commas, quotes, CRLF; UTF-8.

    Coordinates are pixels of the upright image, x before y, from the upper left corner of the upper left pixel on.
    file_name is the image's relative path with forward slashes, width and height its size in pixels; caption the
    whole text, phrase its characters from start to end, end excluded. (x, y) is the likeliest place. box_x and box_y
    are the upper left corner of the best box, box_width and box_height its size, box_score in [0, 1]; where no box
    was found, it is the box of the hot region around the point and has no box_score. score says how well the phrase
    fits its place, in [0, 1]; level is the index of the visual level that fits it best.

    Args:
        out: the run's folder.
        records: an iterator over the images in order, as `annotations.jsonl` has them.
        category: not written: a phrase stands for itself.

    Raises:
        OSError: the folder can't be written to.
    """
    with replacing(out / "phrases.csv") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(_row(*phrase) for phrase in phrases(records))


def _row(record: Record, caption: str, phrase: Record) -> list[Any]:
    image = [record["file_name"], record["width"], record["height"]]
    box_score = phrase["boxes"][0]["score"] if phrase["boxes"] else ""
    places = [*phrase["keypoints"][:2], *phrase["bbox"], box_score]
    return [*image, caption, phrase["phrase"], *phrase["span"], *places, phrase["score"], phrase["level"]]
