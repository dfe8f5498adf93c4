"""A table of phrases, as CSV for spreadsheets and as JSON lines for programs; and those that were not found.

Coordinates are pixels of the upright image, x before y, from the upper left corner of the upper left pixel on.
file_name is the image's relative path with forward slashes, width and height its size in pixels; caption the whole
text, phrase a part of it. The point is the likeliest place. score is the phrase's, in [0, 1]; level the index of the
visual level that fits it best. Labels are not written: a phrase stands for itself.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundcli.files import replacing
from groundcli.output.coco import as_json
from groundcli.output.record import Label, Record, Writer, image_of, phrases_of

COLUMNS = (
    *("file_name", "width", "height", "caption", "phrase", "start", "end", "x", "y"),
    *("box_x", "box_y", "box_width", "box_height", "box_score", "score", "level"),
)


@contextmanager
def csv_table(out: Path, label: Label = str.lower) -> Iterator[Writer]:
    """Writes `phrases.csv`, a line per phrase under a line of names, as RFC 4180 has it: commas, quotes, CRLF; UTF-8.

    The phrase is its caption's characters from start to end, end excluded; (x, y) is its point. box_x and box_y
    are the upper left corner of the best box, box_width and box_height its size, box_score in [0, 1]; where no box
    was found, it is the box of the hot region around the point and has no box_score. Raises OSError.
    """
    with replacing(out / "phrases.csv") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)

        def write(record: Record) -> None:
            image = image_of(record).values()
            for caption, phrase in phrases_of(record):
                text = caption, phrase["phrase"], *phrase["span"]
                box_score = phrase["boxes"][0]["score"] if phrase["boxes"] else ""
                places = *phrase["keypoints"][:2], *phrase["bbox"], box_score
                table.writerow([*image, *text, *places, phrase["score"], phrase["level"]])

        yield write


@contextmanager
def json_lines(out: Path, label: Label = str.lower) -> Iterator[Writer]:
    """Writes `phrases.jsonl`, a line per phrase, image by image and caption by caption, in ASCII.

    span are offsets (start, end) in characters, end excluded; point is [x, y]; boxes are {"bbox": [x, y, width,
    height], "score": in [0, 1]}, best first; none where no box was found. Raises OSError.
    """
    with replacing(out / "phrases.jsonl") as file:

        def write(record: Record) -> None:
            for caption, phrase in phrases_of(record):
                item = {**image_of(record), "caption": caption, "phrase": phrase["phrase"], "span": phrase["span"]}
                item |= {"point": phrase["keypoints"][:2], **{key: phrase[key] for key in ("boxes", "score", "level")}}
                file.write(as_json(item) + "\n")

        yield write


@contextmanager
def not_found(out: Path) -> Iterator[Writer]:
    """Writes `not_found.jsonl`, a line per phrase that was not found: its score, and why. Raises OSError."""
    with replacing(out / "not_found.jsonl") as file:

        def write(record: Record) -> None:
            for caption in record["captions"]:
                for phrase in caption["not_found"]:
                    item = {"file_name": record["file_name"], "caption": caption["caption"], **phrase}
                    file.write(as_json(item) + "\n")

        yield write
