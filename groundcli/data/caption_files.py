"""Captions files that name their images themselves: a list of readers, a short function per format.

A reader looks at the first lines of a file and gives its captions, or None where the file is of another format.
Sidecars are of no format: their names alone say which image they belong to.
"""

import csv
import re
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple, TextIO, TypeVar

from groundcli.data import Failure
from groundcli.data.images import IMAGE_SUFFIXES, is_image
from groundcli.data.published import as_id, parse_json
from groundcli.errors import BadInput

T = TypeVar("T")
HEAD = 1 << 18  # characters that a file's format is told by, more than five captions of 1,000 words
# Fields of an item, in the order in which they are believed. Hugging Face's, Kaggle's and COCO's spellings.
IMAGE_FIELDS = ("file_name", "filename", "image", "image_name", "image_path", "image_file", "img", "image_id")
CAPTION_FIELDS = ("caption", "captions", "text", "texts", "comment", "comments", "sentence", "sentences")
NUMBERED_FIELD = re.compile(r"(caption|text|comment|sentence)_?\d+")  # caption_0, caption_1, ...


class NamedCaption(NamedTuple):
    """A caption, and its image's name as the captions file has it."""

    image: str
    text: str


Captions = Iterator[NamedCaption | Failure]
Columns = tuple[str | None, str | None]  # of a table: what the user calls that of the image and that of the caption


class Format(NamedTuple):
    """A kind of file that names its images itself."""

    expected: str  # what such a file looks like, for the user to read
    suffixes: tuple[str, ...]  # how names of such files end, lower case
    # The captions of a file in order, and a Failure for each line or item that can't be used, from its path and its
    # first lines that aren't blank; None where it is of another format. Raises BadInput where the file as a whole can't
    # be read, at once or as it goes on.
    read: Callable[[Path, Sequence[str]], Captions | None]


def open_captions(
    path: Path, any_suffix: bool = False, columns: Columns = (None, None), head: Sequence[str] | None = None
) -> Captions | None:
    """The captions of a file that names its images, by the first format that fits; None where none does.

    Its content alone decides, or its suffix too; where columns are named, it has to be a table that has them. `head` is
    its first lines that aren't blank, where they are known. Raises BadInput where it can't be read.
    """
    if head is None:
        with _open_text(path) as file:
            text = file.read(HEAD)
        _check_text(path, text)
        head = [line for line in text.split("\n") if line.strip()]
    if any(columns):
        if captions := _read_table(path, head, columns):
            return captions
        wanted = " and ".join(repr(name) for name in columns if name)
        first = shorten(head[0], 80) if head else ""
        raise BadInput(f"{path}: no table with columns {wanted}; its first line is {first!r}")
    formats = [known for known in FORMATS if any_suffix or path.suffix.lower() in known.suffixes]
    return next((captions for known in formats if (captions := known.read(path, head)) is not None), None)


# --- Lines of text


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that aren't blank, numbered, one at a time: files may be large. Any kind of line end.

    UTF-8, or UTF-16 with its byte order mark. Bytes that are neither stay in the line as surrogates: see `is_unicode`.
    Raises BadInput where the file can't be read, or isn't text.
    """
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            _check_text(path, line)
            if line.strip():
                yield number, line.rstrip("\n")


def is_unicode(text: str) -> bool:
    """Whether a text came from bytes that were text."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """A text file to read from, in the encodings of `numbered_lines`. Raises BadInput."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{path}: not a file")  # a pipe would be waited for
        with path.open("rb") as raw:
            encoding = "utf-16" if raw.peek(2)[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig"
            with TextIOWrapper(raw, encoding, errors="surrogateescape") as file:
                yield file
    except UnicodeDecodeError:
        raise BadInput(f"{path}: damaged UTF-16; save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}); check its permissions") from None


def _check_text(path: Path, text: str) -> None:
    if "\0" in text:
        raise BadInput(f"{path}: holds NUL bytes: UTF-16 without its mark, or no text at all; save it as UTF-8")


# --- Items: what names an image and holds captions, whatever the format


@lru_cache(maxsize=256)  # items of one file have the same fields
def fields_of(names: tuple[str, ...], columns: Columns = (None, None)) -> tuple[str, list[str]] | None:
    """The field that names an image and those that hold its captions, as the user calls them or else as they are known;
    None where either isn't among the names."""
    known = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in names}
    image = columns[0] or next((known[name] for name in IMAGE_FIELDS if name in known), None)
    captions = [columns[1]] if columns[1] else [known[name] for name in CAPTION_FIELDS if name in known][:1]
    captions = captions or [name for field, name in known.items() if NUMBERED_FIELD.fullmatch(field)]
    if image is None or not captions or image in captions or not {image, *captions} <= {*names}:
        return None
    return image, captions


