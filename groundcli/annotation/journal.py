"""What a run has done, a line per image: an interrupted run continues after it, and all its files are made of it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from groundcli.annotation.folder import FAILURES, JOURNAL
from groundcli.data.sample import Failure
from groundcli.errors import GroundcliError
from groundcli.files import replacing
from groundcli.output import FORMATS, label_by
from groundcli.output.record import Record
from groundcli.output.report import report


class Line(NamedTuple):
    """An image's record as it is written, and what the journal notes of it."""

    name: str
    key: str
    failed: bool
    text: str

    @classmethod
    def of(cls, text: str) -> "Line":
        """The line of a journal's text. Raises ValueError, KeyError or TypeError for anything else."""
        record = json.loads(text)
        return cls(record["file_name"], record["key"], "error" in record, text)


class Journal:
    """`annotations.jsonl`: a JSON record per image, appended as images are done, in order once it is closed.

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
                    name, key, failed, _ = Line.of(line.decode())
                    self._note(name, key, failed, end)
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
        with self.path.open("rb") as old, replacing(self.path, "wb") as new:
            for offset in offsets:
                old.seek(offset)
                new.write(old.readline())


def read(path: Path) -> Iterator[Record]:
    """All records of a journal that is closed, errors among them."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


# --- The files of a run, made of its journal


@dataclass(frozen=True)
class Count:
    """What became of the images: found = done + resumed + failed."""

    found: int
    done: int
    resumed: int
    failed: int

    def __str__(self) -> str:
        return f"{self.found} images found, {self.done} done, {self.resumed} resumed, {self.failed} failed"


def write_outputs(out: Path, failures: Iterable[Failure], categories: str, formats: Iterable[str], pages: bool) -> int:
    """Makes all files of a closed journal in one pass over it, and `failures.jsonl` in the order of the paths.

    Args:
        out: the run's folder.
        failures: what couldn't be used from the start, beside what the journal knows.
        categories: what a phrase's label is, see `label_by`.
        formats: of `FORMATS`, beside COCO.
        pages: whether to make the page to look through.

    Returns:
        How many failures there are.
    """
    problems = {(failure.path, failure.reason) for failure in failures}
    label = label_by(categories)
    with ExitStack() as files:
        writers = [files.enter_context(FORMATS[name](out, label)) for name in ("coco", *formats)]
        if pages:
            writers.append(files.enter_context(report(out, problems, out.resolve().name)))
        for record in read(out / JOURNAL):
            problems.update(_failures(record))
            if "error" not in record:
                for write in writers:
                    write(record)
    with replacing(out / FAILURES) as file:
        for path, reason in sorted(problems):
            file.write(json.dumps({"path": path, "reason": reason}, ensure_ascii=False) + "\n")
    return len(problems)


def _failures(record: Record) -> Iterator[tuple[str, str]]:
    """Why an image couldn't be used, or which of its captions."""
    if "error" in record:
        yield record["file_name"], record["error"]
    for caption in record.get("captions", ()):
        if not caption["phrases"]:
            yield record["file_name"], f"no phrases in the caption {caption['caption']!r}"
