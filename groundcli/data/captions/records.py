"""Records of captions files: what names an image and holds captions, whatever the format."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from groundcli.data.captions.lines import is_unicode
from groundcli.data.sample import Failure

T = TypeVar("T")

# In the order in which they are believed. Hugging Face's, Kaggle's and COCO's spellings.
IMAGE_FIELDS = ("file_name", "filename", "image", "image_name", "image_path", "image_file", "img", "image_id")
CAPTION_FIELDS = ("caption", "captions", "text", "texts", "comment", "comments", "sentence", "sentences")
NUMBERED_FIELD = re.compile(r"(caption|text|comment|sentence)_?\d+")  # caption_0, caption_1, ...


class Entry(NamedTuple):
    """One caption, and the image's name as the captions file has it."""

    image: str
    caption: str


Entries = Iterator[Entry | Failure]


class Fields(NamedTuple):
    """Those of a record's fields that matter here, as it spells them."""

    image: str
    captions: list[str]


@lru_cache(maxsize=256)  # records of one file have the same fields
def fields_of(names: tuple[str, ...]) -> Fields | None:
    """The fields that name an image and hold its captions, None where either isn't among them."""
    known = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in names}
    image = next((known[name] for name in IMAGE_FIELDS if name in known), None)
    captions = [known[name] for name in CAPTION_FIELDS if name in known][:1]
    captions = captions or [name for field, name in known.items() if NUMBERED_FIELD.fullmatch(field)]
    return Fields(image, captions) if image is not None and captions else None


def entries_of(record: object) -> list[Entry]:
    """The captions of a record, and ValueError for anything else."""
    if not isinstance(record, dict):
        raise ValueError("not a record of a file name and captions")
    fields = fields_of(tuple(record))
    if fields is None:
        raise ValueError("has no file name or no caption")
    image = record[fields.image]
    if isinstance(image, int):
        image = str(image)
    captions: list[Any] = []
    for field in fields.captions:
        value = record[field]
        captions += value if isinstance(value, list) else [] if value is None else [value]
    if not isinstance(image, str) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError("its file name or its caption is no text")
    return [Entry(image, caption) for caption in captions]


def is_record(record: object) -> bool:
    """Whether something names an image and holds captions."""
    try:
        return bool(entries_of(record))
    except ValueError:
        return False


def read_all(path: Path, records: Iterable[tuple[object, T]], read: Callable[[T], list[Entry]]) -> Entries:
    """The captions of all records; one that can't be used is a Failure named by its place in the file.

    Args:
        path: the file.
        records: each with its place.
        read: the captions of a record; raises ValueError where it can't be used.
    """
    for place, record in records:
        try:
            yield from [_tidy(entry) for entry in read(record)]
        except ValueError as error:
            yield Failure(f"{path.name}:{place}", f"{error}; it is left out")


def _tidy(entry: Entry) -> Entry:
    image, caption = entry.image.strip(), " ".join(entry.caption.splitlines()).strip()
    if not image:
        raise ValueError("the image's name is blank")
    if not (is_unicode(image) and is_unicode(caption)):
        raise ValueError("not UTF-8 text")
    return Entry(image, caption)