def captions_of(item: object) -> list[NamedCaption]:
    """The captions of an item, and ValueError for anything else."""
    if not isinstance(item, dict):
        raise ValueError("not an object with a file name and captions")
    fields = fields_of(tuple(item))
    if fields is None:
        raise ValueError("has no file name or no caption")
    image = item[fields[0]]
    if isinstance(image, int) and not isinstance(image, bool):
        image = str(image)
    captions: list[Any] = []
    for value in map(item.get, fields[1]):
        captions += value if isinstance(value, list) else [] if value is None else [value]
    if not isinstance(image, str) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError("its file name or its caption is no text")
    return [NamedCaption(image, caption) for caption in captions]


def _has_captions(item: Any, read: Callable[[Any], list[NamedCaption]] = captions_of) -> bool:
    try:
        return bool(read(item))
    except ValueError:
        return False


def _read_all(
    path: Path, items: Iterable[tuple[object, T]], read: Callable[[T], list[NamedCaption]] = captions_of
) -> Captions:
    """The captions of all items; one that `read` raises ValueError for is a Failure, named by its place in the file."""
    for place, item in items:
        try:
            named = [NamedCaption(image.strip(), " ".join(text.splitlines()).strip()) for image, text in read(item)]
            if not all(caption.image for caption in named):
                raise ValueError("the image's name is blank")
            if not all(is_unicode(image) and is_unicode(text) for image, text in named):
                raise ValueError("not UTF-8 text")
            yield from named
        except ValueError as error:
            yield Failure(f"{path.name}:{place}", f"{error}; it is left out")


# --- Flickr: name.jpg#0<tab>caption


TOKEN_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")


def _read_token(path: Path, head: Sequence[str]) -> Captions | None:
    if path.suffix.lower() != ".token" and not (head and TOKEN_LINE.fullmatch(head[0])):
        return None
    return _read_all(path, numbered_lines(path), _of_token_line)


def _of_token_line(line: str) -> list[NamedCaption]:
    if match := TOKEN_LINE.fullmatch(line):
        return [NamedCaption(*match.groups())]
    raise ValueError("not of the form name.jpg#0<tab>caption")


# --- Tables with a header, as Kaggle has them: image,caption


DELIMITERS = ",\t|;"
QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')  # a field in quotation marks, those inside doubled
MOST_LINES = 20  # that one quoted field of a table may span


def _read_table(path: Path, head: Sequence[str], columns: Columns = (None, None)) -> Captions | None:
    for delimiter in DELIMITERS if head else "":
        names = _cells(head[0], delimiter) or []
        rows = _rows(numbered_lines(path), delimiter)
        joint = ""
        if fields := fields_of(tuple(names), columns):
            place = {name: number for number, name in enumerate(names)}
            image, captions = place[fields[0]], [place[field] for field in fields[1]]
            rows = islice(rows, 1, None)
        elif not any(columns) and (guessed := _guessed(names)):
            image, captions = guessed
            if captions[-1] == len(names) - 1:  # without a header nobody quoted the commas of captions
                joint = {",": ", "}.get(delimiter, delimiter)
        else:
            continue
        return _read_all(path, rows, partial(_of_row, len(names), image, captions, joint))
    return None


def _guessed(cells: list[str]) -> tuple[int, list[int]] | None:
    """The columns of a table without a header: the image's is the one that looks like a name, the caption's the last
    other, but for numbers, as Flickr's of the caption. None where there are none such."""
    image = next((i for i, cell in enumerate(cells) if is_image(cell.strip())), None)
    captions = [i for i, cell in enumerate(cells) if i != image and not cell.strip().isdigit()][-1:]
    return None if image is None or not captions else (image, captions)


def _of_row(width: int, image: int, captions: list[int], joint: str, cells: list[str] | None) -> list[NamedCaption]:
    """The captions of a row of so many cells, of which the last may have been cut at the joints."""
    if cells is None:
        wrong = "a quotation mark is opened or closed where it can't be"
        raise ValueError(f"{wrong}, or a field of more than {csv.field_size_limit():,} characters")
    if joint and len(cells) > width:
        cells = [*cells[: width - 1], joint.join(cells[width - 1 :])]
    if len(cells) != width:
        raise ValueError(f"{len(cells)} fields where the header has {width}")
    return [NamedCaption(cells[image], cells[caption]) for caption in captions]


