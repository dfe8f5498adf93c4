"""What a run has done, a line an image: an interrupted run goes on after it."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from groundcli.errors import GroundcliError
from groundcli.output.files import replacing

Record = dict[str, Any]


class Journal:
    """`annotations.jsonl`: a JSON record an image, appended as images are done, in order once it is closed.

    A record has `file_name` and `key` (which tells whether the image or its captions have changed), and either what
    was found or `error`, why the image can't be used. Of two records of an image the later one counts.

    Attributes:
        keys: of the images that have a record, by their names.
        failed: names of those whose record is an error.
    """

    def __init__(self, path: Path, resume: bool):
        """Opens the journal, empty or with what an earlier run left.

        Raises:
            GroundcliError: what an earlier run left there can't be read.
        """
        self.path = path
        self.keys: dict[str, str] = {}
        self.failed: set[str] = set()
        self._offsets: dict[str, int] = {}
        self._lines = 0
        if resume and path.exists():
            self._read()
        self._file = path.open("ab" if resume else "wb")

    def _read(self) -> None:
        end = 0
        with self.path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # half a line: the run before was killed as it wrote
                try:
                    self._note(json.loads(line), end)
                except (ValueError, KeyError, TypeError):
                    raise GroundcliError(f"{self.path}: damaged; start over with --on-existing overwrite") from None
                end += len(line)
            file.truncate(end)

    def _note(self, record: Record, offset: int) -> None:
        name = record["file_name"]
        self.keys[name], self._offsets[name] = record["key"], offset
        self.failed.discard(name)
        if "error" in record:
            self.failed.add(name)
        self._lines += 1

    def add(self, lines: Sequence[str]) -> None:
        """Writes records down, all or (killed in between) the first of them."""
        offset = self._file.tell()
        encoded = [line.encode() + b"\n" for line in lines]
        self._file.write(b"".join(encoded))
        self._file.flush()
        for line in encoded:
            self._note(json.loads(line), offset)
            offset += len(line)

    def close(self, order: Sequence[str] | None = None) -> None:
        """Closes the journal; with an order, first brings the records of these images into it and drops all others."""
        self._file.close()
        if order is None:
            return
        offsets = [self._offsets[name] for name in order if name in self._offsets]
        if len(offsets) == self._lines and all(a < b for a, b in pairwise(offsets)):
            return
        with self.path.open("rb") as old, replacing(self.path) as new:
            for offset in offsets:
                old.seek(offset)
                new.write(old.readline().decode())


def read_records(path: Path) -> Iterator[Record]:
    """The records of all images that could be used, of a journal that is closed."""
    return (record for record in _lines(path) if "error" not in record)


def read_errors(path: Path) -> Iterator[tuple[str, str]]:
    """(image, reason) of all images that could not."""
    return ((record["file_name"], record["error"]) for record in _lines(path) if "error" in record)


def _lines(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
