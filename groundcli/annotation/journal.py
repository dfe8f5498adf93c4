"""What a run has done, a line per image: an interrupted run continues after it, and all its files are made of it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from groundcli.annotation.folder import DAMAGED
from groundcli.errors import GroundcliError
from groundcli.files import replacing
from groundcli.output.record import Record, opened, records, sealed


class Line(NamedTuple):
    """An image's record as it is written, and what the journal notes of it."""

    name: str
    key: str
    failed: bool
    text: str

    @classmethod
    def of(cls, record: Record) -> "Line":
        """The line of a record."""
        return cls(record["file_name"], record["key"], "error" in record, sealed(record))


class Journal:
    """`annotations.jsonl`: a JSON record per image, appended as images are done, in order once it is closed.

    A record has `file_name` and `key` (which tells whether the image or its captions have changed), and either what
    was found or `error`, why the image can't be used. Of two records of an image the later one counts. Lines that are
    damaged, as by a bad sector or a torn copy, are set aside; their images are done again.

    Attributes:
        keys: of the images that have a record, by their names.
        failed: names of those whose record is an error.
        damaged: how many lines were set aside.
    """

    def __init__(self, path: Path):
        """Opens the journal, with what an earlier run left. Raises OSError."""
        self.path = path
        self.keys: dict[str, str] = {}
        self.failed: set[str] = set()
        self.damaged = 0
        self._offsets: dict[str, int] = {}
        self._lines = 0
        if path.exists():
            self._read()
        # Without a buffer, from which what failed, as on a full disk, would be written once more when it is closed.
        self._file = path.open("ab", buffering=0)

    def _read(self) -> None:
        end = 0
        with self.path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # half a line: the run before was killed as it wrote
                record = opened(line[:-1])
                if record:
                    self._note(record["file_name"], record["key"], "error" in record, end)
                else:
                    self._lines += 1
                    if line.strip():
                        self.damaged += 1
                        with (self.path.parent / DAMAGED).open("ab") as aside:
                            aside.write(line)
                end += len(line)
            file.truncate(end)

    def _note(self, name: str, key: str, failed: bool, offset: int) -> None:
        self.keys[name], self._offsets[name] = key, offset
        (self.failed.add if failed else self.failed.discard)(name)
        self._lines += 1

    def add(self, lines: Sequence[Line]) -> None:
        """Writes records down, all or (killed in between) the first of them. Raises OSError."""
        offset = self._file.tell()
        encoded = [line.text.encode() + b"\n" for line in lines]
        rest = memoryview(b"".join(encoded))
        while rest:  # in several pieces if need be
            rest = rest[self._file.write(rest) :]
        for line, written in zip(lines, encoded, strict=True):
            self._note(line.name, line.key, line.failed, offset)
            offset += len(written)

    def close(self, order: Iterable[str]) -> None:
        """Brings the records of these images into order, drops all others, and closes the journal.

        Then it is on the disk, whatever happens to the power: all other files can be made of it again.
        """
        os.fsync(self._file.fileno())
        self._file.close()
        offsets = [self._offsets[name] for name in order if name in self._offsets]
        if len(offsets) == self._lines and all(a < b for a, b in pairwise(offsets)):
            return
        with self.path.open("rb") as old, replacing(self.path, "wb") as new:
            for offset in offsets:
                old.seek(offset)
                new.write(old.readline())
            new.flush()
            os.fsync(new.fileno())


def read(path: Path) -> Iterator[Record]:
    """All records of a journal that is closed, errors among them. Raises GroundcliError at a damaged line."""
    for number, record in enumerate(records(path), start=1):
        if record is None:
            raise GroundcliError(f"{path}:{number}: damaged; run the same command again, which mends it")
        yield record