def _rows(lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Each row's cells by the number of its first line; None for a line that makes none, alone or with those after."""
    # The `csv` module alone would read on to the end of the file after a quotation mark that is never closed.
    window = deque(islice(lines, MOST_LINES))
    while window:
        number, text = window[0]
        cells, count = _cells(text, delimiter), 1
        while cells is None and count < len(window):
            text += "\n" + window[count][1]
            cells, count = _cells(text, delimiter), count + 1
        yield number, cells
        for _ in range(1 if cells is None else count):
            window.popleft()
            window.extend(islice(lines, 1))


def _cells(text: str, delimiter: str) -> list[str] | None:
    """The cells of a row, None where its quotation marks don't come in pairs or a cell is too long."""
    if delimiter in ",;":  # where quoting is RFC 4180's
        try:
            return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))
        except csv.Error:
            return None
    # The others are often written without any: quotation is there only a pair of marks that holds the whole cell.
    cells = [cell.strip() for cell in text.split(delimiter)]
    return [quoted[1].replace('""', '"') if (quoted := QUOTED.fullmatch(cell)) else cell for cell in cells]


# --- JSON lines, as Hugging Face has them: {"file_name": ..., "text": ...}


def _read_lines(path: Path, head: Sequence[str]) -> Captions | None:
    if not any(_has_captions(line, _of_json_line) for line in head[:20]):
        return None
    return _read_all(path, numbered_lines(path), _of_json_line)


def _of_json_line(line: str) -> list[NamedCaption]:
    return captions_of(parse_json(line))


# --- JSON: COCO captions, or a list of items


# Annotations without captions can be large: they aren't parsed.
NAMED_KEY = re.compile(rf'\s*\{{\s*"[^"]*(?:{"|".join(map(re.escape, IMAGE_SUFFIXES))})"\s*:', re.IGNORECASE)
CAPTION_KEY = re.compile(rf'"(?:{"|".join(CAPTION_FIELDS)})"\s*:', re.IGNORECASE)


def _read_json(path: Path, head: Sequence[str]) -> Captions | None:
    if not head or head[0].lstrip()[0] not in "[{":
        return None
    with _open_text(path) as file:
        text = file.read()
    if not CAPTION_KEY.search(text) and not NAMED_KEY.match(text):
        return None
    try:
        content = parse_json(text)
    except ValueError as error:
        raise BadInput(f"{path}: {error}; write it again") from None
    match content:
        case list() if any(map(_has_captions, content)):
            return _read_all(path, _places("", content))
        case {"images": list(images), "annotations": list(annotations)} if _any_has("caption", annotations):
            return _of_coco(path, images, annotations)
        case {"images": list(images)} if _any_has("sentences", images):
            return _read_all(path, _places("images", images), _of_karpathy)
        case dict() if NAMED_KEY.match(text):
            items = ((f"[{name!r}]", {"file_name": name, "captions": said}) for name, said in content.items())
            return _read_all(path, items)
    return None


def _places(name: str, items: list[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{name}[{index}]", item) for index, item in enumerate(items))


def _any_has(key: str, items: list[Any]) -> bool:
    return any(isinstance(item, dict) and key in item for item in items)


def _of_karpathy(image: Any) -> list[NamedCaption]:
    """Of an image of Karpathy's splits: {"filename": ..., "sentences": [{"raw": ...}]}."""
    try:
        name = "/".join(filter(None, (image.get("filepath"), image["filename"])))
        return captions_of({"file_name": name, "captions": [one["raw"] for one in image["sentences"]]})
    except (AttributeError, KeyError, TypeError):
        raise ValueError("not of the form {filename, sentences: [{raw}]}") from None


def _of_coco(path: Path, images: list[Any], annotations: list[Any]) -> Captions:
    names: dict[int | str, set[Any]] = defaultdict(set)
    for place, image in _places("images", images):
        try:
            same = names[as_id(image["id"])]
            same.add(image["file_name"])
        except (KeyError, TypeError, ValueError):
            yield Failure(f"{path.name}:{place}", "not of the form {id, file_name}; it is left out")
            continue
        if len(same) > 1:
            reason = f"its id {image['id']} is another image's too; neither is used"
            yield Failure(f"{path.name}:{place}", reason)

    def read(annotation: Any) -> list[NamedCaption]:
        try:
            (name,) = names[as_id(annotation["image_id"])]
            return captions_of({"file_name": name, "caption": annotation["caption"]})
        except (KeyError, TypeError, ValueError):
            raise ValueError("not of the form {image_id, caption} with the id of one of the images") from None

    yield from _read_all(path, _places("annotations", annotations), read)


TABLE = "a table, with a header (image,caption; others by --image-column and --caption-column) or without"
FORMATS = (
    Format("a Flickr token file (name.jpg#0<tab>caption per line)", (".token", ".txt"), _read_token),
    Format(TABLE, (".csv", ".tsv", ".txt"), _read_table),
    Format('JSON lines ({"file_name": "name.jpg", "text": "a caption"})', (".jsonl", ".ndjson", ".json"), _read_lines),
    Format('COCO or Karpathy captions, {"name.jpg": ["a caption"]} or a list of items as JSON', (".json",), _read_json),
)
SUFFIXES = frozenset(suffix for known in FORMATS for suffix in known.suffixes)
