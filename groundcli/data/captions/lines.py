"""Text files that users write, line by line."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from groundcli.errors import BadInput

HEAD = 1 << 18  # characters, more than five captions of 1,000 words


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that aren't blank, numbered, one at a time: files may be large. Any kind of line end.

    UTF-8, or UTF-16 with its byte order mark. Bytes that are neither stay in the line as surrogates: see `is_unicode`.

    Raises:
        BadInput: the file can't be read, or isn't text.
    """
    with open_text(path) as file:
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


def head_of(path: Path) -> list[str]:
    """A file's first lines that aren't blank, the last one cut where the file is long. Raises BadInput."""
    with open_text(path) as file:
        text = file.read(HEAD)
    _check_text(path, text)
    return [line for line in text.split("\n") if line.strip()]


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file to read from, in the encodings of `numbered_lines`. Raises BadInput."""
    try:
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
