"""Captions files that name their images themselves: a reader a format.

To add a format: write a reader, which looks at the first lines of a file and gives its captions, or None where the file
is of another format, and list it in `FORMATS`. Sidecars are no format of the list: their names alone say which image
they belong to.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from groundcli.data.captions.lines import head_of, numbered_lines, open_text
from groundcli.data.captions.records import CAPTION_FIELDS, Entries, Entry, entries_of, fields_of, is_record, read_all
from groundcli.data.sample import Failure
from groundcli.errors import BadInput, first_line

LONGEST_RECORD = 20  # lines that one quoted field of a table may go on for


class Format(NamedTuple):
    """A kind of file that names its images itself.

    Attributes:
        expected: what such a file looks like, for the user to read.
        suffixes: how names of such files end, lower case.
        read: the captions of a file in order, and a Failure for each line or record that can't be used, from its path
            and its first lines that aren't blank; None where it isn't of the format. Raises BadInput where the file as
            a whole can't be read, at once or as it goes on.
    """

    expected: str
    suffixes: frozenset[str]
    read: Callable[[Path, Sequence[str]], Entries | None]


def open_listing(path: Path, any_suffix: bool = False) -> Entries | None:
    """The captions of a file that names its images, by the first format that fits; None where none does.

    Args:
        path: the file.
        any_suffix: whether its content alone decides.

    Raises:
        BadInput: the file can't be read.
    """
    return find_listing(path, head_of(path), any_suffix)


def find_listing(path: Path, head: Sequence[str], any_suffix: bool = False) -> Entries | None:
    """As `open_listing`, of a file whose first lines are known."""
    formats = [known for known in FORMATS if any_suffix or path.suffix.lower() in known.suffixes]
    return next((found for known in formats if (found := known.read(path, head)) is not None), None)


# --- Flickr: name.jpg#0<tab>caption


TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")


def _read_token(path: Path, head: Sequence[str]) -> Entries | None:
    if path.suffix.lower() != ".token" and not (head and TOKEN_LINE.fullmatch(head[0])):
        return None
    return read_all(path, numbered_lines(path), _of_token_line)


def _of_token_line(line: str) -> list[Entry]:
    match = TOKEN_LINE.fullmatch(line)
    if not match:
        raise ValueError("not of the form name.jpg#0<tab>caption")
    return [Entry(match["image"], match["caption"])]


# --- Tables with a header, as Kaggle has them: image,caption


DELIMITERS = ",\t|;"


def _read_table(path: Path, head: Sequence[str]) -> Entries | None:
    for delimiter in DELIMITERS:
        columns = _cells(head[0], delimiter) if head else None
        if columns and fields_of(tuple(columns)):
            rows = islice(_rows(numbered_lines(path), delimiter), 1, None)
            return read_all(path, rows, partial(_of_row, columns))
    return None


def _of_row(columns: list[str], cells: list[str] | None) -> list[Entry]:
    if cells is None:
        raise ValueError("a quotation mark is opened or closed where it can't be")
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} fields where the header has {len(columns)}")
    return entries_of(dict(zip(columns, cells, strict=True)))


def _rows(lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Rows by the number of their first line; None for a line that makes none, alone or with those after it."""
    window = deque(islice(lines, LONGEST_RECORD))
    while window:
        number, text = window[0]
        cells, count = _cells(text, delimiter), 1
        while cells is None and count < len(window):
            text += "\n" + window[count][1]
            cells, count = _cells(text, delimiter), count + 1
        count = 1 if cells is None else count
        yield number, cells
        for _ in range(count):
            window.popleft()
        window.extend(islice(lines, count))


def _cells(text: str, delimiter: str) -> list[str] | None:
    """The fields of a row, None where its quotation marks don't come in pairs.

    Quoting is RFC 4180's in comma and semicolon separated files. The others are often written without any, so there
    a quotation mark is one like any other unless a pair of them holds the whole field.
    """
    if delimiter not in ",;":
        return [_unquoted(cell.strip()) for cell in text.split(delimiter)]
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True), [])
    except csv.Error:
        return None


def _unquoted(cell: str) -> str:
    inside = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if quoted else cell


# --- JSON lines, as Hugging Face has them: {"file_name": ..., "text": ...}


def _read_json_lines(path: Path, head: Sequence[str]) -> Entries | None:
    if not any(_is_record_line(line) for line in head[:20]):
        return None
    return read_all(path, numbered_lines(path), _of_json_line)


def _of_json_line(line: str) -> list[Entry]:
    try:
        return entries_of(json.loads(line))
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("not valid JSON") from None


def _is_record_line(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and is_record(json.loads(line))
    except (ValueError, RecursionError):
        return False


# --- JSON: COCO captions, or a list of records


# Annotations without captions can be large: they aren't parsed.
CAPTION_KEY = re.compile(rf'"(?:{"|".join(CAPTION_FIELDS)})"\s*:', re.IGNORECASE)


def _read_json(path: Path, head: Sequence[str]) -> Entries | None:
    if not head or head[0].lstrip()[0] not in "[{":
        return None
    with open_text(path) as file:
        text = file.read()
    if not CAPTION_KEY.search(text):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON ({first_line(error)}); write it again") from None
    if isinstance(content, list) and any(is_record(record) for record in content):
        return read_all(path, _places("", content), entries_of)
    if isinstance(content, dict) and _is_coco(content):
        return _of_coco(path, content)
    return None


def _places(name: str, records: list[object]) -> Iterator[tuple[str, object]]:
    return ((f"{name}[{index}]", record) for index, record in enumerate(records))


def _is_coco(content: dict[str, Any]) -> bool:
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return False
    return any(isinstance(annotation, dict) and "caption" in annotation for annotation in annotations)


def _of_coco(path: Path, content: dict[str, Any]) -> Entries:
    names: dict[object, str] = {}
    for place, image in _places("images", content["images"]):
        try:
            names[image["id"]] = image["file_name"]  # type: ignore[index]
        except (KeyError, TypeError):
            yield Failure(f"{path.name}:{place}", "not of the form {id, file_name}; it is left out")

    def read(annotation: object) -> list[Entry]:
        try:
            name, caption = names[annotation["image_id"]], annotation["caption"]  # type: ignore[index]
        except (KeyError, TypeError):
            raise ValueError("not of the form {image_id, caption} with the id of one of the images") from None
        return entries_of({"file_name": name, "caption": caption})

    yield from read_all(path, _places("annotations", content["annotations"]), read)


FORMATS = (
    Format("a Flickr token file (name.jpg#0<tab>caption a line)", frozenset({".token", ".txt"}), _read_token),
    Format(
        "a table with a header that names an image and a caption column (image,caption)",
        frozenset({".csv", ".tsv", ".txt"}),
        _read_table,
    ),
    Format(
        'JSON lines ({"file_name": "name.jpg", "text": "a caption"})',
        frozenset({".jsonl", ".ndjson", ".json"}),
        _read_json_lines,
    ),
    Format("COCO captions or a list of such records as JSON", frozenset({".json"}), _read_json),
)
SUFFIXES = frozenset().union(*(known.suffixes for known in FORMATS))
