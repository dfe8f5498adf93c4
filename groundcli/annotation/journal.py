"""What a run has done, a line an image: an interrupted run goes on after it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from groundcli.errors import GroundcliError
from groundcli.files import replacing
from groundcli.output.record import Record


class Line(NamedTuple):
    """An image's record as it is written, and what the journal notes of it."""

    name: str
    key: str
    failed: bool
    text: str


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
                    record = json.loads(line)
                    self._note(record["file_name"], record["key"], "error" in record, end)
                except (ValueError, KeyError, TypeError):
                    raise GroundcliError(f"{self.path}: damaged; start over with --on-existing overwrite") from None
                end += len(line)
            file.truncate(end)

    def _note(self, name: str, key: str, failed: bool, offset: int) -> None:
        self.keys[name], self._offsets[name] = key, offset
        (self.failed.add if failed else self.failed.discard)(name)
        self._lines += 1

    def add(self, lines: Sequence[Line]) -> None:
        """Writes records down, all or (killed in between) the first of them."""
        offset = self._file.tell()
        encoded = [line.text.encode() + b"\n" for line in lines]
        self._file.write(b"".join(encoded))
        self._file.flush()
        for line, written in zip(lines, encoded, strict=True):
            self._note(line.name, line.key, line.failed, offset)
            offset += len(written)

    def close(self, order: Iterable[str] | None = None) -> None:
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


def read(path: Path) -> Iterator[Record]:
    """All records of a journal that is closed, errors among them."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
